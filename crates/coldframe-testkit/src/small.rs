//! A small file system in memory, to be filled to its end. It is mounted where only one process
//! sees it, and is gone with that process.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tempfile::TempDir;

use crate::child::{self, Running};
use crate::scratch;

/// Says when it is mounted, and holds it until its input ends.
const HOLD: &str = "mount -t tmpfs -o size=\"$1\" tmpfs \"$0\" && echo ready && exec cat";

/// The file system, gone when this is dropped.
#[derive(Debug)]
pub struct Small {
    path: PathBuf,
    _holder: Running,
    _point: TempDir,
}

impl Small {
    /// One of so many bytes; `None`, said to be skipped, where there can be none.
    ///
    /// # Panics
    /// If it is not mounted where others can be.
    #[must_use]
    pub fn new(bytes: u64) -> Option<Self> {
        let point = scratch::on_disk();
        let mut hold = child::mounting(HOLD)?;
        hold.arg(point.path()).arg(bytes.to_string());
        let mut holder = Running::start(hold.stdin(Stdio::piped()).stdout(Stdio::piped()));
        let stdout = holder.stdout.as_mut().expect("it is piped");
        let mut line = String::new();
        let read = BufReader::new(stdout).read_line(&mut line);
        assert!(read.is_ok() && line == "ready\n", "not mounted: {line:?}");
        // What that process calls the root directory (proc_pid_root(5)).
        let root = Path::new("/proc")
            .join(holder.id().to_string())
            .join("root");
        let below_root = point.path().strip_prefix("/").expect("it is absolute");
        Some(Self {
            path: root.join(below_root),
            _holder: holder,
            _point: point,
        })
    }

    /// Its root directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}
