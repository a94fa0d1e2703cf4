//! A store in a directory that a web server with WebDAV shows: it can be read, and no more.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};

use coldframe_chunks::{ChunkStore, LocalStore, Options, StoreError, open};

use crate::support::{chunk, id, name, push_image};

/// Serves a directory under `/dav`, and returns its URL.
fn serve(dir: &Path) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/dav", listener.local_addr().unwrap());
    let dir = dir.to_path_buf();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let dir = dir.clone();
            std::thread::spawn(move || answer(client, &dir));
        }
    });
    url
}

fn answer(mut client: TcpStream, dir: &Path) -> Option<()> {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while !request.windows(4).any(|window| window == b"\r\n\r\n") {
        let count = client.read(&mut buffer).ok().filter(|count| *count > 0)?;
        request.extend_from_slice(&buffer[..count]);
    }
    let head = String::from_utf8_lossy(&request).into_owned();
    let mut words = head.split_ascii_whitespace();
    let (method, path) = (words.next()?, words.next()?);
    let file = dir.join(path.strip_prefix("/dav/")?);
    let range = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": bytes=")?;
        let (start, end) = value.trim().split_once('-')?;
        name.eq_ignore_ascii_case("range")
            .then(|| Some((start.parse::<usize>().ok()?, end.parse::<usize>().ok()?)))?
    });
    let answer = match method {
        "GET" | "HEAD" => whole(&file, range, method == "HEAD"),
        "PROPFIND" => listed(&file, path),
        _ => Some(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n".to_vec()),
    };
    let missing = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    client.write_all(&answer.unwrap_or(missing.to_vec())).ok()
}

const DATE: &str = "Wed, 25 Nov 2026 10:00:00 GMT";

fn whole(file: &PathBuf, range: Option<(usize, usize)>, is_head: bool) -> Option<Vec<u8>> {
    let bytes = fs::read(file).ok()?;
    let len = bytes.len();
    let (status, body, more) = match range {
        None => ("200 OK", &bytes[..], String::new()),
        Some((start, _)) if start >= len => ("416 Range Not Satisfiable", &b""[..], String::new()),
        Some((start, end)) => {
            let end = end.min(len - 1);
            let more = format!("Content-Range: bytes {start}-{end}/{len}\r\n");
            ("206 Partial Content", &bytes[start..=end], more)
        }
    };
    let head = format!(
        "HTTP/1.1 {status}\r\n{more}Content-Length: {}\r\nLast-Modified: {DATE}\r\nETag: \"x\"\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    let body = if is_head { &b""[..] } else { body };
    Some([head.as_bytes(), body].concat())
}

fn listed(folder: &PathBuf, path: &str) -> Option<Vec<u8>> {
    let mut text = format!(
        "<D:multistatus xmlns:D=\"DAV:\"><D:response><D:href>{path}/</D:href><D:propstat><D:prop>\
         <D:getlastmodified>{DATE}</D:getlastmodified><D:resourcetype><D:collection/>\
         </D:resourcetype></D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>"
    );
    for entry in fs::read_dir(folder).ok()? {
        let entry = entry.ok()?;
        let (name, len) = (entry.file_name(), entry.metadata().ok()?.len());
        let _ = write!(
            text,
            "<D:response><D:href>{path}/{}</D:href><D:propstat><D:prop>\
             <D:getlastmodified>{DATE}</D:getlastmodified>\
             <D:getcontentlength>{len}</D:getcontentlength><D:resourcetype/></D:prop>\
             <D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>",
            name.to_str()?
        );
    }
    text.push_str("</D:multistatus>");
    let head = format!(
        "HTTP/1.1 207 Multi-Status\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        text.len()
    );
    Some([head.as_bytes(), text.as_bytes()].concat())
}

// Spec: STORE-25
#[test]
fn a_directory_behind_a_web_server_is_read_and_not_written() {
    let dir = coldframe_testkit::scratch::on_disk();
    let local = LocalStore::create(dir.path()).unwrap();
    let root = push_image(&local, "a", &[1, 2, 3]).unwrap();
    let url = serve(dir.path());
    let store = open(&url, Options::usual()).unwrap();
    let found = store.get_many(&[id(1), id(2), id(3)]);
    assert!(found.iter().all(Result::is_ok), "{found:?}");
    assert!(store.get(id(9)).unwrap_err().is_missing());
    assert_eq!(store.tag(&name("a")).unwrap().unwrap().root, root);
    assert_eq!(store.tags().unwrap().len(), 1);
    assert_eq!(store.image(root).unwrap().index().block_count(), 3);
    assert!(store.verify(&[]).unwrap().is_sound());
    let error = store.put(&chunk(4)).unwrap_err();
    assert!(matches!(error, StoreError::Storage { .. }), "{error:?}");
    let none = open(&format!("{url}/none"), Options::usual()).unwrap_err();
    assert!(matches!(none, StoreError::NoStore { .. }), "{none:?}");
}
