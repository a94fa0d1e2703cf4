//! What `disk checkpoint` and a serving process say to each other: a line of JSON each way, over a
//! socket of the owner's.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coldframe_chunks::TagName;
use coldframe_nbd::{SocketFile, bind_unix};
use coldframe_storage::Overwrite;
use serde::{Deserialize, Serialize};

use crate::exit::{Failure, line};
use crate::verbs::disk::advice::{Advice, Takes};
use crate::verbs::disk::{Device, failure};

/// The longest line.
const LINE_BYTES_MAX: u64 = 16 << 10;
/// How long a client may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(5);
/// Clients that are heard at the same time: those that say nothing keep nobody waiting.
const CLIENTS_MAX: usize = 64;

/// What is asked for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The name of the checkpoint to make.
    pub checkpoint: String,
    /// Whether the name may be taken from something else.
    #[serde(default)]
    pub replace: bool,
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// It is there.
    Made(Made),
    /// It is not, with the exit code that fits.
    Failed {
        /// As in design and help: 1 to 3.
        exit_code: u8,
        /// One line.
        error: String,
    },
}

/// A checkpoint that was made.
#[derive(Debug, Serialize, Deserialize)]
pub struct Made {
    /// Its name.
    pub name: String,
    /// The root of its index.
    pub root: String,
    /// Blocks that its index names anew.
    pub blocks: u64,
    /// Bytes of its index.
    pub index_bytes: u64,
    /// Chunks that were stored for it.
    pub chunks_written: u64,
    /// How long it took.
    pub microseconds: u64,
}

/// The device, as long as it is served.
pub type Shared = Arc<Mutex<Option<Arc<Device>>>>;

/// Listens; the socket is removed when the file is dropped.
pub fn start(path: &Path, device: Shared, store: String) -> Result<SocketFile, Failure> {
    let cannot = "cannot listen for checkpoints";
    let (listener, file) = bind_unix(path).map_err(|error| Failure::environment(cannot, &error))?;
    let thread = std::thread::Builder::new().name("control".into());
    let spawned = thread.spawn(move || accept(&listener, &device, &store));
    spawned.map_err(|error| Failure::environment(cannot, &error))?;
    Ok(file)
}

fn accept(listener: &UnixListener, device: &Shared, store: &str) {
    // Each client has one for as long as it is heard.
    let heard = Arc::new(());
    loop {
        let error = match listener.accept() {
            Ok((client, _)) if Arc::strong_count(&heard) > CLIENTS_MAX => {
                let busy = Failure::Environment("too many clients are connected".to_owned());
                reply(&client, Err(busy))
            }
            Ok((client, _)) => {
                let (device, store) = (Arc::clone(device), store.to_owned());
                let heard = Arc::clone(&heard);
                let thread = std::thread::Builder::new().name("control-client".into());
                let spawned = thread.spawn(move || {
                    if let Err(error) = answer(&client, &device, &store) {
                        tracing::debug!(%error, "a client of the control socket was lost");
                    }
                    drop(heard);
                });
                spawned.map(drop)
            }
            Err(error) => {
                std::thread::sleep(Duration::from_millis(50));
                Err(error)
            }
        };
        if let Err(error) = error {
            tracing::warn!(%error, "cannot hear a client of the control socket");
        }
    }
}

fn answer(client: &UnixStream, device: &Shared, store: &str) -> std::io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    let mut text = String::new();
    BufReader::new(client.take(LINE_BYTES_MAX)).read_line(&mut text)?;
    let reply = match serde_json::from_str::<Request>(&text) {
        Ok(request) => make(&request, device, store),
        Err(error) => Err(Failure::usage("cannot understand the request", &error)),
    };
    self::reply(client, reply)
}

fn reply(mut client: &UnixStream, reply: Result<Made, Failure>) -> std::io::Result<()> {
    client.set_write_timeout(Some(PATIENCE))?;
    let reply = reply.map_or_else(
        |failure| Reply::Failed {
            exit_code: failure.exit_code(),
            error: failure.to_string(),
        },
        Reply::Made,
    );
    let mut bytes = serde_json::to_vec(&reply)?;
    bytes.push(b'\n');
    client.write_all(&bytes)
}

fn make(request: &Request, device: &Shared, store: &str) -> Result<Made, Failure> {
    let cannot = format!("cannot make checkpoint {}", request.checkpoint);
    let name: TagName = request
        .checkpoint
        .parse()
        .map_err(|error| Failure::usage(&cannot, &error))?;
    // Held meanwhile: the server does not stop in the middle.
    let device = device.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(device) = device.as_ref() else {
        return Err(Failure::Environment(format!(
            "{cannot}: the server is stopping"
        )));
    };
    let overwrite = if request.replace {
        Overwrite::Replace
    } else {
        Overwrite::Refuse
    };
    let started = std::time::Instant::now();
    let folded = device.checkpoint(&name, overwrite);
    let advice = Advice {
        store,
        disk: name.as_str(),
        wal: None,
        takes: Takes::Nothing,
    };
    let folded = folded.map_err(|error| failure(advice, &cannot, &error))?;
    Ok(Made {
        name: name.to_string(),
        root: folded.root.to_string(),
        blocks: folded.blocks,
        index_bytes: folded.index_bytes,
        chunks_written: folded.chunks.written,
        microseconds: u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
    })
}

/// Asks a serving process.
pub fn ask(path: &Path, request: &Request) -> Result<Made, Failure> {
    let cannot = format!("cannot reach the server at {}", path.display());
    let lost =
        |error: &(dyn std::error::Error + 'static)| Failure::Environment(line(&cannot, error));
    let stream = UnixStream::connect(path).map_err(|error| lost(&error))?;
    let mut bytes = serde_json::to_vec(request).map_err(|error| lost(&error))?;
    bytes.push(b'\n');
    (&stream).write_all(&bytes).map_err(|error| lost(&error))?;
    let mut text = String::new();
    BufReader::new((&stream).take(LINE_BYTES_MAX))
        .read_line(&mut text)
        .map_err(|error| lost(&error))?;
    match serde_json::from_str(&text).map_err(|error| lost(&error))? {
        Reply::Made(made) => Ok(made),
        Reply::Failed { exit_code, error } => Err(match exit_code {
            1 => Failure::Wanting(error),
            2 => Failure::Usage(error),
            _ => Failure::Environment(error),
        }),
    }
}
