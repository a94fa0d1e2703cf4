//! The calls by which a program changes files, taken over from the C library.
//!
//! A program that links this crate and starts a [`Recording`](crate::crash::Recording) finds these
//! functions before those of the C library. Each makes the same system call; where a recording
//! knows the file or directory, what it changed is noted as well. So real code is recorded as it
//! is: nothing in it knows of a simulator, and no call can be forgotten in a wrapper. The functions
//! are in `calls`; here is what several of them have in common.
//!
//! # Safety
//! Each function has the contract of the system call that it makes, and hands its arguments on
//! unchanged. Pointers are read only as far as the contract lets the kernel read them, and only
//! before the call returns.
#![allow(unsafe_code)]

mod calls;

use std::ffi::{CStr, OsStr, c_char, c_int, c_long, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use libc::{iovec, mode_t, off_t, size_t, ssize_t};

use crate::crash::recording::{HostCall, HostFault, State, identity, is_running, with_owner};
use crate::crash::trace::{HostOp, NodeId};

pub(crate) use calls::keep;

/// The system call.
///
/// # Safety
/// As the manual page of the call says.
unsafe fn host<const N: usize>(number: c_long, args: [c_long; N]) -> c_long {
    let at = |index: usize| args.get(index).copied().unwrap_or(0);
    // SAFETY: the caller's promise; the kernel looks at no more arguments than the call has.
    unsafe { libc::syscall(number, at(0), at(1), at(2), at(3), at(4)) }
}

fn fail(errno: i32) -> c_long {
    // SAFETY: the place of this thread's errno is always valid.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: as above, and nobody else has it.
    unsafe { *place = errno };
    -1
}

/// # Safety
/// `path` is null or a string that ends with a zero byte.
unsafe fn text(path: *const c_char) -> PathBuf {
    if path.is_null() {
        return PathBuf::new();
    }
    // SAFETY: the caller's promise.
    let text = unsafe { CStr::from_ptr(path) };
    PathBuf::from(OsStr::from_bytes(text.to_bytes()))
}

fn of_fd(fd: c_int) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{fd}"))
}

/// Calls `body` with the recording that knows this open file.
fn with_file<T>(fd: c_int, body: impl FnOnce(&mut State, NodeId) -> T) -> Option<T> {
    if !is_running() {
        return None;
    }
    with_owner(identity(&of_fd(fd))?, body)
}

/// Calls `body` with the recording that knows the directory of this path, and the name in it.
fn with_name<T>(
    dir: c_int,
    path: &Path,
    body: impl FnOnce(&mut State, NodeId, &str) -> T,
) -> Option<T> {
    let place = if path.is_absolute() || dir == libc::AT_FDCWD {
        path.to_path_buf()
    } else {
        of_fd(dir).join(path)
    };
    let name = place.file_name()?.to_string_lossy().into_owned();
    let parent = match place.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    with_owner(identity(parent)?, |state, node| body(state, node, &name))
}

/// # Safety
/// As openat(2).
unsafe fn open_any(dir: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    let args = [dir.into(), path as c_long, flags.into(), mode.into()];
    // SAFETY: the caller's promise.
    let call = || unsafe { host(libc::SYS_openat, args) as c_int };
    if !is_running() || flags & (libc::O_CREAT | libc::O_TRUNC) == 0 {
        return call();
    }
    // SAFETY: the caller's promise.
    let place = unsafe { text(path) };
    let noted = with_name(dir, &place, |state, dir, name| {
        let before = state.named(dir, name);
        let fd = call();
        if fd < 0 {
            return fd;
        }
        if let Some(node) = before {
            if flags & libc::O_TRUNC != 0 {
                state.note(HostOp::SetLen { node, len: 0 });
            }
        } else if let Ok(node) = state.add(&of_fd(fd), name) {
            let name = name.to_owned();
            state.note(HostOp::Name { dir, name, node });
        }
        fd
    });
    noted.unwrap_or_else(call)
}

/// Notes what was written, as far as it was.
///
/// # Safety
/// `vectors` are readable.
unsafe fn write_any(
    fd: c_int,
    offset: off_t,
    vectors: &[iovec],
    call: impl Fn(Option<usize>) -> c_long,
) -> ssize_t {
    let noted = with_file(fd, |state, node| {
        let written = match state.enter(HostCall::Write) {
            None => call(None),
            Some(HostFault::Short(len)) => call(Some(len)),
            Some(HostFault::Errno(errno)) => fail(errno),
        };
        let mut left = usize::try_from(written).unwrap_or(0);
        let mut bytes = Vec::with_capacity(left);
        for vector in vectors {
            let len = left.min(vector.iov_len);
            if len > 0 {
                // SAFETY: the caller's promise; the bytes are copied at once, as the kernel did.
                let part = unsafe { std::slice::from_raw_parts(vector.iov_base.cast::<u8>(), len) };
                bytes.extend_from_slice(part);
                left -= len;
            }
        }
        if !bytes.is_empty() {
            let offset = offset.cast_unsigned();
            state.note(HostOp::Write {
                node,
                offset,
                bytes,
            });
        }
        written as ssize_t
    });
    noted.unwrap_or_else(|| call(None) as ssize_t)
}

/// # Safety
/// As pwrite(2).
unsafe fn pwrite_any(fd: c_int, buf: *const c_void, len: size_t, offset: off_t) -> ssize_t {
    let vector = iovec {
        iov_base: buf.cast_mut(),
        iov_len: len,
    };
    let call = |short: Option<usize>| {
        let len = short.map_or(len, |short| short.min(len));
        let args = [fd.into(), buf as c_long, len as c_long, offset];
        // SAFETY: the caller's promise; a shorter buffer is as good.
        unsafe { host(libc::SYS_pwrite64, args) }
    };
    // SAFETY: the caller's promise.
    unsafe { write_any(fd, offset, &[vector], call) }
}

fn sync_any(fd: c_int, number: c_long, data_only: bool) -> c_int {
    let noted = with_file(fd, |state, node| match state.enter(HostCall::Sync) {
        Some(HostFault::Errno(errno)) => fail(errno) as c_int,
        _ => {
            state.note(HostOp::Sync { node, data_only });
            0
        }
    });
    // SAFETY: any descriptor may be synced.
    noted.unwrap_or_else(|| unsafe { host(number, [fd.into()]) as c_int })
}

/// # Safety
/// As unlinkat(2).
unsafe fn remove_any(dir: c_int, path: *const c_char, flags: c_int) -> c_int {
    let args = [dir.into(), path as c_long, flags.into()];
    // SAFETY: the caller's promise.
    let call = || unsafe { host(libc::SYS_unlinkat, args) as c_int };
    if !is_running() {
        return call();
    }
    // SAFETY: the caller's promise.
    let place = unsafe { text(path) };
    let noted = with_name(dir, &place, |state, dir, name| {
        let done = call();
        if let (0, Some(node)) = (done, state.named(dir, name)) {
            let name = name.to_owned();
            state.note(HostOp::Remove { dir, name, node });
        }
        done
    });
    noted.unwrap_or_else(call)
}

/// # Safety
/// As renameat2(2).
unsafe fn rename_any(
    (from_dir, from): (c_int, *const c_char),
    (to_dir, to): (c_int, *const c_char),
    flags: u32,
) -> c_int {
    let (from_fd, to_fd) = (from_dir.into(), to_dir.into());
    let args = [from_fd, from as c_long, to_fd, to as c_long, flags.into()];
    // SAFETY: the caller's promise.
    let call = || unsafe { host(libc::SYS_renameat2, args) as c_int };
    if !is_running() {
        return call();
    }
    // SAFETY: the caller's promise.
    let old = unsafe { text(from) };
    // SAFETY: the caller's promise.
    let new = unsafe { text(to) };
    let target = with_name(to_dir, &new, |_, dir, name| (dir, name.to_owned()));
    let noted = with_name(from_dir, &old, |state, dir, name| {
        let done = call();
        if let (0, Some(node), Some(to)) = (done, state.named(dir, name), target) {
            let from = (dir, name.to_owned());
            state.note(HostOp::Rename { from, to, node });
        }
        done
    });
    noted.unwrap_or_else(call)
}
