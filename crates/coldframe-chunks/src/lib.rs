//! A content-addressed chunk store: local packs, caches, tags, verification, garbage collection.
//!
//! For people who keep many disks and snapshots that are mostly the same bytes. Each chunk is kept
//! once, under the BLAKE3 hash of its bytes, and checked whenever it is read; many are made durable
//! by one sync. What is missing or damaged is an error that names it, and putting it again heals
//! the store. The collector runs beside those who push.
//!
//! ```
//! use bytes::Bytes;
//! use coldframe_chunks::{Chunk, ChunkStore, LocalStore};
//!
//! # let dir = coldframe_testkit::scratch::on_disk();
//! let store = LocalStore::create(dir.path())?;
//! let chunk = Chunk::new(Bytes::from_static(b"frozen"))?;
//! assert_eq!(store.put(&chunk)?.written, 1);
//! assert_eq!(store.put(&chunk)?.deduplicated, 1);
//! assert_eq!(store.get(chunk.id())?, chunk.bytes());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | what you have | what you take |
//! |---|---|
//! | a directory | [`LocalStore`] |
//! | a URL that someone gave you | [`open`], [`create`], [`AnyStore`] |
//! | another place for files | [`PackStore`] over your [`Backend`] |
//! | another store, or a cache before it | your [`ChunkStore`], [`DiskCache`], [`Layers`] |
//! | many chunks, an index, a tag | [`Push`] |
//! | blocks of a file or a disk | [`Push::put_read`], [`ChunkStore::visit_many`] |
//! | a file of a format of yours | [`Push::keep`], [`PackStore::kept`], your [`Tracer`] |
//! | a disk or RAM image to read | [`Image`] |
//! | a store that is far away | [`PackStore::with_cache`] |
//!
//! Features: `zstd` (default) reads and writes Zstandard, by C code; without it such chunks are
//! refused by name. `remote` adds `Remote`: stores in S3, Google Cloud Storage, Azure Blob Storage
//! and memory, and of web servers with WebDAV, read-only. It brings tokio, reqwest and rustls along
//! with ring; one thread runs all requests, and no function is async. Unless the program has chosen
//! its provider of TLS, ring becomes the one of the process.
//!
//! What it does not do: no encryption, no block device. Specs: `specs/chunk-store.md`,
//! `specs/chunk-pack.md`, `specs/chunk-index.md`.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

#[cfg(not(target_pointer_width = "64"))]
compile_error!("coldframe supports 64-bit targets only");

mod any;
mod backend;
mod cache;
mod catalog;
mod chunk;
mod collect;
mod compact;
mod compress;
mod directory;
mod disk_cache;
mod error;
mod image;
mod keep;
mod known;
mod layers;
mod ledger;
mod log_note;
mod new_ledger;
mod prepare;
mod publisher;
mod push;
mod read;
#[cfg(feature = "remote")]
mod remote;
mod roots;
mod stat;
mod store;
mod tags;
mod trace;
mod url;
mod verify;
mod visit;
mod walk;

pub use any::{AnyBackend, AnyStore, create, open};
pub use backend::{
    Backend, Exclusive, FileId, Folder, Key, Lease, LeaseId, Listed, NewFile, Seen, TagName,
};
pub use cache::CacheCount;
pub use chunk::{Chunk, ChunkStat, ChunkStore, PutCount, Visitor, is_zero};
pub use collect::{CollectOptions, Collected};
pub use directory::Directory;
pub use disk_cache::DiskCache;
pub use error::{ChunkDamage, StoreError, TagNameError};
pub use image::{ANCESTORS_MAX, BlockData, Image, Located, Parts, Unreadable};
pub use layers::{Layer, Layers};
pub use log_note::LogNote;
pub use new_ledger::NewLedger;
pub use push::{Block, Push};
#[cfg(feature = "remote")]
pub use remote::{RETRYING, Remote, RemoteConnector, RemoteOptions};
pub use stat::{StoreStat, TagStat};
pub use store::{LocalStore, Options, PackStore, STORE_FORMAT};
pub use trace::{Reference, Tracer};
pub use url::{Service, StoreUrl, StoreUrlError};
pub use verify::{Finding, Verified};
