//! What makes a vCPU leave the guest: a signal to its thread, and the byte that the kernel looks at
//! before it enters.
//!
//! A signal alone may arrive between the thread's last look and its entry into the kernel, and is
//! lost; the byte (`immediate_exit`) makes that entry return at once.
//!
//! # Safety
//! The byte is reached through a mapping of our own of the vCPU's first page, which holds the
//! vCPU's file open, and only as an atomic, as the kernel reads it once for each entry. Threads are
//! named by number: a number whose thread has ended is refused, and one that was given to another
//! thread of this process interrupts that one, to no effect, as our handler does nothing.

use std::io;
use std::os::fd::AsRawFd;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};

use kvm_bindings::kvm_run;

/// `immediate_exit` of `struct kvm_run` of one vCPU.
#[derive(Debug)]
pub(crate) struct ImmediateExit {
    page: NonNull<u8>,
}

/// Bytes that are mapped: the kernel has a whole page there.
const RUN_BYTES: usize = size_of::<kvm_run>();

impl ImmediateExit {
    /// That of this vCPU.
    pub(crate) fn of(vcpu: &impl AsRawFd) -> io::Result<Self> {
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let page = unsafe { libc::mmap(null_mut(), RUN_BYTES, access, kind, vcpu.as_raw_fd(), 0) };
        if page == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let page = NonNull::new(page.cast::<u8>()).ok_or(io::ErrorKind::Other)?;
        Ok(Self { page })
    }

    /// Makes the next entries into the guest return at once, or not.
    pub(crate) fn set(&self, on: bool) {
        // SAFETY: the field lies within the mapping of `RUN_BYTES` bytes.
        let byte = unsafe { self.page.add(std::mem::offset_of!(kvm_run, immediate_exit)) };
        // SAFETY: the byte is mapped for as long as `self` lives, and nothing makes a reference to
        // it: the kernel, and `VcpuFd`, access it by their own addresses.
        let byte = unsafe { AtomicU8::from_ptr(byte.as_ptr()) };
        byte.store(u8::from(on), Ordering::SeqCst);
    }
}

// SAFETY: the mapping belongs to no thread, and the byte is accessed atomically.
unsafe impl Send for ImmediateExit {}
// SAFETY: as above.
unsafe impl Sync for ImmediateExit {}

impl Drop for ImmediateExit {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this address and length, and nothing refers to it any
        // more. There is nothing to be done if the kernel refuses.
        unsafe { libc::munmap(self.page.as_ptr().cast(), RUN_BYTES) };
    }
}

/// Does nothing: that a signal arrives is what makes `KVM_RUN` return.
extern "C" fn on_signal(_: libc::c_int) {}

/// What becomes of a signal in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disposition {
    /// It ends the process.
    Default,
    /// It is not delivered.
    Ignored,
    /// This module's handler has it.
    Ours,
    /// Somebody else's handler has it.
    Handled,
}

fn disposition(signal: libc::c_int) -> io::Result<Disposition> {
    // SAFETY: all-zero bytes are a valid sigaction.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: only asks: the kernel fills `action`, which is exclusively borrowed.
    let answer = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) };
    if answer != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(match action.sa_sigaction {
        libc::SIG_DFL => Disposition::Default,
        libc::SIG_IGN => Disposition::Ignored,
        handler if handler == on_signal as *const () as libc::sighandler_t => Disposition::Ours,
        _ => Disposition::Handled,
    })
}

/// Handles `signal` by doing nothing, unless it is handled already. What it was before.
pub(crate) fn handle(signal: libc::c_int) -> io::Result<Disposition> {
    /// One thread at a time looks and installs.
    static INSTALLING: Mutex<()> = Mutex::new(());
    let _one = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    let before = disposition(signal)?;
    if before == Disposition::Default {
        // SAFETY: all-zero bytes are a valid sigaction: no flags, an empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        // KVM_RUN ends with EINTR all the same; what else the thread waits in goes on.
        action.sa_flags = libc::SA_RESTART;
        action.sa_sigaction = on_signal as *const () as libc::sighandler_t;
        // SAFETY: `action` is a valid sigaction whose handler is async-signal-safe (it does
        // nothing); no old action is asked for.
        let answer = unsafe { libc::sigaction(signal, &raw const action, null_mut()) };
        if answer != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(before)
}

/// What becomes of a signal that is the VMM's.
pub(crate) fn look_at(signal: libc::c_int) -> io::Result<Disposition> {
    disposition(signal)
}

/// The number of the calling thread.
pub(crate) fn this_thread() -> libc::pid_t {
    // SAFETY: gettid takes nothing and touches no memory of ours.
    unsafe { libc::gettid() }
}

/// Lets the calling thread be interrupted by `signal`.
pub(crate) fn unblock(signal: libc::c_int) -> io::Result<()> {
    // SAFETY: all-zero bytes are a valid sigset_t, which the next call makes empty.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: writes to `set` alone.
    unsafe { libc::sigemptyset(&raw mut set) };
    // SAFETY: writes to `set` alone.
    let added = unsafe { libc::sigaddset(&raw mut set, signal) };
    if added != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: reads `set`; no old set is asked for.
    let answer = unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, null_mut()) };
    match answer {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Sends `signal` to a thread of this process. One that has ended, or a queue of signals that is
/// full, is no error: the kick is sent again until the thread has parked.
///
/// By tgkill(2), which takes a number: a `pthread_t` of a thread that has ended must not be used.
pub(crate) fn signal(thread: libc::pid_t, signal: libc::c_int) -> io::Result<()> {
    let process = std::process::id();
    // SAFETY: takes numbers alone.
    let answer = unsafe { libc::syscall(libc::SYS_tgkill, process, thread, signal) };
    if answer == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ESRCH | libc::EAGAIN) => Ok(()),
        _ => Err(error),
    }
}

/// The signal that is taken when the VMM names none.
pub(crate) fn default_signal() -> libc::c_int {
    libc::SIGRTMIN()
}
