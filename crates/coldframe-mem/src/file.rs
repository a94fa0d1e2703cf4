//! Memory files, open for reading.
//!
//! Invariants: header and tables are private copies, and pages are read by pread(2) into private
//! memory: a file that is cut short and a disk that fails are errors, not signals, and what was
//! checked is what is used. A descriptor that was closed, so that a long chain fits the limit of
//! the process, is opened again by path and used only if it is the same file.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use coldframe_envelope::{DecodeError, DecodeErrorKind, HEADER_LEN, Limits};
use coldframe_memfile::{Blocks, Extents, MemFile, head_ranges, table_range, tail_range};
use coldframe_storage::{
    ByteSource, FileStorage, IoContext, MappedFile, Operation, Storage, StorageError,
};
use coldframe_units::{ByteLen, FileOffset};

use crate::MemError;

const LIMITS: Limits = Limits::MEMORY_FILE;

/// How many descriptors a pool keeps open: a quarter of what a process may have unless the host
/// says otherwise (getrlimit(2), `RLIMIT_NOFILE`). With less than that, they are closed when the
/// host refuses one.
const OPEN_MAX: usize = 256;

/// The descriptors of memory files: some are open, the others are opened again when needed.
///
/// A chain of thousands of files may be longer than the process may have descriptors
/// (getrlimit(2), `RLIMIT_NOFILE`). Clones share the descriptors.
#[derive(Clone, Debug)]
pub struct FilePool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    open_max: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    /// By number: the file, and when it was last used.
    files: HashMap<u64, (Arc<FileStorage>, u64)>,
    clock: u64,
    numbers: u64,
}

impl Default for FilePool {
    /// A pool of 256 descriptors.
    fn default() -> Self {
        Self::of(OPEN_MAX)
    }
}

impl FilePool {
    /// A pool that keeps at most so many descriptors open, and at least one.
    #[must_use]
    pub fn of(open_max: usize) -> Self {
        let open_max = open_max.max(1);
        let open = Mutex::default();
        Self {
            shared: Arc::new(Shared { open_max, open }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        let open = self.shared.open.lock();
        // Every change of the map is whole: a panic elsewhere leaves nothing half done.
        open.unwrap_or_else(PoisonError::into_inner)
    }

    fn number(&self) -> u64 {
        let mut open = self.lock();
        open.numbers += 1;
        open.numbers
    }

    fn get(&self, number: u64) -> Option<Arc<FileStorage>> {
        let mut open = self.lock();
        open.clock += 1;
        let now = open.clock;
        let (file, used) = open.files.get_mut(&number)?;
        *used = now;
        Some(Arc::clone(file))
    }

    fn put(&self, number: u64, file: &Arc<FileStorage>) {
        let mut open = self.lock();
        open.clock += 1;
        let now = open.clock;
        if open.files.len() >= self.shared.open_max {
            let oldest = open.files.iter().min_by_key(|(_, (_, used))| *used);
            if let Some(oldest) = oldest.map(|(number, _)| *number) {
                open.files.remove(&oldest);
            }
        }
        open.files.insert(number, (Arc::clone(file), now));
    }

    fn drop_one(&self, number: u64) {
        self.lock().files.remove(&number);
    }

    /// Closes what is not being used: other parts of the process need descriptors too.
    fn close_all(&self) -> bool {
        let files = std::mem::take(&mut self.lock().files);
        !files.is_empty()
    }

    /// Opens a path, with room made if the process has no descriptor left.
    fn open(&self, path: &Path) -> io::Result<File> {
        let mut options = OpenOptions::new();
        // O_NONBLOCK: opening a FIFO must not wait for its writer (open(2)).
        let flags = libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK;
        options.read(true).custom_flags(flags);
        match options.open(path) {
            Err(error) if is_out_of_files(&error) && self.close_all() => options.open(path),
            other => other,
        }
    }
}

fn is_out_of_files(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// An open memory file whose header, regions and parent were read and checked.
///
/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct MemoryFile {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    handle: Handle,
    path: PathBuf,
    identity: Identity,
    len: ByteLen,
    header: Vec<u8>,
    /// The section table, the small sections and the padding, each with its offset.
    head: Vec<(FileOffset, Vec<u8>)>,
    /// Tables that are read when they are first asked for: extents, blocks, hashes over those.
    extents: OnceLock<[(FileOffset, Vec<u8>); 1]>,
    blocks: OnceLock<[(FileOffset, Vec<u8>); 2]>,
}

/// How the descriptor is kept.
#[derive(Debug)]
enum Handle {
    /// For as long as the file is used: it may have no path.
    Kept(Arc<FileStorage>),
    /// Opened again by path if the pool has closed it.
    Pooled { pool: FilePool, number: u64 },
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Handle::Pooled { pool, number } = &self.handle {
            pool.drop_one(*number);
        }
    }
}

/// What a file that is opened again has in common with the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    fn of(metadata: &std::fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

impl MemoryFile {
    /// Opens a file by path; a symbolic link there is not followed. `pool` keeps its descriptor.
    ///
    /// # Errors
    /// [`MemError::ReadSource`]; [`MemError::Decode`] for the header, the regions or the parent.
    pub fn open(path: &Path, pool: &FilePool) -> Result<Self, MemError> {
        let file = pool.open(path).at(Operation::Open, path).map_err(source)?;
        // Relative to a working directory that may change, it could be another file later.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        let (pool, number) = (pool.clone(), pool.number());
        Self::new(file, path, move |file| {
            pool.put(number, file);
            Handle::Pooled { pool, number }
        })
    }

    /// Takes over an open file; `path` is what errors call it.
    ///
    /// # Errors
    /// As [`MemoryFile::open`].
    pub fn from_file(file: File, path: &Path) -> Result<Self, MemError> {
        Self::new(file, path.to_path_buf(), |file| {
            Handle::Kept(Arc::clone(file))
        })
    }

    /// The file of a mapping, through a descriptor of its own; the mapping is not used.
    ///
    /// # Errors
    /// As [`MemoryFile::open`].
    pub fn of_mapped(mapped: &MappedFile) -> Result<Self, MemError> {
        let path = ByteSource::path(mapped);
        let file = mapped.file().try_clone().at(Operation::Open, path);
        Self::from_file(file.map_err(source)?, path)
    }

    fn new(
        file: File,
        path: PathBuf,
        keep: impl FnOnce(&Arc<FileStorage>) -> Handle,
    ) -> Result<Self, MemError> {
        let metadata = file.metadata().at(Operation::Open, &path).map_err(source)?;
        if !metadata.is_file() {
            return Err(source(StorageError::NotRegular { path }));
        }
        let len = ByteLen::new(metadata.len());
        let storage = Arc::new(FileStorage::from_file(file, &path));
        let reading = Reading {
            storage: &storage,
            len,
        };
        let (header, head) = reading.head()?;
        let inner = Inner {
            handle: keep(&storage),
            path,
            identity: Identity::of(&metadata),
            len,
            header,
            head,
            extents: OnceLock::new(),
            blocks: OnceLock::new(),
        };
        let opened = Self {
            inner: Arc::new(inner),
        };
        opened.view()?;
        Ok(opened)
    }

    /// What errors call the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// The length of the file when it was opened.
    #[must_use]
    pub fn len(&self) -> ByteLen {
        self.inner.len
    }

    /// Always false: there is a header.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Header, regions and parent; tables as far as they were asked for.
    ///
    /// # Errors
    /// [`MemError::Decode`].
    pub fn view(&self) -> Result<MemFile<'_>, MemError> {
        let inner = &*self.inner;
        let extents = inner.extents.get().into_iter().flatten();
        let blocks = inner.blocks.get().into_iter().flatten();
        let ranges = inner.head.iter().chain(extents).chain(blocks);
        let ranges = ranges.map(|(offset, bytes)| (*offset, bytes.as_slice()));
        MemFile::from_ranges(&inner.header, inner.len, ranges.collect(), LIMITS)
            .map_err(|source| self.refused(source))
    }

    /// The extents; their table is read the first time.
    ///
    /// # Errors
    /// [`MemError::ReadSource`], [`MemError::Decode`].
    pub fn extents(&self) -> Result<Extents<'_>, MemError> {
        if self.inner.extents.get().is_none() {
            let range = self.view()?.extents_range();
            let read = [self.range(range)?];
            // Another thread may have been faster: it read the same.
            let _ = self.inner.extents.set(read);
        }
        let view = self.view()?;
        view.extents().map_err(|source| self.refused(source))
    }

    /// The block hashes; their table is read the first time.
    ///
    /// # Errors
    /// [`MemError::ReadSource`], [`MemError::Decode`].
    pub fn blocks(&self) -> Result<Blocks<'_>, MemError> {
        if self.inner.blocks.get().is_none() {
            let [rows, pages] = self.view()?.blocks_range();
            let read = [self.range(rows)?, self.range(pages)?];
            let _ = self.inner.blocks.set(read);
        }
        let view = self.view()?;
        view.blocks().map_err(|source| self.refused(source))
    }

    /// Checks all tables; the pages are not read: see [`crate::verify_deep`].
    ///
    /// # Errors
    /// [`MemError::ReadSource`], [`MemError::Decode`].
    pub fn verify_tables(&self) -> Result<(), MemError> {
        let (offset, tail) = self.tail()?;
        MemFile::from_parts(&self.inner.header, &tail, offset, LIMITS)
            .and_then(|view| view.verify_tables())
            .map_err(|source| self.refused(source))
    }

    /// All that stands behind the data, and where it begins.
    ///
    /// # Errors
    /// [`MemError::ReadSource`], [`MemError::Decode`].
    pub fn tail(&self) -> Result<(FileOffset, Vec<u8>), MemError> {
        let storage = self.storage().map_err(source)?;
        let reading = Reading {
            storage: &storage,
            len: self.inner.len,
        };
        let (_, table) = &self.inner.head[0];
        let range = tail_range(&self.inner.header, table, LIMITS);
        reading.range(range.map_err(|source| self.refused(source))?)
    }

    /// The header's bytes.
    #[must_use]
    pub fn header(&self) -> &[u8] {
        &self.inner.header
    }

    /// Fills `buf` from `offset` on.
    ///
    /// # Errors
    /// [`StorageError`] of opening the file again, or of reading it.
    pub fn read_at(&self, offset: FileOffset, buf: &mut [u8]) -> Result<(), StorageError> {
        self.storage()?.read_at(offset, buf)
    }

    /// The open file.
    pub(crate) fn storage(&self) -> Result<Arc<FileStorage>, StorageError> {
        let (pool, number) = match &self.inner.handle {
            Handle::Kept(file) => return Ok(Arc::clone(file)),
            Handle::Pooled { pool, number } => (pool, *number),
        };
        if let Some(file) = pool.get(number) {
            return Ok(file);
        }
        let path = &self.inner.path;
        let file = pool.open(path).at(Operation::Open, path)?;
        let metadata = file.metadata().at(Operation::Open, path)?;
        let file = Arc::new(FileStorage::from_file(file, path));
        let is_same = Identity::of(&metadata) == self.inner.identity
            && metadata.len() == self.inner.len.get();
        let mut header = vec![0; self.inner.header.len()];
        if is_same {
            file.read_at(FileOffset::ZERO, &mut header)?;
        }
        if !is_same || header != self.inner.header {
            let changed = io::Error::other("another file has taken its name since it was opened");
            return Err(changed).at(Operation::Open, path);
        }
        pool.put(number, &file);
        Ok(file)
    }

    pub(crate) fn refused(&self, source: DecodeError) -> MemError {
        MemError::Decode {
            path: self.inner.path.clone(),
            source,
        }
    }

    fn range(&self, range: (FileOffset, ByteLen)) -> Result<(FileOffset, Vec<u8>), MemError> {
        let storage = self.storage().map_err(source)?;
        let reading = Reading {
            storage: &storage,
            len: self.inner.len,
        };
        reading.range(range)
    }
}

fn source(source: StorageError) -> MemError {
    MemError::ReadSource { source }
}

/// A file whose header is being read.
struct Reading<'a> {
    storage: &'a FileStorage,
    len: ByteLen,
}

type Head = (Vec<u8>, Vec<(FileOffset, Vec<u8>)>);

impl Reading<'_> {
    /// The header, and the ranges that opening needs: the section table first.
    fn head(&self) -> Result<Head, MemError> {
        let refused = |source| MemError::Decode {
            path: self.storage.path().to_path_buf(),
            source,
        };
        // A file shorter than a header is refused with what it has.
        let len = ByteLen::new(HEADER_LEN.min(self.len.get()));
        let (_, header) = self.range((FileOffset::ZERO, len))?;
        let table = table_range(&header, LIMITS).map_err(refused)?;
        let table = self.range(table)?;
        let ranges = head_ranges(&header, &table.1, LIMITS).map_err(refused)?;
        let mut head = vec![table];
        for range in ranges {
            head.push(self.range(range)?);
        }
        Ok((header, head))
    }

    /// A range of the file; memory is allocated only for what the file can have.
    fn range(
        &self,
        (offset, len): (FileOffset, ByteLen),
    ) -> Result<(FileOffset, Vec<u8>), MemError> {
        let (need, have) = (offset.get().saturating_add(len.get()), self.len.get());
        if need > have {
            let kind = DecodeErrorKind::Truncated { need, have };
            return Err(MemError::Decode {
                path: self.storage.path().to_path_buf(),
                source: DecodeError::new(kind, have),
            });
        }
        let mut bytes = vec![0; len.get() as usize];
        self.storage.read_at(offset, &mut bytes).map_err(source)?;
        Ok((offset, bytes))
    }
}
