//! Exports that do less, or other things, than a whole disk.

use bytes::Bytes;
use coldframe_nbd::{Export, ExportError};

use crate::disk::MemDisk;
use crate::requests::MIB;

/// An export with nothing but what it must have, which fails and panics on request.
pub struct Plain(pub MemDisk);

impl Export for Plain {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<(), ExportError> {
        assert!(offset != 13, "asked for");
        self.0.read_at(buf, offset)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> Result<(), ExportError> {
        self.0.write_at(data, offset)
    }

    fn flush(&self) -> Result<(), ExportError> {
        self.0.flush()
    }
}

/// An export that shares what it holds, in pieces of odd lengths; past its middle it is one short.
pub struct Sharing(pub MemDisk);

impl Export for Sharing {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<(), ExportError> {
        self.0.read_at(buf, offset)
    }

    fn read_shared(&self, len: u32, offset: u64) -> Result<Option<Vec<Bytes>>, ExportError> {
        let bytes = Bytes::from(self.0.bytes()).slice(offset as usize..);
        let is_short = offset > MIB / 2;
        let bytes = bytes.slice(..len as usize - usize::from(is_short));
        let piece = |at: usize| bytes.slice(at..bytes.len().min(at + 10_007));
        Ok(Some((0..bytes.len()).step_by(10_007).map(piece).collect()))
    }

    fn write_at(&self, data: &[u8], offset: u64) -> Result<(), ExportError> {
        self.0.write_at(data, offset)
    }

    fn flush(&self) -> Result<(), ExportError> {
        self.0.flush()
    }
}
