//! What is written over a medium with a stretch that cannot be read.

#![allow(clippy::unwrap_used)]

use coldframe_storage::{IoContext, MemStorage, Operation};

use super::*;

/// Reads that touch the stretch fail.
#[derive(Debug)]
struct Bad(MemStorage, std::ops::Range<u64>);

impl Storage for Bad {
    fn read_at(&self, offset: FileOffset, buf: &mut [u8]) -> Result<(), StorageError> {
        let (start, end) = (offset.get(), offset.get() + buf.len() as u64);
        if start < self.1.end && self.1.start < end {
            let error: Result<(), _> = Err(std::io::Error::from_raw_os_error(
                coldframe_testkit::fault::EIO,
            ));
            let operation = Operation::Read(offset, ByteLen::new(buf.len() as u64));
            return error.at(operation, self.path());
        }
        self.0.read_at(offset, buf)
    }

    fn write_at(&self, _: FileOffset, _: &[u8]) -> Result<(), StorageError> {
        panic!("what is below is not written")
    }

    fn len(&self) -> Result<ByteLen, StorageError> {
        self.0.len()
    }

    fn set_len(&self, _: ByteLen) -> Result<(), StorageError> {
        panic!("what is below is not written")
    }

    fn sync_data(&self) -> Result<(), StorageError> {
        Ok(())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

#[test]
fn a_stretch_that_is_read_around_takes_no_memory_however_long_it_is() {
    const LEN: u64 = 1 << 20;
    let (bad, sound) = (8192..LEN - 8192, vec![7; LEN as usize]);
    let below = MemStorage::new();
    below.set_len(ByteLen::new(LEN)).unwrap();
    below.write_at(FileOffset::ZERO, &sound).unwrap();
    let cow = CowStorage::new(Bad(below, bad.clone()));
    let mut all = vec![0; LEN as usize];
    cow.read_at(FileOffset::ZERO, &mut all).unwrap_err();
    cow.read_around(FileOffset::new(bad.start), bad.end - bad.start);
    assert!(cow.cells.read().unwrap().is_empty());
    cow.read_at(FileOffset::ZERO, &mut all).unwrap();
    let (start, end) = (bad.start as usize, bad.end as usize);
    assert!(all[..start] == sound[..start] && all[end..] == sound[end..]);
    // The same bytes each time, and what is written is read.
    let at = FileOffset::new(20_000);
    cow.write_at(at, b"written").unwrap();
    let mut again = vec![0; LEN as usize];
    cow.read_at(FileOffset::ZERO, &mut again).unwrap();
    all[20_000..20_007].copy_from_slice(b"written");
    assert!(again == all);
    assert!(cow.cells.read().unwrap().len() <= 2);
}
