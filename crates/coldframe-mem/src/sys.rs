//! What is asked of the host, apart from its page table.

use std::fs::File;
use std::io;
use std::ops::Range;

use coldframe_units::PageSize;

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
///
/// It moves the cursor of the descriptor: for descriptors whose cursor nobody uses.
/// Source: lseek(2), `SEEK_DATA` and `SEEK_HOLE`. A file system that knows no holes reports all.
#[cfg(target_os = "linux")]
pub(crate) fn data_parts(
    file: &File,
    range: &Range<u64>,
    mut found: impl FnMut(Range<u64>),
) -> io::Result<()> {
    use nix::unistd::Whence;

    let mut next = range.start;
    while next < range.end {
        let Some(data) = seek(file, next, Whence::SeekData)? else {
            break;
        };
        if data >= range.end {
            break;
        }
        // A file may be cut while we look: then it has no data here any more.
        let hole = seek(file, data, Whence::SeekHole)?.unwrap_or(range.end);
        next = hole.max(data + 1).min(range.end);
        found(data..next);
    }
    Ok(())
}

/// As on Linux, but that no hole is known.
#[cfg(not(target_os = "linux"))]
pub(crate) fn data_parts(
    _: &File,
    range: &Range<u64>,
    mut found: impl FnMut(Range<u64>),
) -> io::Result<()> {
    found(range.clone());
    Ok(())
}

/// `None` past the end of the file.
#[cfg(target_os = "linux")]
fn seek(file: &File, offset: u64, whence: nix::unistd::Whence) -> io::Result<Option<u64>> {
    let offset = offset.try_into().map_err(io::Error::other)?;
    match nix::unistd::lseek(file, offset, whence) {
        Ok(found) => Ok(Some(found.unsigned_abs())),
        Err(nix::errno::Errno::ENXIO) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}
