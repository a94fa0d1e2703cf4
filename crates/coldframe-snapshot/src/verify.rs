//! Checking snapshots: every file against its own hashes, against the manifest, and the whole
//! chain. Checking goes on after a damage, so that all of it is known at once.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use coldframe_envelope::{
    Container, DecodeError, DecodeErrorKind as Kind, HEADER_LEN, Header, Limits,
};
use coldframe_manifest::Manifest;
use coldframe_mem::{DamageKind, FilePool, MemoryFile};
use coldframe_statefile::StateFile;
use coldframe_storage::{ByteSource, FileStorage, IoContext, Operation, PreadSource, StorageError};
use coldframe_units::{ByteLen, FileOffset};

use crate::files::{self, MANIFEST, MEMORY, STATE};
use crate::{Chain, SavedState, Snapshot, SnapshotError, convert};

/// How far to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Headers, tables, the small files, the chain.
    Tables,
    /// Every byte: block hashes, zero runs, padding.
    Deep,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// In which file or snapshot directory.
    pub file: PathBuf,
    /// At which byte of it, where that can be said.
    pub offset: Option<u64>,
    /// What kind of thing, in a word or two.
    pub kind: &'static str,
    /// What is wrong, as a sentence.
    pub detail: String,
}

/// What came of checking.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Snapshots looked at, parents among them, each once.
    pub snapshots: u64,
    /// Files looked at.
    pub files: u64,
    /// Bytes read and checked.
    pub bytes: u64,
    /// Bytes of guest memory that were not read: whether they are sound is not known.
    pub unread: u64,
    /// All that is wrong; empty if everything is sound.
    pub damages: Vec<Damage>,
}

/// Checks any number of snapshots, each one and each parent once.
#[derive(Debug)]
pub struct Verifier {
    depth: Depth,
    search: Vec<PathBuf>,
    seen: HashSet<PathBuf>,
    verified: Verified,
}

/// Whether every byte of a snapshot's files is there and right; its parents are not looked at.
#[cfg(feature = "catalog")]
pub(crate) fn is_whole(snapshot: &Snapshot) -> bool {
    let mut verifier = Verifier::new(Depth::Deep, Vec::new());
    let checked = verifier.check_snapshot(snapshot, &mut |_| {});
    checked.is_ok() && verifier.verified.damages.is_empty() && verifier.verified.unread == 0
}

impl Verifier {
    /// A verifier that looks for parents beside their children and in `search`.
    #[must_use]
    pub fn new(depth: Depth, search: Vec<PathBuf>) -> Self {
        Self {
            depth,
            search,
            seen: HashSet::new(),
            verified: Verified::default(),
        }
    }

    /// Checks a snapshot with its whole chain, or a single file. `progress` is told the length of
    /// each file when it has been checked.
    ///
    /// # Errors
    /// [`SnapshotError`] if there is nothing at `path`; what cannot be read, or is wrong, is a
    /// damage.
    pub fn check(
        &mut self,
        path: &Path,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), SnapshotError> {
        let metadata = std::fs::metadata(path).at(Operation::Open, path);
        match metadata {
            Err(error) if error.is_not_found() => return Err(SnapshotError::Storage(error)),
            Err(error) => return self.damage_or_fail(path, SnapshotError::Storage(error)),
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return self.check_file(path, progress),
        }
        let snapshot = match Snapshot::open(path) {
            Ok(snapshot) => snapshot,
            Err(error) => {
                self.damage_or_fail(&path.join(MANIFEST), error)?;
                return self.check_orphans(path, progress);
            }
        };
        match Chain::of(snapshot.clone(), &self.search) {
            Ok(chain) => {
                for link in chain.links() {
                    self.check_snapshot(link, progress)?;
                }
                Ok(())
            }
            Err(error) => {
                self.damage_or_fail(path, error)?;
                self.check_snapshot(&snapshot, progress)
            }
        }
    }

    /// What was found.
    #[must_use]
    pub fn finish(self) -> Verified {
        self.verified
    }

    /// Checks one link of a chain, once.
    fn check_snapshot(
        &mut self,
        snapshot: &Snapshot,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), SnapshotError> {
        let path = snapshot.path();
        if !self
            .seen
            .insert(path.canonicalize().unwrap_or_else(|_| path.to_path_buf()))
        {
            return Ok(());
        }
        self.verified.snapshots += 1;
        self.count(&path.join(MANIFEST), progress);
        if snapshot.manifest().state.is_some() {
            let file = path.join(STATE);
            let mut unread = 0;
            if let Err(error) = snapshot.state().and_then(|state| check_state(&state)) {
                self.damage_or_fail(&file, error)?;
                unread = u64::MAX;
            }
            self.count_but(&file, unread, progress);
        }
        let file = path.join(MEMORY);
        if let Err(error) = snapshot.memory_source(&FilePool::default()) {
            self.damage_or_fail(&file, error)?;
        }
        let unread = self.check_memory(&file)?;
        self.count_but(&file, unread, progress);
        Ok(())
    }

    /// Checks the files of a directory whose manifest is no use, each against itself.
    fn check_orphans(
        &mut self,
        path: &Path,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), SnapshotError> {
        for name in [STATE, MEMORY] {
            let file = path.join(name);
            match std::fs::symlink_metadata(&file).at(Operation::Open, &file) {
                Err(error) if error.is_not_found() => {}
                Err(error) => self.damage_or_fail(&file, SnapshotError::Storage(error))?,
                Ok(_) => self.check_file(&file, progress)?,
            }
        }
        Ok(())
    }

    /// Checks one file against itself.
    fn check_file(
        &mut self,
        path: &Path,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), SnapshotError> {
        let mut unread = 0;
        let result = match peek(path) {
            Ok(header) if header.format == coldframe_memfile::FORMAT.id() => {
                unread = self.check_memory(path)?;
                Ok(())
            }
            Ok(_) => files::read_small(path).and_then(|bytes| {
                check_small(&bytes).map_err(|source| SnapshotError::Decode {
                    path: path.to_path_buf(),
                    source,
                })
            }),
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            self.damage_or_fail(path, error)?;
            unread = u64::MAX;
        }
        self.count_but(path, unread, progress);
        Ok(())
    }

    /// Checks a memory file, and says how many bytes of it were not checked: all of them, if not
    /// even its tables hold.
    fn check_memory(&mut self, path: &Path) -> Result<u64, SnapshotError> {
        let file = match files::open_memory(path, &FilePool::default()) {
            Ok(file) => file,
            Err(error) => return self.damage_or_fail(path, error).map(|()| u64::MAX),
        };
        if self.depth == Depth::Tables {
            // Between header and tables.
            let checked = file.verify_tables().and_then(|()| file.view());
            let tail = checked.map(|view| view.tail_offset().get());
            return match tail.map_err(files::of_memory) {
                Ok(tail) => Ok(tail.saturating_sub(HEADER_LEN)),
                Err(error) => self.damage_or_fail(path, error).map(|()| u64::MAX),
            };
        }
        deep(&file).into_iter().for_each(|damage| self.add(damage));
        Ok(0)
    }

    fn count(&mut self, path: &Path, progress: &mut dyn FnMut(u64)) {
        self.count_but(path, 0, progress);
    }

    /// A file was looked at, but for so many bytes of it, or all.
    fn count_but(&mut self, path: &Path, unread: u64, progress: &mut dyn FnMut(u64)) {
        let len = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        let unread = unread.min(len);
        self.verified.files += 1;
        self.verified.bytes += len - unread;
        self.verified.unread += unread;
        progress(len);
    }

    fn add(&mut self, damage: Damage) {
        if !self.verified.damages.contains(&damage) {
            self.verified.damages.push(damage);
        }
    }

    /// Files an error as a damage if it speaks of bytes, and hands it on if it speaks of the host.
    fn damage_or_fail(&mut self, path: &Path, error: SnapshotError) -> Result<(), SnapshotError> {
        let (offset, kind) = match &error {
            SnapshotError::Decode { source, .. } => (Some(source.offset), kind_name(source)),
            SnapshotError::Memory(memory) if memory.is_corrupt() => (None, "hash"),
            SnapshotError::MissingParent { .. } => (None, "missing parent"),
            SnapshotError::Storage(storage) if storage.is_not_found() => (None, "missing file"),
            SnapshotError::Storage(storage) if storage.is_unexpected_end() => (None, "truncated"),
            SnapshotError::Storage(StorageError::NotRegular { .. }) => (None, "not a file"),
            SnapshotError::Storage(_) => (None, "unreadable"),
            SnapshotError::TooLong { .. } => (None, "too long"),
            error if error.is_corrupt() => (None, "mismatch"),
            SnapshotError::ParentUnreadable { .. } => (None, "unreadable"),
            error if error.is_unsupported_version() => (None, "unsupported"),
            _ => return Err(error),
        };
        let (file, detail) = (path.to_path_buf(), sentence(&error));
        self.add(Damage {
            file,
            offset,
            kind,
            detail,
        });
        Ok(())
    }
}

/// Every byte of a memory file.
fn deep(file: &MemoryFile) -> Vec<Damage> {
    let damages = coldframe_mem::verify_deep(file).into_iter();
    let damage = |damage: coldframe_mem::Damage| Damage {
        file: file.path().to_path_buf(),
        offset: Some(damage.offset.get()),
        kind: match &damage.kind {
            DamageKind::Table(kind) => kind_name(&DecodeError::new(*kind, 0)),
            DamageKind::Block { .. } => "hash",
            DamageKind::NotZero => "padding",
            _ => "unreadable",
        },
        detail: damage.to_string(),
    };
    damages.map(damage).collect()
}

/// The header of a file.
fn peek(path: &Path) -> Result<Header, SnapshotError> {
    files::check_regular(path)?;
    let source = PreadSource::<FileStorage>::open(path).map_err(SnapshotError::Storage)?;
    let len = HEADER_LEN.min(source.len().get());
    let header = source.bytes(FileOffset::ZERO, ByteLen::new(len));
    let header = header.map_err(SnapshotError::Storage)?;
    Header::peek(&header).map_err(|source| SnapshotError::Decode {
        path: path.to_path_buf(),
        source,
    })
}

/// All bodies of a state file.
fn check_state(state: &SavedState) -> Result<(), SnapshotError> {
    if state.file()?.has_machine() {
        state.machine()?;
    }
    state.devices().map(drop)
}

/// A manifest or a state file.
fn check_small(bytes: &[u8]) -> Result<(), DecodeError> {
    let container = Container::peek(bytes, Limits::SMALL_FILE)?;
    for section in container.table().sections() {
        section.body(bytes, Limits::SMALL_FILE)?;
    }
    match container.header().format {
        format if format == coldframe_manifest::FORMAT.id() => Manifest::decode(bytes).map(drop),
        format if format == coldframe_statefile::FORMAT.id() => {
            let own = convert::vmm_kinds(bytes);
            StateFile::decode(bytes, &own, Limits::SMALL_FILE).map(drop)
        }
        found => {
            let expected = coldframe_manifest::FORMAT.id();
            Err(DecodeError::new(Kind::WrongFormat { found, expected }, 8))
        }
    }
}

/// The error and its causes on one line.
fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// A word or two for a decoder's refusal.
fn kind_name(error: &DecodeError) -> &'static str {
    match error.kind {
        Kind::Truncated { .. } => "truncated",
        Kind::TrailingBytes { .. } => "trailing bytes",
        Kind::BadMagic | Kind::WrongFormat { .. } => "foreign",
        Kind::HeaderChecksum => "header",
        Kind::BodyHash => "hash",
        Kind::ReservedNotZero => "padding",
        Kind::WrongParent { .. } => "wrong parent",
        _ if error.is_unsupported_version() => "unsupported",
        _ => "invalid",
    }
}
