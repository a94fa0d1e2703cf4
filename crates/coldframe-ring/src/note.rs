//! A note of the log's user, beside the first control block.
//!
//! Invariant: no record and no recovery depends on it; a note that is not whole is none.

use std::mem::{offset_of, size_of};

use coldframe_envelope::{Layout, field};
use coldframe_storage::Storage;
use coldframe_units::{ByteLen, FileOffset};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{Region, RingError, RingReader, RingWal};

const MAGIC: [u8; 8] = *b"CFWNOTE\0";
/// Behind the owner note, before the second control block.
const START: u64 = 1024;
const END: u64 = 4096;

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct HeadBytes {
    magic: [u8; 8],
    len: U32,
    reserved: U32,
    checksum: U64,
}

const HEAD_LEN: usize = size_of::<HeadBytes>();

/// The longest note, in bytes.
pub const NOTE_LEN_MAX: usize = (END - START) as usize - HEAD_LEN;

pub(super) const LAYOUT: Layout = Layout {
    name: "ring user note",
    size: HEAD_LEN,
    fields: &[
        field("magic", offset_of!(HeadBytes, magic), 8),
        field("len", offset_of!(HeadBytes, len), 4),
        field("reserved", offset_of!(HeadBytes, reserved), 4),
        field("checksum", offset_of!(HeadBytes, checksum), 8),
    ],
};

const _: () = assert!(HEAD_LEN == 24 && NOTE_LEN_MAX == 3048);

const fn place(region: Region) -> FileOffset {
    region.file_offset(START)
}

fn checksum(bytes: &[u8]) -> U64 {
    let hash = blake3::hash(bytes);
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_bytes()[..8]);
    U64::from_bytes(first)
}

/// The note; `None` if there is none, or it is not whole or cannot be read.
fn read<S: Storage>(storage: &S, region: Region) -> Option<Vec<u8>> {
    let mut bytes = [0; (END - START) as usize];
    storage.read_at(place(region), &mut bytes).ok()?;
    let (head, rest) = HeadBytes::read_from_prefix(&bytes).ok()?;
    let note = rest.get(..head.len.get() as usize)?;
    let is_sound = head.magic == MAGIC && head.reserved.get() == 0;
    (is_sound && head.checksum == checksum(note)).then(|| note.to_vec())
}

impl<S: Storage> RingWal<S> {
    /// What [`RingWal::set_note`] left in the log last, if it is whole.
    #[must_use]
    pub fn note(&self) -> Option<Vec<u8>> {
        read(&self.storage, self.region)
    }

    /// Leaves bytes in the log that say where it belongs, durably; those of before are replaced.
    /// Cut short, there is no note.
    ///
    /// Spec: RING-72
    ///
    /// # Errors
    /// [`RingError::TooLong`] over [`NOTE_LEN_MAX`]; [`RingError::Prepare`].
    pub fn set_note(&self, note: &[u8]) -> Result<(), RingError> {
        if note.len() > NOTE_LEN_MAX {
            return Err(RingError::TooLong {
                len: ByteLen::new(note.len() as u64),
                max: ByteLen::new(NOTE_LEN_MAX as u64),
            });
        }
        if self.note().is_some_and(|there| there == note) {
            return Ok(());
        }
        let head = HeadBytes {
            magic: MAGIC,
            len: (note.len() as u32).into(),
            reserved: 0.into(),
            checksum: checksum(note),
        };
        let bytes = [head.as_bytes(), note].concat();
        let written = self.storage.write_at(place(self.region), &bytes);
        written
            .and_then(|()| self.storage.sync_data())
            .map_err(|source| RingError::Prepare { source })
    }
}

/// As [`RingWal::note`], of a log that may be in use: it is not locked. A note that is being
/// written is none.
#[must_use]
pub fn peek_note<S: Storage>(storage: &S, region: Region) -> Option<Vec<u8>> {
    read(storage, region)
}

impl<S: Storage> RingReader<S> {
    /// As [`RingWal::note`].
    #[must_use]
    pub fn note(&self) -> Option<Vec<u8>> {
        read(&self.storage, self.region())
    }
}
