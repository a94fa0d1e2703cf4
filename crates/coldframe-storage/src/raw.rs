//! Memory that others may write to while we read it, and the way from there into a file.
//!
//! Such memory is never seen as a `&[u8]`: the kernel reads it through the pointer, or it is
//! copied out byte-wise first. What is written is some mix of old and new bytes wherever a writer
//! was at work; a caller who needs better stops the writers.
//!
//! # Safety
//! Everything rests on the promise made to [`RawPart::new`]: the range stays readable for `'a`.
//! Here it is only ever read, by `copy_nonoverlapping` and by pwritev(2).
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::os::fd::AsRawFd;
use std::ptr;

use coldframe_units::{ByteLen, FileOffset};

use crate::StorageError;
use crate::storage::{Storage, end_of};

#[cfg(test)]
mod tests;

/// The most bytes that are held on their way through a buffer.
const BOUNCE_BYTES: usize = 256 * 1024;

/// The most parts that one call takes: `IOV_MAX` of Linux and macOS (writev(2)).
const PARTS_PER_CALL: usize = 1024;

/// A range of memory that is readable for `'a` but may change under the reader.
#[derive(Clone, Copy, Debug)]
pub struct RawPart<'a> {
    ptr: *const u8,
    len: usize,
    memory: PhantomData<&'a ()>,
}

// SAFETY: a part is a promise (see `RawPart::new`) that holds on every thread: the memory is
// readable in the whole process for 'a, and concurrent change of it is expected.
unsafe impl Send for RawPart<'_> {}
// SAFETY: as for Send; sharing a part gives no more than copies of it.
unsafe impl Sync for RawPart<'_> {}

impl<'a> RawPart<'a> {
    /// The `len` bytes from `ptr` on.
    ///
    /// # Safety
    /// For all of `'a`, the range is mapped readable in this process, does not wrap around, and
    /// every write to it comes from outside of Rust's view (a guest, a device, another process)
    /// or goes through raw pointers as well.
    #[must_use]
    pub const unsafe fn new(ptr: *const u8, len: usize) -> Self {
        Self {
            ptr,
            len,
            memory: PhantomData,
        }
    }

    /// How many bytes.
    #[must_use]
    pub const fn len(self) -> ByteLen {
        ByteLen::new(self.len as u64)
    }

    /// Whether it has no bytes.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }

    /// The part without its first `bytes` bytes.
    fn skip(self, bytes: usize) -> Self {
        let bytes = bytes.min(self.len);
        Self {
            ptr: self.ptr.wrapping_add(bytes),
            len: self.len - bytes,
            memory: PhantomData,
        }
    }

    /// Copies as many bytes as both have, and says how many.
    fn copy_to(self, buf: &mut [u8]) -> usize {
        let count = self.len.min(buf.len());
        // SAFETY: `count` bytes are readable at `ptr` by the promise of `new` and writable in
        // `buf`, which nobody else has; the two do not overlap, as `buf` is a unique borrow.
        unsafe { ptr::copy_nonoverlapping(self.ptr, buf.as_mut_ptr(), count) };
        count
    }
}

impl<'a> From<&'a [u8]> for RawPart<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        // SAFETY: a shared borrow is readable, and unchanged, for 'a.
        unsafe { Self::new(bytes.as_ptr(), bytes.len()) }
    }
}

/// How many bytes all `parts` have together; saturates.
pub(crate) fn total(parts: &[RawPart<'_>]) -> usize {
    parts
        .iter()
        .fold(0, |sum, part| sum.saturating_add(part.len))
}

/// Copies `parts` into a buffer and writes them from there.
pub(crate) fn write_bounced<S: Storage + ?Sized>(
    storage: &S,
    offset: FileOffset,
    parts: &[RawPart<'_>],
) -> Result<(), StorageError> {
    let end = end_of(storage.path(), offset, total(parts))?;
    let size = total(parts).min(BOUNCE_BYTES);
    let mut buf = vec![0; size];
    let (mut at, mut filled) = (offset.get(), 0);
    for part in parts {
        let mut rest = *part;
        while !rest.is_empty() {
            let count = rest.copy_to(&mut buf[filled..]);
            rest = rest.skip(count);
            filled += count;
            if filled == size || at + filled as u64 == end {
                storage.write_at(FileOffset::new(at), &buf[..filled])?;
                at += filled as u64;
                filled = 0;
            }
        }
    }
    Ok(())
}

/// Writes `parts` to `file` straight from where they are; `offset` and their end are in bounds.
pub(crate) fn write_gathered(file: &File, offset: u64, parts: &[RawPart<'_>]) -> io::Result<()> {
    write_all(offset, parts, &mut |offset, parts| {
        write_once(file, offset, parts)
    })
}

/// Calls `write` until all is written: at most [`PARTS_PER_CALL`] parts at a time, going on where
/// a short write ended, and again after an interrupted one (pwritev(2)).
fn write_all(
    mut offset: u64,
    mut parts: &[RawPart<'_>],
    write: &mut dyn FnMut(u64, &[RawPart<'_>]) -> io::Result<usize>,
) -> io::Result<()> {
    let mut batch = Vec::with_capacity(parts.len().min(PARTS_PER_CALL));
    // How much of the first part is written already.
    let mut done = 0;
    loop {
        while let Some(first) = parts.first()
            && first.len == done
        {
            (parts, done) = (&parts[1..], 0);
        }
        if parts.is_empty() {
            return Ok(());
        }
        batch.clear();
        batch.extend_from_slice(&parts[..parts.len().min(PARTS_PER_CALL)]);
        batch[0] = batch[0].skip(done);
        let mut written = match write(offset, &batch) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        offset += written as u64;
        while let Some(first) = parts.first()
            && written >= first.len - done
        {
            written -= first.len - done;
            (parts, done) = (&parts[1..], 0);
        }
        done += written;
    }
}

/// One pwritev(2).
fn write_once(file: &File, offset: u64, parts: &[RawPart<'_>]) -> io::Result<usize> {
    let vectors: Vec<libc::iovec> = parts
        .iter()
        .map(|part| libc::iovec {
            iov_base: part.ptr.cast_mut().cast(),
            iov_len: part.len,
        })
        .collect();
    let count = vectors.len().try_into().map_err(io::Error::other)?;
    let offset = offset.try_into().map_err(io::Error::other)?;
    // SAFETY: `vectors` holds `count` ranges, each readable by the promise of `RawPart::new`;
    // pwritev only reads them, and keeps nothing after it returns.
    let written = unsafe { libc::pwritev(file.as_raw_fd(), vectors.as_ptr(), count, offset) };
    usize::try_from(written).map_err(|_| io::Error::last_os_error())
}
