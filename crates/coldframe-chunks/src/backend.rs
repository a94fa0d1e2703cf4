//! Where a store keeps its files: small promises that a directory, an object store or a server
//! over SSH can keep.
//!
//! Invariants of every implementation: a file appears whole or not at all, and is durable when
//! [`Backend::create`] or [`Backend::replace`] returns; a file is never changed in place; of two
//! that create the same key, one is told that it was there.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use coldframe_storage::StorageError;
use coldframe_units::{ByteLen, FileOffset, RootHash};

use crate::error::TagNameError;

/// The name of a tag: plain ASCII that is a safe file name anywhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TagName(String);

impl TagName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TagName {
    type Err = TagNameError;

    fn from_str(text: &str) -> Result<Self, TagNameError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._@+=:-".contains(&byte);
        let fits = (1..=128).contains(&text.len()) && !text.starts_with('.');
        if fits && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(TagNameError)
        }
    }
}

impl fmt::Display for TagName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A random number in the name of a file, so that no name is ever used twice: what is deleted late
/// cannot be what was written anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(u64);

impl FileId {
    /// From its number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    fn parse(digits: &str) -> Option<Self> {
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let fits = digits.len() == 16 && digits.bytes().all(hex);
        let number = u64::from_str_radix(digits, 16).ok();
        number.filter(|_| fits).map(Self)
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What a file of the store is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// Says that this is a store, and of which version.
    Store,
    /// What the garbage collector is about to delete.
    Ledger,
    /// A pack of chunks.
    Pack(FileId),
    /// A copy of a file that is kept whole, by its root: an index, a manifest.
    Root(RootHash, FileId),
    /// A tag.
    Tag(TagName),
}

/// Files that are listed together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Folder {
    /// [`Key::Pack`].
    Packs,
    /// [`Key::Root`].
    Roots,
    /// [`Key::Tag`].
    Tags,
}

impl Folder {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Packs, Self::Roots, Self::Tags];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Packs => "packs",
            Self::Roots => "roots",
            Self::Tags => "tags",
        }
    }

    /// The key of a file in it; `None` if the name is not one of ours.
    #[must_use]
    pub fn key(self, name: &str) -> Option<Key> {
        match self {
            Self::Packs => FileId::parse(name.strip_suffix(".pack")?).map(Key::Pack),
            Self::Roots => {
                let (root, file) = name.split_once('.')?;
                Some(Key::Root(root.parse().ok()?, FileId::parse(file)?))
            }
            Self::Tags => name.parse().ok().map(Key::Tag),
        }
    }
}

impl fmt::Display for Key {
    /// The path below the store's own, the parts joined by `/`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store => f.write_str("store"),
            Self::Ledger => f.write_str("ledger"),
            Self::Pack(file) => write!(f, "packs/{file}.pack"),
            Self::Root(root, file) => write!(f, "roots/{root}.{file}"),
            Self::Tag(name) => write!(f, "tags/{name}"),
        }
    }
}

/// A file in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// What it is.
    pub key: Key,
    /// How long it is.
    pub len: ByteLen,
    /// How long ago it was written, by the clock of the backend; zero if in the future.
    pub age: Duration,
}

/// A file in a listing whose length and age may be unknown.
#[derive(Debug)]
pub struct Seen {
    /// What it is.
    pub key: Key,
    /// Its length and age, or why they cannot be determined.
    pub facts: Result<Listed, StorageError>,
}

impl From<Listed> for Seen {
    fn from(listed: Listed) -> Self {
        Self {
            key: listed.key.clone(),
            facts: Ok(listed),
        }
    }
}

/// The name of a lease: random, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(u64);

impl LeaseId {
    /// From its number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// A lease that is held: while it is, nothing is deleted that was not condemned before it began.
pub trait Lease: Send + Sync + fmt::Debug {
    /// Its name.
    fn id(&self) -> LeaseId;

    /// Whether it is still held. A lease that ran out never comes back.
    fn is_held(&self) -> bool;

    /// Asks the place whether it is still held: `true` only if nobody had taken it for void when
    /// this was called, whatever the clocks say.
    ///
    /// # Errors
    /// [`StorageError`]: the place failed.
    fn confirm(&self) -> Result<bool, StorageError> {
        Ok(self.is_held())
    }
}

/// The right to collect garbage: one at a time; given back when dropped.
pub trait Exclusive: Send + fmt::Debug {
    /// Asks the place whether it is still ours: `true` only if nobody had taken it over when this
    /// was called.
    ///
    /// # Errors
    /// [`StorageError`]: the place failed.
    fn confirm(&self) -> Result<bool, StorageError> {
        Ok(true)
    }
}

/// A file that is being written; dropped unfinished, it leaves nothing.
pub trait NewFile: Send {
    /// Writes at an offset, in any order; what is never written is zeros.
    ///
    /// # Errors
    /// [`StorageError`]: the place failed, and the file is not to be finished.
    fn write_at(&mut self, offset: FileOffset, bytes: &[u8]) -> Result<(), StorageError>;

    /// Keeps the file under its key: as [`Backend::create`].
    ///
    /// # Errors
    /// As [`Backend::create`].
    fn finish(self: Box<Self>) -> Result<bool, StorageError>;
}

/// A file that is kept in memory until it is whole.
struct Gathered<'a, B: ?Sized> {
    backend: &'a B,
    key: Key,
    bytes: Vec<u8>,
}

impl<B: Backend + ?Sized> NewFile for Gathered<'_, B> {
    fn write_at(&mut self, offset: FileOffset, bytes: &[u8]) -> Result<(), StorageError> {
        let start = offset.get() as usize;
        let end = start + bytes.len();
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[start..end].copy_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<bool, StorageError> {
        self.backend.create(&self.key, &[&self.bytes])
    }
}

/// Where a store keeps its files.
pub trait Backend: Send + Sync + fmt::Debug + 'static {
    /// The place, to put into errors.
    fn place(&self) -> String;

    /// The directory of this host that it is, if it is one.
    fn directory(&self) -> Option<&Path> {
        None
    }

    /// Keeps a new file, `parts` one behind the other; `false` if the key was there already, and
    /// then what is there stays.
    ///
    /// # Errors
    /// [`StorageError`]: the place failed, and the file is not there, or is there whole.
    fn create(&self, key: &Key, parts: &[&[u8]]) -> Result<bool, StorageError>;

    /// Begins a new file that is written piece by piece, where the place can: a pack is on its way
    /// to the disk while it is filled. Others gather it in memory.
    ///
    /// # Errors
    /// [`StorageError::Exists`] if the key is seen to be there; the place failed.
    fn begin<'a>(&'a self, key: &Key) -> Result<Box<dyn NewFile + 'a>, StorageError> {
        Ok(Box::new(Gathered {
            backend: self,
            key: key.clone(),
            bytes: Vec::new(),
        }))
    }

    /// Puts `new` in the place of `expected`, or removes it, if `expected` is what is there;
    /// `None` means no file. `false` if it was something else.
    ///
    /// # Errors
    /// [`StorageError`]: the place failed, and either is there whole.
    fn replace(
        &self,
        key: &Key,
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<bool, StorageError>;

    /// The whole file, if it is there and at most `limit` long.
    ///
    /// # Errors
    /// [`StorageError`]: the place failed, or the file is longer.
    fn read(&self, key: &Key, limit: ByteLen) -> Result<Option<Bytes>, StorageError>;

    /// A range of the file; `None` if there is no such file. Fewer bytes than asked for are an
    /// error ([`StorageError::UnexpectedEnd`]), which the caller checks once more.
    ///
    /// # Errors
    /// [`StorageError`]: the place failed, or the file ends before the range.
    fn read_range(
        &self,
        key: &Key,
        offset: FileOffset,
        len: ByteLen,
    ) -> Result<Option<Bytes>, StorageError>;

    /// Whether there is a file of this name: `false` only if the place itself says that there is
    /// none. That a listing lacks it is no reason, nor is a refusal.
    ///
    /// # Errors
    /// [`StorageError`]: the place failed, or refuses to tell.
    fn exists(&self, key: &Key) -> Result<bool, StorageError> {
        match self.read_range(key, FileOffset::ZERO, ByteLen::new(1)) {
            Err(StorageError::UnexpectedEnd { .. }) => Ok(true),
            found => found.map(|found| found.is_some()),
        }
    }

    /// As [`Backend::read_range`], into room that the caller has; `false` if there is no such file.
    ///
    /// # Errors
    /// As [`Backend::read_range`].
    fn read_into(
        &self,
        key: &Key,
        offset: FileOffset,
        room: &mut [u8],
    ) -> Result<bool, StorageError> {
        let len = ByteLen::new(room.len() as u64);
        let Some(bytes) = self.read_range(key, offset, len)? else {
            return Ok(false);
        };
        if bytes.len() != room.len() {
            return Err(StorageError::UnexpectedEnd {
                path: format!("{}/{key}", self.place()).into(),
                offset,
                need: len,
                have: ByteLen::new(bytes.len() as u64),
            });
        }
        room.copy_from_slice(&bytes);
        Ok(true)
    }

    /// All files of a folder; what has no name of ours is left out.
    ///
    /// A file is left out only if it does not exist. One whose length or age cannot be determined
    /// is an error: the collector takes what is not listed for deleted.
    ///
    /// # Errors
    /// [`StorageError`]: the place failed.
    fn list(&self, folder: Folder) -> Result<Vec<Listed>, StorageError>;

    /// As [`Backend::list`], but a file whose length or age cannot be determined does not keep the
    /// others from being listed.
    ///
    /// # Errors
    /// [`StorageError`]: the folder itself cannot be listed.
    fn scan(&self, folder: Folder) -> Result<Vec<Seen>, StorageError> {
        let listed = self.list(folder)?;
        Ok(listed.into_iter().map(Seen::from).collect())
    }

    /// Removes a file; `false` if it was not there.
    ///
    /// # Errors
    /// [`StorageError`]: the place failed.
    fn remove(&self, key: &Key) -> Result<bool, StorageError>;

    /// Takes a lease. It is seen by [`Backend::leases`] when this returns.
    ///
    /// # Errors
    /// [`StorageError`]: the place failed.
    fn lease(&self) -> Result<Box<dyn Lease>, StorageError>;

    /// The leases that are held; those of processes that died are not.
    ///
    /// # Errors
    /// [`StorageError`]: the place failed.
    fn leases(&self) -> Result<BTreeSet<LeaseId>, StorageError>;

    /// Takes the right to collect garbage; `None` if someone has it.
    ///
    /// # Errors
    /// [`StorageError`]: the place failed.
    fn exclusive(&self) -> Result<Option<Box<dyn Exclusive>>, StorageError>;

    /// Whether everything that [`Backend::sweep`] and [`Backend::leases`] look at can be listed:
    /// asked before anything is removed, and by a dry run.
    ///
    /// # Errors
    /// [`StorageError`] of what cannot be.
    fn can_sweep(&self) -> Result<(), StorageError> {
        Ok(())
    }

    /// Removes what unfinished writes of processes that died have left; returns how many.
    ///
    /// # Errors
    /// [`StorageError`]: the place failed.
    fn sweep(&self) -> Result<u64, StorageError>;

    /// How many ranges are best read at the same time: more than one where each is waited for.
    fn reads_at_once(&self) -> usize {
        1
    }
}
