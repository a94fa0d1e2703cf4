//! A disk for reading alone: what the store has, and what a log has on top of it. Neither store nor
//! log is changed, and both may be on read-only file systems.
//!
//! Also the way out for a log that no tag goes with any more: its changes, on top of the index that
//! they were made to, become a new disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use coldframe_chunkfile::{LogId, Tag};
use coldframe_chunks::{Backend, LogNote, PackStore, StoreError, TagName};
use coldframe_ring::{Finding, RingOptions, RingReader, RingWal, Sequence};
use coldframe_storage::{FileStorage, StorageError, Unreadable};
use coldframe_units::{ByteLen, RootHash};

use crate::device::attach::other_store_of;
use crate::device::cow::CowStorage;
use crate::device::inner::Inner;
use crate::device::open::prepare;
use crate::device::{DeviceOptions, DeviceParts};
use crate::error::{log, store};
use crate::image::noted_tag;
use crate::logfile::region_of;
use crate::logs::{
    Base, Contents, LogFound, Look, LostRange, is_same_path, lacking, look, open_existing, unnamed,
};
use crate::record::LogIdentity;
use crate::{BaseFile, BlockError, DiskImage, NotedLog};

/// Which log to read a disk with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ViewLog<'a> {
    /// The one that the tag names, there or at one of these paths; and one at these paths that has
    /// changes of the disk, if the tag names none.
    Find(&'a [PathBuf]),
    /// This one.
    File(&'a Path),
    /// None: the disk as the store has it, whatever a log has.
    Ignore,
}

type Log = Arc<CowStorage<FileStorage>>;

/// A disk, read-only.
pub enum DiskView<B: Backend> {
    /// As the store has it.
    Stored(DiskImage<B>),
    /// With the changes of a log.
    Logged(Box<LoggedDisk<B>>),
}

/// A disk as a log has it on top of the store, read-only. Writers of the log are kept
/// out as long as it lives.
pub struct LoggedDisk<B: Backend> {
    inner: Inner<B, Log>,
    path: PathBuf,
    _guard: RingReader<FileStorage>,
}

impl<B: Backend> DiskView<B> {
    /// Opens the disk of a tag.
    ///
    /// Spec: BLK-27
    ///
    /// # Errors
    /// As [`DiskImage::open`]; [`BlockError::LogElsewhere`] if the log that the tag names is not
    /// found, in use, or cannot be read, or has more than the one that is given;
    /// [`BlockError::HeadMoved`] if the tag moves again and again; with [`ViewLog::File`] as
    /// [`crate::BlockDevice::open`].
    pub fn open(
        from: &PackStore<B>,
        name: &TagName,
        base: Option<Arc<BaseFile>>,
        with: ViewLog<'_>,
    ) -> Result<Self, BlockError> {
        for _ in 0..MOVES_MAX {
            let (tag, note) = noted_tag(from, name)?;
            let looked = match with {
                ViewLog::Ignore => Ok(None),
                ViewLog::File(path) => named(from, path, name, &tag, note.as_ref()).map(Some),
                ViewLog::Find(paths) => find(from, name, &tag, note.clone(), paths),
            };
            // Whoever had the log may have moved the tag before it was held: what was found, or
            // was not, says nothing of the tag of before.
            if noted_tag(from, name)? == (tag, note) {
                return Self::with_log(from, name, base, tag, looked?);
            }
        }
        let name = name.clone();
        Err(BlockError::HeadMoved { name })
    }

    fn with_log(
        from: &PackStore<B>,
        name: &TagName,
        base: Option<Arc<BaseFile>>,
        tag: Tag,
        looked: Option<Look>,
    ) -> Result<Self, BlockError> {
        if let Some(Look {
            contents,
            path,
            guard: Some(guard),
            ..
        }) = looked
            && let Some(base_record) = contents.base_of(name, &tag)?
        {
            let parts = parts(from, name, open_repaired(&path, &guard)?, base);
            let found = base_record.clone();
            let disk = LoggedDisk::open(parts, tag, &found, path, guard)?;
            return Ok(Self::Logged(Box::new(disk)));
        }
        DiskImage::open_root(from, tag.root, base).map(Self::Stored)
    }

    /// How long the disk is.
    #[must_use]
    pub fn size(&self) -> ByteLen {
        match self {
            Self::Stored(image) => image.size(),
            Self::Logged(disk) => disk.size(),
        }
    }

    /// The log whose changes are shown.
    #[must_use]
    pub fn log(&self) -> Option<&Path> {
        match self {
            Self::Stored(_) => None,
            Self::Logged(disk) => Some(&disk.path),
        }
    }
}

impl<B: Backend> LoggedDisk<B> {
    fn open(
        parts: DeviceParts<B, Log>,
        tag: Tag,
        base: &Base,
        path: PathBuf,
        guard: RingReader<FileStorage>,
    ) -> Result<Self, BlockError> {
        // Nothing is written, so nothing is ever named by it.
        let identity = base.identity.unwrap_or(NOBODY);
        let inner = prepare(parts, VIEW, tag, identity, base.through)?;
        inner.replay(base.through)?;
        Ok(Self {
            inner,
            path,
            _guard: guard,
        })
    }

    /// How long the disk is.
    #[must_use]
    pub fn size(&self) -> ByteLen {
        ByteLen::new(self.inner.size())
    }

    /// The tag that it is of.
    #[must_use]
    pub fn head(&self) -> &TagName {
        &self.inner.head
    }

    /// As [`crate::BlockDevice::read_at`].
    ///
    /// # Errors
    /// As [`crate::BlockDevice::read_at`].
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), BlockError> {
        self.inner.read_at(offset, buf)
    }

    /// As [`crate::BlockDevice::read_shared`].
    ///
    /// # Errors
    /// As [`crate::BlockDevice::read_at`].
    pub fn read_shared(&self, offset: u64, len: u64) -> Result<Vec<Bytes>, BlockError> {
        self.inner.read_shared(offset, len)
    }

    /// As [`crate::BlockDevice::extents`].
    ///
    /// # Errors
    /// As [`crate::BlockDevice::read_at`].
    pub fn extents(
        &self,
        offset: u64,
        len: u64,
        each: &mut dyn FnMut(u64, bool) -> bool,
    ) -> Result<(), BlockError> {
        self.inner.extents(offset, len, each)
    }
}

const NOBODY: LogIdentity = LogIdentity {
    disk: coldframe_chunkfile::DiskId::from_bytes([0; 16]),
    log: LogId::from_bytes([0; 16]),
};

/// How often a disk is looked at anew because its tag moved meanwhile.
const MOVES_MAX: u32 = 64;

/// What only reads folds nothing.
const VIEW: DeviceOptions = DeviceOptions::USUAL;

fn parts<B: Backend>(
    from: &PackStore<B>,
    head: &TagName,
    log: RingWal<Log>,
    base: Option<Arc<BaseFile>>,
) -> DeviceParts<B, Log> {
    DeviceParts {
        store: from.clone(),
        chunks: None,
        head: head.clone(),
        log,
        base,
    }
}

/// A log as if it were open for writing; whatever that writes is in memory.
fn open_cow(path: &Path) -> Result<RingWal<Log>, BlockError> {
    let storage = FileStorage::open_read_only(path);
    let storage = storage.map_err(|source| BlockError::LogFile { source })?;
    let region = region_of(&storage)?;
    let storage = Arc::new(CowStorage::new(storage));
    RingWal::open(storage, region, RingOptions::ON_DEMAND).map_err(log)
}

/// The same for a log with damage, or that the host can read only in part, without the records that
/// are lost: it is repaired in memory.
fn open_repaired(path: &Path, guard: &RingReader<FileStorage>) -> Result<RingWal<Log>, BlockError> {
    if !guard.recovery().is_corrupt() && guard.unreadable().is_empty() {
        return open_cow(path);
    }
    let storage = FileStorage::open_read_only(path);
    let storage = storage.map_err(|source| BlockError::LogFile { source })?;
    let region = region_of(&storage)?;
    let storage = Arc::new(CowStorage::new(storage));
    let plan = guard.check().map_err(log)?.giving_up_unreadable();
    if !plan.is_sound() {
        RingWal::repair(Arc::clone(&storage), region, &plan).map_err(log)?;
    }
    for finding in &plan.findings {
        if let Finding::Unreadable(stretch) = finding {
            storage.read_around(stretch.offset, stretch.len.get());
        }
    }
    RingWal::open(storage, region, RingOptions::ON_DEMAND).map_err(log)
}

/// The log that the caller names: it must be of the disk, and have all that the one has that the
/// tag names, if that is another file and can be read.
fn named<B: Backend>(
    from: &PackStore<B>,
    path: &Path,
    head: &TagName,
    tag: &Tag,
    note: Option<&LogNote>,
) -> Result<Look, BlockError> {
    let looked = look(path, tag.log, head, tag);
    match looked.found {
        LogFound::Changes(_) | LogFound::Clean => {}
        found => return Err(refuse(head, tag, path, found)),
    }
    let Some(note) = note else { return Ok(looked) };
    // With a copy of a store a copy of its log goes. If no store is where that one was, this may be
    // the store itself, moved.
    let of_other = other_store_of(from, head, note.path(), note.id);
    if is_same_path(path, note.path()) || of_other.is_some_and(|other| other.is_there()) {
        return Ok(looked);
    }
    let noted = look(note.path(), Some(note.id), head, tag);
    if let (LogFound::Changes(_), Some(copy)) = (noted.found, &noted.guard) {
        let own = open_cow(path)?;
        let count = lacking(&own, copy)?;
        if count > 0 {
            let (note, path) = (note.clone(), noted.path);
            let found = LogFound::Changes(count);
            return Err(NotedLog { note, path, found }.refuse(head));
        }
    }
    Ok(looked)
}

fn refuse(head: &TagName, tag: &Tag, path: &Path, found: LogFound) -> BlockError {
    let (disk, file) = (head.clone(), path.to_path_buf());
    match found {
        LogFound::Unreadable(error) => return *error,
        LogFound::Missing => return missing_log(path),
        LogFound::Other => {
            return BlockError::NotItsLog {
                head: disk,
                path: file,
            };
        }
        _ => {}
    }
    let note = LogNote {
        id: tag.log.unwrap_or(NOBODY.log),
        ..unnamed(path)
    };
    let path = path.to_path_buf();
    NotedLog { note, path, found }.refuse(head)
}

fn missing_log(path: &Path) -> BlockError {
    let source = std::io::ErrorKind::NotFound.into();
    let path = path.to_path_buf();
    BlockError::LogFile {
        source: StorageError::Open { path, source },
    }
}

/// The log that has changes of the disk; `None` if there is none.
fn find<B: Backend>(
    from: &PackStore<B>,
    head: &TagName,
    tag: &Tag,
    note: Option<LogNote>,
    paths: &[PathBuf],
) -> Result<Option<Look>, BlockError> {
    let Some(note) = note else {
        // A log of version 1, or of a process that ended before the tag could be told. Whatever
        // else is there is of no concern to this disk.
        for path in paths {
            let looked = look(path, None, head, tag);
            match looked.found {
                LogFound::Changes(_) => return Ok(Some(looked)),
                found if found.is_in_the_way_of(tag) => return Err(refuse(head, tag, path, found)),
                _ => {}
            }
        }
        return Ok(None);
    };
    // First where the tag says: what is elsewhere may be a copy of before. But the tag of a copied
    // store says where the log of the store is that it was copied from.
    let noted = note.path().to_path_buf();
    let mut worst = LogFound::Missing;
    let mut at = noted.clone();
    let mut of_other = None;
    for path in [&noted].into_iter().chain(paths) {
        if let Some(other) = other_store_of(from, head, path, note.id) {
            of_other.get_or_insert(other);
            continue;
        }
        let looked = look(path, Some(note.id), head, tag);
        match looked.found {
            LogFound::Changes(_) | LogFound::Clean => return Ok(Some(looked)),
            LogFound::Missing => {}
            LogFound::Other if !matches!(worst, LogFound::Missing) => {}
            LogFound::Other => (at, worst) = (path.clone(), LogFound::Other),
            found => {
                (at, worst) = (path.clone(), found);
                break;
            }
        }
    }
    match (of_other, worst) {
        (Some(other), LogFound::Missing | LogFound::Other) => Err(other.refuse(head)),
        (_, found) => Err(NotedLog {
            note,
            path: at,
            found,
        }
        .refuse(head)),
    }
}

/// What became of a log that was rescued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The index of the new disk.
    pub root: RootHash,
    /// Its size.
    pub size: ByteLen,
    /// The index that the changes were made on top of.
    pub based_on: RootHash,
    /// The tag that the log was of.
    pub head: String,
    /// Blocks that were changed.
    pub blocks: u64,
    /// Records of the log that are lost, as far as their number is known: what they changed is as
    /// it was before.
    pub lost_records: u64,
    /// Where they are missing in the log.
    pub lost: Vec<LostRange>,
    /// What of the log's file cannot be read.
    pub unreadable: Vec<Unreadable>,
}

/// What becomes of a log that lacks records, or whose records are damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LostRecords {
    /// It is refused.
    Refuse,
    /// Its sound records are taken, also those behind the damage.
    Accept,
}

/// Makes a new disk of what a log has and of the index that it is based on, whatever tag it was of
/// and wherever that points now. The log stays as it is.
///
/// Spec: BLK-28
///
/// # Errors
/// [`BlockError::Exists`] if `name` exists; [`BlockError::EmptyLog`], [`BlockError::BaseLost`];
/// [`BlockError::LogFile`] if there is no such file; [`BlockError::Log`] if the log is in use;
/// [`BlockError::LogDamaged`] unless lost records are
/// accepted; [`BlockError::Read`] for a block that was
/// changed in part and whose rest cannot be read; as [`crate::BlockDevice::fold`].
pub fn recover<B: Backend>(
    into: &PackStore<B>,
    path: &Path,
    name: &TagName,
    base: Option<Arc<BaseFile>>,
    lost: LostRecords,
) -> Result<Recovered, BlockError> {
    if into.tag(name).map_err(store)?.is_some() {
        return Err(BlockError::Exists { name: name.clone() });
    }
    let guard = open_existing(path)?;
    let contents = Contents::of_reader(&guard)?;
    if lost == LostRecords::Refuse {
        contents.whole_after(Sequence::ZERO)?;
    }
    let found = newest(into, &contents)?.clone();
    let disk = into.new_disk_id().map_err(store)?;
    let tag = Tag::disk(found.root, disk);
    let identity = LogIdentity { disk, ..NOBODY };
    let parts = parts(into, name, open_repaired(path, &guard)?, base);
    let inner = prepare(parts, VIEW, tag, identity, found.through)?;
    inner.replay(found.through)?;
    let size = ByteLen::new(inner.size());
    let folded = inner.publish_new()?;
    Ok(Recovered {
        root: folded.root,
        size,
        based_on: found.root,
        head: found.head,
        blocks: folded.blocks,
        lost_records: contents.lost_after(found.through),
        lost: contents.losses_after(found.through).copied().collect(),
        unreadable: contents.unreadable,
    })
}

/// The newest index that the log names and the store has, and that no record is missing behind.
fn newest<'a, B: Backend>(
    from: &PackStore<B>,
    contents: &'a Contents,
) -> Result<&'a Base, BlockError> {
    let mut lost = None;
    for base in contents.bases.iter().rev() {
        let next = base.through.get().saturating_add(1);
        if contents.first.is_some_and(|first| first.get() > next) {
            continue;
        }
        match from.image(base.root) {
            Ok(_) => return Ok(base),
            Err(StoreError::MissingRoot { .. }) => {
                let root = base.root;
                lost = lost.or(Some(BlockError::BaseLost { root }));
            }
            Err(source) => return Err(store(source)),
        }
    }
    Err(lost.unwrap_or(BlockError::EmptyLog))
}
