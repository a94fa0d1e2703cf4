//! Looking for every damage of a memory file, going on after the first.
//!
//! Invariant: a file in which nothing is found has the bytes that it was finished with, holes and
//! padding included, as far as BLAKE3 tells bytes apart.

use std::fmt;
use std::ops::Range;

use coldframe_envelope::{DecodeError, DecodeErrorKind, Limits};
use coldframe_memfile::{BlockPlan, Blocks, Extents, MemFile};
use coldframe_storage::{Storage, StorageError};
use coldframe_units::{BLOCK_BYTES, ByteLen, FileOffset};

use crate::{MemError, MemoryFile, hash, sys};

/// Something in a file that is not as it was written.
#[derive(Debug)]
pub struct Damage {
    /// Where in the file it was seen.
    pub offset: FileOffset,
    /// What it is.
    pub kind: DamageKind,
}

/// What is damaged.
#[derive(Debug)]
#[non_exhaustive]
pub enum DamageKind {
    /// A table, or the header.
    Table(DecodeErrorKind),
    /// The bytes of a block are not those that were hashed.
    Block {
        /// The block's number, counted in 64 KiB of RAM.
        block: u64,
    },
    /// A byte that must be zero is not: in a hole, or between header and data.
    NotZero,
    /// Bytes that the host does not give out.
    Unreadable(StorageError),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offset = self.offset;
        match &self.kind {
            DamageKind::Table(kind) => write!(f, "{kind} at offset {offset}"),
            DamageKind::Block { block } => {
                write!(
                    f,
                    "block {block} does not match its hash, data at offset {offset}"
                )
            }
            DamageKind::NotZero => write!(f, "a byte that must be zero is not, at offset {offset}"),
            DamageKind::Unreadable(error) => write!(f, "{error}"),
        }
    }
}

/// Checks every byte of a memory file; the damages come in rising offset.
///
/// One line is told for each damaged block, and one for each 64 KiB of a hole. Holes that the file
/// system knows are not read. Everything is read by pread(2): what the disk does not give is a
/// damage too.
#[must_use]
pub fn verify_deep(file: &MemoryFile) -> Vec<Damage> {
    let file_bytes = file.len().get();
    let _span = tracing::info_span!("verify_deep", file_bytes).entered();
    let mut found = Vec::new();
    if let Err(error) = verify(file, &mut found) {
        found.push(table(error));
    }
    found.sort_by_key(|damage| damage.offset);
    found.dedup_by(|next, previous| match (&next.kind, &previous.kind) {
        // Many blocks may ask for the same damaged page of the table.
        (DamageKind::Table(next_kind), DamageKind::Table(kind)) => {
            next.offset == previous.offset && next_kind == kind
        }
        _ => false,
    });
    tracing::info!(
        path = %file.path().display(),
        file_bytes,
        damages = found.len(),
        "memory file verified"
    );
    found
}

const fn table(error: DecodeError) -> Damage {
    Damage {
        offset: FileOffset::new(error.offset),
        kind: DamageKind::Table(error.kind),
    }
}

/// The error is one after which nothing more can be known.
fn verify(file: &MemoryFile, found: &mut Vec<Damage>) -> Result<(), DecodeError> {
    let (offset, tail) = match file.tail() {
        Ok(tail) => tail,
        Err(MemError::Decode { source, .. }) => return Err(source),
        Err(MemError::ReadSource { source }) => {
            found.push(unreadable(FileOffset::ZERO, source));
            return Ok(());
        }
        Err(_) => unreachable!("reading has no other errors"),
    };
    let limits = Limits::MEMORY_FILE;
    let view = MemFile::from_parts(file.header(), &tail, offset, limits)?;
    if let Err(error) = view.verify_tables() {
        found.push(table(error));
    }
    let extents = view.extents()?;
    for (offset, len) in view.gaps(&extents) {
        verify_zero(file, offset, len, found);
    }
    match view.blocks() {
        Ok(blocks) => verify_blocks(file, &extents, &blocks, found),
        Err(error) => found.push(table(error)),
    }
    Ok(())
}

fn verify_blocks(
    file: &MemoryFile,
    extents: &Extents<'_>,
    blocks: &Blocks<'_>,
    found: &mut Vec<Damage>,
) {
    let check = |plan: &BlockPlan, data: Result<&[u8], StorageError>| {
        let offset = plan.data().next().map_or(FileOffset::ZERO, |(at, _)| at);
        let block = plan.block();
        let damage = |kind| Some(Damage { offset, kind });
        match (blocks.get(block), data) {
            (Err(error), _) => Some(table(error)),
            (_, Err(error)) => damage(DamageKind::Unreadable(error)),
            (Ok(Some(row)), Ok(data)) if row.matches(plan, data) == Ok(true) => None,
            _ => damage(DamageKind::Block { block }),
        }
    };
    let damages = hash::map_blocks(file, None, extents.block_plans(), check);
    found.extend(damages.into_iter().flatten());
}

const fn unreadable(offset: FileOffset, error: StorageError) -> Damage {
    let kind = DamageKind::Unreadable(error);
    Damage { offset, kind }
}

/// Checks that a stretch of the file is zero; what the file system knows to be a hole is not read.
fn verify_zero(file: &MemoryFile, offset: FileOffset, len: ByteLen, found: &mut Vec<Damage>) {
    let range = offset.get()..offset.get() + len.get();
    let mut parts = Vec::new();
    let storage = match file.storage() {
        Ok(storage) => storage,
        Err(error) => return found.push(unreadable(offset, error)),
    };
    // The cursor that this moves is used by nobody: the file is read by position only.
    if let Err(source) = sys::data_parts(&storage, &range, |part| parts.push(part)) {
        let error = StorageError::Read {
            path: file.path().to_path_buf(),
            offset,
            len,
            source,
        };
        found.push(unreadable(offset, error));
    }
    let mut buf = vec![0; BLOCK_BYTES as usize];
    for part in parts {
        for start in part.clone().step_by(buf.len()) {
            let end = part.end.min(start + BLOCK_BYTES);
            found.extend(check_zero(&*storage, &(start..end), &mut buf));
        }
    }
}

fn check_zero(storage: &dyn Storage, range: &Range<u64>, buf: &mut [u8]) -> Option<Damage> {
    let buf = &mut buf[..(range.end - range.start) as usize];
    let offset = FileOffset::new(range.start);
    if let Err(error) = storage.read_at(offset, buf) {
        return Some(unreadable(offset, error));
    }
    let index = buf.iter().position(|byte| *byte != 0)?;
    Some(Damage {
        offset: FileOffset::new(range.start + index as u64),
        kind: DamageKind::NotZero,
    })
}
