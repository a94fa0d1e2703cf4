//! Opening a device: which index the log is on top of, and what the log has beside it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use coldframe_chunks::{Backend, ChunkStore, TagName};
use coldframe_envelope::{DecodeError, DecodeErrorKind};
use coldframe_storage::Storage;
use coldframe_units::{BLOCK_BYTES, RootHash};
use coldframe_wal::{RingPlace, RingWal, Sequence};

use crate::device::inner::{FoldState, Inner};
use crate::device::lower::Lower;
use crate::device::{DeviceOptions, DeviceParts};
use crate::error::log;
use crate::image::disk_tag;
use crate::record::{OVERHEAD, PAGE_BYTES, Record};
use crate::{BlockError, DiskImage};

pub(super) fn open<B: Backend, S: Storage>(
    parts: DeviceParts<B, S>,
    options: DeviceOptions,
) -> Result<Inner<B, S>, BlockError> {
    let tag = disk_tag(&parts.store, &parts.head)?;
    let root = tag.root;
    let chunks = parts.chunks.as_ref().map(Arc::clone);
    let chunks: Arc<dyn ChunkStore> = chunks.unwrap_or_else(|| Arc::new(parts.store.clone()));
    let image = DiskImage::open_through(&parts.store, chunks, root, parts.base.clone())?;
    let found = through(&parts.log, &parts.head, root)?;
    let size = image.size().get();
    let fold = FoldState {
        root,
        tag,
        through: found.unwrap_or(parts.log.last_sequence()),
        pending: Vec::new(),
        base_from: 0,
        pinned: None,
    };
    let through = fold.through;
    let lower = Lower {
        frozen: None,
        image: Arc::new(image),
    };
    let inner = Inner::new(parts, options, lower, fold)?;
    inner.size.store(size, Ordering::Release);
    match found {
        Some(through) => inner.replay(through)?,
        None => inner.begin(root, through)?,
    }
    // Records that the index has need not be kept.
    inner.log.checkpoint(through).map_err(log)?;
    Ok(inner)
}

/// The last record that the index of this root has; `None` for a log without any changes.
fn through<S: Storage>(
    from: &RingWal<S>,
    head: &TagName,
    root: RootHash,
) -> Result<Option<Sequence>, BlockError> {
    let mut found = None;
    let mut last = None;
    let mut change = None;
    let mut records = from.records_after(Sequence::ZERO);
    while let Some(entry) = records.next().map_err(log)? {
        match decode(entry.sequence, entry.payload)? {
            Record::Base {
                root: named,
                through,
                head: name,
                ..
            } => {
                if named == root && name == head.as_str() {
                    found = Some(through);
                }
                last = Some((named, name.to_owned()));
            }
            _ => change = Some(entry.sequence),
        }
    }
    let Some(sequence) = change.filter(|_| found.is_none()) else {
        return Ok(found);
    };
    let head = head.clone();
    Err(match last {
        Some((_, found)) if found != head.as_str() => BlockError::LogOfAnother { head, found },
        Some((log, _)) => BlockError::Diverged { head, root, log },
        None => BlockError::Record {
            sequence,
            source: invalid("base"),
        },
    })
}

fn decode(sequence: Sequence, payload: &[u8]) -> Result<Record<'_>, BlockError> {
    Record::decode(payload).map_err(|source| BlockError::Record { sequence, source })
}

const fn invalid(field: &'static str) -> DecodeError {
    DecodeError::new(DecodeErrorKind::Invalid { field }, 0)
}

impl<B: Backend, S: Storage> Inner<B, S> {
    /// Says in the log what it is on top of.
    fn begin(&self, root: RootHash, through: Sequence) -> Result<(), BlockError> {
        let mut payload = Vec::new();
        let record = Record::Base {
            root,
            through,
            size: self.lower().image.size(),
            head: self.head.as_str(),
        };
        record.encode(&mut payload);
        self.append_reserved(&payload)?;
        self.flush()
    }

    /// Takes all changes behind `through` into the active layer. Nobody else has the device yet.
    fn replay(&self, through: Sequence) -> Result<(), BlockError> {
        let mut count = 0_u64;
        let mut records = self.log.records_after(through);
        while let Some(entry) = records.next().map_err(log)? {
            let end = self.size().next_multiple_of(PAGE_BYTES);
            let inside = |at: u64, len: u64| match at + len <= end {
                true => Ok(()),
                false => Err(BlockError::Record {
                    sequence: entry.sequence,
                    source: invalid("at"),
                }),
            };
            match decode(entry.sequence, entry.payload)? {
                Record::Base { .. } => continue,
                Record::Write { at, data } => {
                    inside(at, data.len() as u64)?;
                    self.replay_write(at, entry.place.plus(OVERHEAD), data);
                }
                Record::Zero { at, len } => {
                    // Earlier versions repeated zeros that lie behind the end of a disk that was
                    // cut since: nothing is there that they could hide.
                    let zero_end = (at + len).min(end);
                    if at < zero_end {
                        self.apply_zero(at, zero_end);
                    }
                }
                Record::Resize { size } => self.apply_resize(size.get()),
            }
            count += 1;
        }
        tracing::info!(head = %self.head, records = count, "log replayed");
        Ok(())
    }

    /// By block: a record that was not written by a device may lie in two shards.
    fn replay_write(&self, at: u64, place: RingPlace, data: &[u8]) {
        let (mut at, mut place) = (at, place);
        let mut rest = data;
        while !rest.is_empty() {
            let len = rest.len().min((BLOCK_BYTES - at % BLOCK_BYTES) as usize);
            let (part, behind) = rest.split_at(len);
            self.change(at / BLOCK_BYTES, |blocks| blocks.put(at, place, part));
            at += len as u64;
            place = place.plus(len as u64);
            rest = behind;
        }
    }
}
