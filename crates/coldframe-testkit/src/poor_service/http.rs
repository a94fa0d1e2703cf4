//! HTTP, as far as the service needs it: one request a connection.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;

use super::BUCKET;

/// The account of Azure's emulator, which is in its paths.
const ACCOUNT: &str = "devstoreaccount1/";

/// How the headers begin that are kept with an object: of S3, Google Cloud Storage and Azure.
const METADATA: [&str; 3] = ["x-amz-meta-", "x-goog-meta-", "x-ms-meta-"];

/// The longest head of a request.
const HEAD_MAX: usize = 64 << 10;

pub(super) struct Request {
    pub method: String,
    /// Below the bucket; empty for the bucket.
    pub key: String,
    pub query: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

pub(super) struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Sent of the body, if not all of it.
    pub cut: Option<usize>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub fn asked(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    pub fn is_list(&self) -> bool {
        let is_list = self.query.contains_key("list-type") || self.is_azure_list();
        self.method == "GET" && is_list
    }

    pub fn is_azure_list(&self) -> bool {
        self.asked("comp") == Some("list")
    }

    pub fn has_checksum(&self) -> bool {
        let mut names = self.headers.keys();
        names.any(|name| name == "content-md5" || name.starts_with("x-amz-checksum-"))
    }

    /// What is kept with an object.
    pub fn metadata(&self) -> Vec<(String, String)> {
        let kept = self.headers.iter();
        let kept = kept.filter(|(name, _)| METADATA.iter().any(|prefix| name.starts_with(prefix)));
        kept.map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }
}

/// The next request; `None` if there is none that can be understood.
pub(super) fn read(client: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    let end = loop {
        let count = client.read(&mut buffer).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(buffer.get(..count)?);
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        match end {
            Some(end) => break end,
            None if bytes.len() > HEAD_MAX => return None,
            None => {}
        }
    };
    let mut body = bytes.split_off(end + 4);
    let head = String::from_utf8(bytes).ok()?;
    let mut lines = head.lines();
    let mut words = lines.next()?.split(' ');
    let (method, target) = (words.next()?, words.next()?);
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
    let headers: BTreeMap<String, String> = headers.collect();
    let len = headers
        .get("content-length")
        .map(|len| len.parse::<usize>());
    let len = len.transpose().ok()?.unwrap_or(0);
    while body.len() < len {
        let count = client.read(&mut buffer).ok().filter(|count| *count > 0)?;
        body.extend_from_slice(buffer.get(..count)?);
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = decoded(path.strip_prefix('/')?)?;
    let path = path.strip_prefix(ACCOUNT).unwrap_or(&path);
    let key = path.strip_prefix(BUCKET)?;
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let pairs = pairs.map(|(name, value)| Some((decoded(name)?, decoded(value)?)));
    Some(Request {
        method: method.to_owned(),
        key: key.strip_prefix('/').unwrap_or(key).to_owned(),
        query: pairs.collect::<Option<_>>()?,
        headers,
        body,
    })
}

/// The text that a percent-encoded one means.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next()?, rest.next()?];
        let digits = std::str::from_utf8(&digits).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
    }
    String::from_utf8(bytes).ok()
}

pub(super) fn write(client: &mut TcpStream, request: &Request, answer: Answer) -> io::Result<()> {
    let mut head = format!("HTTP/1.1 {} Status\r\n", answer.status);
    let is_told = |name: &str| answer.headers.iter().any(|(told, _)| told == name);
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !is_told("Content-Length") {
        head.push_str(&format!("Content-Length: {}\r\n", answer.body.len()));
    }
    head.push_str("Connection: close\r\n\r\n");
    client.write_all(head.as_bytes())?;
    if request.method != "HEAD" {
        let sent = answer.cut.unwrap_or(answer.body.len());
        client.write_all(answer.body.get(..sent).unwrap_or(&answer.body))?;
    }
    client.flush()
}
