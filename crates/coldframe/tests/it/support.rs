//! Running the command, and what it needs.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use coldframe_testkit::child;
use coldframe_testkit::require::skipped;
use coldframe_testkit::scratch;
use serde_json::Value;

/// How a run of the command ended.
#[derive(Debug)]
pub struct Outcome {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Outcome {
    /// Exit 0, and nothing but the result was printed.
    #[track_caller]
    pub fn done(self) -> Self {
        assert_eq!((self.code, self.stderr.as_str()), (0, ""), "{self:#?}");
        self
    }

    /// An error of one line that says all of `parts`.
    #[track_caller]
    pub fn fails(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, code, "{self:#?}");
        assert_eq!(self.stdout, "", "{self:#?}");
        assert_eq!(self.stderr.lines().count(), 1, "{self:#?}");
        assert!(self.stderr.starts_with("coldframe: "), "{self:#?}");
        for part in parts {
            assert!(self.stderr.contains(part), "no {part:?} in {self:#?}");
        }
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// `coldframe GROUP VERB PATH` and more.
pub fn run_on(group: &str, verb: &str, path: &Path, more: &[&str]) -> Outcome {
    let mut args: Vec<&dyn AsRef<OsStr>> = vec![&group, &verb, &path];
    args.extend(more.iter().map(|arg| arg as &dyn AsRef<OsStr>));
    coldframe(&args)
}

/// The same with `--json`: what it printed, and nothing to stderr.
#[track_caller]
pub fn json_of(group: &str, verb: &str, path: &Path, code: i32) -> Value {
    let outcome = run_on(group, verb, path, &["--json"]);
    assert_eq!(
        (outcome.code, outcome.stderr.as_str()),
        (code, ""),
        "{outcome:#?}"
    );
    outcome.json()
}

/// A copy of a file, changed.
pub fn changed(home: &Home, from: &Path, change: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
    let mut bytes = fs::read(from).unwrap();
    change(&mut bytes);
    let path = home.at("changed");
    fs::write(&path, bytes).unwrap();
    path
}

/// The command with these arguments, not yet run.
pub fn command(args: &[&dyn AsRef<OsStr>]) -> Command {
    let mut command = child::command(env!("CARGO_BIN_EXE_coldframe"));
    command.args(args.iter().map(|arg| arg.as_ref()));
    command.stdin(Stdio::null()).env_remove("COLDFRAME_LOG");
    // What it keeps in the temporary directory ends with the test, as it does.
    command.env("TMPDIR", scratch::root());
    command
}

/// Runs the command.
pub fn coldframe(args: &[&dyn AsRef<OsStr>]) -> Outcome {
    command(args).output().unwrap().into()
}

/// A directory that is gone afterwards.
pub struct Home(tempfile::TempDir);

impl Home {
    pub fn new() -> Self {
        Self(scratch::on_disk())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// The names in a directory, hidden ones too.
pub fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The keys of a JSON object, sorted.
pub fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<_> = value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    keys.sort_unstable();
    keys
}

/// A simulated demonstration kept in `dir`: `full`, `diff-1` and `diff-2` of 8 MiB.
#[track_caller]
pub fn simulated(dir: &Path) {
    let demo = coldframe(&[
        &"demo",
        &"--backend",
        &"simulated",
        &"--ram",
        &"8MiB",
        &"--diffs",
        &"2",
        &"--workload",
        &"zeroing",
        &"--dir",
        &dir,
    ]);
    demo.done();
}

#[track_caller]
pub fn assert_sound(path: &Path) {
    let verified = coldframe(&[&"verify", &"--deep", &path]).done();
    assert!(verified.stdout.starts_with("sound: "), "{verified:#?}");
}

/// The flattened memory of a snapshot.
#[track_caller]
pub fn memory_of(snapshot: &Path) -> Vec<u8> {
    let home = Home::new();
    let out = home.at("out");
    coldframe(&[&"export", &"raw", &snapshot, &"-o", &out]).done();
    fs::read(out).unwrap()
}

/// Replaces the bytes of a published file at an offset.
pub fn patch(path: &Path, at: u64, change: impl FnOnce(&mut u8)) {
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    change(&mut byte[0]);
    file.write_all_at(&byte, at).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o400)).unwrap();
}

/// Copies a snapshot directory as it is.
pub fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for name in names(from) {
        fs::copy(from.join(&name), to.join(&name)).unwrap();
    }
}

/// Prints that there is no KVM, and says whether to return.
pub fn no_kvm() -> bool {
    match OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        Ok(_) => false,
        Err(error) => {
            skipped("kvm", &format!("/dev/kvm: {error}"));
            true
        }
    }
}

/// The directory that a variable names; prints that it is missing otherwise.
pub fn tool(what: &str, variable: &str) -> Option<PathBuf> {
    let dir = std::env::var_os(variable).map(PathBuf::from);
    if dir.is_none() {
        skipped(what, &format!("{variable} is not set"));
    }
    dir
}

/// A state file of Firecracker, of format 6.0.0, for a guest with this much memory from address 0.
pub fn firecracker_state(memory: u64) -> Vec<u8> {
    let text = |text: &str| {
        let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(text.as_bytes());
        bytes
    };
    let mut state = vec![0, 0, 0x64, 0x86, 0x84, 0x19, 0x10, 0x07];
    state.extend(text("6.0.0"));
    state.extend((memory >> 20).to_le_bytes());
    state.push(0);
    state.extend(3_u32.to_le_bytes());
    state.extend(text("vmlinux"));
    state.extend([0, 1]);
    state.extend(text("console=ttyS0"));
    state.extend(0_u32.to_le_bytes());
    state.extend(1_u64.to_le_bytes());
    state.extend(text("!171"));
    for number in [1, 0, memory] {
        state.extend(number.to_le_bytes());
    }
    state.extend([5; 300]);
    let crc = crc::Crc::<u64>::new(&crc::CRC_64_REDIS).checksum(&state);
    state.extend(crc.to_le_bytes());
    state
}
