//! The HTTP client below object_store: notes the status and Retry-After of each answer, drops
//! entries of a listing whose key has no valid path, and sends nothing to a metadata service that
//! was not asked for.
//!
//! Invariant: an answer belongs to the attempt whose task sent the request.

use std::cell::Cell;
use std::future::Future;
use std::time::Duration;

use async_trait::async_trait;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
    ReqwestConnector,
};
use object_store::path::Path;

/// Where clouds serve the credentials of an instance.
const METADATA_HOSTS: [&str; 4] = [
    "169.254.169.254",
    "[fd00:ec2::254]",
    "metadata.google.internal",
    "metadata",
];

/// What the last answer of an attempt said.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Answer {
    pub status: Option<u16>,
    pub retry_after: Option<Duration>,
}

tokio::task_local! {
    static LAST: Cell<Answer>;
}

/// Runs an attempt; returns what its last answer said.
pub(crate) async fn noted<T>(attempt: impl Future<Output = T>) -> (T, Answer) {
    let both = async {
        let done = attempt.await;
        (done, LAST.with(Cell::get))
    };
    LAST.scope(Cell::default(), both).await
}

/// Makes HTTP clients for object_store that tell the [`Remote`](crate::Remote) above it the status
/// of each answer and its Retry-After, which object_store keeps to itself. Entries of a listing
/// whose key object_store cannot represent are left out, where it would fail the whole listing.
/// Requests to the metadata service of an instance are refused unless they are allowed.
#[derive(Clone, Copy, Debug, Default)]
pub struct RemoteConnector {
    asks_metadata: bool,
}

impl RemoteConnector {
    /// Whether clients may ask the metadata service of an instance for credentials.
    #[must_use]
    pub const fn with_metadata(self, asks_metadata: bool) -> Self {
        let _ = self;
        Self { asks_metadata }
    }
}

impl HttpConnector for RemoteConnector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        let asks_metadata = self.asks_metadata;
        Ok(HttpClient::new(Client {
            client,
            asks_metadata,
        }))
    }
}

#[derive(Debug)]
struct Client {
    client: HttpClient,
    asks_metadata: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("the metadata service is asked only if COLDFRAME_INSTANCE_CREDENTIALS is true")]
struct NotAsked;

#[async_trait]
impl HttpService for Client {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let host = request.uri().host().unwrap_or_default();
        if !self.asks_metadata && METADATA_HOSTS.contains(&host) {
            return Err(HttpError::new(HttpErrorKind::Unknown, NotAsked));
        }
        let query = request.uri().query().unwrap_or_default();
        let is_word = |word: &str| matches!(word, "list-type=2" | "comp=list");
        let is_list = request.method().as_str() == "GET" && query.split('&').any(is_word);
        // Without an answer there is no status, whatever an earlier request of the attempt got.
        let note = |answer| {
            // Outside of an attempt nobody reads it.
            let _ = LAST.try_with(|last| last.set(answer));
        };
        note(Answer::default());
        let response = self.client.execute(request).await?;
        let header = |name: &str| response.headers().get(name)?.to_str().ok();
        let retry_after = header("retry-after");
        note(Answer {
            status: Some(response.status().as_u16()),
            retry_after: retry_after.and_then(|text| wait(text, header("date"))),
        });
        if !is_list || !response.status().is_success() {
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let page = body.bytes().await?;
        // A page that is no UTF-8 is left to the parser to refuse.
        let page = match String::from_utf8(page.to_vec()) {
            Ok(text) => valid_entries(text).into(),
            Err(_) => page,
        };
        Ok(HttpResponse::from_parts(parts, page.into()))
    }
}

/// A listing without the entries whose key is not exactly a path of object_store: one that is no
/// path would fail the whole page, and `a/` would become another object's `a`.
fn valid_entries(page: String) -> String {
    let page = without(page, "Contents", "Key");
    without(page, "Blob", "Name")
}

fn without(page: String, entry: &str, key: &str) -> String {
    let (open, close) = (format!("<{entry}>"), format!("</{entry}>"));
    let mut kept = String::with_capacity(page.len());
    let mut rest = page.as_str();
    while let Some(start) = rest.find(&open) {
        let Some(len) = rest[start..].find(&close) else {
            break;
        };
        let end = start + len + close.len();
        let name = element(&rest[start..end], key).map(plain);
        let is_path = |name: &String| Path::parse(name).is_ok_and(|path| path.as_ref() == name);
        // What cannot be read is left to the parser to refuse.
        let is_foreign = name.as_ref().is_some_and(|name| !is_path(name));
        if is_foreign {
            tracing::info!(key = name, "foreign object passed over");
        }
        kept.push_str(&rest[..if is_foreign { start } else { end }]);
        rest = &rest[end..];
    }
    kept.push_str(rest);
    kept
}

/// The text of the first element of this name, as it is written.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    Some(rest.split_once(&format!("</{name}>"))?.0)
}

/// Text with its references resolved; one that is none stays, which no key of ours has.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        plain.push_str(before);
        let resolved = after
            .split_once(';')
            .and_then(|(name, left)| Some((reference(name)?, left)));
        let (letter, left) = resolved.unwrap_or(('&', after));
        plain.push(letter);
        rest = left;
    }
    plain.push_str(rest);
    plain
}

fn reference(name: &str) -> Option<char> {
    Some(match name {
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "amp" => '&',
        _ => {
            let number = name.strip_prefix('#')?;
            let hex = number.strip_prefix(['x', 'X']);
            let code = hex.map_or_else(|| number.parse(), |hex| u32::from_str_radix(hex, 16));
            char::from_u32(code.ok()?)?
        }
    })
}

/// The value of Retry-After: seconds, or a date, which is compared with the service's own.
fn wait(text: &str, now: Option<&str>) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let (then, now) = (seconds_of(text)?, seconds_of(now?)?);
    Some(Duration::from_secs(then.saturating_sub(now)))
}

/// Seconds of an HTTP date in its one current form (RFC 9110, section 5.6.7).
fn seconds_of(date: &str) -> Option<u64> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let mut words = date.split_once(", ")?.1.split(' ');
    let day: u64 = words.next()?.parse().ok().filter(|day| *day <= 31)?;
    let month = words.next().filter(|month| month.len() == 3)?;
    let month = MONTHS.find(month).filter(|at| at % 3 == 0)? as u64 / 3;
    let year: u64 = words.next()?.parse().ok()?;
    let mut clock = words.next()?.split(':');
    let mut next = || clock.next()?.parse::<u64>().ok().filter(|part| *part <= 60);
    let (hours, minutes, seconds) = (next()?, next()?, next()?);
    // Years that begin in March end with the leap day.
    let (year, month) = match month {
        0 | 1 => (year.checked_sub(1)?, month + 10),
        _ => (year, month - 2),
    };
    let year = (1969..9999).contains(&year).then_some(year)?;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day;
    Some(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
}
