//! A directory of shuru-store 0.2.0: chunks named by their hash, and the index of a disk.
//!
//! An index is `u64 disk size | u64 chunks | u32 length, parent's path | u32 length, path of the
//! flat image | chunks x (u32 length, text)`; the text is `ZERO` (ask the parent, then the flat
//! image, else zeros) or the hash in hexadecimal digits. Integers are little-endian.
//!
//! Invariants: a text that is no hash is refused, so nothing in an index names a chunk's file but
//! its hash; nothing is allocated that the file is not long enough for.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use coldframe_units::{BLOCK_BYTES, ChunkId};

/// The longest index that is read: that of a disk of 1 TiB.
const INDEX_BYTES_MAX: u64 = (1 << 24) * 68 + (1 << 20);

/// The longest chain of parents.
const PARENTS_MAX: usize = 1024;

/// Why a directory cannot be taken over.
#[derive(Debug, thiserror::Error)]
pub enum ShuruError {
    /// A file cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is no index.
    #[error("{} is no index of shuru-store: {what}", path.display())]
    Index {
        /// Which.
        path: PathBuf,
        /// What does not hold.
        what: &'static str,
    },
    /// Parents lead back to one that was seen, or are too many.
    #[error("the parents of {} lead round, or are more than {PARENTS_MAX}", path.display())]
    Cycle {
        /// Where.
        path: PathBuf,
    },
    /// An index names a file outside of the directory.
    #[error("{} names {}, which is outside of the directory: allow it with --trust-paths",
        index.display(), path.display())]
    Outside {
        /// The index.
        index: PathBuf,
        /// What it names.
        path: PathBuf,
    },
    /// The flat image is longer than the disk.
    #[error("{} has {len} bytes, more than the disk's {disk}", path.display())]
    Fallback {
        /// The flat image.
        path: PathBuf,
        /// Its length.
        len: u64,
        /// The disk's.
        disk: u64,
    },
}

/// One index.
#[derive(Debug)]
pub struct Index {
    pub disk_size: u64,
    parent: Option<PathBuf>,
    fallback: Option<PathBuf>,
    slots: Vec<Option<ChunkId>>,
}

/// An index with its parents, the nearest first, and the flat image below them.
#[derive(Debug)]
pub struct Disk {
    chain: Vec<Index>,
    pub fallback: Option<PathBuf>,
}

impl Disk {
    /// Reads an index and all its parents. What they name must be in `dir`, unless it is `None`.
    pub fn open(index: &Path, dir: Option<&Path>) -> Result<Self, ShuruError> {
        let mut seen = BTreeSet::new();
        let mut chain: Vec<Index> = Vec::new();
        let mut fallback = None;
        let mut next = Some(index.to_path_buf());
        while let Some(path) = next {
            let real = path
                .canonicalize()
                .map_err(|source| read_error(&path, source))?;
            if chain.len() > PARENTS_MAX || !seen.insert(real) {
                return Err(ShuruError::Cycle { path });
            }
            let index = read(&path)?;
            next = follow(&path, index.parent.as_deref(), dir)?;
            if fallback.is_none() {
                fallback = follow(&path, index.fallback.as_deref(), dir)?;
            }
            chain.push(index);
        }
        let disk = Self { chain, fallback };
        if let Some(path) = &disk.fallback {
            let metadata = fs::metadata(path).map_err(|source| read_error(path, source))?;
            let (len, size) = (metadata.len(), disk.size());
            if len > size {
                let path = path.clone();
                return Err(ShuruError::Fallback {
                    path,
                    len,
                    disk: size,
                });
            }
        }
        Ok(disk)
    }

    /// Bytes of the disk.
    pub fn size(&self) -> u64 {
        self.chain.first().map_or(0, |index| index.disk_size)
    }

    /// Blocks of the disk.
    pub fn blocks(&self) -> u64 {
        self.size().div_ceil(BLOCK_BYTES)
    }

    /// How many parents there are.
    pub fn parents(&self) -> usize {
        self.chain.len().saturating_sub(1)
    }

    /// The chunk of a block; `None` if no index says any.
    pub fn chunk(&self, block: u64) -> Option<ChunkId> {
        let block = usize::try_from(block).ok()?;
        let mut slots = self.chain.iter().map(|index| index.slots.get(block));
        slots.find_map(|slot| slot.copied().flatten())
    }
}

/// The one index right in a directory; `None` if there is none, or a choice. A file that cannot be
/// read may be one.
pub fn only_index(dir: &Path) -> Result<Option<PathBuf>, ShuruError> {
    let failed = |source| read_error(dir, source);
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => {}
            Ok(_) => continue,
            // A link to nothing.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(read_error(&path, error)),
        }
        match read(&path) {
            Ok(_) => found.push(path),
            Err(ShuruError::Index { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(match found.len() {
        1 => found.pop(),
        _ => None,
    })
}

/// The path that an index names: against the index's own directory, as a parent moves with its
/// child; else against the working directory, as shuru-store itself takes it.
fn follow(
    index: &Path,
    named: Option<&Path>,
    dir: Option<&Path>,
) -> Result<Option<PathBuf>, ShuruError> {
    let Some(named) = named else {
        return Ok(None);
    };
    let beside = index.parent().unwrap_or(Path::new("")).join(named);
    let is_beside = beside.try_exists();
    let path = match is_beside.map_err(|source| read_error(&beside, source))? {
        true => beside,
        false => named.to_path_buf(),
    };
    let Some(dir) = dir else {
        return Ok(Some(path));
    };
    let real = |path: &Path| {
        path.canonicalize()
            .map_err(|source| read_error(path, source))
    };
    if real(&path)?.starts_with(real(dir)?) {
        return Ok(Some(path));
    }
    let index = index.to_path_buf();
    Err(ShuruError::Outside { index, path })
}

fn read_error(path: &Path, source: io::Error) -> ShuruError {
    let path = path.to_path_buf();
    ShuruError::Read { path, source }
}

fn read(path: &Path) -> Result<Index, ShuruError> {
    let failed = |source| read_error(path, source);
    let metadata = fs::metadata(path).map_err(failed)?;
    let bad = |what| ShuruError::Index {
        path: path.to_path_buf(),
        what,
    };
    if !metadata.is_file() || metadata.len() > INDEX_BYTES_MAX {
        return Err(bad("it is no file, or too long"));
    }
    decode(&fs::read(path).map_err(failed)?).map_err(bad)
}

fn decode(bytes: &[u8]) -> Result<Index, &'static str> {
    let mut rest = bytes;
    let disk_size = u64::from_le_bytes(take_array(&mut rest)?);
    let count = u64::from_le_bytes(take_array(&mut rest)?);
    if count != disk_size.div_ceil(BLOCK_BYTES) {
        return Err("the count of chunks does not match the size of the disk");
    }
    let parent = take_path(&mut rest)?;
    let fallback = take_path(&mut rest)?;
    // Every slot has at least its length and `ZERO`.
    if count > rest.len() as u64 / 8 {
        return Err("it is cut short");
    }
    let mut slots = Vec::with_capacity(count as usize);
    for _ in 0..count {
        slots.push(match take_text(&mut rest)? {
            b"ZERO" => None,
            text => Some(hash(text)?),
        });
    }
    Ok(Index {
        disk_size,
        parent,
        fallback,
        slots,
    })
}

fn hash(text: &[u8]) -> Result<ChunkId, &'static str> {
    let text = std::str::from_utf8(text).ok();
    let id = text.and_then(|text| text.parse().ok());
    id.ok_or("a slot is neither ZERO nor a hash")
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Result<&'a [u8], &'static str> {
    let (head, tail) = rest.split_at_checked(len).ok_or("it is cut short")?;
    *rest = tail;
    Ok(head)
}

fn take_array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], &'static str> {
    let bytes = take(rest, N)?;
    bytes.try_into().map_err(|_| "it is cut short")
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], &'static str> {
    let len = u32::from_le_bytes(take_array(rest)?);
    take(rest, len as usize)
}

fn take_path(rest: &mut &[u8]) -> Result<Option<PathBuf>, &'static str> {
    let text = take_text(rest)?;
    let text = std::str::from_utf8(text).map_err(|_| "a path is not UTF-8")?;
    Ok((!text.is_empty()).then(|| PathBuf::from(text)))
}
