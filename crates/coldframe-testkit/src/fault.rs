//! Storage that fails on order: at the n-th call, at a byte, or by telling lies.
//!
//! Raw and vectored writes come in through the trait's own way over `write_at`, so they fail the
//! same. The write that hits the end of space leaves what still fitted, as a full disk does.

use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use coldframe_storage::{IoContext, Operation, Storage, StorageError};
use coldframe_units::{ByteLen, FileOffset};

/// "Interrupted function call", on every Unix (errno(3)).
pub const EINTR: i32 = 4;
/// "Input/output error", on every Unix (errno(3)).
pub const EIO: i32 = 5;
/// "No space left on device", on every Unix (errno(3)).
pub const ENOSPC: i32 = 28;

/// A kind of call that can be made to fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
    /// [`Storage::read_at`].
    Read,
    /// [`Storage::write_at`], and what ends there.
    Write,
    /// [`Storage::sync_data`].
    Sync,
}

/// What shall go wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The `nth` call of its kind (counted from 0) fails with `errno`, once.
    Nth {
        /// The kind of call.
        call: Call,
        /// Which one.
        nth: u64,
        /// With what (errno(3)).
        errno: i32,
    },
    /// Nothing fits at or behind this offset: the write that gets there is cut short and fails
    /// with [`ENOSPC`], as does `set_len` beyond it.
    FullAt(FileOffset),
    /// No byte from `offset` on can be read, `len` of them: a read of one fails with [`EIO`].
    Unreadable {
        /// Where.
        offset: FileOffset,
        /// How many.
        len: u64,
    },
    /// The byte at `offset` reads with the bits of `mask` flipped.
    Rot {
        /// Where.
        offset: FileOffset,
        /// Which bits.
        mask: u8,
    },
}

/// How many calls there were, the failed ones included.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// Calls of [`Storage::read_at`].
    pub reads: u64,
    /// Calls of [`Storage::write_at`], and what ended there.
    pub writes: u64,
    /// Calls of [`Storage::sync_data`].
    pub syncs: u64,
    /// Bytes that were written.
    pub bytes_written: u64,
}

/// Another storage, with faults.
#[derive(Debug)]
pub struct FaultStorage<S> {
    inner: S,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    faults: Vec<Fault>,
    counts: Counts,
}

impl<S: Storage> FaultStorage<S> {
    /// Wraps `inner`; `faults` may be none.
    #[must_use]
    pub fn new(inner: S, faults: &[Fault]) -> Self {
        let state = State {
            faults: faults.to_vec(),
            counts: Counts::default(),
        };
        Self {
            inner,
            state: Mutex::new(state),
        }
    }

    /// Orders one more fault.
    pub fn inject(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// Takes all orders back.
    pub fn heal(&self) {
        self.state().faults.clear();
    }

    /// How many calls there were so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.state().counts
    }

    /// The wrapped storage.
    #[must_use]
    pub const fn inner(&self) -> &S {
        &self.inner
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call, and says whether it shall fail.
    fn enter(&self, call: Call) -> io::Result<()> {
        let mut state = self.state();
        let count = match call {
            Call::Read => &mut state.counts.reads,
            Call::Write => &mut state.counts.writes,
            Call::Sync => &mut state.counts.syncs,
        };
        let this = *count;
        *count += 1;
        for fault in &state.faults {
            match *fault {
                Fault::Nth {
                    call: kind,
                    nth,
                    errno,
                } if kind == call && nth == this => {
                    return Err(io::Error::from_raw_os_error(errno));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn is_readable(&self, start: u64, count: u64) -> io::Result<()> {
        let state = self.state();
        let is_hit = |fault: &Fault| match *fault {
            Fault::Unreadable { offset, len } => {
                offset.get() < start + count && start < offset.get() + len
            }
            _ => false,
        };
        match state.faults.iter().any(is_hit) {
            true => Err(io::Error::from_raw_os_error(EIO)),
            false => Ok(()),
        }
    }

    /// How many of `len` bytes from `offset` on still fit.
    fn room(&self, offset: u64, len: u64) -> u64 {
        let state = self.state();
        let ends = state.faults.iter().filter_map(|fault| match fault {
            Fault::FullAt(end) => Some(end.get().saturating_sub(offset)),
            _ => None,
        });
        ends.min().unwrap_or(len).min(len)
    }
}

fn no_space() -> io::Error {
    io::Error::from_raw_os_error(ENOSPC)
}

impl<S: Storage> Storage for FaultStorage<S> {
    fn read_at(&self, offset: FileOffset, buf: &mut [u8]) -> Result<(), StorageError> {
        let len = ByteLen::new(buf.len() as u64);
        self.enter(Call::Read)
            .and_then(|()| self.is_readable(offset.get(), len.get()))
            .at(Operation::Read(offset, len), self.path())?;
        self.inner.read_at(offset, buf)?;
        for fault in &self.state().faults {
            if let Fault::Rot { offset: at, mask } = fault
                && let Some(index) = at.get().checked_sub(offset.get())
                && let Some(byte) = usize::try_from(index).ok().and_then(|i| buf.get_mut(i))
            {
                *byte ^= mask;
            }
        }
        Ok(())
    }

    fn write_at(&self, offset: FileOffset, bytes: &[u8]) -> Result<(), StorageError> {
        let len = bytes.len() as u64;
        let operation = Operation::Write(offset, ByteLen::new(len));
        self.enter(Call::Write).at(operation, self.path())?;
        let room = self.room(offset.get(), len);
        let fitting = usize::try_from(room).map_or(bytes, |room| &bytes[..room]);
        if !fitting.is_empty() {
            self.inner.write_at(offset, fitting)?;
        }
        self.state().counts.bytes_written += room;
        if room < len {
            Err(no_space()).at(operation, self.path())
        } else {
            Ok(())
        }
    }

    fn len(&self) -> Result<ByteLen, StorageError> {
        self.inner.len()
    }

    fn set_len(&self, len: ByteLen) -> Result<(), StorageError> {
        if self.room(0, len.get()) < len.get() {
            return Err(no_space()).at(Operation::SetLen(len), self.path());
        }
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> Result<(), StorageError> {
        self.enter(Call::Sync).at(Operation::Sync, self.path())?;
        self.inner.sync_data()
    }

    fn path(&self) -> &Path {
        self.inner.path()
    }
}
