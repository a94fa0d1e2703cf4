//! Whole snapshots in a chunk store: push, pull, and what the store's collector must know of them.
//!
//! The hashes in a memory file's block table are the ids of its chunks, so a push reads and hashes
//! only blocks that the store does not have, and a pull fetches only what is nowhere at hand. What
//! stays of a snapshot beside its chunks (manifest, state, the tables of the memory file) is kept
//! by root, and hangs from the root of the manifest.
//!
//! Invariants: a tag is made when all that it needs is durable; a directory gets its name when
//! every byte in it was checked and is durable. Spec: `specs/chunk-store.md`.
//!
//! ```
//! use coldframe_chunks::LocalStore;
//! use coldframe_snapshot::{Chain, store};
//! # use coldframe_envelope::Producer;
//! # use coldframe_snapshot::import::{Source, import};
//! # use coldframe_units::{Arch, ByteLen, PageSize, RamLayout};
//! # let home = coldframe_testkit::scratch::on_disk();
//! # let (file, home) = (&home.path().join("guest.mem"), home.path());
//! # std::fs::write(file, vec![7; 1 << 20])?;
//! # let dump = &coldframe_snapshot::import::Dump::open(file)?;
//! # let source = Source {
//! #     dump,
//! #     arch: Arch::X86_64,
//! #     ram: RamLayout::contiguous(ByteLen::new(1 << 20))?,
//! #     page_size: PageSize::SIZE_4K,
//! #     parent: None,
//! #     holes: Default::default(),
//! #     state: None,
//! # };
//! # let producer = Producer::new("example", "1.0")?;
//! # let snapshot = import(source, &home.join("base"), producer, &mut |_| ())?;
//! let chunks = LocalStore::create(&home.join("store"))?;
//! let chain = Chain::of(snapshot, &[])?;
//! let tag = "nightly".parse()?;
//! let pushed = store::push(&chain, &chunks, &tag, store::Move::Forward, &mut |_| ())?;
//! assert_eq!(pushed.progress.blocks, 16);
//! assert_eq!(pushed.put.written, 1); // all sixteen are the same bytes
//!
//! let root = store::find(&chunks, "nightly")?;
//! let show = &mut |now: &store::Progress| println!("{} bytes", now.done_bytes);
//! let pulled = store::pull(&chunks, root, &home.join("here"), &[], show)?;
//! assert_eq!(pulled.youngest().root(), chain.youngest().root());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod find;
mod link;
mod nearby;
mod pull;
mod push;
mod tracer;

pub use error::TransferError;
pub use find::{Tagged, find, tagged};
pub use pull::{Pulled, PulledLink, pull};
pub use push::{Move, Pushed, push};
pub use tracer::SnapshotTracer;

/// How far a push or a pull is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of all blocks that have data.
    pub total_bytes: u64,
    /// Of these, what is done.
    pub done_bytes: u64,
    /// Blocks that are done.
    pub blocks: u64,
    /// Among them, those that had to be sent or fetched.
    pub moved: u64,
    /// The bytes of these, before compression.
    pub moved_bytes: u64,
}

impl Progress {
    fn count(&mut self, len: u64, is_moved: bool) {
        self.done_bytes += len;
        self.blocks += 1;
        if is_moved {
            self.moved += 1;
            self.moved_bytes += len;
        }
    }
}
