//! Object storage as a [`Backend`]: S3 and what speaks its protocol, Google Cloud Storage, Azure
//! Blob Storage, web servers (read-only), and memory.
//!
//! Invariants: all requests run on one thread of its own, and every call is a plain function. Each
//! request is retried for a bounded time. Nothing that can be written by two at once is written
//! without a condition, and nothing is written before the service was seen to honour conditions.
//! Spec: STORE-22 to STORE-25, STORE-27, STORE-28.

mod answers;
mod clock;
mod connect;
mod credentials;
mod failure;
mod lease;
mod objects;
mod probe;
mod runtime;
mod upload;

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use coldframe_storage::{IoContext, Operation, StorageError};
use coldframe_units::{ByteLen, FileOffset};
use object_store::ObjectStore;
use object_store::multipart::MultipartStore;

use crate::StoreError;
use crate::backend::{Backend, Exclusive, Folder, Key, Lease, LeaseId, Listed};
use crate::error::storage;
use crate::remote::clock::Clock;
use crate::remote::failure::Failure;
use crate::remote::lease::{ObjectExclusive, ObjectLease, TAKING};
use crate::remote::objects::Objects;
use crate::remote::runtime::Runtime;
use crate::url::StoreUrl;

pub use answers::RemoteConnector;
pub use objects::RETRYING;

/// How object storage is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteOptions {
    /// How often a request is tried, within [`RemoteOptions::give_up_after`]; `u32::MAX` is as
    /// often as there is time.
    pub attempts: u32,
    /// How long one try may take; an upload is given a second more for each 128 KiB.
    pub attempt_timeout: Duration,
    /// No new try is begun after so long.
    pub give_up_after: Duration,
    /// The same, as long as the service has never answered: its address may be wrong.
    pub first_answer_within: Duration,
    /// The pause before the second try; each further one is twice as long.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// How long a lease lives that is not renewed, at most an hour. Services tell times in whole
    /// seconds: no less than ten. Its holder takes it for lost after half of that:
    /// [`RemoteOptions::retrying_for`] sets it so that it outlasts what requests are tried through.
    pub lease_ttl: Duration,
    /// Files longer than two of these are sent in parts of this many bytes.
    pub part_bytes: u32,
    /// Parts that are sent at the same time.
    pub parts_at_once: usize,
    /// Chunks that are fetched at the same time.
    pub reads_at_once: usize,
    /// Uploads that were begun so long ago, and not completed, are aborted by the collector.
    pub abandoned_after: Duration,
}

impl RemoteOptions {
    /// Tries for 90 seconds, leases of five minutes, parts of 8 MiB, four sent and 32 chunks
    /// fetched at once.
    pub const USUAL: Self = Self {
        attempts: u32::MAX,
        attempt_timeout: Duration::from_secs(20),
        give_up_after: Duration::from_secs(90),
        first_answer_within: Duration::from_secs(10),
        first_pause: Duration::from_millis(100),
        longest_pause: Duration::from_secs(5),
        lease_ttl: Duration::from_secs(300),
        part_bytes: 8 << 20,
        parts_at_once: 4,
        reads_at_once: 32,
        abandoned_after: Duration::from_secs(24 * 3600),
    };

    /// [`RemoteOptions::USUAL`], but failed requests are retried for as long as the environment
    /// variable `COLDFRAME_RETRY_FOR` says: `45s`, `10m`, `1h`, or a number of seconds.
    /// An empty value counts as not set.
    ///
    /// # Errors
    /// [`StoreError::BadSetting`] if its value is no such time, or more than a day.
    pub fn from_env() -> Result<Self, StoreError> {
        let usual = Self::USUAL;
        let value = std::env::var_os(RETRY_FOR).unwrap_or_default();
        if value.is_empty() {
            return Ok(usual);
        }
        let text = value.to_string_lossy();
        let wrong = || StoreError::BadSetting {
            variable: RETRY_FOR,
            value: text.clone().into_owned(),
            expected: "a time such as 45s, 10m or 1h, at most 24h",
        };
        let limit = retry_time(text.trim()).ok_or_else(wrong)?;
        Ok(usual.retrying_for(limit))
    }

    /// The same, but failed requests are retried for so long, and leases live long enough for their
    /// holder to keep them through an outage of that length. No lease lives for more than an hour:
    /// it outlasts 22 minutes.
    #[must_use]
    pub fn retrying_for(self, limit: Duration) -> Self {
        // What is left of the half when a renewal is due, an eighth later, is 3/8 of its life.
        let outage = limit.saturating_add(self.attempt_timeout);
        let needed = outage.saturating_mul(8) / 3;
        Self {
            give_up_after: limit,
            first_answer_within: limit,
            lease_ttl: self.lease_ttl.max(needed).min(lease::TTL_MAX),
            ..self
        }
    }

    /// How long its leases live.
    fn lease_life(&self) -> Duration {
        self.lease_ttl.min(lease::TTL_MAX)
    }
}

/// The variable that says how long failed requests are retried.
const RETRY_FOR: &str = "COLDFRAME_RETRY_FOR";

fn retry_time(text: &str) -> Option<Duration> {
    let digits = text.len()
        - text
            .trim_start_matches(|letter: char| letter.is_ascii_digit())
            .len();
    let (number, unit) = text.split_at(digits);
    let unit = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return None,
    };
    let seconds = number.parse::<u64>().ok()?.checked_mul(unit)?;
    (seconds <= 24 * 3600).then(|| Duration::from_secs(seconds))
}

/// Object storage that holds a store.
pub struct Remote {
    objects: Objects,
    clock: Clock,
    runtime: Arc<Runtime>,
    /// Conditional writes were seen to be honoured.
    is_probed: AtomicBool,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Remote");
        shown.field("place", &self.objects.place);
        shown.finish_non_exhaustive()
    }
}

impl Remote {
    /// What a URL names. Nothing is asked of the service yet; credentials and endpoints come from
    /// the environment (`AWS_*`, `GOOGLE_*`, `AZURE_*`).
    ///
    /// # Errors
    /// [`StoreError::BadUrl`] if it is a directory's; [`StoreError::Storage`] if the environment
    /// does not say how to reach it.
    pub fn connect(url: &StoreUrl, options: RemoteOptions) -> Result<Self, StoreError> {
        let place = url.to_string();
        let opened = |objects: connect::Connected| {
            let connect::Connected {
                store,
                multipart,
                prefix,
                lists_in_order,
            } = objects;
            let mut remote = Self::new(store, multipart, &place, &prefix, options)?;
            remote.objects.lists_in_order = lists_in_order;
            Ok(remote)
        };
        connect::connect(url, options).and_then(|objects| opened(objects).map_err(storage))
    }

    /// Objects of any service that the crate object_store knows, below a prefix. It must be able to
    /// write conditionally, by ETag or version, which is checked before the first write;
    /// `multipart` is the same service, if it takes objects in parts. Its clients should be built
    /// with a [`RemoteConnector`], and not retry by themselves.
    ///
    /// # Errors
    /// [`StorageError::Open`] if no thread can be started.
    pub fn new(
        store: Arc<dyn ObjectStore>,
        multipart: Option<Arc<dyn MultipartStore>>,
        place: &str,
        prefix: &str,
        options: RemoteOptions,
    ) -> Result<Self, StorageError> {
        let runtime = Runtime::start().at(Operation::Open, place.as_ref())?;
        Ok(Self {
            objects: Objects {
                store,
                multipart,
                place: place.to_owned(),
                prefix: prefix.to_owned(),
                options,
                lists_in_order: false,
                has_answered: Arc::default(),
                told: Arc::default(),
            },
            clock: Clock::default(),
            runtime: Arc::new(runtime),
            is_probed: AtomicBool::new(false),
        })
    }

    /// The same, of a service that lists its objects in the order of their keys: whether one of
    /// them is listed is then known without listing all that follow.
    #[must_use]
    pub fn listing_in_order(mut self) -> Self {
        self.objects.lists_in_order = true;
        self
    }

    /// Checks once, before the first write, that the service honours conditional writes.
    fn probe(&self) -> Result<(), StorageError> {
        if self.is_probed.load(Ordering::Acquire) {
            return Ok(());
        }
        let name = probe::PROBES;
        self.run(
            TAKING,
            name,
            |objects, _| async move { objects.probe().await },
        )?;
        self.is_probed.store(true, Ordering::Release);
        Ok(())
    }

    /// Runs requests; what fails is told as `operation` on the object of this name.
    fn run<T: Send + 'static, F>(
        &self,
        operation: Operation,
        name: &str,
        requests: impl FnOnce(Objects, Clock) -> F,
    ) -> Result<T, StorageError>
    where
        F: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        let span = tracing::debug_span!("remote", object = name, ?operation);
        let _entered = span.enter();
        let future = requests(self.objects.clone(), self.clock.clone());
        let done = self.runtime.run(future);
        let done = done.unwrap_or(Err(Failure::Panicked));
        done.map_err(|failure| failure.at(operation, &self.objects.shown(name)))
    }
}

/// Tags and the ledger change under their names; an empty object is one that was removed.
const fn is_mutable(key: &Key) -> bool {
    matches!(key, Key::Tag(_) | Key::Ledger)
}

const fn len_of(bytes: &[u8]) -> ByteLen {
    ByteLen::new(bytes.len() as u64)
}

impl Backend for Remote {
    fn place(&self) -> String {
        self.objects.place.clone()
    }

    fn create(&self, key: &Key, parts: &[&[u8]]) -> Result<bool, StorageError> {
        self.probe()?;
        let name = key.to_string();
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let size = self.objects.options.part_bytes.max(5 << 20) as usize;
        let operation = Operation::Write(FileOffset::ZERO, ByteLen::new(len as u64));
        let is_random = matches!(key, Key::Pack(_) | Key::Root(..));
        let whole = Bytes::from(parts.concat());
        let shown = name.clone();
        if is_random && len > 2 * size {
            let starts = (0..len).step_by(size);
            let parts = starts.map(|start| whole.slice(start..len.min(start + size)));
            let parts: Vec<Bytes> = parts.collect();
            return self.run(operation, &shown, |objects, _| async move {
                objects.upload(&name, parts).await
            });
        }
        self.run(operation, &shown, |objects, _| async move {
            objects.create(&objects.path(&name), vec![whole]).await
        })
    }

    fn replace(
        &self,
        key: &Key,
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<bool, StorageError> {
        self.probe()?;
        let name = key.to_string();
        let operation = Operation::Write(FileOffset::ZERO, len_of(new.unwrap_or_default()));
        let expected = expected.map(Bytes::copy_from_slice);
        // No service removes an object only if it is a certain version: an empty one is as good.
        let new = new.map_or(Bytes::new(), Bytes::copy_from_slice);
        self.run(
            operation,
            key.to_string().as_str(),
            |objects, _| async move {
                let path = objects.path(&name);
                match expected {
                    Some(expected) => objects.swap(&path, &expected, new).await,
                    None if new.is_empty() => {
                        Ok(objects.head(&path).await?.is_none_or(|meta| meta.size == 0))
                    }
                    None if objects.create(&path, vec![new.clone()]).await? => Ok(true),
                    None => objects.swap(&path, &[], new).await,
                }
            },
        )
    }

    fn read(&self, key: &Key, limit: ByteLen) -> Result<Option<Bytes>, StorageError> {
        let name = key.to_string();
        let operation = Operation::Read(FileOffset::ZERO, limit);
        // Of these there is one each, and much follows from there being none.
        let tells_absence = is_mutable(key) || *key == Key::Store;
        let found = self.run(
            operation,
            key.to_string().as_str(),
            |objects, _| async move {
                let path = objects.path(&name);
                match tells_absence {
                    true => objects.whole_unless_listed(&path, limit.get()).await,
                    false => objects.whole(&path, limit.get()).await,
                }
            },
        )?;
        let bytes = found.map(|whole| whole.bytes);
        Ok(bytes.filter(|bytes| !(bytes.is_empty() && is_mutable(key))))
    }

    fn read_range(
        &self,
        key: &Key,
        offset: FileOffset,
        len: ByteLen,
    ) -> Result<Option<Bytes>, StorageError> {
        let name = key.to_string();
        let operation = Operation::Read(offset, len);
        self.run(
            operation,
            key.to_string().as_str(),
            |objects, _| async move {
                let path = objects.path(&name);
                objects.range(&path, offset.get(), len.get()).await
            },
        )
    }

    fn exists(&self, key: &Key) -> Result<bool, StorageError> {
        let name = key.to_string();
        let operation = Operation::Read(FileOffset::ZERO, ByteLen::ZERO);
        self.run(operation, name.clone().as_str(), |objects, _| async move {
            objects.exists(&objects.path(&name)).await
        })
    }

    fn list(&self, folder: Folder) -> Result<Vec<Listed>, StorageError> {
        let name = folder.name();
        let found = self.run(Operation::Open, name, |objects, _| async move {
            objects.list(name).await
        })?;
        // Without a later time, that of the youngest: what is told is never too old.
        for meta in &found {
            self.clock.learn(meta);
        }
        let now = self.clock.now();
        let listed = found.iter().filter_map(|meta| {
            let key = folder.key(meta.location.filename()?)?;
            let is_removed = meta.size == 0 && is_mutable(&key);
            let age = now.map_or(Duration::ZERO, |now| Clock::age(now, meta));
            (!is_removed).then_some(Listed {
                key,
                len: ByteLen::new(meta.size),
                age,
            })
        });
        Ok(listed.collect())
    }

    fn remove(&self, key: &Key) -> Result<bool, StorageError> {
        let name = key.to_string();
        self.run(
            Operation::Remove,
            key.to_string().as_str(),
            |objects, _| async move {
                let path = objects.path(&name);
                // Some services say of what was never there that it was deleted.
                let was_there = objects.head(&path).await?.is_some();
                Ok(was_there && objects.delete(&path).await?)
            },
        )
    }

    fn lease(&self) -> Result<Box<dyn Lease>, StorageError> {
        let taken = self.run(TAKING, "leases", |objects, clock| async move {
            ObjectLease::take(&objects, &clock).await
        })?;
        Ok(Box::new(ObjectLease::hold(&self.runtime, taken)))
    }

    fn leases(&self) -> Result<BTreeSet<LeaseId>, StorageError> {
        let held = self.run(Operation::Open, "leases", |objects, clock| async move {
            objects.leases(&clock).await
        })?;
        Ok(held.into_iter().collect())
    }

    fn exclusive(&self) -> Result<Option<Box<dyn Exclusive>>, StorageError> {
        self.probe()?;
        let taken = self.run(TAKING, "collector", |objects, clock| async move {
            ObjectExclusive::take(&objects, &clock).await
        })?;
        let hold = |taken| ObjectExclusive::hold(&self.runtime, taken);
        Ok(taken.map(|taken| Box::new(hold(taken)) as Box<dyn Exclusive>))
    }

    fn can_sweep(&self) -> Result<(), StorageError> {
        for name in ["leases", probe::PROBES, "uploads"] {
            self.run(Operation::Open, name, |objects, _| async move {
                objects.list(name).await
            })?;
        }
        Ok(())
    }

    fn sweep(&self) -> Result<u64, StorageError> {
        self.run(Operation::Remove, "uploads", |objects, clock| async move {
            objects.sweep(&clock).await
        })
    }

    fn reads_at_once(&self) -> usize {
        self.objects.options.reads_at_once
    }
}
