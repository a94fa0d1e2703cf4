//! Who copies a block of a running guest into a capture.
//!
//! At the moment of the capture all of memory is put under write protection. After that a block is
//! copied by the first to come: the thread that goes through memory, or the one that answers a
//! write to the block. Nobody lifts the protection of a block before its copy is complete: a write
//! that got in between would be in the capture, or be half in it.
//!
//! Invariant: a block goes from untouched to claimed to copied, and never back, but for a copy that
//! failed, which cancels the whole capture. "Copied" is set after the last byte was read.

use crate::geometry::BlockIndex;
use crate::sync::{AtomicU8, Ordering};

const UNTOUCHED: u8 = 0;
const CLAIMED: u8 = 1;
const COPIED: u8 = 2;

/// A state for each block of memory.
#[derive(Debug)]
pub struct Claims {
    blocks: Box<[AtomicU8]>,
    /// 1 when the capture is of no use any more.
    cancelled: AtomicU8,
}

/// What has become of an attempt to claim a block.
#[derive(Debug)]
#[must_use = "a block that was claimed has to be copied"]
pub enum Claimed<'a> {
    /// It is this caller's to copy.
    Mine(Claim<'a>),
    /// Another is copying it: its protection stays until that is done.
    InProgress,
    /// It is copied: its protection may be lifted.
    Copied,
    /// The capture is cancelled: the protection of every block may be lifted.
    Cancelled,
}

/// A block that one caller copies. Dropped without [`Claim::copied`], it cancels the capture: what
/// is not in it as it was cannot be had any more.
#[derive(Debug)]
pub struct Claim<'a> {
    claims: &'a Claims,
    block: &'a AtomicU8,
}

impl Claims {
    /// All untouched.
    #[must_use]
    pub fn new(blocks: u64) -> Self {
        Self {
            blocks: (0..blocks).map(|_| AtomicU8::new(UNTOUCHED)).collect(),
            cancelled: AtomicU8::new(0),
        }
    }

    /// Claims a block. One past the end is copied, as there is nothing of it.
    pub fn claim(&self, block: BlockIndex) -> Claimed<'_> {
        if self.is_cancelled() {
            return Claimed::Cancelled;
        }
        let index = usize::try_from(block.get()).unwrap_or(usize::MAX);
        let Some(block) = self.blocks.get(index) else {
            return Claimed::Copied;
        };
        // Acquire: who finds "copied" lifts the protection after the copy was made.
        let claimed =
            block.compare_exchange(UNTOUCHED, CLAIMED, Ordering::Acquire, Ordering::Acquire);
        match claimed {
            Ok(_) => Claimed::Mine(Claim {
                claims: self,
                block,
            }),
            Err(COPIED) => Claimed::Copied,
            Err(_) => Claimed::InProgress,
        }
    }

    /// Pages of a block go away. True if the capture goes on: the block is copied. Otherwise the
    /// capture is cancelled, as the block's bytes are lost with the pages.
    pub fn removed(&self, block: BlockIndex) -> bool {
        let index = usize::try_from(block.get()).unwrap_or(usize::MAX);
        let is_copied = match self.blocks.get(index) {
            Some(block) => block.load(Ordering::Acquire) == COPIED,
            None => true,
        };
        if !is_copied {
            self.cancel();
        }
        is_copied && !self.is_cancelled()
    }

    /// Cancels the capture.
    pub fn cancel(&self) {
        self.cancelled.store(1, Ordering::Release);
    }

    /// Whether the capture is of no use any more.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire) != 0
    }

    /// Whether every block is copied, and the capture not cancelled.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let is_copied = |block: &AtomicU8| block.load(Ordering::Acquire) == COPIED;
        self.blocks.iter().all(is_copied) && !self.is_cancelled()
    }
}

impl Claim<'_> {
    /// The last byte of the block was read.
    pub fn copied(self) {
        // Release: whoever finds this comes after all that was read.
        self.block.store(COPIED, Ordering::Release);
        std::mem::forget(self);
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.claims.cancel();
    }
}
