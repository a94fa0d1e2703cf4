//! Repair: damage becomes a gap that says which records are lost. Sound records stay as they are.
//!
//! A gap is a header of 48 bytes over the damaged ones, whose payload is the rest of what is
//! there: one small write, and a crash during it leaves damage as before.

use coldframe_storage::Storage;
use coldframe_walframe::ring::{RECORD_HEADER_LEN, RecordHeader, RecordKind, RingSource};

use crate::check::PlannedGap;
use crate::lock::{Mode, RegionLock};
use crate::{Plan, Region, RingError, RingReader, RingWal, control};

impl<S: Storage> RingWal<S> {
    /// Does what `plan` says, if the log is still what the plan was made for.
    ///
    /// Spec: RING-61, RING-62
    ///
    /// # Errors
    /// [`RingError::PlanOutdated`], [`RingError::NotRepairable`]; nothing was written then.
    /// [`RingError::Locked`], [`RingError::Prepare`].
    pub fn repair(storage: S, region: Region, plan: &Plan) -> Result<(), RingError> {
        let lock = RegionLock::acquire(&storage, region, Mode::Write)?;
        let reader = RingReader::with_lock(storage, region, lock)?;
        let again = Plan {
            gives_up_unreadable: plan.gives_up_unreadable,
            ..reader.check()?
        };
        if again != *plan {
            return Err(RingError::PlanOutdated);
        }
        let headers = gaps(&reader, plan)?;
        let (storage, control) = (&reader.storage, reader.chosen.control);
        let write = || {
            for (position, bytes) in &headers {
                let len = bytes.len() as u64;
                let (first, rest) = control.geometry().parts(*position, len);
                let (head, tail) = bytes.split_at(first.len as usize);
                storage.write_at(region.ring_offset(first.offset), head)?;
                storage.write_at(region.ring_offset(rest.offset), tail)?;
            }
            if !reader.chosen.is_whole() {
                // Never both at once: the next block goes to the other slot.
                control::write_first(storage, region, &control)?;
            }
            storage.sync_data()
        };
        write().map_err(|source| RingError::Prepare { source })?;
        let mut next = control;
        next.advance()?;
        control::publish(storage, region, &next)
            .and_then(|()| storage.sync_data())
            .map_err(|source| RingError::Prepare { source })
    }
}

/// The header of each gap, with the position where it goes; the whole gap where bytes cannot be
/// read, as its digest is then over what takes their place.
fn gaps<S: Storage>(reader: &RingReader<S>, plan: &Plan) -> Result<Vec<(u64, Vec<u8>)>, RingError> {
    let control = reader.chosen.control;
    let key = control.key();
    let mut window = reader.window();
    let mut headers = Vec::new();
    for gap in &plan.gaps {
        let offset = reader.file_offset(gap.position);
        let end = control.tail_position + control.ring_len;
        if !plan.is_repairable() {
            return Err(RingError::NotRepairable { offset });
        }
        let header = gap_header(gap, end).ok_or(RingError::NotRepairable { offset })?;
        let damaged = window.read(gap.position, header.extent());
        let damaged = damaged.map_err(|source| RingError::Read { source })?;
        let mut bytes = Vec::new();
        header.encode(&key, &damaged[RECORD_HEADER_LEN as usize..], &mut bytes)?;
        if gap.readable {
            bytes.truncate(RECORD_HEADER_LEN as usize);
        }
        headers.push((gap.position, bytes));
    }
    Ok(headers)
}

fn gap_header(gap: &PlannedGap, ring_end: u64) -> Option<RecordHeader> {
    let end = gap
        .next
        .map_or(gap.position + RECORD_HEADER_LEN, |next| next.position);
    let length = (end - gap.position).checked_sub(RECORD_HEADER_LEN)?;
    // Of what cannot be read nothing else may say how many: one at least.
    let lost = gap.lost.or((!gap.readable).then_some(1));
    let lost = u32::try_from(lost?).ok()?;
    (end <= ring_end).then_some(RecordHeader {
        sequence: gap.sequence,
        position: gap.position,
        length: u32::try_from(length).ok()?,
        epoch: gap.epoch,
        unsynced: lost,
        kind: RecordKind::Gap,
    })
}
