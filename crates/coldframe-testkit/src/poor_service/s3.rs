//! What S3 does with a request, as far as stores need it; and Google Cloud Storage and Azure Blob
//! Storage, whose protocols differ in conditions and in how they list.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use super::http::{Answer, Request};
use super::{Lack, Object, State, Upload};

/// Entries in a page of a listing: few, so that there are pages.
const PAGE: usize = 7;

pub(super) fn error(status: u16, code: &str) -> Answer {
    error_text(status, code, code)
}

pub(super) fn error_text(status: u16, code: &str, text: &str) -> Answer {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code>\
         <Message>{text}</Message></Error>"
    );
    with(status, Vec::new(), body.into_bytes())
}

fn with(status: u16, headers: Vec<(String, String)>, body: Vec<u8>) -> Answer {
    Answer {
        status,
        headers,
        body,
        cut: None,
    }
}

fn pair(name: &str, value: impl Into<String>) -> (String, String) {
    (name.to_owned(), value.into())
}

/// The version of an object of Google Cloud Storage.
pub(super) const GENERATION: &str = "x-goog-generation";

pub(super) fn answer(state: &mut State, request: &Request) -> Answer {
    let upload = request.asked("uploadId");
    match request.method.as_str() {
        "GET" if request.key.is_empty() => listed(state, request),
        "GET" | "HEAD" => got(state, request),
        "PUT" if upload.is_some() => put_part(state, request),
        "PUT" => put(state, request),
        "DELETE" if upload.is_some() => {
            state.uploads.remove(upload.unwrap_or_default());
            with(204, Vec::new(), Vec::new())
        }
        "DELETE" => {
            state.objects.remove(&request.key);
            let status = if request.header("x-ms-version").is_some() {
                202
            } else {
                204
            };
            with(status, Vec::new(), Vec::new())
        }
        "POST" if request.query.contains_key("uploads") => begun(state, request),
        "POST" if upload.is_some() => completed(state, request),
        _ => error(501, "NotImplemented"),
    }
}

fn got(state: &State, request: &Request) -> Answer {
    let Some(object) = state.objects.get(&request.key) else {
        return error(404, "NoSuchKey");
    };
    let mut headers = object.headers.clone();
    headers.push(pair("ETag", &*object.e_tag));
    headers.push(pair("Last-Modified", http_date(object.written)));
    headers.push(pair(GENERATION, object.generation.to_string()));
    let len = object.bytes.len();
    let range = request.header("range").and_then(range_of);
    let range = range.filter(|_| state.lack != Lack::IgnoresRanges);
    let Some((start, end)) = range else {
        headers.push(pair("Content-Length", len.to_string()));
        return with(200, headers, object.bytes.clone());
    };
    let end = end.min(len.saturating_sub(1));
    match object.bytes.get(start..=end) {
        Some(part) if start < len => {
            headers.push(pair("Content-Range", format!("bytes {start}-{end}/{len}")));
            with(206, headers, part.to_vec())
        }
        _ => error(416, "InvalidRange"),
    }
}

fn range_of(text: &str) -> Option<(usize, usize)> {
    let (start, end) = text.strip_prefix("bytes=")?.split_once('-')?;
    let end = if end.is_empty() {
        usize::MAX - 1
    } else {
        end.parse().ok()?
    };
    Some((start.parse().ok()?, end))
}

fn put(state: &mut State, request: &Request) -> Answer {
    let there = state.objects.get(&request.key);
    if state.lack != Lack::IgnoresConditions {
        if request.header("if-none-match").is_some() && there.is_some() {
            return error(412, "PreconditionFailed");
        }
        let wanted = request.header("if-match");
        match (wanted, there) {
            (Some(_), None) => return error(404, "NoSuchKey"),
            (Some(wanted), Some(there)) if wanted != there.e_tag => {
                return error(412, "PreconditionFailed");
            }
            _ => {}
        }
        // 0 is none.
        let generation = there.map_or(0, |there| there.generation).to_string();
        if let Some(wanted) = request.header("x-goog-if-generation-match")
            && wanted != generation
        {
            return error(412, "PreconditionFailed");
        }
    }
    let (bytes, headers) = (request.body.clone(), request.metadata());
    let e_tag = keep(state, request.key.clone(), bytes, headers);
    let headers = vec![
        pair("ETag", e_tag),
        pair(GENERATION, state.next.to_string()),
    ];
    // As Azure says it; to the others one success is as good as another.
    with(201, headers, Vec::new())
}

fn keep(state: &mut State, key: String, bytes: Vec<u8>, headers: Vec<(String, String)>) -> String {
    state.next += 1;
    let e_tag = format!("\"{:032x}\"", state.next);
    let object = Object {
        bytes,
        e_tag: e_tag.clone(),
        generation: state.next,
        written: SystemTime::now(),
        headers,
    };
    state.objects.insert(key, object);
    e_tag
}

fn begun(state: &mut State, request: &Request) -> Answer {
    state.next += 1;
    let id = format!("upload-{}", state.next);
    let upload = Upload {
        key: request.key.clone(),
        headers: request.metadata(),
        parts: Default::default(),
    };
    state.uploads.insert(id.clone(), upload);
    let body = format!(
        "<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
    );
    with(200, Vec::new(), body.into_bytes())
}

fn put_part(state: &mut State, request: &Request) -> Answer {
    let number = request
        .asked("partNumber")
        .and_then(|text| text.parse().ok());
    let id = request.asked("uploadId").unwrap_or_default();
    let upload = state
        .uploads
        .get_mut(id)
        .filter(|upload| upload.key == request.key);
    let (Some(number), Some(upload)) = (number, upload) else {
        return error(404, "NoSuchUpload");
    };
    upload.parts.insert(number, request.body.clone());
    with(
        200,
        vec![pair("ETag", format!("\"part-{number}\""))],
        Vec::new(),
    )
}

fn completed(state: &mut State, request: &Request) -> Answer {
    let id = request.asked("uploadId").unwrap_or_default();
    let Some(upload) = state.uploads.remove(id) else {
        return error(404, "NoSuchUpload");
    };
    let bytes = upload.parts.into_values().flatten().collect();
    let e_tag = keep(state, upload.key, bytes, upload.headers);
    let body = format!(
        "<CompleteMultipartUploadResult><ETag>{}</ETag></CompleteMultipartUploadResult>",
        escaped(&e_tag)
    );
    with(200, Vec::new(), body.into_bytes())
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\u{0}'..='\u{1f}' => {
                let _ = write!(escaped, "&#x{:X};", u32::from(letter));
            }
            letter => escaped.push(letter),
        }
    }
    escaped
}

/// Keys that others, or their tools, leave beside a store.
fn foreign(prefix: &str) -> Vec<String> {
    let folder = prefix.trim_end_matches('/');
    let mut keys: Vec<String> = [
        "/",
        "//x",
        "/./x",
        "/../x",
        "/a//b.pack",
        "/line\nfeed",
        "/\u{1}\u{7f}",
        "/x/",
        "/.DS_Store",
        "/a<b>&\"c'",
        "/\u{e9}\u{1f980}",
        "/0000000000000001.pack/",
        "/0000000000000001.packs",
    ]
    .map(|end| format!("{folder}{end}"))
    .into();
    keys.push(format!("{folder}/{}", "x".repeat(1000)));
    keys
}

fn listed(state: &State, request: &Request) -> Answer {
    let prefix = request.asked("prefix").unwrap_or_default();
    let (token, after) = (
        request
            .asked("continuation-token")
            .or(request.asked("marker")),
        request.asked("start-after"),
    );
    let after = token.map_or(after, |token| token.strip_prefix(['>', '=']));
    let mut keys: Vec<String> = state.objects.keys().cloned().collect();
    keys.retain(|key| state.hidden.as_ref() != Some(key));
    match state.lack {
        Lack::ForeignKeys => keys.extend(foreign(prefix)),
        Lack::Hides(within) => keys.retain(|key| !key.contains(within)),
        Lack::LeavesOut(within) => {
            let at = keys.iter().position(|key| key.contains(within));
            drop(at.map(|at| keys.remove(at)));
        }
        _ => {}
    }
    keys.retain(|key| key.starts_with(prefix) && after.is_none_or(|after| key.as_str() > after));
    keys.sort();
    let is_more = keys.len() > PAGE;
    keys.truncate(PAGE);
    if request.is_azure_list() {
        return listed_by_azure(state, &keys, is_more);
    }
    let mut body = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult>");
    for key in &keys {
        let object = state.objects.get(key);
        let len = object.map_or(0, |object| object.bytes.len());
        let written = object.map_or(UNIX_EPOCH, |object| object.written);
        let e_tag = object.map_or("\"0\"", |object| &object.e_tag);
        let _ = write!(
            body,
            "<Contents><Key>{}</Key><LastModified>{}</LastModified><ETag>{}</ETag>\
             <Size>{len}</Size></Contents>",
            escaped(key),
            iso_date(written),
            escaped(e_tag)
        );
    }
    let last = keys.last().filter(|_| is_more).map(|key| format!(">{key}"));
    let next = match (state.lack, token) {
        // The first answer of a page says that it comes once more.
        (Lack::RepeatsPages, None) => Some(format!("={}", after.unwrap_or_default())),
        (Lack::RepeatsPages, Some(token)) if token.starts_with('>') => {
            Some(token.replacen('>', "=", 1))
        }
        (Lack::EndlessListing, _) => Some(last.unwrap_or_else(|| ">".to_owned())),
        _ => last,
    };
    if let Some(next) = next {
        let next = escaped(&next);
        let _ = write!(
            body,
            "<NextContinuationToken>{next}</NextContinuationToken>"
        );
    }
    body.push_str("</ListBucketResult>");
    with(200, Vec::new(), body.into_bytes())
}

/// A page of a listing in Azure's words. Foreign keys are not listed there.
fn listed_by_azure(state: &State, keys: &[String], is_more: bool) -> Answer {
    let mut body =
        String::from("<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults><Blobs>");
    for key in keys {
        let Some(object) = state.objects.get(key) else {
            continue;
        };
        let _ = write!(
            body,
            "<Blob><Name>{}</Name><Properties><Last-Modified>{}</Last-Modified>\
             <Content-Length>{}</Content-Length><Content-Type>x/x</Content-Type>\
             <Etag>{}</Etag></Properties></Blob>",
            escaped(key),
            http_date(object.written),
            object.bytes.len(),
            escaped(&object.e_tag)
        );
    }
    let next = keys.last().filter(|_| is_more);
    let next = next.map_or(String::new(), |key| escaped(&format!(">{key}")));
    let _ = write!(
        body,
        "</Blobs><NextMarker>{next}</NextMarker></EnumerationResults>"
    );
    with(200, Vec::new(), body.into_bytes())
}

/// Year, month, day, seconds of the day.
fn civil(time: SystemTime) -> (u64, u64, u64, u64) {
    let seconds = time
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    // Days since 1 March of the year 0 (Howard Hinnant, "chrono-compatible low-level algorithms").
    let days = seconds / 86_400 + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (
        era * 400 + year + u64::from(month <= 2),
        month,
        day,
        seconds % 86_400,
    )
}

fn iso_date(time: SystemTime) -> String {
    let (year, month, day, second) = civil(time);
    let (hours, minutes, seconds) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.000Z")
}

/// The day of the week is what no one reads.
fn http_date(time: SystemTime) -> String {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    let (year, month, day, second) = civil(time);
    let (hours, minutes, seconds) = (second / 3600, second / 60 % 60, second % 60);
    let since = time
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let name = |names: &[&'static str], at: u64| {
        let at = usize::try_from(at)
            .ok()
            .and_then(|at| names.get(at).copied());
        at.unwrap_or("Jan")
    };
    let (week, month) = (name(&DAYS, since / 86_400 % 7), name(&MONTHS, month - 1));
    format!("{week}, {day:02} {month} {year:04} {hours:02}:{minutes:02}:{seconds:02} GMT")
}
