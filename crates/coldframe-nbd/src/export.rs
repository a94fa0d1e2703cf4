//! What is served. Invariants that the server keeps for an export: every range lies within
//! [`Export::size`] as the client was told it, and keeps to the block sizes; nothing that writes
//! is called on a read-only export; buffers are never empty nor longer than 32 MiB.

use std::sync::Arc;

use bytes::Bytes;

use crate::ExportError;
use crate::proto::{Allocation, BlockSizes, Errno, Extents};

/// Bytes written at a time where an export has no way of its own to write zeros.
const ZEROS_BYTES: usize = 256 << 10;

/// How zeros are to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZeroMode {
    /// Whether the range may stop taking space.
    pub may_punch: bool,
    /// Whether to fail with [`Errno::NotSupported`], nothing changed, rather than take as long as
    /// a write. Set only for exports that say [`Export::has_fast_zero`].
    pub is_fast_only: bool,
}

/// A block device that clients read and write, many at once.
///
/// What one client wrote, and was told so, every client reads. A flush covers what was written
/// through any connection: the server tells clients that they may use several.
pub trait Export: Send + Sync {
    /// Bytes. Clients are told once, when they connect.
    fn size(&self) -> u64;

    /// Fills `buf` from `offset` (bytes).
    ///
    /// # Errors
    /// Whatever kept it from filling all of `buf`.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<(), ExportError>;

    /// The same bytes in pieces that are in memory already, `len` (bytes) of them together, to be
    /// sent from where they are. `None`, as from exports that do not override it, has them read
    /// by [`Export::read_at`]. Called for long reads alone.
    ///
    /// # Errors
    /// As for [`Export::read_at`].
    fn read_shared(&self, len: u32, offset: u64) -> Result<Option<Vec<Bytes>>, ExportError> {
        let _ = (len, offset);
        Ok(None)
    }

    /// Writes all of `data` at `offset` (bytes). It need not be durable yet.
    ///
    /// # Errors
    /// Whatever kept it from writing all of `data`.
    fn write_at(&self, data: &[u8], offset: u64) -> Result<(), ExportError>;

    /// Makes durable every write, trim and zeroing that returned before this call.
    ///
    /// # Errors
    /// Whatever kept any of them from becoming durable.
    fn flush(&self) -> Result<(), ExportError>;

    /// Forgets `len` bytes at `offset`: they may read as anything after it. Does nothing unless
    /// an export overrides it. A client's request comes in pieces of at most 32 MiB, and ends
    /// between two of them if the client has left.
    ///
    /// # Errors
    /// A failure of the device; not being able to trim is none.
    fn trim(&self, offset: u64, len: u64) -> Result<(), ExportError> {
        let _ = (offset, len);
        Ok(())
    }

    /// Makes `len` bytes at `offset` read as zeros. Writes them unless an export overrides it.
    /// Comes in pieces as [`Export::trim`] does.
    ///
    /// # Errors
    /// As for [`Export::write_at`], and [`Errno::NotSupported`] in the fast-only mode.
    fn write_zeroes(&self, offset: u64, len: u64, mode: ZeroMode) -> Result<(), ExportError> {
        if mode.is_fast_only {
            return Err(Errno::NotSupported.into());
        }
        let zeros = vec![0; ZEROS_BYTES.min(usize::try_from(len).unwrap_or(ZEROS_BYTES))];
        let mut done = 0;
        while done < len {
            let left = usize::try_from(len - done).unwrap_or(usize::MAX);
            let part = &zeros[..zeros.len().min(left)];
            self.write_at(part, offset + done)?;
            done += part.len() as u64;
        }
        Ok(())
    }

    /// Prepares to read `len` bytes at `offset`. Does nothing unless an export overrides it. A
    /// client's request comes in pieces of at most 1 MiB, [`Export::cache_bytes_max`] of them
    /// together, and ends between two of them if the client has left or the server stops.
    ///
    /// # Errors
    /// A failure that the client should know of; reads may succeed nevertheless.
    fn cache(&self, offset: u64, len: u64) -> Result<(), ExportError> {
        let _ = (offset, len);
        Ok(())
    }

    /// How many bytes are worth caching at a time: what is beyond them in one request is left out,
    /// as it would only displace what came before.
    fn cache_bytes_max(&self) -> u64 {
        u64::MAX
    }

    /// Tells how the range from `offset` is stored, from its start, until `extents` wants no
    /// more. What is left unsaid counts as data; so does all, unless an export overrides it.
    ///
    /// # Errors
    /// A failure of the device.
    fn block_status(&self, offset: u64, extents: &mut Extents) -> Result<(), ExportError> {
        let _ = offset;
        extents.push(u64::from(extents.left()), Allocation::Data);
        Ok(())
    }

    /// Whether writes are refused.
    fn is_read_only(&self) -> bool {
        false
    }

    /// Whether [`Export::write_zeroes`] takes less time than a write of as many bytes.
    fn has_fast_zero(&self) -> bool {
        false
    }

    /// What requests should be multiples of.
    fn block_sizes(&self) -> BlockSizes {
        BlockSizes::BYTES
    }

    /// A line for humans who list the exports.
    fn description(&self) -> String {
        String::new()
    }
}

/// An export that can be read only, whatever it was before.
#[derive(Clone, Debug)]
pub struct ReadOnly<E>(pub E);

impl<E: Export> Export for ReadOnly<E> {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<(), ExportError> {
        self.0.read_at(buf, offset)
    }

    fn read_shared(&self, len: u32, offset: u64) -> Result<Option<Vec<Bytes>>, ExportError> {
        self.0.read_shared(len, offset)
    }

    fn write_at(&self, _data: &[u8], _offset: u64) -> Result<(), ExportError> {
        Err(Errno::NotPermitted.into())
    }

    fn flush(&self) -> Result<(), ExportError> {
        Ok(())
    }

    fn cache(&self, offset: u64, len: u64) -> Result<(), ExportError> {
        self.0.cache(offset, len)
    }

    fn cache_bytes_max(&self) -> u64 {
        self.0.cache_bytes_max()
    }

    fn block_status(&self, offset: u64, extents: &mut Extents) -> Result<(), ExportError> {
        self.0.block_status(offset, extents)
    }

    fn is_read_only(&self) -> bool {
        true
    }

    fn block_sizes(&self) -> BlockSizes {
        self.0.block_sizes()
    }

    fn description(&self) -> String {
        self.0.description()
    }
}

impl<E: Export + ?Sized> Export for Arc<E> {
    fn size(&self) -> u64 {
        (**self).size()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<(), ExportError> {
        (**self).read_at(buf, offset)
    }

    fn read_shared(&self, len: u32, offset: u64) -> Result<Option<Vec<Bytes>>, ExportError> {
        (**self).read_shared(len, offset)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> Result<(), ExportError> {
        (**self).write_at(data, offset)
    }

    fn flush(&self) -> Result<(), ExportError> {
        (**self).flush()
    }

    fn trim(&self, offset: u64, len: u64) -> Result<(), ExportError> {
        (**self).trim(offset, len)
    }

    fn write_zeroes(&self, offset: u64, len: u64, mode: ZeroMode) -> Result<(), ExportError> {
        (**self).write_zeroes(offset, len, mode)
    }

    fn cache(&self, offset: u64, len: u64) -> Result<(), ExportError> {
        (**self).cache(offset, len)
    }

    fn cache_bytes_max(&self) -> u64 {
        (**self).cache_bytes_max()
    }

    fn block_status(&self, offset: u64, extents: &mut Extents) -> Result<(), ExportError> {
        (**self).block_status(offset, extents)
    }

    fn is_read_only(&self) -> bool {
        (**self).is_read_only()
    }

    fn has_fast_zero(&self) -> bool {
        (**self).has_fast_zero()
    }

    fn block_sizes(&self) -> BlockSizes {
        (**self).block_sizes()
    }

    fn description(&self) -> String {
        (**self).description()
    }
}
