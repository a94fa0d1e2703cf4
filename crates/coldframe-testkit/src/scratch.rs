//! Directories for files that need not outlive a test.
//!
//! They are all in one directory of this process, in the temporary directory of the user, that is
//! removed when the process ends, however it ends: a shell waits for the end of a pipe that only
//! this process has open.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

/// Linux's file system in memory (shm_overview(7)).
const MEMORY: &str = "/dev/shm";

/// Removes what its argument names once standard input ends. Not ended by the signals of a terminal
/// itself, which go to every process there. What a test has closed to its owner too is opened.
const JANITOR: &str = "trap '' INT TERM HUP QUIT; cat >/dev/null; rm -rf \"$0\" || \
                       { chmod -R u+rwx \"$0\"; rm -rf \"$0\"; }";

struct Root {
    path: PathBuf,
    /// Its standard input ends with this process.
    _janitor: Child,
}

impl Root {
    fn new(dir: &Path) -> std::io::Result<Self> {
        let made = tempfile::Builder::new()
            .prefix("coldframe-test-")
            .tempdir_in(dir)?;
        let janitor = Command::new("/bin/sh")
            .args(["-c", JANITOR])
            .arg(made.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            .spawn()?;
        Ok(Self {
            path: made.keep(),
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
