//! Calls that the tests make for themselves.
//!
//! # Safety
//! Each is a system call on numbers, or on a mapping that no Rust reference points into.
#![allow(unsafe_code)]

use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};

use coldframe_uffd::Mapping;
use nix::libc;

/// Gives up this thread's privileges. User ids are a thread's own for the kernel: the C library
/// would change those of all threads, the system call does not (credentials(7)).
pub fn become_nobody() {
    const NOBODY: libc::c_long = 65534;
    // SAFETY: a system call that takes nothing.
    if unsafe { libc::geteuid() } == 0 {
        // SAFETY: a system call that takes three numbers.
        let set = unsafe { libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY) };
        assert_eq!(set, 0);
    }
}

/// Has a child inherit the mapping after all.
pub fn inherit(memory: &Mapping) {
    let len = usize::try_from(memory.len().get()).unwrap();
    // SAFETY: the advice changes no byte of the mapping.
    let advised = unsafe { libc::madvise(memory.as_ptr().cast(), len, libc::MADV_DOFORK) };
    assert_eq!(advised, 0);
}

/// A child that ends at once. By the system call: fork(3) of the C library holds the locks of its
/// allocator, also while the kernel waits for the event to be read, and whoever allocates before
/// reading it waits for ever.
pub fn fork_and_end() -> libc::pid_t {
    let nothing: libc::c_long = 0;
    let signal = libc::c_long::from(libc::SIGCHLD);
    // SAFETY: without a flag it is fork(2); the child calls nothing but _exit(2).
    let child =
        unsafe { libc::syscall(libc::SYS_clone, signal, nothing, nothing, nothing, nothing) };
    if child == 0 {
        // SAFETY: ends the child, which has nothing to lose.
        unsafe { libc::_exit(0) }
    }
    libc::pid_t::try_from(child).unwrap()
}

/// A descriptor that was received.
pub fn received(fd: RawFd) -> OwnedFd {
    // SAFETY: the caller has it from recvmsg(2), which made it for this process.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
