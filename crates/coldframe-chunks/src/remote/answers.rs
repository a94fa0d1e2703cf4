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
    /// Whether clients may ask the metadata service of an instance for credentials; by default they
    /// may not.
    #[must_use]
    pub const fn with_metadata(mut self, asks_metadata: bool) -> Self {
        self.asks_metadata = asks_metadata;
        self
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
pub(crate) fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
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
    let date = |text| httpdate::parse_http_date(text).ok();
    let (then, now) = (date(text)?, date(now?)?);
    Some(then.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::wait;

    #[test]
    fn retry_after_is_seconds_or_a_date_by_the_clock_of_the_service() {
        let now = Some("Sun, 06 Nov 1994 08:49:37 GMT");
        let of = |text| wait(text, now);
        assert_eq!(of(" 7 "), Some(Duration::from_secs(7)));
        let later = Some(Duration::from_secs(90));
        assert_eq!(of("Sun, 06 Nov 1994 08:51:07 GMT"), later);
        assert_eq!(of("Sunday, 06-Nov-94 08:51:07 GMT"), later);
        assert_eq!(of("Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO));
        for text in ["", "soon", "-1", "1.5", "Sun, 99 Nov 1994 08:51:07 GMT"] {
            assert_eq!(of(text), None, "{text}");
        }
        assert_eq!(wait("Sun, 06 Nov 1994 08:51:07 GMT", None), None);
    }
}
