//! What a power cut leaves of a file: the simulator behind every crash test.
//!
//! The model: bytes written before a sync that returned are there, whole; of each write after it
//! any of its sectors may be there or not, in any combination, and an absent one shows what was
//! there before, zeros, or rubbish; one may end in the middle. Bytes that no unsynced write covers
//! are never harmed: a sector is rewritten whole or not at all. Lengths are lost like writes.
//! Normative text: `specs/crash.md`.

mod content;
mod cuts;
mod dir;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod everywhere;
mod explore;
mod fates;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod hooks;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod recording;
mod states;
mod timeline;
mod trace;
mod trees;
mod violation;

use std::fmt;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use coldframe_storage::{MemStorage, Storage, StorageError};
use coldframe_units::{ByteLen, FileOffset};

pub use cuts::Cuts;
pub use dir::CrashDir;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub use everywhere::{Misbehaved, Work, fail_everywhere};
pub use explore::{Explored, ITERS, SEED, World, explore, find, planted, setting};
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub use recording::{HostCall, HostFault, Recording};
pub use states::CrashStates;
pub use timeline::Timeline;
pub use trace::{HostOp, NodeId, Trace, Tree};
pub use violation::{PowerCut, Violation};
pub(crate) use violation::{attempt, message_of};

/// The sector of most disks, in bytes.
pub const SECTOR_512: usize = 512;
/// The sector of newer disks, in bytes.
pub const SECTOR_4K: usize = 4096;

/// A call that changed the file, or promised that changes will last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// [`Storage::write_at`].
    Write {
        /// Where.
        offset: u64,
        /// What.
        bytes: Vec<u8>,
    },
    /// [`Storage::set_len`].
    SetLen(u64),
    /// [`Storage::sync_data`].
    Sync,
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { offset, bytes } => {
                write!(f, "write {} bytes at {offset:#x}", bytes.len())
            }
            Self::SetLen(len) => write!(f, "set length {len}"),
            Self::Sync => f.write_str("sync"),
        }
    }
}

/// Whether a sync after these operations is said to be done and is not: a planted bug.
pub type Drops = fn(&[Op]) -> bool;

/// A file that remembers all that was done to it, and what of that a power cut may leave.
#[derive(Debug)]
pub struct CrashStorage {
    initial: Vec<u8>,
    now: MemStorage,
    ops: Mutex<Vec<Op>>,
    drops: Option<Drops>,
}

impl CrashStorage {
    /// A file that holds `initial`, durably.
    #[must_use]
    pub fn new(initial: Vec<u8>) -> Self {
        Self {
            now: MemStorage::from_vec(initial.clone()),
            initial,
            ops: Mutex::new(Vec::new()),
            drops: None,
        }
    }

    /// The same, with syncs that are no syncs.
    #[must_use]
    pub fn lying(initial: Vec<u8>, drops: Option<Drops>) -> Self {
        Self {
            drops,
            ..Self::new(initial)
        }
    }

    /// How many operations there were: a moment that can be named later.
    #[must_use]
    pub fn operations(&self) -> usize {
        self.ops().len()
    }

    /// All operations, for the report of a failure.
    #[must_use]
    pub fn history(&self) -> Vec<Op> {
        self.ops().clone()
    }

    /// What a process sees now: what is left if only the process is killed.
    #[must_use]
    pub fn image(&self) -> Vec<u8> {
        self.now.to_vec()
    }

    /// What a power cut now may leave: at most `budget` images, with sectors of `sector` bytes;
    /// all there are if few sectors are unsynced, else the extremes and a sample by `seed`.
    #[must_use]
    pub fn crash_states(&self, sector: usize, seed: u64, budget: usize) -> CrashStates {
        self.crash_states_at(self.operations(), sector, seed, budget)
    }

    /// The same for a power cut after the first `moment` operations.
    #[must_use]
    pub fn crash_states_at(
        &self,
        moment: usize,
        sector: usize,
        seed: u64,
        budget: usize,
    ) -> CrashStates {
        let ops = self.ops();
        let past = &ops[..moment.min(ops.len())];
        CrashStates::new(self.initial.clone(), past, sector, seed, budget)
    }

    fn ops(&self) -> MutexGuard<'_, Vec<Op>> {
        self.ops.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Storage for CrashStorage {
    fn read_at(&self, offset: FileOffset, buf: &mut [u8]) -> Result<(), StorageError> {
        self.now.read_at(offset, buf)
    }

    fn write_at(&self, offset: FileOffset, bytes: &[u8]) -> Result<(), StorageError> {
        // The lock is held meanwhile: operations are recorded in the order of their effect.
        let mut ops = self.ops();
        self.now.write_at(offset, bytes)?;
        if !bytes.is_empty() {
            ops.push(Op::Write {
                offset: offset.get(),
                bytes: bytes.to_vec(),
            });
        }
        Ok(())
    }

    fn len(&self) -> Result<ByteLen, StorageError> {
        self.now.len()
    }

    fn set_len(&self, len: ByteLen) -> Result<(), StorageError> {
        let mut ops = self.ops();
        self.now.set_len(len)?;
        ops.push(Op::SetLen(len.get()));
        Ok(())
    }

    fn sync_data(&self) -> Result<(), StorageError> {
        let mut ops = self.ops();
        if !self.drops.is_some_and(|drops| drops(&ops)) {
            ops.push(Op::Sync);
        }
        Ok(())
    }

    fn path(&self) -> &Path {
        static NAME: std::sync::LazyLock<PathBuf> =
            std::sync::LazyLock::new(|| PathBuf::from("(crash storage)"));
        &NAME
    }
}
