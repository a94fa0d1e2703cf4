//! Single objects: whole and ranged reads, conditional writes, lists, each tried for a bounded
//! time.
//!
//! Invariants: no answer is taken for what was asked for before its length and range were held
//! against that. Of a conditional write whose effect is open, the object tells: each carries a mark
//! of its own, and what carries another was written by someone else.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use futures_util::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, GetOptions, GetRange, GetResult, ObjectMeta, ObjectStore,
    ObjectStoreExt as _, PutMode, PutOptions, PutPayload, UpdateVersion,
};

use crate::remote::RemoteOptions;
use crate::remote::answers::noted;
use crate::remote::failure::Failure;

/// The name of the mark in an object's metadata; one that every service takes.
const MARK: &str = "coldframewrite";

/// Conditional writes that are refused, though nobody else wrote, before it is given up.
const CONFLICTS_MAX: u32 = 8;

/// How often what is listed is looked for.
const LOOKS_MAX: u32 = 2;

/// Entries that a list may have more than once.
const REPEATED_MAX: u64 = 20_000;

/// The target of the events that say that requests are tried again, for programs that tell their
/// users why it takes so long. The message is a whole sentence.
pub const RETRYING: &str = "coldframe_chunks::retrying";

/// How long a request is tried again before that is told.
const TOLD_AFTER: Duration = Duration::from_secs(3);

/// How long after it was told it may be told again.
const TOLD_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// Bytes in a second that an upload is given time for.
const SLOWEST_UPLOAD: u64 = 128 << 10;

pub(crate) type MultipartStore = Arc<dyn object_store::multipart::MultipartStore>;

/// Objects below a prefix.
#[derive(Clone)]
pub(crate) struct Objects {
    pub store: Arc<dyn ObjectStore>,
    pub multipart: Option<MultipartStore>,
    pub place: String,
    pub prefix: String,
    pub options: RemoteOptions,
    /// Listings are in the order of keys.
    pub lists_in_order: bool,
    /// Some request of this process was answered.
    pub has_answered: Arc<AtomicBool>,
    /// When it was last told that requests are tried again.
    pub told: Arc<Mutex<Option<Instant>>>,
}

/// An object, whole.
#[derive(Clone, Debug)]
pub(crate) struct Whole {
    pub bytes: Bytes,
    pub meta: ObjectMeta,
    mark: Option<String>,
}

/// A mark that no other write has.
pub(crate) fn new_mark() -> Result<String, Failure> {
    let number = getrandom::u64().map_err(|error| object_store::Error::Generic {
        store: "random numbers",
        source: error.into(),
    });
    Ok(format!("{:016x}", number?))
}

pub(crate) fn marked(mark: &str) -> Attributes {
    let name = Attribute::Metadata(MARK.into());
    Attributes::from_iter([(name, mark.to_owned())])
}

fn mark_of(result: &GetResult) -> Option<String> {
    let name = Attribute::Metadata(MARK.into());
    let mark = result.attributes.get(&name);
    mark.map(|mark| mark.as_ref().to_owned())
}

/// Whose an object is, seen by one who tried to write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Author {
    Ours,
    Other,
    Nobody,
}

impl Objects {
    /// The path of an object, by its name below the prefix.
    pub fn path(&self, name: &str) -> Path {
        match self.prefix.as_str() {
            "" => Path::from_iter(name.split('/')),
            prefix => Path::from_iter(prefix.split('/').chain(name.split('/'))),
        }
    }

    /// The name of an object for people.
    pub fn shown(&self, name: &str) -> String {
        format!("{}/{name}", self.place.trim_end_matches('/'))
    }

    /// One attempt, `bytes` long, given up in time.
    pub async fn attempt<T>(
        &self,
        bytes: u64,
        request: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, Failure> {
        let limit = self.options.attempt_timeout;
        let limit = limit.saturating_add(Duration::from_secs(bytes / SLOWEST_UPLOAD));
        self.timed(limit, request).await
    }

    async fn timed<T>(
        &self,
        limit: Duration,
        request: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, Failure> {
        let timed = tokio::time::timeout(limit, noted(request)).await;
        let (done, answer) = timed.map_err(|_| Failure::TimedOut(limit))?;
        let done = done.map_err(|error| Failure::of(error, answer));
        if !matches!(&done, Err(failure) if failure.is_transient()) || answer.status.is_some() {
            self.has_answered.store(true, Ordering::Relaxed);
        }
        done
    }

    pub fn tries(&self) -> Tries {
        Tries {
            options: self.options,
            has_answered: Arc::clone(&self.has_answered),
            place: self.place.clone(),
            told: Arc::clone(&self.told),
            began: Instant::now(),
            count: 1,
            pause: self.options.first_pause,
        }
    }

    /// Tries until it succeeds, fails for good, or has been tried often or long enough.
    pub async fn retried<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        mut request: impl FnMut() -> F,
    ) -> Result<T, Failure> {
        let mut tries = self.tries();
        loop {
            match request().await {
                Err(failure) if failure.is_transient() => tries.again(failure).await?,
                done => return done,
            }
        }
    }

    async fn get(&self, path: &Path, options: GetOptions) -> Result<GetResult, Failure> {
        self.attempt(0, self.store.get_opts(path, options)).await
    }

    pub async fn head(&self, path: &Path) -> Result<Option<ObjectMeta>, Failure> {
        let found = self
            .retried(|| self.attempt(0, self.store.head(path)))
            .await;
        self.settled(path, found).await
    }

    /// An object that was just written. A service that does not find it for good is an error.
    pub async fn written(&self, path: &Path) -> Result<ObjectMeta, Failure> {
        let mut tries = self.tries();
        loop {
            match self.head(path).await? {
                Some(meta) => return Ok(meta),
                None => tries.again(Failure::WrittenNotFound).await?,
            }
        }
    }

    /// As [`Objects::whole`]; but what is not found, though it is listed, is an error.
    pub async fn whole_unless_listed(
        &self,
        path: &Path,
        limit: u64,
    ) -> Result<Option<Whole>, Failure> {
        for _ in 0..LOOKS_MAX {
            let answer = self.answered_whole(path, limit).await;
            // Of a refusal the listing has told already.
            let is_missing = matches!(&answer, Err(failure) if failure.is_missing());
            if let Some(whole) = self.settled(path, answer).await? {
                return Ok(Some(whole));
            }
            // Where nothing can be listed there is only the one answer.
            if !is_missing || !self.is_listed(path).await.unwrap_or(false) {
                return Ok(None);
            }
        }
        Err(Failure::ListedNotFound)
    }

    /// Whether there is an object, by its own answer: 403 is none.
    pub async fn exists(&self, path: &Path) -> Result<bool, Failure> {
        let found = self.retried(|| self.attempt(0, self.store.head(path)));
        Ok(absent(found.await)?.is_some())
    }

    /// That there is nothing is an answer. Without the permission to list, services answer 403
    /// for what does not exist: then the listing tells.
    async fn settled<T>(
        &self,
        path: &Path,
        answer: Result<T, Failure>,
    ) -> Result<Option<T>, Failure> {
        let refusal = match answer.map_err(Failure::denied) {
            Ok(found) => return Ok(Some(found)),
            Err(Err(failure)) => return absent(Err(failure)),
            Err(Ok(refusal)) => refusal,
        };
        match self.is_listed(path).await.map_err(Failure::denied) {
            Ok(true) => Err(Failure::Service(refusal)),
            Ok(false) => Ok(None),
            Err(Ok(listing)) => {
                let listing = Box::new(listing);
                Err(Failure::Forbidden { refusal, listing })
            }
            Err(Err(failure)) => Err(failure),
        }
    }

    /// Whether the listing of its folder has an object.
    async fn is_listed(&self, path: &Path) -> Result<bool, Failure> {
        let text = path.as_ref();
        let (folder, name) = text.rsplit_once('/').unwrap_or(("", text));
        let before = before(folder, name);
        let folder = Path::parse(folder).unwrap_or_default();
        let is_past = |other: &Path| self.lists_in_order && is_past(path, other);
        let once = || async {
            let stream = self.store.list_with_offset(Some(&folder), &before);
            let listed = self
                .collected(stream, |other| other == path || is_past(other))
                .await?;
            Ok(listed.contains_key(path))
        };
        self.retried(once).await
    }

    /// What is listed, by all pages, each once, up to the first that is the last to be looked at.
    async fn collected(
        &self,
        mut stream: BoxStream<'static, object_store::Result<ObjectMeta>>,
        is_last: impl Fn(&Path) -> bool,
    ) -> Result<BTreeMap<Path, ObjectMeta>, Failure> {
        let mut listed = BTreeMap::new();
        let mut repeated = 0;
        // Each page is given its time, not the whole list.
        let page = self.options.attempt_timeout;
        while let Some(meta) = self.timed(page, stream.try_next()).await? {
            let is_last = is_last(&meta.location);
            repeated += u64::from(listed.insert(meta.location.clone(), meta).is_some());
            // Some pages come twice; a list that never ends is none.
            if repeated > REPEATED_MAX {
                return Err(Failure::Endless);
            }
            if is_last {
                break;
            }
        }
        Ok(listed)
    }

    /// A whole object of at most `limit` bytes; `None` if there is none.
    pub async fn whole(&self, path: &Path, limit: u64) -> Result<Option<Whole>, Failure> {
        let answer = self.answered_whole(path, limit).await;
        self.settled(path, answer).await
    }

    async fn answered_whole(&self, path: &Path, limit: u64) -> Result<Whole, Failure> {
        let once = || async {
            let result = self.get(path, GetOptions::default()).await?;
            let (meta, mark) = (result.meta.clone(), mark_of(&result));
            if meta.size > limit {
                let len = meta.size;
                return Err(Failure::TooLong { len, limit });
            }
            let bytes = self.attempt(meta.size, result.bytes()).await?;
            of_length(&bytes, meta.size)?;
            Ok(Whole { bytes, meta, mark })
        };
        self.retried(once).await
    }

    /// A range of an object; `None` if there is none.
    pub async fn range(&self, path: &Path, start: u64, len: u64) -> Result<Option<Bytes>, Failure> {
        let end = start.saturating_add(len);
        let past_end = |len: u64| Failure::PastEnd { len };
        if len == 0 {
            return match self.head(path).await? {
                Some(meta) if meta.size < start => Err(past_end(meta.size)),
                found => Ok(found.map(|_| Bytes::new())),
            };
        }
        let once = || async {
            let options = GetOptions {
                range: Some(GetRange::Bounded(start..end)),
                ..GetOptions::default()
            };
            let result = match self.get(path, options).await {
                // A range that begins past the end is refused, in as many ways as there are
                // services.
                Err(
                    failure @ (Failure::Service(object_store::Error::Generic { .. })
                    | Failure::Answered { .. }),
                ) => {
                    let meta = self.attempt(0, self.store.head(path)).await;
                    return Err(match meta {
                        Ok(meta) if meta.size < end => past_end(meta.size),
                        Err(missing) if missing.is_missing() => missing,
                        _ => failure,
                    });
                }
                Err(Failure::NoRange) => return self.cut(path, start, len).await,
                answer => answer?,
            };
            if result.meta.size < end {
                return Err(past_end(result.meta.size));
            }
            let (asked, got) = (len, result.range.end.saturating_sub(result.range.start));
            if result.range != (start..end) {
                return Err(Failure::Short { asked, got });
            }
            let bytes = self.attempt(len, result.bytes()).await?;
            of_length(&bytes, len)?;
            Ok(bytes)
        };
        let range = self.retried(once).await;
        self.settled(path, range).await
    }

    /// A range of an object, of a service that answers with all of it: what is before it is passed
    /// over, what is behind it not waited for.
    async fn cut(&self, path: &Path, start: u64, len: u64) -> Result<Bytes, Failure> {
        tracing::debug!(object = %path, "read from its beginning: the service ignores ranges");
        let end = start.saturating_add(len);
        // What comes may be the text of an error: the length of the object is asked for apart.
        let asked = self.attempt(0, self.store.head(path)).await?.size;
        if asked < end {
            return Err(Failure::PastEnd { len: asked });
        }
        let result = self.get(path, GetOptions::default()).await?;
        let got = result.meta.size;
        if got != asked {
            return Err(Failure::Short { asked, got });
        }
        let read = async {
            let mut stream = result.into_stream();
            let (mut bytes, mut at) = (Vec::new(), 0);
            while let Some(piece) = stream.try_next().await? {
                let piece_len = piece.len() as u64;
                let from = start.saturating_sub(at).min(piece_len);
                let until = end.saturating_sub(at).min(piece_len);
                bytes.extend_from_slice(&piece[from as usize..until as usize]);
                at += piece_len;
                if at >= end {
                    break;
                }
            }
            Ok(Bytes::from(bytes))
        };
        let bytes = self.attempt(end, read).await?;
        of_length(&bytes, len)?;
        Ok(bytes)
    }

    /// Who wrote the object that is there, if it is not known whether a write took effect.
    pub async fn author(&self, path: &Path, mark: &str, new: &[Bytes]) -> Result<Author, Failure> {
        let len: usize = new.iter().map(Bytes::len).sum();
        let options = || GetOptions {
            head: true,
            ..GetOptions::default()
        };
        let found = self.retried(|| self.get(path, options())).await;
        let Some(found) = self.settled(path, found).await? else {
            return Ok(Author::Nobody);
        };
        if let Some(found) = mark_of(&found) {
            return Ok(if found == mark {
                Author::Ours
            } else {
                Author::Other
            });
        }
        // A service that keeps no metadata: only the same bytes can be ours.
        if found.meta.size != len as u64 {
            return Ok(Author::Other);
        }
        let whole = self.whole(path, len as u64).await?;
        Ok(match whole {
            None => Author::Nobody,
            Some(whole) if whole.bytes == new.concat() => Author::Ours,
            Some(_) => Author::Other,
        })
    }

    /// Makes an object that must not be there yet; `false` if it is someone else's.
    pub async fn create(&self, path: &Path, new: Vec<Bytes>) -> Result<bool, Failure> {
        let mark = new_mark()?;
        let len: usize = new.iter().map(Bytes::len).sum();
        let mut tries = self.tries();
        loop {
            let options = PutOptions {
                mode: PutMode::Create,
                attributes: marked(&mark),
                ..PutOptions::default()
            };
            let payload = PutPayload::from_iter(new.iter().cloned());
            let request = self.store.put_opts(path, payload, options);
            let failure = match self.attempt(len as u64, request).await {
                Ok(_) => return Ok(true),
                Err(failure) if failure.is_refused() || failure.is_transient() => failure,
                Err(failure) => return Err(failure.of_condition("If-None-Match")),
            };
            // It may have been there, or be ours from a try that was lost on its way back; and a
            // conflict with a try that then failed leaves nothing.
            match self.author(path, &mark, &new).await? {
                Author::Ours => return Ok(true),
                Author::Other => return Ok(false),
                Author::Nobody => {
                    let again = tries.again(failure).await;
                    again.map_err(|failure| match failure {
                        Failure::Contended(_) => Failure::TakenNotFound,
                        failure => failure,
                    })?;
                }
            }
        }
    }

    /// Puts `new` in the place of the object whose bytes are `expected`; `false` if others are.
    pub async fn swap(&self, path: &Path, expected: &[u8], new: Bytes) -> Result<bool, Failure> {
        let mark = new_mark()?;
        let mut tries = self.tries();
        let mut differs = false;
        loop {
            // One that is longer than both is neither.
            let limit = expected.len().max(new.len()) as u64;
            let found = match self.whole(path, limit).await {
                Err(Failure::TooLong { .. }) => return Ok(false),
                found => found?,
            };
            let Some(found) = found else {
                return Ok(false);
            };
            if found.mark.as_deref() == Some(&mark) {
                return Ok(true);
            }
            if found.bytes != expected {
                // What happened to the bytes on their way is no one's change: they are read twice.
                if std::mem::replace(&mut differs, true) {
                    return Ok(false);
                }
                continue;
            }
            let put = self.update(path, &found.meta, new.clone(), &mark).await;
            match put {
                Ok(_) => return Ok(true),
                // Which of the two it was is read from the object.
                Err(failure) if failure.is_refused() || failure.is_transient() => {
                    tries.again(failure).await?;
                }
                Err(failure) if failure.is_missing() => return Ok(false),
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Writes over exactly this version of an object, once; returns the version that is there now.
    pub async fn update(
        &self,
        path: &Path,
        over: &ObjectMeta,
        new: Bytes,
        mark: &str,
    ) -> Result<ObjectMeta, Failure> {
        let options = PutOptions {
            mode: PutMode::Update(UpdateVersion {
                e_tag: over.e_tag.clone(),
                version: over.version.clone(),
            }),
            attributes: marked(mark),
            ..PutOptions::default()
        };
        let len = new.len() as u64;
        let request = self.store.put_opts(path, new.into(), options);
        let put = self.attempt(len, request).await;
        let put = put.map_err(|failure| failure.of_condition("If-Match"))?;
        Ok(ObjectMeta {
            e_tag: put.e_tag,
            version: put.version,
            size: len,
            ..over.clone()
        })
    }

    /// All objects of a folder below the prefix, by all pages, each once.
    pub async fn list(&self, folder: &str) -> Result<Vec<ObjectMeta>, Failure> {
        let path = self.path(folder);
        let once = || async {
            let stream = self.store.list(Some(&path));
            let listed = self.collected(stream, |_| false).await?;
            Ok(listed.into_values().collect())
        };
        let listed = self.retried(once).await;
        listed.map_err(|failure| match failure.denied() {
            Ok(refusal) => Failure::ListDenied { refusal },
            Err(failure) => failure,
        })
    }

    /// Removes an object; `false` if there was none.
    pub async fn delete(&self, path: &Path) -> Result<bool, Failure> {
        let deleted = self
            .retried(|| self.attempt(0, self.store.delete(path)))
            .await;
        Ok(absent(deleted)?.is_some())
    }
}

/// A path shortly before an object's, to list from: the service leaves out what it is given.
fn before(folder: &str, name: &str) -> Path {
    let mut letters = name.chars();
    let last = letters.next_back().unwrap_or_default();
    let rest = letters.as_str();
    let less = u32::from(last).checked_sub(1).and_then(char::from_u32);
    let less = less.map(|less| format!("{folder}/{rest}{less}"));
    // What is no path is never listed; then all that begins with the rest is.
    let less = less.and_then(|less| Path::parse(less).ok());
    less.or_else(|| Path::parse(format!("{folder}/{rest}")).ok())
        .unwrap_or_default()
}

/// Whether, where keys are listed in order, an object is not listed behind this other one: in the
/// order of whole keys, and in that of their parts, as by file systems.
fn is_past(path: &Path, other: &Path) -> bool {
    let (text, other) = (path.as_ref(), other.as_ref());
    other > text && other.split('/').gt(text.split('/'))
}

fn of_length(bytes: &Bytes, asked: u64) -> Result<(), Failure> {
    let got = bytes.len() as u64;
    if got == asked {
        Ok(())
    } else {
        Err(Failure::Short { asked, got })
    }
}

/// That there is nothing is an answer.
pub(crate) fn absent<T>(answer: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(failure) if failure.is_missing() => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// How often and how long something was tried.
#[derive(Debug)]
pub(crate) struct Tries {
    options: RemoteOptions,
    has_answered: Arc<AtomicBool>,
    place: String,
    told: Arc<Mutex<Option<Instant>>>,
    began: Instant,
    count: u32,
    pause: Duration,
}

impl Tries {
    /// Says once for all requests of a store that it does not go on, and for how long it may not.
    fn tell(&self, failure: &Failure, limit: Duration) {
        let spent = self.began.elapsed();
        if spent < TOLD_AFTER {
            return;
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_some_and(|then| then.elapsed() < TOLD_AGAIN_AFTER) {
            return;
        }
        *told = Some(Instant::now());
        let seconds = limit.saturating_sub(spent).as_secs();
        let place = &self.place;
        tracing::warn!(
            target: RETRYING,
            "{place}: requests fail, and are tried for up to {seconds} s more: {failure}"
        );
    }

    /// Waits before the next try; gives the failure back if there is none.
    pub async fn again(&mut self, failure: Failure) -> Result<(), Failure> {
        // What the service asks for is waited for in full, or not begun.
        let asked = failure.retry_after().unwrap_or_default();
        let limit = match self.has_answered.load(Ordering::Relaxed) {
            true => self.options.give_up_after,
            false => self.options.first_answer_within,
        };
        let limit = limit.min(self.options.give_up_after);
        let is_over = self.began.elapsed().saturating_add(self.pause.max(asked)) > limit;
        // Only others, or a service that is broken for good, refuse a write so often.
        let is_over = is_over || failure.is_refused() && self.count >= CONFLICTS_MAX;
        if self.count >= self.options.attempts.max(1) || is_over {
            tracing::warn!(%failure, tries = self.count, "request given up");
            return Err(match failure.is_refused() {
                true => Failure::Contended(self.count),
                false => failure,
            });
        }
        tracing::debug!(%failure, tries = self.count, "request is tried again");
        self.tell(&failure, limit);
        // Half of it by chance: those who failed together do not come back together.
        let part = getrandom::u32().map_or(0, |number| number % 1024);
        let chance = self.pause / 2 * part / 1024;
        tokio::time::sleep((self.pause / 2).max(asked).saturating_add(chance)).await;
        self.count += 1;
        self.pause = self.pause.saturating_mul(2).min(self.options.longest_pause);
        Ok(())
    }
}
