//! Processes that a test starts, and that end with it: when they are dropped, and when the test's
//! own process is gone, however it went.
//!
//! # Safety
//! One call is made between fork(2) and exec(2), where only async-signal-safe functions may be
//! called (signal-safety(7)): prctl(2), getppid(2) and _exit(2) are system calls and nothing else.
#![allow(unsafe_code)]

use std::ops::{Deref, DerefMut};
use std::process::{Child, Command, Output};

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
