//! A real S3 client and a real server, and between them someone who answers in the server's place.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use coldframe_chunks::{ChunkStore, PackStore, Remote, RemoteOptions, StoreError};

use crate::places::{QUICK, new_prefix, remote, s3s_endpoint};
use crate::support::{AT_ONCE, OPTIONS, bytes, chunk, id, push_image};

/// What is answered instead, to requests whose first line begins and goes on so, so many times.
struct Canned {
    method: &'static str,
    within: &'static str,
    times: u32,
    answer: Vec<u8>,
}

type Orders = Arc<Mutex<Option<Canned>>>;

/// Between clients and the s3s-fs server of this process.
struct Between {
    endpoint: String,
    orders: Orders,
}

impl Between {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let orders = Orders::default();
        let shared = Arc::clone(&orders);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let orders = Arc::clone(&shared);
                std::thread::spawn(move || serve(client, &orders));
            }
        });
        Self { endpoint, orders }
    }

    fn answer(&self, method: &'static str, within: &'static str, times: u32, answer: &[u8]) {
        *self.orders.lock().unwrap() = Some(Canned {
            method,
            within,
            times,
            answer: answer.to_vec(),
        });
    }

    fn heal(&self) {
        *self.orders.lock().unwrap() = None;
    }
}

fn canned(orders: &Orders, line: &str) -> Option<Vec<u8>> {
    let mut orders = orders.lock().unwrap();
    let order = orders.as_mut()?;
    let is_meant = line.starts_with(order.method) && line.contains(order.within);
    if !is_meant || order.times == 0 {
        return None;
    }
    order.times -= 1;
    Some(order.answer.clone())
}

/// One request of one connection.
fn serve(mut client: TcpStream, orders: &Orders) -> Option<()> {
    let mut request = Vec::new();
    let mut buffer = [0; 64 << 10];
    let end = loop {
        let count = client.read(&mut buffer).ok().filter(|count| *count > 0)?;
        request.extend_from_slice(&buffer[..count]);
        if let Some(at) = request.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
    };
    let head = String::from_utf8_lossy(&request[..end]).into_owned();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.trim().parse::<usize>().ok())?
    });
    while request.len() < end + 4 + length.unwrap_or(0) {
        let count = client.read(&mut buffer).ok().filter(|count| *count > 0)?;
        request.extend_from_slice(&buffer[..count]);
    }
    let line = head.lines().next()?;
    match canned(orders, line) {
        Some(answer) if answer.is_empty() => std::thread::sleep(Duration::from_secs(60)),
        Some(answer) => client.write_all(&answer).ok()?,
        None => {
            let address = s3s_endpoint().strip_prefix("http://")?;
            let mut server = TcpStream::connect(address).ok()?;
            server.write_all(&request[..end]).ok()?;
            server.write_all(b"\r\nconnection: close").ok()?;
            server.write_all(&request[end..]).ok()?;
            std::io::copy(&mut server, &mut client).ok()?;
        }
    }
    client.shutdown(Shutdown::Both).ok()
}

fn with_body(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\n{headers}Last-Modified: Wed, 25 Nov 2026 10:00:00 GMT\r\n\
         ETag: \"x\"\r\nConnection: close\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// All that a service, a gateway or a cable does to a read of 600 bytes at 160.
fn wrong_answers() -> Vec<(&'static str, Vec<u8>)> {
    let text = b"<?xml version=\"1.0\"?><Error><Code>SlowDown</Code></Error>";
    let full = "Content-Range: bytes 160-759/2000\r\nContent-Length: 600\r\n";
    vec![
        (
            "an error text as success",
            with_body("200 OK", "Content-Length: 58\r\n", text),
        ),
        (
            "an error text as a range",
            with_body("206 Partial Content", full, text),
        ),
        ("an empty body", with_body("206 Partial Content", full, b"")),
        (
            "no length",
            with_body(
                "206 Partial Content",
                "Content-Range: bytes 160-759/2000\r\n",
                b"12345",
            ),
        ),
        (
            "a body of its own length",
            with_body(
                "206 Partial Content",
                "Content-Range: bytes 160-759/2000\r\nContent-Length: 5\r\n",
                b"12345",
            ),
        ),
        (
            "another range",
            with_body(
                "206 Partial Content",
                "Content-Range: bytes 161-760/2000\r\nContent-Length: 600\r\n",
                &[7; 600],
            ),
        ),
        (
            "half of the range",
            with_body(
                "206 Partial Content",
                "Content-Range: bytes 160-459/2000\r\nContent-Length: 300\r\n",
                &[7; 300],
            ),
        ),
        (
            "503",
            with_body("503 Slow Down", "Content-Length: 58\r\n", text),
        ),
        (
            "500",
            with_body("500 Internal Server Error", "Content-Length: 0\r\n", b""),
        ),
        (
            "429",
            with_body("429 Too Many Requests", "Content-Length: 0\r\n", b""),
        ),
        ("no HTTP", b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
    ]
}

fn store(endpoint: &str, prefix: &str, options: RemoteOptions) -> PackStore<Remote> {
    PackStore::create_at(remote(endpoint, prefix, options), OPTIONS).unwrap()
}

// Failure mode 3: an error body, a short body, another range: taken for data by some.
// Spec: STORE-3, STORE-25
// Parity: M3
#[test]
fn answers_that_are_not_what_was_asked_for_are_never_data() {
    let between = Between::start();
    let store = store(&between.endpoint, &new_prefix(), QUICK);
    store.put(&chunk(1)).unwrap();
    for (what, answer) in wrong_answers() {
        between.answer("GET", "packs/", 1, &answer);
        assert_eq!(store.get(id(1)).unwrap(), bytes(1), "{what}, once");
        between.answer("GET", "packs/", u32::MAX, &answer);
        let error = store.get(id(1)).unwrap_err();
        assert!(
            matches!(error, StoreError::Storage { .. }),
            "{what}: {error:?}"
        );
        between.heal();
        assert_eq!(store.get(id(1)).unwrap(), bytes(1), "{what}, over");
    }
    let missing = with_body("404 Not Found", "Content-Length: 0\r\n", b"");
    between.answer("GET", "packs/", 1, &missing);
    assert_eq!(store.get(id(1)).unwrap(), bytes(1));
    between.answer("GET", "packs/", u32::MAX, &missing);
    // It is listed all the same: that is no absence.
    let error = store.get(id(1)).unwrap_err();
    assert!(matches!(error, StoreError::Unlocated { .. }), "{error:?}");
    between.heal();
    assert_eq!(store.get(id(1)).unwrap(), bytes(1));
}

// Failure mode 6: a service that takes the request and says nothing.
// Spec: STORE-25
#[test]
fn a_server_that_never_answers_is_given_up() {
    let between = Between::start();
    let hasty = RemoteOptions {
        attempt_timeout: Duration::from_millis(500),
        attempts: 3,
        ..QUICK
    };
    let store = store(&between.endpoint, &new_prefix(), hasty);
    store.put(&chunk(1)).unwrap();
    between.answer("GET", "packs/", 1, b"");
    assert_eq!(store.get(id(1)).unwrap(), bytes(1));
    between.answer("GET", "packs/", u32::MAX, b"");
    let began = Instant::now();
    assert!(store.get(id(1)).is_err());
    assert!(began.elapsed() < Duration::from_secs(20));
}

// Spec: STORE-23, STORE-25
#[test]
fn writes_that_are_answered_wrongly_once_are_done_once() {
    let between = Between::start();
    let store = store(&between.endpoint, &new_prefix(), QUICK);
    let error = "Content-Length: 0\r\n";
    let conflict = with_body("409 Conflict", error, b"");
    let failed = with_body("412 Precondition Failed", error, b"");
    let down = with_body("503 Slow Down", error, b"");
    for (turn, answer) in [conflict, failed, down].iter().enumerate() {
        for within in ["packs/", "roots/", "tags/", "leases/"] {
            between.answer("PUT", within, 1, answer);
            let tag = format!("t{turn}");
            push_image(&store, &tag, &[turn as u64, 100]).unwrap();
        }
    }
    between.heal();
    assert!(store.verify(&[]).unwrap().is_sound());
    store.collect(AT_ONCE, &[]).unwrap();
    assert_eq!(store.tags().unwrap().len(), 3);
    assert!((0..3).all(|number| store.get(id(number)).is_ok()));
}
