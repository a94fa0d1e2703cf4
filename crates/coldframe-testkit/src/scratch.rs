//! Directories for files that need not outlive a test.
//!
//! They are all in one directory of this process, in the temporary directory of the user, that is
//! removed when the process ends, however it ends: a shell waits for the end of a pipe that only
//! this process has open.

use std::ffi::OsString;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

/// Linux's file system in memory (shm_overview(7)).
const MEMORY: &str = "/dev/shm";

/// Makes a directory in the one that its argument names, prints its path, and removes it once
/// standard input ends. It is made by the process that removes it, when that is not ended any more
/// by the signals of a terminal, which go to every process there: at no moment is there a directory
/// that nobody removes. What a test has closed to its owner too is opened.
const JANITOR: &str = "trap '' INT TERM HUP QUIT PIPE; \
                       dir=$(mktemp -d \"$0/coldframe-test-XXXXXXXX\") || exit 1; \
                       cd /; printf %s \"$dir\"; exec >/dev/null; cat; \
                       rm -rf \"$dir\" || { chmod -R u+rwx \"$dir\"; rm -rf \"$dir\"; }";

struct Root {
    path: PathBuf,
    /// Its standard input ends with this process.
    _janitor: Child,
}

impl Root {
    fn new(dir: &Path) -> io::Result<Self> {
        let mut janitor = Command::new("/bin/sh")
            .args(["-c", JANITOR])
            .arg(std::path::absolute(dir)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut path = Vec::new();
        if let Some(mut stdout) = janitor.stdout.take() {
            stdout.read_to_end(&mut path)?;
        }
        if path.is_empty() {
            let text = format!("no directory can be made in {}", dir.display());
            return Err(io::Error::other(text));
        }
        Ok(Self {
            path: OsString::from_vec(path).into(),
            _janitor: janitor,
        })
    }
}

/// The directory of this process in the temporary directory.
///
/// # Panics
/// If none can be made.
pub fn root() -> &'static Path {
    static ROOT: OnceLock<Root> = OnceLock::new();
    let make = || Root::new(&std::env::temp_dir()).expect("a directory can be made");
    &ROOT.get_or_init(make).path
}

/// Makes a named pipe (mkfifo(3)).
///
/// # Panics
/// If it cannot be made.
pub fn make_fifo(path: &Path) {
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
    nix::unistd::mkfifo(path, mode).expect("a pipe can be made");
}

/// A new directory on the file system of the temporary directory, removed when dropped, and when
/// the process ends.
///
/// # Panics
/// If none can be made.
#[must_use]
pub fn on_disk() -> TempDir {
    tempfile::tempdir_in(root()).expect("a directory can be made")
}

/// A new directory in memory where the host has that: a sync costs nothing there.
///
/// # Panics
/// If none can be made.
#[must_use]
pub fn dir() -> TempDir {
    static ROOT: OnceLock<Option<Root>> = OnceLock::new();
    let in_memory = || Root::new(Path::new(MEMORY)).ok();
    match ROOT.get_or_init(in_memory) {
        Some(root) => tempfile::tempdir_in(&root.path).expect("a directory can be made"),
        None => on_disk(),
    }
}
