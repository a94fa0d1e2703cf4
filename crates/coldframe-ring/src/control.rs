//! Reading and replacing the two control blocks.

use coldframe_storage::{Storage, StorageError};
use coldframe_units::{ByteLen, FileOffset};
use coldframe_walframe::ring::{CONTROL_LEN, CONTROL_SLOT_STRIDE, Chosen, Control, choose};
use coldframe_walframe::ring::{EncodeError, RING_START};

use crate::{Region, RingError};
use coldframe_storage::{ReadAround, Unreadable};

/// Where a control block is in the file.
pub(crate) const fn slot_offset(region: Region, slot: u64) -> FileOffset {
    region.file_offset(slot * CONTROL_SLOT_STRIDE)
}

/// Reads both blocks and picks the one that holds; the log must fit the region and the file.
pub(crate) fn read<S: Storage>(storage: &S, region: Region) -> Result<Chosen, RingError> {
    read_slots(storage, region, &mut |offset, bytes| {
        storage.read_at(offset, bytes)
    })
}

/// The same; of two blocks one may be unreadable. Also returns what cannot be read.
pub(crate) fn read_around<S: Storage>(
    storage: &S,
    region: Region,
) -> Result<(Chosen, Vec<Unreadable>), RingError> {
    let mut around = ReadAround::default();
    let mut failure = None;
    let read = &mut |offset, bytes: &mut [u8]| {
        around.read(storage, offset, bytes)?;
        if failure.is_none() && around.overlaps(offset, bytes.len() as u64) {
            failure = storage
                .read_at(offset, &mut [0; CONTROL_LEN as usize])
                .err();
        }
        Ok(())
    };
    match (read_slots(storage, region, read), failure) {
        // Not another file, and not damage: nothing could be read that would tell.
        (Err(RingError::Control { .. }), Some(source)) => Err(RingError::Read { source }),
        (chosen, _) => Ok((chosen?, around.ranges().to_vec())),
    }
}

type ReadSlot<'a> = &'a mut dyn FnMut(FileOffset, &mut [u8]) -> Result<(), StorageError>;

fn read_slots<S: Storage>(
    storage: &S,
    region: Region,
    read: ReadSlot<'_>,
) -> Result<Chosen, RingError> {
    let offset = region.offset();
    let len = storage.len().map_err(|source| RingError::Read { source })?;
    let have = ByteLen::new(len.get().saturating_sub(offset.get()));
    let mut slots = [[0; CONTROL_LEN as usize]; 2];
    for (slot, bytes) in (0..).zip(&mut slots) {
        // A block that the file is too short for is none.
        if slot * CONTROL_SLOT_STRIDE + CONTROL_LEN <= have.get() {
            read(slot_offset(region, slot), bytes).map_err(|source| RingError::Read { source })?;
        }
    }
    let chosen =
        choose([&slots[0], &slots[1]]).map_err(|source| RingError::Control { offset, source })?;
    let need = ByteLen::new(chosen.control.ring_len + RING_START);
    let have = have.min(region.size());
    if need > have {
        return Err(RingError::RegionSize { offset, need, have });
    }
    Ok(chosen)
}

/// Makes `control` the block that holds: it is durable when this returns.
pub(crate) fn publish<S: Storage>(
    storage: &S,
    region: Region,
    control: &Control,
) -> Result<(), StorageError> {
    write_first(storage, region, control)?;
    storage.sync_data()?;
    // Durable with the next sync; until then the first slot holds.
    let second = slot_offset(region, 1 - control.first_slot());
    storage.write_at(second, &control.encode())
}

/// Writes `control` to the slot that it goes to first.
pub(crate) fn write_first<S: Storage>(
    storage: &S,
    region: Region,
    control: &Control,
) -> Result<(), StorageError> {
    let first = slot_offset(region, control.first_slot());
    storage.write_at(first, &control.encode())
}

impl From<EncodeError> for RingError {
    fn from(error: EncodeError) -> Self {
        match error {
            EncodeError::Exhausted { what } => Self::Exhausted { what },
            EncodeError::PayloadTooLong { len, max } => Self::TooLong {
                len: ByteLen::new(len),
                max: ByteLen::new(max),
            },
            // Region has checked it; kept as the nearest true statement.
            EncodeError::RingLen { len, .. } => Self::RegionShape {
                offset: FileOffset::ZERO,
                size: ByteLen::new(len),
            },
            _ => Self::Exhausted { what: "a counter" },
        }
    }
}
