//! What a log says of itself, and what may be done with it: which disk it is of, on top of which
//! index, and whether it has changes that the index does not have.
//!
//! Invariant: looking at a log writes nothing, and keeps writers out as long as the guard lives.

use std::fmt;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use coldframe_chunkfile::{LogId, LogPlace, Tag};
use coldframe_chunks::{LogNote, TagName};
use coldframe_envelope::{DecodeError, DecodeErrorKind};
use coldframe_ring::{Entry, Salvaged};
use coldframe_ring::{RingReader, RingWal, Sequence};
use coldframe_storage::{FileStorage, Storage, Unreadable};
use coldframe_units::{FileOffset, RootHash};

use crate::error::log;
use crate::logfile::region_of;
use crate::record::{LogIdentity, Record};
use crate::{BlockError, NotedLog};

/// An index that a log names.
#[derive(Clone, Debug)]
pub(crate) struct Base {
    pub root: RootHash,
    /// The last record that the index has.
    pub through: Sequence,
    pub head: String,
    pub identity: Option<LogIdentity>,
}

impl Base {
    /// Whether it is of this disk: the name alone says so only where there is no identity yet.
    fn is_of(&self, head: &TagName, tag: &Tag) -> bool {
        let same_disk = match (tag.disk, self.identity) {
            (None, _) => true,
            (Some(disk), Some(identity)) => disk == identity.disk,
            (Some(_), None) => false,
        };
        same_disk && self.head == head.as_str()
    }
}

/// All that the records of a log say of the disk that it is of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Contents {
    /// The indexes that it names, in order.
    pub bases: Vec<Base>,
    /// The first record that was not given up.
    pub first: Option<Sequence>,
    /// Sequences of changes: the first, the last, and how many.
    first_change: Option<Sequence>,
    last_change: Option<Sequence>,
    changes: u64,
    /// Records that are missing between the others, or damaged.
    pub lost: Vec<LostRange>,
    /// What of its file cannot be read.
    pub unreadable: Vec<Unreadable>,
}

/// Records that are missing from a log, or damaged, or that cannot be read: which blocks they
/// changed is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostRange {
    /// Where in the file, or what comes next there.
    pub offset: FileOffset,
    /// The first of them.
    pub first: Sequence,
    /// How many; `None` if nothing says.
    pub count: Option<u64>,
}

impl LostRange {
    const fn new(offset: FileOffset, first: Sequence, count: Option<u64>) -> Self {
        Self {
            offset,
            first,
            count,
        }
    }

    /// How many there are at least.
    fn at_least(&self) -> u64 {
        self.count.unwrap_or(1).max(1)
    }

    /// Whether one of them comes after a record: those of unknown number may all do.
    fn reaches_over(&self, through: Sequence) -> bool {
        let last = |count: u64| self.first.get().saturating_add(count.saturating_sub(1));
        self.count.is_none_or(|count| last(count) > through.get())
    }
}

impl Contents {
    /// Of a log that is open for writing.
    pub fn of_log<S: Storage>(from: &RingWal<S>) -> Result<Self, BlockError> {
        let mut contents = Self::default();
        let has_gaps = from.recovery().lost_records > 0;
        let mut last: Option<Sequence> = None;
        let mut records = from.records_after(Sequence::ZERO);
        while let Some(entry) = records.next().map_err(log)? {
            contents.take(entry.sequence, entry.payload)?;
            let next = last.map_or(entry.sequence.get(), |last| last.get().saturating_add(1));
            let missing = entry.sequence.get().saturating_sub(next);
            if missing > 0 {
                let first = Sequence::new(next);
                contents
                    .lost
                    .push(LostRange::new(entry.offset, first, Some(missing)));
            }
            last = Some(entry.sequence);
        }
        if has_gaps && contents.lost.is_empty() {
            // Before the first one, or behind the last.
            let (first, count) = (from.last_sequence(), from.recovery().lost_records);
            contents
                .lost
                .push(LostRange::new(FileOffset::ZERO, first, Some(count)));
        }
        Ok(contents)
    }

    /// Of a log that is only read, also of a damaged one.
    pub fn of_reader<S: Storage>(from: &RingReader<S>) -> Result<Self, BlockError> {
        let mut contents = Self::default();
        let mut records = from.salvage();
        while let Some(found) = records.next().map_err(log)? {
            match found {
                Salvaged::Record(entry) => contents.take(entry.sequence, entry.payload)?,
                Salvaged::Lost {
                    offset,
                    first,
                    count,
                } => contents.lost.push(LostRange::new(offset, first, count)),
            }
        }
        contents.unreadable = records.unreadable().to_vec();
        Ok(contents)
    }

    fn take(&mut self, sequence: Sequence, payload: &[u8]) -> Result<(), BlockError> {
        let record = Record::decode(payload);
        let record = record.map_err(|source| BlockError::Record { sequence, source })?;
        self.first = self.first.or(Some(sequence));
        let Record::Base {
            root,
            through,
            head,
            identity,
            ..
        } = record
        else {
            self.first_change = self.first_change.or(Some(sequence));
            self.last_change = Some(sequence);
            self.changes += 1;
            return Ok(());
        };
        self.bases.push(Base {
            root,
            through,
            head: head.to_owned(),
            identity,
        });
        Ok(())
    }

    /// What is missing that an index does not have which has all up to `through`.
    pub fn losses_after(&self, through: Sequence) -> impl Iterator<Item = &LostRange> {
        let is_after = move |loss: &&LostRange| loss.reaches_over(through);
        self.lost.iter().filter(is_after)
    }

    /// How many records are missing that an index does not have which has all up to `through`.
    pub fn lost_after(&self, through: Sequence) -> u64 {
        self.losses_after(through)
            .fold(0, |all, loss| all.saturating_add(loss.at_least()))
    }

    /// Refuses a log that lacks what an index does not have which has all up to `through`.
    pub fn whole_after(&self, through: Sequence) -> Result<(), BlockError> {
        let Some(&LostRange { offset, .. }) = self.losses_after(through).next() else {
            return Ok(());
        };
        Err(match self.unreadable.first() {
            Some(stretch) => BlockError::LogUnreadable {
                offset: stretch.offset,
                len: stretch.len,
                source: stretch.reason(),
            },
            None => BlockError::LogDamaged { offset },
        })
    }

    /// The index of the tag, as the log names it last; `None` if the log has no changes at all.
    /// What the log lacks is an error: what it was is not known.
    ///
    /// Spec: BLK-21
    pub fn base_of(&self, head: &TagName, tag: &Tag) -> Result<Option<&Base>, BlockError> {
        let is_it = |base: &&Base| base.root == tag.root && base.is_of(head, tag);
        let found = self.bases.iter().rev().find(is_it);
        self.whole_after(found.map_or(Sequence::ZERO, |base| base.through))?;
        let Some(sequence) = self.first_change.filter(|_| found.is_none()) else {
            return Ok(found);
        };
        let (head, root) = (head.clone(), tag.root);
        Err(match self.bases.last() {
            Some(base) if base.head != head.as_str() => {
                let found = base.head.clone();
                BlockError::LogOfAnother { head, found }
            }
            Some(base) if !base.is_of(&head, tag) => BlockError::LogOfAnotherLife { head },
            Some(base) => BlockError::Diverged {
                head,
                root,
                log: base.root,
            },
            None => {
                let kind = DecodeErrorKind::Invalid { field: "base" };
                let source = DecodeError::new(kind, 0);
                BlockError::Record { sequence, source }
            }
        })
    }

    /// The number of the log; `None` for one of version 1.
    pub fn id(&self) -> Option<LogId> {
        let identity = self.bases.iter().rev().find_map(|base| base.identity);
        identity.map(|identity| identity.log)
    }

    /// How many changes come after a record, at most.
    pub fn changes_after(&self, through: Sequence) -> u64 {
        match self.last_change {
            Some(last) if last > through => self.changes,
            _ => 0,
        }
    }
}

/// What was found where a log should be.
#[derive(Debug)]
#[non_exhaustive]
pub enum LogFound {
    /// Nothing.
    Missing,
    /// Another log, or a file that is none.
    Other,
    /// The log, and a process that has it open.
    InUse,
    /// The log, with so many changes that the store may not have.
    Changes(u64),
    /// The log; the store has all of it.
    Clean,
    /// The log; it has nothing for the index of the tag any more, since another tag moved with its
    /// changes: that of a copy of the store, say.
    GivenUp,
    /// Something that cannot be read.
    Unreadable(Box<BlockError>),
}

impl LogFound {
    /// Whether a log that a tag does not name may have changes of its disk, or has them: a tag of
    /// version 1.0 names none.
    pub(crate) fn is_in_the_way_of(&self, tag: &Tag) -> bool {
        match self {
            Self::Changes(_) => true,
            Self::InUse => tag.disk.is_none(),
            Self::Unreadable(error) => tag.disk.is_none() && !error.is_of_another(),
            Self::Missing | Self::Other | Self::Clean | Self::GivenUp => false,
        }
    }
}

impl fmt::Display for LogFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("not found"),
            Self::Other => f.write_str("replaced by another file"),
            Self::InUse => f.write_str("in use"),
            Self::Changes(count) => write!(f, "{count} records not in the store"),
            Self::Clean => f.write_str("nothing that is not in the store"),
            Self::GivenUp => f.write_str("its changes were brought into another disk"),
            Self::Unreadable(error) => {
                write!(f, "cannot be read: {error}")?;
                let mut cause = std::error::Error::source(&**error);
                while let Some(error) = cause {
                    write!(f, ": {error}")?;
                    cause = error.source();
                }
                Ok(())
            }
        }
    }
}

/// A log that was looked at; writers are kept out as long as it lives.
#[derive(Debug)]
pub(crate) struct Look {
    pub found: LogFound,
    pub contents: Contents,
    pub path: PathBuf,
    pub guard: Option<RingReader<FileStorage>>,
}

/// Looks whether the log of this number is at `path`, and what it has on top of the tag.
pub(crate) fn look(path: &Path, id: Option<LogId>, head: &TagName, tag: &Tag) -> Look {
    let only = |found| Look {
        found,
        contents: Contents::default(),
        path: path.to_path_buf(),
        guard: None,
    };
    let guard = match open_read_only(path) {
        Ok(Some(guard)) => guard,
        Ok(None) => return only(LogFound::Missing),
        Err(BlockError::Log { source }) if source.is_locked() => return only(LogFound::InUse),
        Err(BlockError::Log { source }) if source.is_foreign() => return only(LogFound::Other),
        Err(error) => return only(LogFound::Unreadable(Box::new(error))),
    };
    let contents = match Contents::of_reader(&guard) {
        Ok(contents) => contents,
        Err(error) => return only(LogFound::Unreadable(Box::new(error))),
    };
    if id.is_some() && contents.id() != id {
        // The record that says which log it is may be among those that are lost.
        return only(match contents.whole_after(Sequence::ZERO) {
            Ok(()) => LogFound::Other,
            Err(error) => LogFound::Unreadable(Box::new(error)),
        });
    }
    let found = match contents.base_of(head, tag) {
        Ok(Some(base)) => match contents.changes_after(base.through) {
            0 => LogFound::Clean,
            count => LogFound::Changes(count),
        },
        // One that the tag names has a record of the tag's index as long as the tag names it.
        Ok(None) if id.is_some() => LogFound::GivenUp,
        Ok(None) => LogFound::Clean,
        Err(error) => LogFound::Unreadable(Box::new(error)),
    };
    Look {
        found,
        contents,
        path: path.to_path_buf(),
        guard: Some(guard),
    }
}

/// A log, read only; `None` if there is no such file.
pub(crate) fn open_read_only(path: &Path) -> Result<Option<RingReader<FileStorage>>, BlockError> {
    match open_existing(path) {
        Err(BlockError::LogFile { source }) if source.is_not_found() => Ok(None),
        opened => opened.map(Some),
    }
}

/// As [`open_read_only`], where it is an error that there is no such file.
pub(crate) fn open_existing(path: &Path) -> Result<RingReader<FileStorage>, BlockError> {
    let storage = FileStorage::open_read_only(path);
    let storage = storage.map_err(|source| BlockError::LogFile { source })?;
    let region = region_of(&storage)?;
    RingWal::open_read_only(storage, region).map_err(log)
}

/// How many records a copy of a log has that this one does not have.
pub(crate) fn lacking<S: Storage>(
    own: &RingWal<S>,
    copy: &RingReader<FileStorage>,
) -> Result<u64, BlockError> {
    let mut ours = own.records_after(Sequence::ZERO);
    let mut theirs = copy.salvage();
    let mut our = ours.next().map_err(log)?;
    let mut count = 0;
    while let Some(found) = theirs.next().map_err(log)? {
        let Salvaged::Record(their) = found else {
            continue;
        };
        while our.is_some_and(|our| our.sequence < their.sequence) {
            our = ours.next().map_err(log)?;
        }
        let is_same =
            |our: Entry<'_>| our.sequence == their.sequence && our.payload == their.payload;
        count += u64::from(!our.is_some_and(is_same));
    }
    Ok(count)
}

pub(crate) fn is_same_file(own: &dyn Storage, path: &Path) -> bool {
    let Some(file) = own.host_file() else {
        return false;
    };
    let ours = file.as_fd().try_clone_to_owned().map(File::from);
    let ours = ours.and_then(|file| file.metadata());
    match (ours, std::fs::metadata(path)) {
        (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

/// Whether both are there and are one file.
pub(crate) fn is_same_path(a: &Path, b: &Path) -> bool {
    match (std::fs::metadata(a), std::fs::metadata(b)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

/// Where a log is, to be put into the store: absolute, with the host's name.
pub(crate) fn place_of(storage: &dyn Storage) -> LogPlace {
    let path = storage.path();
    let absolute = match storage.host_file() {
        Some(_) => std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()),
        None => path.to_path_buf(),
    };
    LogPlace::new(&host_name(), absolute.as_os_str().as_bytes())
}

/// A log at a path on this host that no tag names.
pub(crate) fn unnamed(path: &Path) -> LogNote {
    LogNote {
        id: LogId::from_bytes([0; 16]),
        place: LogPlace::new(&host_name(), path.as_os_str().as_bytes()),
    }
}

/// The name of this host: for people, nothing is decided by it.
fn host_name() -> Vec<u8> {
    let files = ["/proc/sys/kernel/hostname", "/etc/hostname"];
    let read = files.iter().find_map(|path| std::fs::read(path).ok());
    let name = read.unwrap_or_else(|| b"unknown".to_vec());
    name.trim_ascii().to_vec()
}

impl NotedLog {
    /// The error of a caller that needs the log.
    pub(crate) fn refuse(self, head: &TagName) -> BlockError {
        let (head, log) = (head.clone(), Box::new(self));
        BlockError::LogElsewhere { head, log }
    }
}
