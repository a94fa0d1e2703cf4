//! A copy-on-write block device over content-addressed chunks, with a log and checkpoints.
//!
//! For people who serve disks to virtual machines out of one store. A disk is a chunk index; what
//! is written to it is kept in 4 KiB pages in a ring WAL, from where it is read too, and becomes
//! chunks and a delta index when there is enough of it, or at a checkpoint. A flush that returned
//! survives a power cut. A checkpoint costs as much as changed, whatever the size of the disk, and
//! may be read while writing goes on.
//!
//! ```
//! use coldframe_block::{BlockDevice, DeviceOptions, DeviceParts, DiskImage, create, open_log};
//! use coldframe_chunks::LocalStore;
//! use coldframe_storage::Overwrite;
//! use coldframe_units::ByteLen;
//!
//! # let dir = coldframe_testkit::scratch::on_disk();
//! let store = LocalStore::create(&dir.path().join("store"))?;
//! let (head, monday) = ("root".parse()?, "root@monday".parse()?);
//! create(&store, &head, ByteLen::new(1 << 40))?;
//! let log = open_log(&dir.path().join("root.wal"), ByteLen::new(1 << 20))?;
//! let parts = DeviceParts { store: store.clone(), chunks: None, head, log, base: None };
//! let disk = BlockDevice::open(parts, DeviceOptions::USUAL)?;
//! disk.write_at(12345, b"frozen")?;
//! disk.flush()?; // it survives a power cut from here on
//! disk.checkpoint(&monday, Overwrite::Refuse)?;
//! disk.write_at(12345, b"thawed")?;
//!
//! let mut word = [0; 6];
//! DiskImage::open(&store, &monday, None)?.read_at(12345, &mut word)?;
//! assert_eq!(&word, b"frozen");
//! disk.close()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | feature | adds |
//! |---|---|
//! | `nbd` | [`BlockDevice`] and [`DiskImage`] are exports of coldframe-nbd's server |
//!
//! What it does not do: no encryption, no two writers of one disk at a time (the second learns so
//! when it brings changes into the store), no async. Spec: `specs/block.md`.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

#[cfg(not(target_pointer_width = "64"))]
compile_error!("coldframe supports 64-bit targets only");

mod base;
mod device;
mod error;
mod foreign;
mod image;
mod logfile;
mod logs;
#[cfg(feature = "nbd")]
mod nbd;
mod overlay;
mod record;
mod transfer;
mod usage;

pub use base::BaseFile;
pub use device::{
    BlockDevice, DeviceOptions, DeviceParts, DeviceStat, DiskView, Folded, LoggedDisk, LostRecords,
    OtherLog, Recovered, Shrink, ViewLog, check_log, recover,
};
pub use error::{BlockError, NotedLog};
pub use foreign::{ImageFormat, not_memory};
pub use image::DiskImage;
pub use logfile::open_log;
pub use logs::{LogFound, LostRange};
pub use record::{LAYOUTS, LogIdentity, PAGE_BYTES, Record, WRITE_BYTES_MAX};
pub use transfer::{ImportMode, ImportOptions, Imported, create, export, export_view, import};
pub use usage::{DiskUsage, usage};
