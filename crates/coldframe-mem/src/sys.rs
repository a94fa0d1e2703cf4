//! What is asked of the host, apart from its page table.

use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
#[cfg(target_os = "linux")]
use std::os::fd::BorrowedFd;

use coldframe_units::PageSize;
#[cfg(target_os = "linux")]
use nix::errno::Errno;

/// The page size of the host (sysconf(3), `_SC_PAGESIZE`).
pub(crate) fn host_page() -> PageSize {
    let bytes = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    bytes
        .ok()
        .flatten()
        .and_then(|bytes| u64::try_from(bytes).ok())
        .and_then(|bytes| PageSize::new(bytes).ok())
        .expect("every host has a page size, a power of two from 4 KiB on")
}

/// Calls `found` with the parts of `range` of a file that may be other than zero: ascending, apart.
/// Says whether the host was willing to tell: if not, all that it did not speak of is reported.
///
/// It moves the cursor of the descriptor: for descriptors whose cursor nobody uses.
/// Source: lseek(2), `SEEK_DATA` and `SEEK_HOLE`. A file system that knows no holes reports all.
#[cfg(target_os = "linux")]
pub(crate) fn data_parts(
    file: impl AsFd,
    range: &Range<u64>,
    mut found: impl FnMut(Range<u64>),
) -> io::Result<bool> {
    use nix::unistd::Whence;

    let file = file.as_fd();
    let mut next = range.start;
    while next < range.end {
        let data = match seek(file, next, Whence::SeekData) {
            Ok(Some(data)) if data < range.end => data,
            Ok(_) => break,
            Err(errno) if is_refusal(errno) => {
                found(next..range.end);
                return Ok(false);
            }
            Err(errno) => return Err(errno.into()),
        };
        let hole = match seek(file, data, Whence::SeekHole) {
            // A file may be cut while we look: then it has no data here any more.
            Ok(hole) => hole.unwrap_or(range.end),
            Err(errno) if is_refusal(errno) => {
                found(data..range.end);
                return Ok(false);
            }
            Err(errno) => return Err(errno.into()),
        };
        next = hole.max(data + 1).min(range.end);
        found(data..next);
    }
    Ok(true)
}

/// As on Linux, but that no hole is known.
#[cfg(not(target_os = "linux"))]
pub(crate) fn data_parts(
    _: impl AsFd,
    range: &Range<u64>,
    mut found: impl FnMut(Range<u64>),
) -> io::Result<bool> {
    found(range.clone());
    Ok(false)
}

/// Whether a call is not there, not for this file, or not allowed by a seccomp filter or a
/// security module: what else it would have said is not known.
#[cfg(target_os = "linux")]
pub(crate) const fn is_refusal(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::EINVAL
            | Errno::ENOTTY
            | Errno::ENOSYS
            | Errno::EOPNOTSUPP
            | Errno::ESPIPE
            | Errno::EPERM
            | Errno::EACCES
    )
}

/// `None` past the end of the file.
#[cfg(target_os = "linux")]
fn seek(
    file: BorrowedFd<'_>,
    offset: u64,
    whence: nix::unistd::Whence,
) -> Result<Option<u64>, Errno> {
    let offset = offset.try_into().map_err(|_| Errno::EOVERFLOW)?;
    match nix::unistd::lseek(file, offset, whence) {
        Ok(found) => Ok(Some(found.unsigned_abs())),
        Err(Errno::ENXIO) => Ok(None),
        Err(errno) => Err(errno),
    }
}
