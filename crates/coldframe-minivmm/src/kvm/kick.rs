#![allow(unsafe_code)]
//! The signal that makes a vCPU's thread leave the guest.
//!
//! # Safety
//! The handler does nothing, so it may run at any point; the signal is SIGRTMIN, which nothing else
//! in a program that uses this crate may claim. A thread is signalled only through the handle that
//! can still join it, so its `pthread_t` is valid.

use std::os::unix::thread::JoinHandleExt;
use std::sync::Once;
use std::thread::JoinHandle;

/// Does nothing: that the signal arrives is what makes KVM_RUN return.
extern "C" fn on_signal(_: libc::c_int) {}

/// Installs the handler, once in this process.
pub(super) fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // SAFETY: all-zero bytes are a valid sigaction: no flags, an empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = on_signal as *const () as libc::sighandler_t;
        // SAFETY: `action` is a valid sigaction whose handler is async-signal-safe (it does
        // nothing); no old action is asked for.
        let rc =
            unsafe { libc::sigaction(libc::SIGRTMIN(), &raw const action, std::ptr::null_mut()) };
        assert_eq!(rc, 0, "SIGRTMIN can be handled");
    });
}

/// Makes `thread` leave the guest, if it is in it.
pub(super) fn kick<T>(thread: &JoinHandle<T>) {
    // A number to the standard library; a pointer to musl, as its C headers have it.
    let id = thread.as_pthread_t() as libc::pthread_t;
    // SAFETY: the handle has not been joined, so the thread's id is still valid.
    let rc = unsafe { libc::pthread_kill(id, libc::SIGRTMIN()) };
    debug_assert!(rc == 0 || rc == libc::ESRCH);
}
