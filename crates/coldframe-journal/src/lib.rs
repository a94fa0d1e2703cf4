//! The typed journal: what happened, in order, in entries of one's own types.
//!
//! Invariants: an entry is whole or absent, a batch of entries too; [`JournalWriter::flush`]
//! returns after the disk has everything (fdatasync(2)), and after one that failed the journal
//! takes no more; a journal has one writer; a reader never writes. Torn, corrupt, unsupported and
//! clean are four different [`End`]s. Spec: `specs/journal.md`.
//!
//! A program brings its own entries: structs that derive rkyv's traits, each with a number.
//!
//! ```
//! use coldframe_journal::{
//!     Entry, EntrySet, JournalOptions, JournalReader, JournalWriter, Next, Schema, TypeId,
//! };
//! use coldframe_journal::kinds::ConsoleInput;
//! use rkyv::{Archive, Deserialize, Serialize};
//!
//! /// What the guest read from our entropy device.
//! #[derive(Archive, Serialize, Deserialize)]
//! struct Entropy {
//!     progress: u64,
//!     bytes: Vec<u8>,
//! }
//!
//! impl Entry for Entropy {
//!     const TYPE: TypeId = TypeId::must_understand(0x1000);
//! }
//!
//! /// All that a replay needs.
//! enum Inputs {}
//!
//! impl EntrySet for Inputs {
//!     const SCHEMA: Schema = Schema::new("my-vmm");
//!     const TYPES: &'static [TypeId] = &[ConsoleInput::TYPE, Entropy::TYPE];
//! }
//!
//! # let dir = coldframe_testkit::scratch::on_disk();
//! # let path = dir.path().join("journal");
//! let mut journal = JournalWriter::<Inputs>::create(&path, JournalOptions::new()?)?;
//! journal.append(&Entropy { progress: 7, bytes: vec![4; 16] })?;
//! journal.append(&ConsoleInput { progress: 9, console: 0, bytes: b"ls\n".to_vec() })?;
//! journal.flush()?; // on the disk
//!
//! let mut replay = JournalReader::<Inputs>::open(&path)?;
//! let end = loop {
//!     match replay.read()? {
//!         Next::Entry(entry) if entry.is::<Entropy>() => {
//!             let input = entry.archived::<Entropy>()?; // borrowed, not copied
//!             println!("at {}: {} random bytes", input.progress, input.bytes.len());
//!         }
//!         Next::Entry(entry) => println!("{} at {}", entry.type_id(), entry.span().start),
//!         Next::End(end) => break end, // clean, torn, corrupt or unsupported
//!     }
//! };
//! assert!(end.is_clean());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | what you want | what you take |
//! |---|---|
//! | a set of entries with its layouts, sizes checked | [`entries!`] |
//! | all or nothing across a crash | [`Batch`] and [`JournalWriter::commit`], or [`Transaction`] |
//! | a journal in memory | [`JournalWriter::create_in`] on a [`coldframe_storage::MemStorage`] |
//! | to follow one that grows | [`JournalReader::refresh`], [`JournalReader::is_replaced`] |
//! | what is behind damage | [`JournalReader::resume`] |
//! | a shorter one | [`JournalWriter::begin_compaction`], [`core_scope`] |
//! | one that stays short by itself | [`Compacting`], [`CompactWhen`] |
//! | some entries only, copies, counts, prints | [`Filtered`], [`Tee`], [`Counting`], [`Printer`] |
//!
//! What it does not do: no threads of its own unless [`Compacting`] is asked for.
#![deny(missing_docs)]

#[cfg(not(target_pointer_width = "64"))]
compile_error!("coldframe supports 64-bit targets only");

mod adapters;
mod batch;
mod compact;
mod compacting;
mod end;
mod entries;
mod entry;
mod error;
mod flow;
mod image;
pub mod kinds;
mod look;
mod options;
mod place;
mod print;
mod reader;
mod supersede;
mod window;
mod writer;

pub use adapters::{Counting, Filtered, NullSink, Tee, Transaction};
pub use batch::Batch;
pub use coldframe_walframe::journal::{Schema, TypeId};
pub use compact::{CompactWhen, Compacted, Compaction, Rewritten, compact};
pub use compacting::Compacting;
pub use end::{End, Unsupported};
pub use entry::{AnyEntries, Entry, EntryRef, EntrySet, Span};
pub use error::{EntryError, JournalError};
pub use flow::{Copied, Next, Sink, Source, copy};
pub use image::{Applied, ImageError, apply_memory};
pub use options::{Durability, JournalOptions};
pub use print::{Description, Printer, Style, Value, describe_core, line_of};
pub use reader::{Gap, JournalReader};
pub use supersede::{Scope, core_scope};
pub use writer::{JournalWriter, Recovered};

/// What [`entries!`] needs where it is used.
#[doc(hidden)]
pub mod __private {
    pub use coldframe_envelope::{Layout, field};
    pub use rkyv;
}
