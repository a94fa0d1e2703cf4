//! A poor service: a look-alike of S3 in this process, on loopback, that does one thing wrong. It
//! knows as much of the protocols of Google Cloud Storage and Azure as a small store needs.
//!
//! It keeps its objects in memory, takes any credentials, and honours conditions unless that is
//! what it lacks. It is no oracle of S3: what a client does right is shown beside it by a real
//! server ([`crate::moto`]).

mod http;
mod s3;

use std::collections::BTreeMap;
use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use http::{Answer, Request};

/// The bucket that is there.
pub const BUCKET: &str = "cold-bucket";

/// What a poor service does wrong. `nth` counts the requests that it is about: each nth is spoiled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lack {
    /// Nothing.
    Nothing,
    /// If-None-Match and If-Match are ignored: each write succeeds.
    IgnoresConditions,
    /// Requests with If-None-Match or If-Match are answered with 501.
    HasNoConditions,
    /// What does not exist is 403; listing is allowed.
    ForbidsMissing,
    /// What does not exist is 403, and so is listing.
    ForbidsMissingAndListing,
    /// Objects whose key contains this are 403, whatever is done with them.
    Forbids(&'static str),
    /// Listings also have keys that are none of anybody who stores here.
    ForeignKeys,
    /// 503 for so long, with that Retry-After.
    SlowDown(Duration, Option<&'static str>),
    /// 503 to each request, so late, with this Retry-After.
    SlowsDownLate(Duration, &'static str),
    /// Each nth request is answered with this status, and nothing is done.
    Fails(u16, u64),
    /// PUT without a checksum is 400, as by a bucket with Object Lock.
    WantsChecksum,
    /// DELETE of a key that contains this is 403, as under retention.
    Retains(&'static str),
    /// The nth request is done, and its connection is cut instead of an answer.
    LosesAnswers(u64),
    /// The body of the nth GET of an object ends in its middle.
    CutsBodies(u64),
    /// The nth GET of an object answers with nothing, as success.
    EmptiesBodies(u64),
    /// One bit of the body of the nth GET of an object is another.
    FlipsBits(u64),
    /// The nth GET or HEAD of an object names another ETag.
    WrongETags(u64),
    /// Each page of a listing comes twice.
    RepeatsPages,
    /// The last page of a listing says that the first comes next.
    EndlessListing,
    /// Listings lack the first key that contains this.
    LeavesOut(&'static str),
    /// GET and HEAD of keys that contain this are 404, though they are listed.
    ListedNotFound(&'static str),
    /// Each answer is so late.
    Slow(Duration),
    /// No answer names an ETag, or another version.
    HasNoETags,
    /// GET of a range is answered with the whole object, as 200.
    IgnoresRanges,
    /// Each request is answered with 403 and this code, and nothing is done.
    Denies(&'static str),
    /// Each request is sent to another region, without saying where.
    Redirects,
    /// Objects whose key contains this are neither listed nor found: no client can tell that from
    /// their absence. What an instrument must notice, and no client can bear.
    Hides(&'static str),
}

impl Lack {
    /// One of each kind, but for those that no client can bear.
    pub const ALL: [Self; 28] = [
        Self::Nothing,
        Self::IgnoresConditions,
        Self::HasNoConditions,
        Self::ForbidsMissing,
        Self::ForbidsMissingAndListing,
        Self::Forbids("tags/"),
        Self::Forbids("packs/"),
        Self::ForeignKeys,
        Self::SlowDown(Duration::from_millis(300), None),
        Self::SlowsDownLate(Duration::from_millis(100), "86400"),
        Self::Fails(503, 5),
        Self::Fails(403, 1),
        Self::WantsChecksum,
        Self::Retains("packs/"),
        Self::LosesAnswers(5),
        Self::CutsBodies(3),
        Self::EmptiesBodies(3),
        Self::FlipsBits(5),
        Self::WrongETags(4),
        Self::RepeatsPages,
        Self::EndlessListing,
        Self::LeavesOut("tags/"),
        Self::ListedNotFound("roots/"),
        Self::Slow(Duration::from_millis(5)),
        Self::HasNoETags,
        Self::IgnoresRanges,
        Self::Denies("InvalidAccessKeyId"),
        Self::Redirects,
    ];
}

/// All objects of a service at some time.
pub struct Saved(BTreeMap<String, Object>);

#[derive(Clone)]
struct Object {
    bytes: Vec<u8>,
    e_tag: String,
    generation: u64,
    written: SystemTime,
    headers: Vec<(String, String)>,
}

struct Upload {
    key: String,
    headers: Vec<(String, String)>,
    parts: BTreeMap<u32, Vec<u8>>,
}

struct State {
    lack: Lack,
    /// A key that no listing has.
    hidden: Option<String>,
    since: Instant,
    objects: BTreeMap<String, Object>,
    uploads: BTreeMap<String, Upload>,
    /// Method and key of each request since the last [`PoorService::forget`].
    requests: Vec<(String, String)>,
    /// Requests that the lack is about, since it began.
    spoilable: u64,
    next: u64,
}

/// A service that ends when this is dropped.
pub struct PoorService {
    endpoint: String,
    state: Arc<Mutex<State>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PoorService {
    /// Starts one that lacks nothing.
    ///
    /// # Errors
    /// If it gets no port of loopback.
    pub fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let state = Arc::new(Mutex::new(State {
            lack: Lack::Nothing,
            hidden: None,
            since: Instant::now(),
            objects: BTreeMap::new(),
            uploads: BTreeMap::new(),
            requests: Vec::new(),
            spoilable: 0,
            next: 0,
        }));
        let is_over = Arc::new(AtomicBool::new(false));
        let (shared, over) = (Arc::clone(&state), Arc::clone(&is_over));
        let thread = std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if over.load(Ordering::Acquire) {
                    return;
                }
                let state = Arc::clone(&shared);
                std::thread::spawn(move || serve(client, &state));
            }
        });
        Ok(Self {
            endpoint,
            state,
            is_over,
            thread: Some(thread),
        })
    }

    /// Where it listens: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// From now on it lacks this, and nothing else.
    pub fn lacks(&self, lack: Lack) {
        let mut state = lock(&self.state);
        (state.lack, state.since, state.spoilable) = (lack, Instant::now(), 0);
        state.hidden = None;
    }

    /// From now on no listing has the object of this key, which is there all the same; nothing else
    /// is wrong.
    pub fn leaves_out(&self, key: &str) {
        self.heal();
        lock(&self.state).hidden = Some(key.to_owned());
    }

    /// Changes the bytes of an object behind everyone's back.
    ///
    /// # Panics
    /// If there is none.
    pub fn edit(&self, key: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = lock(&self.state);
        let object = state.objects.get_mut(key).expect("an object of the key");
        change(&mut object.bytes);
    }

    /// From now on it lacks nothing.
    pub fn heal(&self) {
        self.lacks(Lack::Nothing);
    }

    /// The objects that are there now.
    #[must_use]
    pub fn save(&self) -> Saved {
        Saved(lock(&self.state).objects.clone())
    }

    /// Has these objects and no others.
    pub fn restore(&self, saved: &Saved) {
        lock(&self.state).objects.clone_from(&saved.0);
    }

    /// Forgets which requests there were.
    pub fn forget(&self) {
        lock(&self.state).requests.clear();
    }

    /// How many requests of this method there were, on keys that contain `within`; any method if
    /// it is empty.
    #[must_use]
    pub fn count(&self, method: &str, within: &str) -> usize {
        let state = lock(&self.state);
        let is_meant = |(made, key): &&(String, String)| {
            (method.is_empty() || made == method) && key.contains(within)
        };
        state.requests.iter().filter(is_meant).count()
    }

    /// The keys of all objects.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        lock(&self.state).objects.keys().cloned().collect()
    }

    /// Uploads in parts that were begun and are not over.
    #[must_use]
    pub fn uploads(&self) -> usize {
        lock(&self.state).uploads.len()
    }
}

impl Drop for PoorService {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        // What it waits for is a connection.
        let address = self.endpoint.trim_start_matches("http://");
        let woken = TcpStream::connect(address).is_ok();
        if let Some(thread) = self.thread.take().filter(|_| woken) {
            let _ = thread.join();
        }
    }
}

/// One request of one connection.
fn serve(mut client: TcpStream, state: &Mutex<State>) {
    let _ = client.set_read_timeout(Some(Duration::from_secs(20)));
    let Some(request) = http::read(&mut client) else {
        return;
    };
    let lack = lock(state).lack;
    if let Lack::Slow(pause) | Lack::SlowsDownLate(pause, _) = lack {
        std::thread::sleep(pause);
    }
    if let Some(answer) = answer(&mut lock(state), &request) {
        let _ = http::write(&mut client, &request, answer);
    }
    let _ = client.shutdown(Shutdown::Both);
}

impl State {
    fn is_nth(&mut self, nth: u64) -> bool {
        self.spoilable += 1;
        self.spoilable.is_multiple_of(nth)
    }
}

/// The answer, spoiled as the service's lack says; `None` cuts the connection.
fn answer(state: &mut State, request: &Request) -> Option<Answer> {
    state
        .requests
        .push((request.method.clone(), request.key.clone()));
    if let Some(refusal) = refusal(state, request) {
        return Some(refusal);
    }
    let mut answer = s3::answer(state, request);
    let is_object = !request.key.is_empty() && answer.status < 300;
    let is_get = request.method == "GET" && is_object;
    let lack = state.lack;
    match lack {
        Lack::LosesAnswers(nth) if state.is_nth(nth) => return None,
        Lack::CutsBodies(nth) if is_get && state.is_nth(nth) => {
            answer.cut = Some(answer.body.len() / 2);
        }
        Lack::EmptiesBodies(nth) if is_get && state.is_nth(nth) => answer.body.clear(),
        Lack::FlipsBits(nth) if is_get && state.is_nth(nth) => {
            let middle = answer.body.len() / 2;
            if let Some(byte) = answer.body.get_mut(middle) {
                *byte ^= 1;
            }
        }
        Lack::WrongETags(nth) if is_object && state.is_nth(nth) => {
            for (name, value) in &mut answer.headers {
                if name == "ETag" {
                    "\"wrong\"".clone_into(value);
                }
            }
        }
        Lack::HasNoETags => {
            let names_version = |name: &str| name == "ETag" || name == s3::GENERATION;
            answer.headers.retain(|(name, _)| !names_version(name));
        }
        Lack::ForbidsMissing | Lack::ForbidsMissingAndListing
            if answer.status == 404 && !request.key.is_empty() =>
        {
            answer = s3::error(403, "AccessDenied");
        }
        _ => {}
    }
    Some(answer)
}

/// What is answered before anything is done.
fn refusal(state: &mut State, request: &Request) -> Option<Answer> {
    let is_write = matches!(request.method.as_str(), "PUT" | "POST");
    let is_read = matches!(request.method.as_str(), "GET" | "HEAD");
    let lack = state.lack;
    match lack {
        Lack::SlowDown(window, retry_after) if state.since.elapsed() < window => {
            let mut answer = s3::error(503, "SlowDown");
            let header = |value: &str| ("Retry-After".to_owned(), value.to_owned());
            answer.headers.extend(retry_after.map(header));
            Some(answer)
        }
        Lack::SlowsDownLate(_, value) => {
            let mut answer = s3::error(503, "SlowDown");
            let header = ("Retry-After".to_owned(), value.to_owned());
            answer.headers.push(header);
            Some(answer)
        }
        Lack::Fails(status, nth) if state.is_nth(nth) => Some(s3::error(status, "Failed")),
        Lack::HasNoConditions
            if request.header("if-match").is_some()
                || request.header("if-none-match").is_some() =>
        {
            Some(s3::error(501, "NotImplemented"))
        }
        Lack::ForbidsMissingAndListing if request.is_list() => Some(s3::error(403, "AccessDenied")),
        Lack::Forbids(within) if request.key.contains(within) => {
            Some(s3::error(403, "AccessDenied"))
        }
        Lack::WantsChecksum if is_write && !request.has_checksum() => {
            let text = "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object \
                        requests with Object Lock parameters";
            Some(s3::error_text(400, "InvalidRequest", text))
        }
        Lack::Retains(within) if request.method == "DELETE" && request.key.contains(within) => {
            Some(s3::error(403, "AccessDenied"))
        }
        Lack::ListedNotFound(within) | Lack::Hides(within)
            if is_read && request.key.contains(within) =>
        {
            Some(s3::error(404, "NoSuchKey"))
        }
        Lack::Denies(code) => Some(s3::error(403, code)),
        Lack::Redirects => Some(s3::error(301, "PermanentRedirect")),
        _ => None,
    }
}
