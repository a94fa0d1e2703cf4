//! Positional storage, atomic publishing, and zero-copy mapped files.
//!
//! For anyone who writes files that must be whole or absent: every read and write names its own
//! offset (there is no cursor to share), a file gets its final name only after it is synced, and
//! what was published can be mapped and handed out as [`bytes::Bytes`] without a copy.
//!
//! ```
//! use coldframe_storage::{ByteSource, Overwrite, PendingFile, Storage};
//! use coldframe_units::{ByteLen, FileOffset};
//!
//! # let dir = coldframe_testkit::scratch::on_disk();
//! let pending = PendingFile::create(&dir.path().join("x.snap"), Overwrite::Refuse)?;
//! pending.write_at(FileOffset::new(3), b"frozen")?; // nothing is named x.snap yet
//! let mapped = pending.publish()?.map()?; // sync, rename, sync the directory
//! let word = mapped.bytes(FileOffset::new(3), ByteLen::new(6))?;
//! drop(mapped);
//! assert_eq!(&word[..], b"frozen"); // the bytes keep the mapping alive
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | what you have | what you take |
//! |---|---|
//! | a file to read or write in place | [`FileStorage`], or [`MemStorage`] in memory |
//! | a new file, or a directory of files | [`PendingFile`], [`PendingDir`] |
//! | a published file to read | [`PreadSource`]; [`MappedFile`] where it is mapped into a guest |
//! | a path that someone else named | [`open_regular`], [`read_small`]: never wait for a FIFO |
//! | a directory that must outlast a power cut | [`create_dir_all`], [`sync_directory`] |
//! | a file to lock, made if need be | [`open_or_create`] |
//! | memory that others write to meanwhile | [`RawPart`] and [`Storage::write_raw_at`] |
//! | temporary files of processes that died | [`sweep_stale`] |
//! | a signal that ends the process | [`discard_living`] |
//!
//! What it does not do: no caching, no async, no retry but of interrupted calls, no format of its
//! own. Spec: `specs/conventions.md`.
#![deny(missing_docs)]

#[cfg(not(target_pointer_width = "64"))]
compile_error!("coldframe supports 64-bit targets only");

mod directory;
mod error;
mod file;
mod living;
mod lock;
mod mapped;
mod memory;
mod open;
mod owner;
mod publish;
mod random;
mod raw;
mod rename;
mod retract;
mod source;
mod storage;
mod temporary;
mod unreadable;

pub use directory::{create_dir_all, sync_directory, sync_name};
pub use error::{IoContext, Operation, StorageError};
pub use file::FileStorage;
pub use living::discard_living;
pub use lock::{lock, try_lock};
pub use mapped::{MapPolicy, MappedFile};
pub use memory::MemStorage;
pub use open::{Access, open_or_create, open_regular, read_small, refuse_unmeasured};
pub use publish::{Overwrite, PendingDir, PendingFile, PublishedFile};
pub use random::fill_random;
pub use raw::RawPart;
pub use rename::{rename_new, replace_in_cache};
pub use retract::{remove_durably, retract, retract_sealed};
pub use source::{ByteSource, PreadSource};
pub use storage::Storage;
pub use temporary::{Swept, is_temporary, sweep_stale};
pub use unreadable::{ReadAround, Unreadable, read_around};
