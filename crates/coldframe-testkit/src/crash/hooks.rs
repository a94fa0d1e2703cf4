//! The calls by which a program changes files, taken over from the C library.
//!
//! A program that links this crate and starts a [`Recording`](crate::crash::Recording) finds these
//! functions before those of the C library. Each makes the same system call; where a recording
//! knows the file or directory, what it changed is noted as well. So real code is recorded as it
//! is: nothing in it knows of a simulator, and no call can be forgotten in a wrapper.
//!
//! # Safety
//! Each function has the name, the arguments and the contract of the C library's (variadic ones are
//! called alike on the targets below), and hands its arguments on unchanged. Pointers are read only
//! as far as the contract lets the kernel read them, and only before the call returns.
#![allow(unsafe_code)]

use std::ffi::{CStr, OsStr, c_char, c_int, c_long, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use libc::{iovec, mode_t, off_t, size_t, ssize_t};

use crate::crash::recording::{HostCall, HostFault, State, identity, is_running, with_owner};
use crate::crash::trace::{HostOp, NodeId};

/// Sees to it that the functions are linked.
pub(crate) fn keep() {
    let all = [
        open as *const (),
        open64 as *const (),
        openat as *const (),
        openat64 as *const (),
        pread64 as *const (),
        pwrite64 as *const (),
        pwritev as *const (),
        write as *const (),
        ftruncate64 as *const (),
        fchmod as *const (),
        chmod as *const (),
        fsync as *const (),
        fdatasync as *const (),
        mkdir as *const (),
        rename as *const (),
        renameat2 as *const (),
        linkat as *const (),
        unlink as *const (),
        unlinkat as *const (),
        rmdir as *const (),
    ];
    std::hint::black_box(all);
}

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
    // SAFETY: the caller's promise, for both.
    let (old, new) = unsafe { (text(from), text(to)) };
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

/// # Safety
/// As open(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { open_any(libc::AT_FDCWD, path, flags, mode) }
}

/// # Safety
/// As open(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { open_any(libc::AT_FDCWD, path, flags, mode) }
}

/// # Safety
/// As openat(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn openat(
    dir: c_int,
    path: *const c_char,
    flags: c_int,
    mode: mode_t,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { open_any(dir, path, flags, mode) }
}

/// # Safety
/// As openat(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn openat64(
    dir: c_int,
    path: *const c_char,
    flags: c_int,
    mode: mode_t,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { open_any(dir, path, flags, mode) }
}

/// # Safety
/// As pread(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pread64(
    fd: c_int,
    buf: *mut c_void,
    len: size_t,
    offset: off_t,
) -> ssize_t {
    let fault = with_file(fd, |state, _| state.enter(HostCall::Read)).flatten();
    let len = match fault {
        Some(HostFault::Errno(errno)) => return fail(errno) as ssize_t,
        Some(HostFault::Short(short)) => short.min(len),
        None => len,
    };
    let args = [fd.into(), buf as c_long, len as c_long, offset];
    // SAFETY: the caller's promise; a shorter buffer is as good.
    unsafe { host(libc::SYS_pread64, args) as ssize_t }
}

/// # Safety
/// As pwrite(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite64(
    fd: c_int,
    buf: *const c_void,
    len: size_t,
    offset: off_t,
) -> ssize_t {
    // SAFETY: the caller's promise.
    unsafe { pwrite_any(fd, buf, len, offset) }
}

/// # Safety
/// As pwritev(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwritev(
    fd: c_int,
    vectors: *const iovec,
    count: c_int,
    offset: off_t,
) -> ssize_t {
    let all: &[iovec] = match usize::try_from(count) {
        // SAFETY: the caller's promise.
        Ok(count) if count > 0 => unsafe { std::slice::from_raw_parts(vectors, count) },
        _ => &[],
    };
    let call = |short: Option<usize>| match (short, all.first()) {
        (Some(short), Some(first)) => {
            let len = short.min(first.iov_len) as c_long;
            let args = [fd.into(), first.iov_base as c_long, len, offset];
            // SAFETY: the first range is readable by the caller's promise.
            unsafe { host(libc::SYS_pwrite64, args) }
        }
        _ => {
            let args = [fd.into(), vectors as c_long, count.into(), offset];
            // SAFETY: the caller's promise.
            unsafe { host(libc::SYS_pwritev, args) }
        }
    };
    // SAFETY: the caller's promise.
    unsafe { write_any(fd, offset, all, call) }
}

/// # Safety
/// As write(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn write(fd: c_int, buf: *const c_void, len: size_t) -> ssize_t {
    let call = |short: Option<usize>| {
        let len = short.map_or(len, |short| short.min(len));
        let args = [fd.into(), buf as c_long, len as c_long];
        // SAFETY: the caller's promise; a shorter buffer is as good.
        unsafe { host(libc::SYS_write, args) }
    };
    if !is_running() {
        return call(None) as ssize_t;
    }
    // SAFETY: this only asks for the position.
    let offset = unsafe { libc::lseek(fd, 0, libc::SEEK_CUR) };
    let vector = iovec {
        iov_base: buf.cast_mut(),
        iov_len: len,
    };
    // SAFETY: the caller's promise.
    unsafe { write_any(fd, offset.max(0), &[vector], call) }
}

/// # Safety
/// As ftruncate(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftruncate64(fd: c_int, len: off_t) -> c_int {
    // SAFETY: the kernel refuses what cannot be.
    let call = || unsafe { host(libc::SYS_ftruncate, [fd.into(), len]) as c_int };
    let noted = with_file(fd, |state, node| {
        let done = call();
        if done == 0 {
            let len = len.cast_unsigned();
            state.note(HostOp::SetLen { node, len });
        }
        done
    });
    noted.unwrap_or_else(call)
}

/// # Safety
/// As fchmod(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fchmod(fd: c_int, mode: mode_t) -> c_int {
    // SAFETY: the kernel refuses what cannot be.
    let call = || unsafe { host(libc::SYS_fchmod, [fd.into(), mode.into()]) as c_int };
    let noted = with_file(fd, |state, node| {
        let done = call();
        if done == 0 {
            state.note(HostOp::SetMode { node, mode });
        }
        done
    });
    noted.unwrap_or_else(call)
}

/// # Safety
/// As chmod(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chmod(path: *const c_char, mode: mode_t) -> c_int {
    let args = [libc::AT_FDCWD.into(), path as c_long, mode.into()];
    // SAFETY: the caller's promise.
    let call = || unsafe { host(libc::SYS_fchmodat, args) as c_int };
    if !is_running() {
        return call();
    }
    // SAFETY: the caller's promise.
    let place = unsafe { text(path) };
    let noted = identity(&place).and_then(|of| {
        with_owner(of, |state, node| {
            let done = call();
            if done == 0 {
                state.note(HostOp::SetMode { node, mode });
            }
            done
        })
    });
    noted.unwrap_or_else(call)
}

/// # Safety
/// As fsync(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fsync(fd: c_int) -> c_int {
    sync_any(fd, libc::SYS_fsync, false)
}

/// # Safety
/// As fdatasync(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fdatasync(fd: c_int) -> c_int {
    sync_any(fd, libc::SYS_fdatasync, true)
}

/// # Safety
/// As mkdir(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mkdir(path: *const c_char, mode: mode_t) -> c_int {
    let args = [libc::AT_FDCWD.into(), path as c_long, mode.into()];
    // SAFETY: the caller's promise.
    let call = || unsafe { host(libc::SYS_mkdirat, args) as c_int };
    if !is_running() {
        return call();
    }
    // SAFETY: the caller's promise.
    let place = unsafe { text(path) };
    let noted = with_name(libc::AT_FDCWD, &place, |state, dir, name| {
        let done = call();
        if done == 0
            && let Ok(node) = state.add(&place, name)
        {
            let name = name.to_owned();
            state.note(HostOp::Name { dir, name, node });
        }
        done
    });
    noted.unwrap_or_else(call)
}

/// # Safety
/// As rename(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { rename_any((libc::AT_FDCWD, from), (libc::AT_FDCWD, to), 0) }
}

/// # Safety
/// As renameat2(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn renameat2(
    from_dir: c_int,
    from: *const c_char,
    to_dir: c_int,
    to: *const c_char,
    flags: u32,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { rename_any((from_dir, from), (to_dir, to), flags) }
}

/// # Safety
/// As linkat(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn linkat(
    from_dir: c_int,
    from: *const c_char,
    to_dir: c_int,
    to: *const c_char,
    flags: c_int,
) -> c_int {
    let (from_fd, to_fd) = (from_dir.into(), to_dir.into());
    let args = [from_fd, from as c_long, to_fd, to as c_long, flags.into()];
    // SAFETY: the caller's promise.
    let call = || unsafe { host(libc::SYS_linkat, args) as c_int };
    if !is_running() {
        return call();
    }
    // SAFETY: the caller's promise, for both.
    let (old, new) = unsafe { (text(from), text(to)) };
    let node = with_name(from_dir, &old, |state, dir, name| state.named(dir, name)).flatten();
    let noted = with_name(to_dir, &new, |state, dir, name| {
        let done = call();
        if let (0, Some(node)) = (done, node) {
            let name = name.to_owned();
            state.note(HostOp::Name { dir, name, node });
        }
        done
    });
    noted.unwrap_or_else(call)
}

/// # Safety
/// As unlink(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { remove_any(libc::AT_FDCWD, path, 0) }
}

/// # Safety
/// As unlinkat(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlinkat(dir: c_int, path: *const c_char, flags: c_int) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { remove_any(dir, path, flags) }
}

/// # Safety
/// As rmdir(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rmdir(path: *const c_char) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { remove_any(libc::AT_FDCWD, path, libc::AT_REMOVEDIR) }
}
