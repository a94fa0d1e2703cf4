//! Opening a device: which index the log is on top of, and what the log has beside it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use coldframe_chunkfile::{LogPlace, Tag};
use coldframe_chunks::{Backend, ChunkStore, LogNote, PackStore, StoreError, TagName};
use coldframe_envelope::{DecodeError, DecodeErrorKind};
use coldframe_ring::{RingPlace, RingReader, Sequence};
use coldframe_storage::{FileStorage, Storage};
use coldframe_units::{BLOCK_BYTES, RootHash};

use crate::device::attach::{attach, other_store_of, refuse_copy};
use crate::device::inner::{FoldState, Inner, Shard};
use crate::device::lower::Lower;
use crate::device::{DeviceOptions, DeviceParts, OtherLog};
use crate::error::{log, store};
use crate::image::noted_tag;
use crate::logs::{
    Contents, LogFound, is_same_file, is_same_path, lacking, look, place_of, unnamed,
};
use crate::record::{LogIdentity, OVERHEAD, PAGE_BYTES, Record};
use crate::{BlockError, DiskImage, NotedLog};

/// The tag is told which log has changes after the log says which disk it is of, and before
/// anything is acknowledged: a log that the tag names has its own number in it.
///
/// Spec: BLK-26
pub(super) fn open<B: Backend, S: Storage>(
    parts: DeviceParts<B, S>,
    options: DeviceOptions,
) -> Result<Inner<B, S>, BlockError> {
    let (tag, note) = noted_tag(&parts.store, &parts.head)?;
    let contents = Contents::of_log(&parts.log)?;
    let base = contents.base_of(&parts.head, &tag)?;
    let known = base.and_then(|base| base.identity);
    let identity = identity(&parts.store, &tag, known)?;
    // Nobody writes to the other log until the tag names this one.
    let noted = note.as_ref().map(|note| note.id);
    let _other = match note {
        Some(note) => displace(&parts, &tag, note, &contents, options.other_log)?,
        None => None,
    };
    if let Some(id) = noted.filter(|id| !options.take_log && contents.id() == Some(*id)) {
        refuse_copy(&parts, id)?;
    }
    attach(&parts)?;
    let found = base.map(|base| base.through);
    let through = found.unwrap_or(parts.log.last_sequence());
    let place = place_of(parts.log.storage());
    let inner = prepare(parts, options, tag, identity, through)?;
    if found.is_some() {
        inner.replay(through)?;
    }
    if found.is_none() || known != Some(identity) {
        inner.begin(tag.root, through)?;
    }
    inner.note_log(Some(place))?;
    // Records that the index has need not be kept.
    inner.log.checkpoint(through).map_err(log)?;
    Ok(inner)
}

/// A device on top of the index of a tag, without any change of the log.
pub(super) fn prepare<B: Backend, S: Storage>(
    parts: DeviceParts<B, S>,
    options: DeviceOptions,
    tag: Tag,
    identity: LogIdentity,
    through: Sequence,
) -> Result<Inner<B, S>, BlockError> {
    let root = tag.root;
    let chunks = parts.chunks.as_ref().map(Arc::clone);
    let chunks: Arc<dyn ChunkStore> = chunks.unwrap_or_else(|| Arc::new(parts.store.clone()));
    let image = DiskImage::open_through(&parts.store, chunks, root, parts.base.clone())?;
    let size = image.size().get();
    let fold = FoldState {
        root,
        tag,
        through,
        pending: Vec::new(),
        base_from: 0,
        pinned: None,
        is_created: true,
    };
    let lower = Lower {
        frozen: None,
        image: Arc::new(image),
    };
    let inner = Inner::new(parts, options, lower, fold, identity)?;
    inner.size.store(size, Ordering::Release);
    Ok(inner)
}

/// That of the log if it is of the disk; else the log begins a life of its own.
fn identity<B: Backend>(
    from: &PackStore<B>,
    tag: &Tag,
    known: Option<LogIdentity>,
) -> Result<LogIdentity, BlockError> {
    if let Some(known) = known {
        return Ok(known);
    }
    let disk = match tag.disk {
        Some(disk) => disk,
        None => from.new_disk_id().map_err(store)?,
    };
    let log = from.new_log_id().map_err(store)?;
    Ok(LogIdentity { disk, log })
}

/// Refuses to go on while the tag names another log, or this one at another place where there is
/// more of it, unless the store has all of that one, or it is given up by name.
fn displace<B: Backend, S: Storage>(
    parts: &DeviceParts<B, S>,
    tag: &Tag,
    note: LogNote,
    contents: &Contents,
    other: OtherLog,
) -> Result<Option<RingReader<FileStorage>>, BlockError> {
    let head = &parts.head;
    let path = note.path().to_path_buf();
    let is_it = contents.id() == Some(note.id) && contents.base_of(head, tag)?.is_some();
    let (found, guard) = if is_same_file(parts.log.storage(), &path) {
        match contents.id() == Some(note.id) {
            true if is_it => return Ok(None),
            true => (LogFound::GivenUp, None),
            false => (LogFound::Other, None),
        }
    } else {
        match other_store_of(&parts.store, head, &path, note.id) {
            // This is a copy of that store: a log that was copied with it has all that it knows of,
            // and what it goes on without is not lost.
            Some(of_other) if of_other.is_there() => {
                return match (is_it, other) {
                    (true, _) | (_, OtherLog::Abandon) => Ok(None),
                    _ => Err(of_other.refuse(head)),
                };
            }
            Some(of_other) if !is_it && other != OtherLog::Abandon => {
                return Err(of_other.refuse(head));
            }
            // If no store is where that one was, this may be the store itself, moved.
            _ => {}
        }
        let looked = look(&path, Some(note.id), head, tag);
        match (looked.found, looked.guard) {
            // It was moved to where it is opened now.
            (LogFound::Missing | LogFound::Other, _) if is_it => return Ok(None),
            // A copy: of two files with the number of one log, all of it is in the one that the tag
            // names.
            (LogFound::Changes(_), Some(guard)) if is_it => match lacking(&parts.log, &guard)? {
                0 => return Ok(Some(guard)),
                count => (LogFound::Changes(count), Some(guard)),
            },
            found => found,
        }
    };
    match (found, other) {
        (LogFound::Clean, _) => Ok(guard),
        // What a living process acknowledges now is not given up.
        (found, OtherLog::Abandon) if !matches!(found, LogFound::InUse) => {
            tracing::warn!(%head, log = %note, %found, "changes in another log are given up");
            Ok(guard)
        }
        (found, _) => Err(NotedLog { note, path, found }.refuse(head)),
    }
}

/// Whether the log at `path` may be made, or opened, for the disk: to be asked before a file is
/// made for it. A tag of version 1.0 names no log: one that it may have is looked for at `usual`.
///
/// # Errors
/// As [`crate::BlockDevice::open`]: there is no such disk, or another log has changes of it.
pub fn check_log<B: Backend>(
    from: &PackStore<B>,
    head: &TagName,
    path: Option<&Path>,
    usual: Option<&Path>,
    other: OtherLog,
) -> Result<(), BlockError> {
    let (tag, note) = noted_tag(from, head)?;
    let is_there = path.is_some_and(|path| path.symlink_metadata().is_ok());
    let refuse = |note, path: &Path, found| {
        let path = path.to_path_buf();
        Err(NotedLog { note, path, found }.refuse(head))
    };
    let is_given_up =
        |found: &LogFound| other == OtherLog::Abandon && !matches!(found, LogFound::InUse);
    if let Some(note) = note {
        if is_there && other == OtherLog::Refuse {
            // Opening it tells.
            return Ok(());
        }
        let path = note.path().to_path_buf();
        if let Some(of_other) = other_store_of(from, head, &path, note.id) {
            return match other {
                OtherLog::Abandon => Ok(()),
                OtherLog::Refuse => Err(of_other.refuse(head)),
            };
        }
        return match look(&path, Some(note.id), head, &tag).found {
            LogFound::Clean => Ok(()),
            found if is_given_up(&found) => Ok(()),
            found => refuse(note, &path, found),
        };
    }
    let is_it = |usual: &Path| path.is_some_and(|path| path == usual || is_same_path(path, usual));
    let Some(usual) = usual.filter(|usual| tag.disk.is_none() && !is_it(usual)) else {
        return Ok(());
    };
    let found = look(usual, None, head, &tag).found;
    match found.is_in_the_way_of(&tag) && !is_given_up(&found) {
        true => refuse(unnamed(usual), usual, found),
        false => Ok(()),
    }
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
            identity: Some(self.identity),
        };
        record.encode(&mut payload);
        self.append_reserved(&payload)?;
        self.flush()
    }

    /// Says at the tag that the log may have changes; or, without a place, that it has none.
    pub(super) fn note_log(&self, place: Option<LogPlace>) -> Result<(), BlockError> {
        let LogIdentity { disk, log } = self.identity;
        let note = place.map(|place| LogNote { id: log, place });
        let mut state = self.folding();
        let noted = self.store.set_log(&self.head, state.tag, Some(disk), note);
        state.tag = noted.map_err(|error| match error {
            StoreError::TagMoved { name } => BlockError::HeadMoved { name },
            error => store(error),
        })?;
        Ok(())
    }

    /// Says at the tag that no log has changes any more, unless some stayed.
    pub(super) fn release(&self) -> Result<(), BlockError> {
        if !self.is_clean() {
            return Ok(());
        }
        match self.note_log(None) {
            // Someone gave this log up; it has nothing that the store does not have.
            Err(error @ BlockError::HeadMoved { .. }) => {
                tracing::warn!(%error, "the log is not named any more");
                Ok(())
            }
            released => released,
        }
    }

    /// Whether the store has all changes.
    fn is_clean(&self) -> bool {
        let has_none = |shard: &Shard| shard.pages().len() == 0;
        self.shards.iter().all(has_none)
            && self.zeros().len() == 0
            && self.lower().frozen.is_none()
            && self.size() == self.lower().image.size().get()
    }

    /// Takes all changes behind `through` into the active layer. Nobody else has the device yet.
    pub(super) fn replay(&self, through: Sequence) -> Result<(), BlockError> {
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
