//! The functions that are found before those of the C library.
//!
//! # Safety
//! Each has the name, the arguments and the contract of the C library's; variadic ones are called
//! alike on the targets that this is built for. Arguments are handed on unchanged. Miri, which has
//! functions of these names itself, runs without them.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int, c_long, c_void};

use libc::{iovec, mode_t, off_t, size_t, ssize_t};

use super::{
    fail, host, open_any, pwrite_any, remove_any, rename_any, sync_any, text, with_file, with_name,
    write_any,
};
use crate::crash::recording::{HostCall, HostFault, identity, is_running, with_owner};
use crate::crash::trace::HostOp;

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

/// # Safety
/// As open(2).
#[cfg_attr(not(miri), unsafe(no_mangle))]
pub unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { open_any(libc::AT_FDCWD, path, flags, mode) }
}

/// # Safety
/// As open(2).
#[cfg_attr(not(miri), unsafe(no_mangle))]
pub unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { open_any(libc::AT_FDCWD, path, flags, mode) }
}

/// # Safety
/// As openat(2).
#[cfg_attr(not(miri), unsafe(no_mangle))]
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
#[cfg_attr(not(miri), unsafe(no_mangle))]
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
#[cfg_attr(not(miri), unsafe(no_mangle))]
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
#[cfg_attr(not(miri), unsafe(no_mangle))]
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
#[cfg_attr(not(miri), unsafe(no_mangle))]
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
#[cfg_attr(not(miri), unsafe(no_mangle))]
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
#[cfg_attr(not(miri), unsafe(no_mangle))]
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
#[cfg_attr(not(miri), unsafe(no_mangle))]
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
#[cfg_attr(not(miri), unsafe(no_mangle))]
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
#[cfg_attr(not(miri), unsafe(no_mangle))]
pub unsafe extern "C" fn fsync(fd: c_int) -> c_int {
    sync_any(fd, libc::SYS_fsync, false)
}

/// # Safety
/// As fdatasync(2).
#[cfg_attr(not(miri), unsafe(no_mangle))]
pub unsafe extern "C" fn fdatasync(fd: c_int) -> c_int {
    sync_any(fd, libc::SYS_fdatasync, true)
}

/// # Safety
/// As mkdir(2).
#[cfg_attr(not(miri), unsafe(no_mangle))]
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
#[cfg_attr(not(miri), unsafe(no_mangle))]
pub unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { rename_any((libc::AT_FDCWD, from), (libc::AT_FDCWD, to), 0) }
}

/// # Safety
/// As renameat2(2).
#[cfg_attr(not(miri), unsafe(no_mangle))]
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
#[cfg_attr(not(miri), unsafe(no_mangle))]
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
    // SAFETY: the caller's promise.
    let old = unsafe { text(from) };
    // SAFETY: the caller's promise.
    let new = unsafe { text(to) };
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
#[cfg_attr(not(miri), unsafe(no_mangle))]
pub unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { remove_any(libc::AT_FDCWD, path, 0) }
}

/// # Safety
/// As unlinkat(2).
#[cfg_attr(not(miri), unsafe(no_mangle))]
pub unsafe extern "C" fn unlinkat(dir: c_int, path: *const c_char, flags: c_int) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { remove_any(dir, path, flags) }
}

/// # Safety
/// As rmdir(2).
#[cfg_attr(not(miri), unsafe(no_mangle))]
pub unsafe extern "C" fn rmdir(path: *const c_char) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { remove_any(libc::AT_FDCWD, path, libc::AT_REMOVEDIR) }
}
