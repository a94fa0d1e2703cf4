//! Devices and images as exports of an NBD server.

use bytes::Bytes;
use coldframe_chunks::Backend;
use coldframe_nbd::{Allocation, Errno, Export, ExportError, Extents, ZeroMode};
use coldframe_storage::Storage;
use coldframe_units::BLOCK_BYTES;

use crate::{BlockDevice, BlockError, DiskImage, LoggedDisk};

impl From<BlockError> for ExportError {
    /// The number that is nearest, and the error with all that caused it.
    fn from(error: BlockError) -> Self {
        let errno = match &error {
            BlockError::PastEnd { .. } => Errno::NoSpace,
            error if error.is_out_of_space() => Errno::NoSpace,
            error if error.is_misuse() => Errno::Invalid,
            _ => Errno::Io,
        };
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        Self::new(errno, text)
    }
}

const fn allocation(is_zero: bool) -> Allocation {
    match is_zero {
        true => Allocation::Hole,
        false => Allocation::Data,
    }
}

impl<B: Backend, S: Storage + 'static> Export for BlockDevice<B, S> {
    fn size(&self) -> u64 {
        Self::size(self).get()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<(), ExportError> {
        Ok(Self::read_at(self, offset, buf)?)
    }

    fn read_shared(&self, len: u32, offset: u64) -> Result<Option<Vec<Bytes>>, ExportError> {
        Ok(Some(Self::read_shared(self, offset, len.into())?))
    }

    fn write_at(&self, data: &[u8], offset: u64) -> Result<(), ExportError> {
        Ok(Self::write_at(self, offset, data)?)
    }

    fn flush(&self) -> Result<(), ExportError> {
        Ok(Self::flush(self)?)
    }

    fn trim(&self, offset: u64, len: u64) -> Result<(), ExportError> {
        Ok(self.discard(offset, len)?)
    }

    fn write_zeroes(&self, offset: u64, len: u64, _: ZeroMode) -> Result<(), ExportError> {
        Ok(Self::write_zeroes(self, offset, len)?)
    }

    fn cache(&self, offset: u64, len: u64) -> Result<(), ExportError> {
        Ok(self.fetch(offset, len)?)
    }

    fn cache_bytes_max(&self) -> u64 {
        self.memory_bytes()
    }

    fn block_status(&self, offset: u64, extents: &mut Extents) -> Result<(), ExportError> {
        let left = u64::from(extents.left());
        self.extents(offset, left, &mut |len, is_zero| {
            extents.push(len, allocation(is_zero))
        })?;
        Ok(())
    }

    fn has_fast_zero(&self) -> bool {
        true
    }

    fn description(&self) -> String {
        format!("disk {}", self.head())
    }
}

impl<B: Backend> Export for LoggedDisk<B> {
    fn size(&self) -> u64 {
        Self::size(self).get()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<(), ExportError> {
        Ok(Self::read_at(self, offset, buf)?)
    }

    fn read_shared(&self, len: u32, offset: u64) -> Result<Option<Vec<Bytes>>, ExportError> {
        Ok(Some(Self::read_shared(self, offset, len.into())?))
    }

    fn write_at(&self, _: &[u8], _: u64) -> Result<(), ExportError> {
        Err(Errno::NotPermitted.into())
    }

    fn flush(&self) -> Result<(), ExportError> {
        Ok(())
    }

    fn block_status(&self, offset: u64, extents: &mut Extents) -> Result<(), ExportError> {
        let left = u64::from(extents.left());
        self.extents(offset, left, &mut |len, is_zero| {
            extents.push(len, allocation(is_zero))
        })?;
        Ok(())
    }

    fn is_read_only(&self) -> bool {
        true
    }

    fn description(&self) -> String {
        format!("disk {}, with its log", self.head())
    }
}

impl<B: Backend> Export for DiskImage<B> {
    fn size(&self) -> u64 {
        Self::size(self).get()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<(), ExportError> {
        Ok(Self::read_at(self, offset, buf)?)
    }

    fn read_shared(&self, len: u32, offset: u64) -> Result<Option<Vec<Bytes>>, ExportError> {
        Ok(Some(Self::read_shared(self, offset, len.into())?))
    }

    fn write_at(&self, _: &[u8], _: u64) -> Result<(), ExportError> {
        Err(Errno::NotPermitted.into())
    }

    fn flush(&self) -> Result<(), ExportError> {
        Ok(())
    }

    fn block_status(&self, offset: u64, extents: &mut Extents) -> Result<(), ExportError> {
        let mut at = offset;
        while extents.wants_more() {
            let block = at / BLOCK_BYTES;
            let end = (at + u64::from(extents.left())).div_ceil(BLOCK_BYTES);
            let (is_zero, run) = self.run_at(block, end - block)?;
            let run_end = (block + run) * BLOCK_BYTES;
            extents.push(run_end - at, allocation(is_zero));
            at = run_end;
        }
        Ok(())
    }

    fn is_read_only(&self) -> bool {
        true
    }

    fn description(&self) -> String {
        format!("index {}", self.root())
    }
}
