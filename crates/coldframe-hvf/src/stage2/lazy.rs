//! Memory that is filled when it is first touched.
//!
//! Invariants: a block is mapped only once it is whole, so the guest sees all of its contents or
//! faults; one thread fills it, others that want it wait; a block that could not be filled is
//! missing again, and never zeros.
//!
//! # Safety
//! A block is written to between being chosen and being mapped, by the thread that chose it.
#![allow(unsafe_code)]

use std::error::Error;
use std::ops::Range;
use std::ptr;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use coldframe_units::{BLOCK_BYTES, ByteLen, RamOffset};

use super::{Stage2, locked, memory};
use crate::calls::{Perms, VmCalls};
use crate::error::HvfError;

/// What is filled at a time: a block of the hashes, so that a fill can be verified by itself.
pub const FILL_BYTES: u64 = BLOCK_BYTES;

/// Where the contents of guest memory come from.
pub trait Contents: Send + Sync {
    /// Reads `into.len()` bytes from RAM offset `start` on; at most [`FILL_BYTES`], inside one
    /// block.
    ///
    /// # Errors
    /// Whatever it is: the block stays missing, and the thread that wanted it gets the error.
    fn read(&self, start: RamOffset, into: &mut [u8]) -> Result<(), Box<dyn Error + Send + Sync>>;
}

impl<F> Contents for F
where
    F: Fn(RamOffset, &mut [u8]) -> Result<(), Box<dyn Error + Send + Sync>> + Send + Sync,
{
    fn read(&self, start: RamOffset, into: &mut [u8]) -> Result<(), Box<dyn Error + Send + Sync>> {
        self(start, into)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    Missing,
    Filling,
    Present,
}

pub(super) struct Lazy<'m> {
    contents: Box<dyn Contents + 'm>,
    total: u64,
    blocks: Mutex<Vec<Block>>,
    changed: Condvar,
}

impl<'m> Lazy<'m> {
    pub(super) fn new(contents: Box<dyn Contents + 'm>, total: ByteLen) -> Self {
        // 64-bit targets only.
        let count = total.get().div_ceil(FILL_BYTES) as usize;
        Self {
            contents,
            total: total.get(),
            blocks: Mutex::new(vec![Block::Missing; count]),
            changed: Condvar::new(),
        }
    }

    /// The parts of a range of RAM offsets that are there.
    pub(super) fn present(&self, bytes: Range<u64>) -> Vec<Range<u64>> {
        let blocks = self.lock();
        let mut parts: Vec<Range<u64>> = Vec::new();
        for block in bytes.start / FILL_BYTES..bytes.end.div_ceil(FILL_BYTES) {
            if blocks.get(block as usize) != Some(&Block::Present) {
                continue;
            }
            let whole = self.bytes(block);
            let part = whole.start.max(bytes.start)..whole.end.min(bytes.end);
            match parts.last_mut() {
                Some(last) if last.end == part.start => last.end = part.end,
                _ => parts.push(part),
            }
        }
        parts
    }

    /// Waits while others fill a block; true if the caller has to.
    fn choose(&self, block: u64) -> bool {
        let mut blocks = self.lock();
        loop {
            let Some(state) = blocks.get_mut(block as usize) else {
                return false;
            };
            match state {
                Block::Present => return false,
                Block::Missing => {
                    *state = Block::Filling;
                    return true;
                }
                Block::Filling => {
                    let waited = self.changed.wait(blocks);
                    blocks = waited.unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    fn set(&self, block: u64, to: Block) {
        if let Some(state) = self.lock().get_mut(block as usize) {
            *state = to;
        }
        self.changed.notify_all();
    }

    fn bytes(&self, block: u64) -> Range<u64> {
        let start = block * FILL_BYTES;
        start..(start + FILL_BYTES).min(self.total)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Block>> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A block that was chosen; missing again if it goes without having been mapped.
struct Chosen<'l, 'm> {
    lazy: &'l Lazy<'m>,
    block: u64,
    to: Block,
}

impl Drop for Chosen<'_, '_> {
    fn drop(&mut self) {
        self.lazy.set(self.block, self.to);
    }
}

impl<C: VmCalls> Stage2<'_, C> {
    /// Has the blocks that these bytes touch filled and mapped; at once if they are.
    ///
    /// For devices, before they touch guest memory, and for a thread that brings in the rest.
    ///
    /// # Errors
    /// [`HvfError::Fill`], [`HvfError::Memory`]; the block is missing still.
    pub fn fill(&self, start: RamOffset, len: ByteLen) -> Result<(), HvfError> {
        let Some(lazy) = &self.lazy else {
            return Ok(());
        };
        let end = start.get().saturating_add(len.get()).min(lazy.total);
        for block in start.get() / FILL_BYTES..end.div_ceil(FILL_BYTES) {
            if lazy.choose(block) {
                let to = Block::Missing;
                let mut chosen = Chosen { lazy, block, to };
                self.fill_block(lazy, &mut chosen)?;
            }
        }
        Ok(())
    }

    /// Whether all of guest memory is there: only then can it be captured.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let whole = |lazy: &super::Lazy<'_>| lazy.lock().iter().all(|b| *b == Block::Present);
        self.lazy.as_ref().is_none_or(whole)
    }

    fn fill_block(&self, lazy: &Lazy<'_>, chosen: &mut Chosen<'_, '_>) -> Result<(), HvfError> {
        let bytes = lazy.bytes(chosen.block);
        let ram = RamOffset::new(bytes.start);
        let mut buffer = vec![0; (bytes.end - bytes.start) as usize];
        let read = lazy.contents.read(ram, &mut buffer);
        read.map_err(|source| HvfError::Fill { ram, source })?;
        let pieces = self.pieces(bytes);
        let mut rest = buffer.as_slice();
        for (_, len, host) in &pieces {
            let Some((part, behind)) = rest.split_at_checked(len.get() as usize) else {
                break;
            };
            // SAFETY: `pieces` lie inside the regions, which `Stage2::lazy` was promised; nobody
            // else touches a block that is not filled.
            unsafe { ptr::copy_nonoverlapping(part.as_ptr(), *host, part.len()) };
            rest = behind;
        }
        // From here to `Present` no harvest or disarming may come between, or the block would
        // have the permissions of before.
        let armed = locked(self.armed.read());
        let perms = if *armed {
            Perms::ReadExec
        } else {
            Perms::ReadWriteExec
        };
        for (done, (ipa, len, host)) in pieces.iter().enumerate() {
            // SAFETY: as promised to `Stage2::lazy`, until the value is dropped.
            let mapped = unsafe { self.vm.map(*host, *ipa, *len, perms) };
            if let Err(source) = mapped {
                for (ipa, len, _) in pieces.iter().take(done) {
                    let _ = self.vm.unmap(*ipa, *len);
                }
                return Err(memory("hv_vm_map", *ipa, *len)(source));
            }
        }
        chosen.to = Block::Present;
        lazy.set(chosen.block, Block::Present);
        drop(armed);
        Ok(())
    }
}
