//! Raw dumps of guest memory, of and for other programs: the regions back to back, RAM offset `x`
//! at file offset `x`.
//!
//! Invariant: the dump is read by pread(2), never mapped: it is another program's file, which may
//! change or be cut at any time.

mod dump;
mod export;
mod import;

pub use dump::{DiffHoles, Dump, HoleDoubt};
pub use export::{Holes, export_raw};
pub use import::{DumpParent, import_raw};

use coldframe_storage::StorageError;

use crate::MemError;

/// Bytes read or written at a time.
const STEP_BYTES: u64 = 1 << 20;

fn write_pages(source: StorageError) -> MemError {
    MemError::WritePages { source }
}
