//! A `moto_server`: an S3 service on loopback that tells create races and stale versions apart.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::{child, require};

/// What one may not be skipped without, where `COLDFRAME_REQUIRE` lists it.
const NEED: &str = "s3";

/// How long the server may take to answer first.
const START_MAX: Duration = Duration::from_secs(120);

struct Moto {
    endpoint: String,
    /// Ends, and the server with it, when its standard input does: with this process.
    _child: Child,
}

/// The URL of a server that ends with this process, and has a bucket of this name; `None`, said to
/// be skipped, if there is no such program. `COLDFRAME_MOTO` names it; else it is `moto_server`.
///
/// # Panics
/// If `COLDFRAME_REQUIRE` lists `s3` and there is none.
#[must_use]
pub fn endpoint(bucket: &str) -> Option<&'static str> {
    static MOTO: OnceLock<Result<Moto, String>> = OnceLock::new();
    match MOTO.get_or_init(|| start(bucket).map_err(|error| error.to_string())) {
        Ok(moto) => Some(&moto.endpoint),
        Err(reason) => {
            require::skipped(NEED, reason);
            None
        }
    }
}

fn start(bucket: &str) -> io::Result<Moto> {
    let program = std::env::var("COLDFRAME_MOTO").unwrap_or_else(|_| "moto_server".to_owned());
    let found = child::command(&program).arg("--help").output();
    if !found.is_ok_and(|output| output.status.success()) {
        let reason = format!("{program} does not run: pip install 'moto[server]'");
        return Err(io::Error::other(reason));
    }
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    // The shell ends the server when this process is gone, however it went. What a shell starts
    // with `&` is not ended by SIGINT (POSIX, "Signals and Error Handling"), so the shell must not
    // be either.
    let script = "trap : INT TERM HUP QUIT; \"$0\" -H 127.0.0.1 -p \"$1\" & pid=$!; \
                  cat >/dev/null; kill $pid";
    let child = Command::new("sh")
        .args(["-c", script, &program, &port.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let began = Instant::now();
    while began.elapsed() < START_MAX {
        if make_bucket(port, bucket).is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")) {
            return Ok(Moto {
                endpoint: format!("http://127.0.0.1:{port}"),
                _child: child,
            });
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Err(io::Error::other(format!("{program} does not answer")))
}

fn make_bucket(port: u16, bucket: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let request = format!(
        "PUT /{bucket} HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Length: 0\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
