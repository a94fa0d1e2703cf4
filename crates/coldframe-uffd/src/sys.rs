//! The kernel's calls on a userfaultfd and on a page table, with structures that cannot be wrong.
//!
//! # Safety
//! A number of an ioctl carries the length of the structure that the kernel reads and writes
//! (`_IOC_SIZE`); `nix` builds it from the type of the argument, and the types are generated from
//! the kernel's own headers (`linux-raw-sys`). Each call is given a structure of ours that lives
//! through it. What the kernel does beyond that structure is confined as follows.
//!
//! Memory is changed by a call only where a userfaultfd is registered (`ENOENT` otherwise; that it
//! is the same one, the kernel does not check), so it is [`register`] that carries the promise:
//! what is registered is never seen as a Rust reference. The kernel drops a registration when its
//! mapping goes, so no promise about time is needed.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use linux_raw_sys::general as raw;
use nix::errno::Errno;

use crate::HostRange;

/// The letter of the calls on a userfaultfd (linux/userfaultfd.h).
const UFFDIO: u8 = 0xaa;

nix::ioctl_write_int_bad!(
    /// `USERFAULTFD_IOC_NEW`.
    new_userfaultfd,
    nix::request_code_none!(UFFDIO, 0x00)
);
nix::ioctl_readwrite!(uffdio_api, UFFDIO, raw::_UFFDIO_API, raw::uffdio_api);
nix::ioctl_readwrite!(
    uffdio_register,
    UFFDIO,
    raw::_UFFDIO_REGISTER,
    raw::uffdio_register
);
// The kernel declares these two as _IOR, though it reads (linux/userfaultfd.h says so).
nix::ioctl_read!(
    uffdio_unregister,
    UFFDIO,
    raw::_UFFDIO_UNREGISTER,
    raw::uffdio_range
);
nix::ioctl_read!(uffdio_wake, UFFDIO, raw::_UFFDIO_WAKE, raw::uffdio_range);
nix::ioctl_readwrite!(uffdio_copy, UFFDIO, raw::_UFFDIO_COPY, raw::uffdio_copy);
nix::ioctl_readwrite!(
    uffdio_zeropage,
    UFFDIO,
    raw::_UFFDIO_ZEROPAGE,
    raw::uffdio_zeropage
);
nix::ioctl_readwrite!(uffdio_move, UFFDIO, raw::_UFFDIO_MOVE, raw::uffdio_move);
nix::ioctl_readwrite!(
    uffdio_writeprotect,
    UFFDIO,
    raw::_UFFDIO_WRITEPROTECT,
    raw::uffdio_writeprotect
);
nix::ioctl_readwrite!(
    uffdio_continue,
    UFFDIO,
    raw::_UFFDIO_CONTINUE,
    raw::uffdio_continue
);
nix::ioctl_readwrite!(
    uffdio_poison,
    UFFDIO,
    raw::_UFFDIO_POISON,
    raw::uffdio_poison
);
nix::ioctl_readwrite!(pagemap_scan, b'f', 16, raw::pm_scan_arg);

/// What a call that fills memory said: the count that it left in its structure, which is negative
/// for an error, and the error of the call itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) count: i64,
    pub(crate) errno: Option<Errno>,
}

impl Answer {
    fn new(result: nix::Result<libc::c_int>, count: i64) -> Self {
        Self {
            count,
            errno: result.err(),
        }
    }
}

const fn plain(range: HostRange) -> raw::uffdio_range {
    raw::uffdio_range {
        start: range.start().get(),
        len: range.len().get(),
    }
}

pub(crate) fn page_bytes() -> u64 {
    // SAFETY: sysconf takes a constant and touches no memory of ours.
    let answer = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(answer).unwrap_or(4096)
}

/// userfaultfd(2).
pub(crate) fn userfaultfd(flags: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: the call takes a number, and gives a descriptor or -1.
    let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, flags) };
    let fd = i32::try_from(fd).unwrap_or(-1);
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it for us, so that nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `USERFAULTFD_IOC_NEW` of /dev/userfaultfd.
pub(crate) fn userfaultfd_of(device: BorrowedFd<'_>, flags: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: the call takes a number; on another device it is unknown (ENOTTY).
    let fd = unsafe { new_userfaultfd(device.as_raw_fd(), flags) }?;
    // SAFETY: the kernel has just made it for us, so that nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `UFFDIO_API`: the features that there are.
pub(crate) fn api(fd: BorrowedFd<'_>, features: u64) -> nix::Result<u64> {
    let mut arg = raw::uffdio_api {
        api: u64::from(raw::UFFD_API),
        features,
        ioctls: 0,
    };
    // SAFETY: the structure is ours, and outlives the call.
    unsafe { uffdio_api(fd.as_raw_fd(), &raw mut arg) }?;
    Ok(arg.features)
}

/// `UFFDIO_REGISTER`: the calls that the range takes.
///
/// # Safety
/// No Rust reference may point into `range`, now or as long as something is mapped there: the
/// memory changes when faults in it are answered. Nothing need be promised for memory of another
/// process.
pub(crate) unsafe fn register(fd: BorrowedFd<'_>, range: HostRange, mode: u64) -> nix::Result<u64> {
    let mut arg = raw::uffdio_register {
        range: plain(range),
        mode,
        ioctls: 0,
    };
    // SAFETY: the structure is ours, and outlives the call; of the memory the caller promises that
    // nothing in Rust depends on its bytes.
    unsafe { uffdio_register(fd.as_raw_fd(), &raw mut arg) }?;
    Ok(arg.ioctls)
}

pub(crate) fn unregister(fd: BorrowedFd<'_>, range: HostRange) -> nix::Result<()> {
    let mut arg = plain(range);
    // SAFETY: the structure is ours, and outlives the call.
    unsafe { uffdio_unregister(fd.as_raw_fd(), &raw mut arg) }.map(drop)
}

pub(crate) fn wake(fd: BorrowedFd<'_>, start: u64, len: u64) -> nix::Result<()> {
    let mut arg = raw::uffdio_range { start, len };
    // SAFETY: the structure is ours, and outlives the call, which changes no memory.
    unsafe { uffdio_wake(fd.as_raw_fd(), &raw mut arg) }.map(drop)
}

pub(crate) fn copy(fd: BorrowedFd<'_>, dst: u64, src: &[u8], mode: u64) -> Answer {
    let mut arg = raw::uffdio_copy {
        dst,
        src: src.as_ptr().expose_provenance() as u64,
        len: src.len() as u64,
        mode,
        copy: 0,
    };
    // SAFETY: the structure is ours; it names `src` with its true length, which is only read, and
    // both outlive the call. It writes to registered memory alone.
    let result = unsafe { uffdio_copy(fd.as_raw_fd(), &raw mut arg) };
    Answer::new(result, arg.copy)
}

pub(crate) fn zeropage(fd: BorrowedFd<'_>, range: HostRange, mode: u64) -> Answer {
    let mut arg = raw::uffdio_zeropage {
        range: plain(range),
        mode,
        zeropage: 0,
    };
    // SAFETY: the structure is ours, and outlives the call, which fills registered memory alone.
    let result = unsafe { uffdio_zeropage(fd.as_raw_fd(), &raw mut arg) };
    Answer::new(result, arg.zeropage)
}

pub(crate) fn continue_pages(fd: BorrowedFd<'_>, range: HostRange, mode: u64) -> Answer {
    let mut arg = raw::uffdio_continue {
        range: plain(range),
        mode,
        mapped: 0,
    };
    // SAFETY: the structure is ours, and outlives the call, which maps into registered memory
    // alone.
    let result = unsafe { uffdio_continue(fd.as_raw_fd(), &raw mut arg) };
    Answer::new(result, arg.mapped)
}

pub(crate) fn poison(fd: BorrowedFd<'_>, range: HostRange, mode: u64) -> Answer {
    let mut arg = raw::uffdio_poison {
        range: plain(range),
        mode,
        updated: 0,
    };
    // SAFETY: the structure is ours, and outlives the call, which marks registered memory alone.
    let result = unsafe { uffdio_poison(fd.as_raw_fd(), &raw mut arg) };
    Answer::new(result, arg.updated)
}

/// `UFFDIO_MOVE`.
///
/// # Safety
/// No Rust reference may point into the `len` bytes from `src` on: they become zero.
pub(crate) unsafe fn move_pages(fd: BorrowedFd<'_>, dst: u64, src: HostRange, mode: u64) -> Answer {
    let mut arg = raw::uffdio_move {
        dst,
        src: src.start().get(),
        len: src.len().get(),
        mode,
        move_: 0,
    };
    // SAFETY: the structure is ours, and outlives the call; it fills registered memory, and of the
    // memory that it empties the caller promises that nothing in Rust depends on its bytes.
    let result = unsafe { uffdio_move(fd.as_raw_fd(), &raw mut arg) };
    Answer::new(result, arg.move_)
}

pub(crate) fn write_protect(fd: BorrowedFd<'_>, range: HostRange, mode: u64) -> nix::Result<()> {
    let mut arg = raw::uffdio_writeprotect {
        range: plain(range),
        mode,
    };
    // SAFETY: the structure is ours, and outlives the call, which changes no byte of memory.
    unsafe { uffdio_writeprotect(fd.as_raw_fd(), &raw mut arg) }.map(drop)
}

/// `PAGEMAP_SCAN`: fills `regions`, and says how many of them.
pub(crate) fn scan(
    pagemap: BorrowedFd<'_>,
    regions: &mut [raw::page_region],
    arg: &mut raw::pm_scan_arg,
) -> nix::Result<usize> {
    arg.size = size_of::<raw::pm_scan_arg>() as u64;
    arg.vec = regions.as_mut_ptr().expose_provenance() as u64;
    arg.vec_len = regions.len() as u64;
    // SAFETY: the structure is a whole one, and names `regions` with its true length; both are
    // borrowed exclusively, and the call writes only there. Write protection that it may put on
    // pages changes none of their bytes.
    let found = unsafe { pagemap_scan(pagemap.as_raw_fd(), std::ptr::from_mut(arg)) }?;
    Ok(usize::try_from(found).unwrap_or(0).min(regions.len()))
}

/// A descriptor of a process, which can be waited for to be readable: then the process has ended
/// (pidfd_open(2)).
///
/// # Errors
/// `ESRCH`: there is no such process.
pub fn pidfd_of(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two numbers, and gives a descriptor or -1.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = i32::try_from(fd).unwrap_or(-1);
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it for us, so that nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests;
