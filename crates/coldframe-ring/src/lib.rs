//! A write-ahead log in a ring: a bounded log in a region of any file, with group commit, for
//! writes that must survive a power cut.
//!
//! Invariants: what was acknowledged as durable is found again, in order, or its loss is an error
//! that names the place; nothing is found that was not appended; space of a record is used again
//! only after the control block that gave it up is on the disk; after one failed write or sync
//! nothing is acknowledged until the log is opened again. Normative text: `specs/ring-wal.md`.
//!
//! A disk that loses no acknowledged write, and pays one sync for each:
//!
//! ```
//! use std::path::Path;
//!
//! use coldframe_storage::{FileStorage, Storage};
//! use coldframe_units::{ByteLen, FileOffset};
//! use coldframe_ring::{Region, RingOptions, RingWal, Sequence};
//!
//! type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
//!
//! /// A disk image whose writes go to a log first.
//! struct Disk {
//!     image: FileStorage,
//!     log: RingWal<FileStorage>,
//! }
//!
//! impl Disk {
//!     /// Opens both, and writes again what a crash may have kept from the image.
//!     fn open(image: &Path, log: &Path) -> Result<Self> {
//!         let region = Region::new(FileOffset::ZERO, ByteLen::new(4 << 20))?;
//!         let options = RingOptions::SYNC_EACH;
//!         if !log.exists() {
//!             FileStorage::create(log)?;
//!         }
//!         let log = match RingWal::open(FileStorage::open(log)?, region, options) {
//!             // New, or a crash came before it was one.
//!             Err(error) if error.is_foreign() => {
//!                 RingWal::create(FileStorage::open(log)?, region, options)?
//!             }
//!             opened => opened?, // damage is an error with its place, a torn end is not
//!         };
//!         let mut disk = Self { image: FileStorage::open(image)?, log };
//!         let mut records = disk.log.records_after(Sequence::ZERO);
//!         while let Some(record) = records.next()? {
//!             let (sector, bytes) = record.payload.split_at(8);
//!             let sector = u64::from_le_bytes(sector.try_into()?);
//!             disk.image.write_at(FileOffset::new(sector * 512), bytes)?;
//!         }
//!         disk.checkpoint()?;
//!         Ok(disk)
//!     }
//!
//!     /// A write of the guest: once this returns, no power cut loses it.
//!     fn write(&mut self, sector: u64, bytes: &[u8]) -> Result<()> {
//!         let record = [&sector.to_le_bytes()[..], bytes].concat();
//!         if self.log.should_checkpoint() {
//!             self.checkpoint()?;
//!         }
//!         match self.log.append(&record) {
//!             Err(error) if error.is_full() => {
//!                 self.checkpoint()?;
//!                 self.log.append(&record)?
//!             }
//!             appended => appended?,
//!         };
//!         self.image.write_at(FileOffset::new(sector * 512), bytes)?;
//!         Ok(())
//!     }
//!
//!     /// Makes the image durable, and only then gives the records up.
//!     fn checkpoint(&mut self) -> Result<()> {
//!         self.image.sync_data()?;
//!         Ok(self.log.checkpoint(self.log.last_sequence())?)
//!     }
//! }
//!
//! # let dir = coldframe_testkit::scratch::on_disk();
//! # let (image, log) = (dir.path().join("disk.img"), dir.path().join("disk.wal"));
//! # std::fs::write(&image, [0; 8192])?;
//! let mut disk = Disk::open(&image, &log)?;
//! disk.write(3, &[0xab; 512])?;
//! drop(disk); // the power goes, and with it what the image had in the cache
//! # std::fs::write(&image, [0; 8192])?;
//! Disk::open(&image, &log)?;
//! assert_eq!(std::fs::read(&image)?[3 * 512..4 * 512], [0xab; 512]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What it does not do: no interpretation of payloads, and no threads of its own. A record that was
//! durable and is damaged is an error with its offset; a torn end is a number.
#![deny(missing_docs)]

#[cfg(not(target_pointer_width = "64"))]
compile_error!("coldframe supports 64-bit targets only");

mod append;
mod check;
mod checkpoint;
mod commit;
mod control;
mod create;
mod cursor;
mod error;
mod gather;
mod grow;
mod lock;
mod log;
mod note;
mod open;
mod options;
mod owner;
mod place;
mod progress;
mod reader;
mod recovery;
mod region;
mod repair;
mod rewrite;
mod state;
mod stats;
mod window;

pub use check::{Finding, Plan};
pub use cursor::{Entry, Records};
pub use error::RingError;
pub use log::RingWal;
pub use note::{NOTE_LEN_MAX, peek_note};
pub use options::{CheckpointPolicy, Durability, RingOptions};
pub use owner::{LAYOUTS, Owner};
pub use place::RingPlace;
pub use reader::{RingReader, Salvage, Salvaged};
pub use recovery::{Recovery, SlotState};
pub use region::{Region, Sequence};
pub use stats::RingStats;
