//! Firecracker, driven through its API socket as its own scripts do.
//!
//! Invariant: a value holds one running process, which is killed with it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// How long a guest may take to print what is waited for.
const PATIENCE: Duration = Duration::from_secs(120);

/// Characters of a line that the guest prints: a number and a hash.
const LINE: usize = 6 + 1 + 16;

/// A running Firecracker.
pub struct Firecracker {
    process: Child,
    socket: PathBuf,
    console: PathBuf,
}

impl Firecracker {
    /// Starts one in `dir`; with a configuration its guest boots at once.
    pub fn start(program: &Path, dir: &Path, config: Option<&str>) -> Result<Self> {
        let socket = dir.join("api.sock");
        let console = dir.join("console");
        if socket.exists() {
            fs::remove_file(&socket)?;
        }
        let mut command = Command::new(program);
        command
            .current_dir(dir)
            .args(["--no-seccomp", "--api-sock", "api.sock"]);
        if let Some(config) = config {
            fs::write(dir.join("config.json"), config)?;
            command.args(["--config-file", "config.json"]);
        }
        let output = File::create(&console)?;
        command
            .stdin(Stdio::null())
            .stderr(output.try_clone()?)
            .stdout(output);
        let process = command
            .spawn()
            .with_context(|| program.display().to_string())?;
        let firecracker = Self {
            process,
            socket,
            console,
        };
        // The file is there before anybody listens.
        let connects = || Ok(UnixStream::connect(&firecracker.socket).is_ok());
        wait("Firecracker opens no socket", connects)?;
        Ok(firecracker)
    }

    /// Waits until the guest has printed so many lines.
    pub fn wait_for_lines(&self, count: usize) -> Result<()> {
        wait("Firecracker's guest is too slow", || {
            let text = fs::read(&self.console)?;
            let lines = text
                .split(|byte| *byte == b'\n')
                .map(<[u8]>::trim_ascii_end);
            let printed = lines.filter(|line| line.len() == LINE && line[6] == b' ');
            Ok(printed.count() >= count)
        })
    }

    /// Makes one request, and says how long the answer took.
    pub fn request(&self, method: &str, path: &str, body: &str) -> Result<Duration> {
        let start = Instant::now();
        let mut stream = UnixStream::connect(&self.socket)?;
        write!(
            stream,
            "{method} /{path} HTTP/1.1\r\nHost: localhost\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = Vec::new();
        while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
            let mut part = [0; 4096];
            let len = stream.read(&mut part)?;
            ensure!(len > 0, "Firecracker hung up on {method} {path}");
            answer.extend_from_slice(&part[..len]);
        }
        let time = start.elapsed();
        if !answer.starts_with(b"HTTP/1.1 2") {
            bail!("{method} {path}: {}", String::from_utf8_lossy(&answer));
        }
        Ok(time)
    }
}

impl Drop for Firecracker {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn wait(or_else: &'static str, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !done()? {
        ensure!(start.elapsed() < PATIENCE, or_else);
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}
