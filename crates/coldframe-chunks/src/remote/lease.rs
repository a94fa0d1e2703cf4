//! Leases and the collector's right as objects that are renewed, by the clock of the service.
//!
//! Invariants: a lease is void once its object is gone; a process that finds one not renewed for
//! as long as its name says removes it, before relying upon that. Its holder renews it only over
//! what is there, so what was removed never comes back; it takes a lease for lost already when half
//! of its time has passed without an answer. What the holder's clock does not show, a machine that
//! stood still, [`Renewed::renew`] does: it succeeds only if the object is there.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use coldframe_storage::{Operation, StorageError};
use coldframe_units::{ByteLen, FileOffset};
use object_store::ObjectMeta;
use object_store::path::Path;

use crate::backend::{Exclusive, Lease, LeaseId};
use crate::remote::clock::Clock;
use crate::remote::failure::Failure;
use crate::remote::objects::{Objects, Whole, new_mark};
use crate::remote::runtime::Runtime;

/// No lease is waited for longer, whatever its name says.
pub(crate) const TTL_MAX: Duration = Duration::from_secs(3600);

/// The object of the right to collect garbage.
const COLLECTOR: &str = "collector";

/// The most bytes of a lease's object.
const TEXT_MAX: u64 = 256;

/// Names of a lease that are tried: they are random, and none is ever taken.
const NAMES_MAX: u32 = 8;

/// How long a renewal is tried that is refused for another reason than what is there.
const REFUSED_MAX: Duration = Duration::from_secs(60);

/// How long giving a lease back may take: it runs out by itself.
const RELEASE_MAX: Duration = Duration::from_secs(5);

/// An object that its holder writes anew again and again.
#[derive(Debug)]
pub(crate) struct Renewed {
    objects: Shown,
    path: Path,
    id: u64,
    ttl: Duration,
    /// The version that is there, and how often it was renewed.
    version: tokio::sync::Mutex<(ObjectMeta, u64)>,
    /// When the last renewal that succeeded was sent.
    since: Mutex<Instant>,
    is_lost: AtomicBool,
}

/// Objects, shown by their place.
struct Shown(Objects);

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.place)
    }
}

fn text(id: u64, count: u64, ttl: Duration) -> Bytes {
    Bytes::from(format!("{id:016x} {count} {}\n", ttl.as_millis()))
}

/// Whose it is, and how long it lives without being renewed.
fn parse(bytes: &[u8]) -> Option<(u64, Duration)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut words = text.split_ascii_whitespace();
    let id = u64::from_str_radix(words.next()?, 16).ok()?;
    let ttl = words.nth(1)?.parse().ok()?;
    Some((id, Duration::from_millis(ttl).min(TTL_MAX)))
}

fn random() -> Result<u64, Failure> {
    let digits = new_mark()?;
    Ok(u64::from_str_radix(&digits, 16).unwrap_or(0))
}

/// The object as it is, if it is this one's. That it is not is what two reads see.
async fn ours(objects: &Objects, path: &Path, id: u64) -> Result<Option<Whole>, Failure> {
    for _ in 0..2 {
        let found = objects.whole(path, TEXT_MAX).await?;
        let ours = found.filter(|found| parse(&found.bytes).is_some_and(|(who, _)| who == id));
        if ours.is_some() {
            return Ok(ours);
        }
    }
    Ok(None)
}

impl Renewed {
    fn new(objects: &Objects, path: Path, id: u64, since: Instant, meta: ObjectMeta) -> Arc<Self> {
        Arc::new(Self {
            objects: Shown(objects.clone()),
            path,
            id,
            ttl: objects.options.lease_life(),
            version: tokio::sync::Mutex::new((meta, 0)),
            since: Mutex::new(since),
            is_lost: AtomicBool::new(false),
        })
    }

    fn was_renewed_within(&self, limit: Duration) -> bool {
        let since = *self.since.lock().unwrap_or_else(PoisonError::into_inner);
        since.elapsed() < limit && self.is_held()
    }

    fn is_held(&self) -> bool {
        if self.left().is_none() {
            // For good: whoever was told once that it is gone is never told otherwise.
            self.is_lost.store(true, Ordering::Release);
        }
        !self.is_lost.load(Ordering::Acquire)
    }

    /// How long it is held without another renewal.
    fn left(&self) -> Option<Duration> {
        let since = *self.since.lock().unwrap_or_else(PoisonError::into_inner);
        (self.ttl / 2).checked_sub(since.elapsed())
    }

    /// Writes the object anew over what is there; `false` if that is not ours any more, or it took
    /// too long.
    async fn renew(&self) -> bool {
        let objects = &self.objects.0;
        let mut version = self.version.lock().await;
        let (began, next) = (Instant::now(), version.1 + 1);
        let pause_max = objects.options.longest_pause.min(self.ttl / 32);
        let mut pause = objects.options.first_pause.min(pause_max);
        while self.is_held() {
            let Ok(mark) = new_mark() else { return false };
            let new = text(self.id, next, self.ttl);
            let mut renewed = None;
            match objects
                .update(&self.path, &version.0, new.clone(), &mark)
                .await
            {
                Ok(meta) => renewed = Some(meta),
                Err(failure) if failure.is_refused() || failure.is_missing() => {
                    // A renewal whose answer was lost has changed it, or it is another's, or gone.
                    match ours(objects, &self.path, self.id).await {
                        Ok(Some(found)) if found.bytes == new => renewed = Some(found.meta),
                        Ok(Some(found)) => version.0 = found.meta,
                        Ok(None) => self.is_lost.store(true, Ordering::Release),
                        Err(failure) => tracing::warn!(lease = %self.path, %failure, "lease"),
                    }
                }
                Err(failure) => {
                    tracing::warn!(lease = %self.path, %failure, "lease not renewed yet");
                    if !failure.is_transient() && began.elapsed() > REFUSED_MAX {
                        return false;
                    }
                    // What the service asks for, but no longer than the lease is held.
                    let asked = failure.retry_after().unwrap_or_default();
                    let left = self.left().unwrap_or_default() + Duration::from_millis(1);
                    tokio::time::sleep(pause.max(asked).min(left)).await;
                    pause = pause.saturating_mul(2).min(pause_max);
                }
            }
            if let Some(meta) = renewed {
                *version = (meta, next);
                if !self.is_held() {
                    return false;
                }
                *self.since.lock().unwrap_or_else(PoisonError::into_inner) = began;
                return true;
            }
        }
        tracing::warn!(lease = %self.path, "lease lost");
        false
    }

    /// Renews it until it is dropped or lost.
    async fn keep(weak: Weak<Self>, pause: Duration) {
        loop {
            tokio::time::sleep(pause).await;
            match weak.upgrade() {
                Some(held) if held.is_held() => held.renew().await,
                _ => return,
            };
        }
    }
}

fn start(runtime: &Runtime, renewed: &Arc<Renewed>) {
    runtime.spawn(Renewed::keep(Arc::downgrade(renewed), renewed.ttl / 8));
}

/// A lease, given back when dropped.
#[derive(Debug)]
pub(crate) struct ObjectLease {
    runtime: Arc<Runtime>,
    renewed: Arc<Renewed>,
}

impl ObjectLease {
    /// Takes a new one.
    pub async fn take(objects: &Objects, clock: &Clock) -> Result<Arc<Renewed>, Failure> {
        for _ in 0..NAMES_MAX {
            let (began, id, ttl) = (Instant::now(), random()?, objects.options.lease_life());
            let path = objects.path(&name(LeaseId::new(id), ttl));
            if !objects.create(&path, vec![text(id, 0, ttl)]).await? {
                continue;
            }
            match objects.written(&path).await {
                Ok(meta) => {
                    clock.learn(&meta);
                    return Ok(Renewed::new(objects, path, id, began, meta));
                }
                Err(failure) => {
                    // Nobody will renew it, and collectors would wait for it to run out.
                    let _ = objects.delete(&path).await;
                    return Err(failure);
                }
            }
        }
        Err(Failure::Contended(NAMES_MAX))
    }

    pub fn hold(runtime: &Arc<Runtime>, renewed: Arc<Renewed>) -> Self {
        start(runtime, &renewed);
        let runtime = Arc::clone(runtime);
        Self { runtime, renewed }
    }
}

impl Lease for ObjectLease {
    fn id(&self) -> LeaseId {
        LeaseId::new(self.renewed.id)
    }

    fn is_held(&self) -> bool {
        self.renewed.is_held()
    }

    fn confirm(&self) -> Result<bool, StorageError> {
        let renewed = Arc::clone(&self.renewed);
        let confirmed = self.runtime.run(async move { renewed.renew().await });
        Ok(confirmed.unwrap_or(false))
    }
}

impl Drop for ObjectLease {
    fn drop(&mut self) {
        let renewed = Arc::clone(&self.renewed);
        renewed.is_lost.store(true, Ordering::Release);
        self.runtime.run(async move {
            let delete = renewed.objects.0.delete(&renewed.path);
            if !matches!(tokio::time::timeout(RELEASE_MAX, delete).await, Ok(Ok(_))) {
                tracing::warn!(lease = %renewed.path, "lease left to run out");
            }
        });
    }
}

fn name(id: LeaseId, ttl: Duration) -> String {
    format!("leases/{:016x}.{}.lease", id.get(), ttl.as_millis())
}

fn parse_name(name: &str) -> Option<(LeaseId, Duration)> {
    let (id, rest) = name.split_once('.')?;
    let ttl = rest.strip_suffix(".lease")?.parse().ok()?;
    let id = u64::from_str_radix(id, 16)
        .ok()
        .filter(|_| id.len() == 16)?;
    Some((LeaseId::new(id), Duration::from_millis(ttl).min(TTL_MAX)))
}

impl Objects {
    /// The leases that are held; those that ran out are removed before this returns.
    pub async fn leases(&self, clock: &Clock) -> Result<Vec<LeaseId>, Failure> {
        // Asked before they are listed: none seems older than it is.
        let now = clock.ask(self).await?;
        let mut held = Vec::new();
        for meta in self.list("leases").await? {
            let parsed = meta.location.filename().and_then(parse_name);
            let Some((id, ttl)) = parsed else { continue };
            if Clock::age(now, &meta) <= ttl {
                held.push(id);
            } else {
                tracing::info!(lease = %meta.location, "lease ran out");
                self.delete(&meta.location).await?;
            }
        }
        Ok(held)
    }
}

/// The right to collect garbage, given back when dropped.
#[derive(Debug)]
pub(crate) struct ObjectExclusive {
    runtime: Arc<Runtime>,
    renewed: Arc<Renewed>,
}

impl ObjectExclusive {
    /// Takes it if nobody holds it or its holder let it expire.
    pub async fn take(objects: &Objects, clock: &Clock) -> Result<Option<Arc<Renewed>>, Failure> {
        let id = random()?;
        let taken = Self::take_as(objects, clock, id).await;
        if taken.is_err() {
            // It may have been taken all the same, and the answer lost.
            give_back(objects, id).await;
        }
        taken
    }

    async fn take_as(
        objects: &Objects,
        clock: &Clock,
        id: u64,
    ) -> Result<Option<Arc<Renewed>>, Failure> {
        let (path, mark) = (objects.path(COLLECTOR), new_mark()?);
        let ttl = objects.options.lease_life();
        let began = Instant::now();
        let new = text(id, 0, ttl);
        if !objects.create(&path, vec![new.clone()]).await? {
            let mut tries = objects.tries();
            loop {
                let now = clock.ask(objects).await?;
                let Some(found) = objects.whole(&path, TEXT_MAX).await? else {
                    return Ok(None);
                };
                let holder = parse(&found.bytes);
                // A try whose answer was lost has taken it.
                if holder.is_some_and(|(who, _)| who == id) {
                    break;
                }
                // An empty one was given back.
                let ttl = holder.map_or(objects.options.lease_life(), |(_, ttl)| ttl);
                if !found.bytes.is_empty() && Clock::age(now, &found.meta) <= ttl {
                    return Ok(None);
                }
                match objects.update(&path, &found.meta, new.clone(), &mark).await {
                    Ok(_) => break,
                    Err(failure) if failure.is_missing() => return Ok(None),
                    // Another was quicker, or this one: the object tells.
                    Err(failure) if failure.is_refused() || failure.is_transient() => {
                        tries.again(failure).await?;
                    }
                    Err(failure) => return Err(failure),
                }
            }
        }
        if let Some(found) = ours(objects, &path, id).await? {
            clock.learn(&found.meta);
            return Ok(Some(Renewed::new(objects, path, id, began, found.meta)));
        }
        // Another has taken it over; unless it is not found at all, which is nobody's doing.
        objects.written(&path).await.map(|_| None)
    }

    pub fn hold(runtime: &Arc<Runtime>, renewed: Arc<Renewed>) -> Self {
        start(runtime, &renewed);
        let runtime = Arc::clone(runtime);
        Self { runtime, renewed }
    }
}

impl Exclusive for ObjectExclusive {
    fn confirm(&self) -> Result<bool, StorageError> {
        let renewed = Arc::clone(&self.renewed);
        // Nobody takes over what was renewed a moment ago.
        if renewed.was_renewed_within(renewed.ttl / 16) {
            return Ok(true);
        }
        let confirmed = self.runtime.run(async move { renewed.renew().await });
        Ok(confirmed.unwrap_or(false))
    }
}

impl Drop for ObjectExclusive {
    fn drop(&mut self) {
        let renewed = Arc::clone(&self.renewed);
        renewed.is_lost.store(true, Ordering::Release);
        // A renewal that is under way fails after this, or this is tried again after it.
        self.runtime
            .run(async move { give_back(&renewed.objects.0, renewed.id).await });
    }
}

/// Empties the collector's object if it is this one's. Whatever fails is tried again: what is not
/// given back has to run out before anyone may collect.
async fn give_back(objects: &Objects, id: u64) {
    let path = objects.path(COLLECTOR);
    let once = || async {
        if let Some(ours) = ours(objects, &path, id).await? {
            let (meta, empty) = (ours.meta, Bytes::new());
            objects.update(&path, &meta, empty, &new_mark()?).await?;
        }
        Ok::<(), Failure>(())
    };
    let all = async {
        let mut tries = objects.tries();
        while let Err(failure) = once().await {
            tries.again(failure).await?;
        }
        Ok::<(), Failure>(())
    };
    if !matches!(tokio::time::timeout(RELEASE_MAX, all).await, Ok(Ok(()))) {
        tracing::warn!(lease = %path, "right to collect left to run out");
    }
}

/// The operation that a failure to take a lease is told as.
pub(crate) const TAKING: Operation = Operation::Write(FileOffset::ZERO, ByteLen::new(TEXT_MAX));
