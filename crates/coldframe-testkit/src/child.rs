//! Processes that a test starts, and that end with it: when they are dropped, and when the test's
//! own process is gone, however it went.
//!
//! # Safety
//! One call is made between fork(2) and exec(2), where only async-signal-safe functions may be
//! called (signal-safety(7)): prctl(2), getppid(2) and _exit(2) are system calls and nothing else.
#![allow(unsafe_code)]

use std::ffi::OsStr;
use std::io::{PipeReader, PipeWriter};
use std::ops::{Deref, DerefMut};
use std::process::{Child, Command, Output};
use std::sync::OnceLock;

use crate::require::skipped;

/// Runs its arguments, and kills its own process group once standard input ends. The reader's
/// streams are its own: a wait for the end of the program's output is no wait for it.
const GROUP: &str = "exec 3<&0; (read _ <&3; kill -KILL 0) >/dev/null 2>&1 & watcher=$!; \
                     \"$0\" \"$@\" </dev/null; code=$?; kill -KILL $watcher; exit $code";

/// The options of unshare(1) that give a mount namespace: to root, and to anybody where users may
/// have a user namespace.
const UNSHARE: [&[&str]; 2] = [&["--mount"], &["--user", "--map-root-user", "--mount"]];

/// A namespace without the right to mount is of no use.
const TRY: &str = "mount -t tmpfs tmpfs /tmp";

/// A process that is killed when this is dropped, and with the process that started it.
#[derive(Debug)]
pub struct Running(Option<Child>);

impl Running {
    /// Starts it.
    ///
    /// # Panics
    /// If it cannot be started.
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        let child = tied(command).spawn();
        Self(Some(child.unwrap_or_else(|error| {
            panic!("{command:?} does not start: {error}")
        })))
    }

    /// Waits until it ends.
    ///
    /// # Panics
    /// If it cannot be waited for.
    #[must_use]
    pub fn output(mut self) -> Output {
        let child = self.0.take().expect("it is here until it is dropped");
        child.wait_with_output().expect("a child can be waited for")
    }
}

impl Deref for Running {
    type Target = Child;

    fn deref(&self) -> &Child {
        self.0.as_ref().expect("it is here until it is dropped")
    }
}

impl DerefMut for Running {
    fn deref_mut(&mut self) -> &mut Child {
        self.0.as_mut().expect("it is here until it is dropped")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A command whose process is [`tied`] to the thread that starts it.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    tied(&mut command);
    command
}

/// The same for a program that starts others, such as a script: they all end with this process.
/// It has nothing to read.
///
/// # Panics
/// If no pipe can be made.
pub fn group(program: impl AsRef<OsStr>) -> Command {
    use std::os::unix::process::CommandExt as _;
    static PIPE: OnceLock<(PipeReader, PipeWriter)> = OnceLock::new();
    let pipe = || std::io::pipe().expect("a pipe can be made");
    let (reader, _until_this_process_ends) = PIPE.get_or_init(pipe);
    let mut command = Command::new("/bin/sh");
    command.args(["-c", GROUP]).arg(program).process_group(0);
    command.stdin(reader.try_clone().expect("a descriptor can be had"));
    command
}

/// A command that runs `script` (of sh(1), whose `$0` is the next argument) where it may mount what
/// it likes: nobody else sees it, and it is gone when the last process there ends. `None`, said to
/// be skipped, where that cannot be had.
///
/// # Panics
/// If `COLDFRAME_REQUIRE` lists `unshare` and there is none.
pub fn mounting(script: &str) -> Option<Command> {
    let possible = |options: &&&[&str]| {
        let mut tried = command("unshare");
        tried.args(**options).args(["sh", "-c", TRY]);
        tried.output().is_ok_and(|tried| tried.status.success())
    };
    let Some(options) = UNSHARE.iter().find(possible) else {
        skipped("unshare", "nothing can be mounted here, not even unseen");
        return None;
    };
    let mut mounting = command("unshare");
    mounting.args(*options).args(["sh", "-c", script]);
    Some(mounting)
}

/// Ties what `command` will start to the thread that starts it: the kernel kills it when that ends
/// (`PR_SET_PDEATHSIG`, prctl(2)). Elsewhere than on Linux only a drop of [`Running`] does.
pub fn tied(command: &mut Command) -> &mut Command {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::process::CommandExt as _;
        let parent = std::process::id();
        let tie = move || {
            // SAFETY: a system call that takes two numbers.
            let set = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            if set != 0 {
                return Err(std::io::Error::last_os_error());
            }
            // The parent may have died before the call.
            // SAFETY: a system call without arguments.
            let now = unsafe { libc::getppid() };
            if u32::try_from(now) != Ok(parent) {
                // SAFETY: ends this process, which has nothing to lose.
                unsafe { libc::_exit(1) };
            }
            Ok(())
        };
        // SAFETY: the closure calls nothing but what signal-safety(7) lists, and allocates nothing.
        unsafe { command.pre_exec(tie) };
    }
    command
}
