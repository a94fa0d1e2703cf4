//! One writer, or any number of readers: flock(2) on the file that the log is in.
//!
//! The lock belongs to the open file, not to its name: a rename does not lose it, and the host
//! takes it back when the process ends, however it ends. A storage without a file has no lock.

use std::fs::{File, TryLockError};

use coldframe_storage::Storage;

use crate::{Owner, Region, RingError};

/// What a lock allows to others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    /// Nothing.
    Write,
    /// Reading.
    Read,
}

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub(crate) struct RegionLock(Option<File>);

impl RegionLock {
    /// Asks for the lock, once.
    ///
    /// # Errors
    /// [`RingError::Locked`], [`RingError::Lock`].
    pub fn acquire<S: Storage>(storage: &S, region: Region, mode: Mode) -> Result<Self, RingError> {
        let Some(file) = storage.host_file() else {
            return Ok(Self(None));
        };
        // The copy shares the open file, and with it the lock.
        let file = file.try_clone_to_owned().map(File::from);
        let file = file.map_err(|source| RingError::Lock { source })?;
        let locked = match mode {
            Mode::Write => coldframe_storage::try_lock(&file),
            Mode::Read => file.try_lock_shared(),
        };
        match locked {
            Ok(()) => Ok(Self(Some(file))),
            Err(TryLockError::WouldBlock) => Err(RingError::Locked {
                owner: read_owner(storage, region),
            }),
            Err(TryLockError::Error(source)) => Err(RingError::Lock { source }),
        }
    }

    /// Whether there is a file that can be locked at all.
    pub const fn is_real(&self) -> bool {
        self.0.is_some()
    }
}

impl Drop for RegionLock {
    fn drop(&mut self) {
        // Closing the copy is not enough: the storage may keep the same open file.
        if let Some(file) = &self.0 {
            let _ = file.unlock();
        }
    }
}

/// Who the note says has the log open; nobody if there is no sound note.
pub(crate) fn read_owner<S: Storage>(storage: &S, region: Region) -> Option<Owner> {
    let mut note = [0; Owner::LEN];
    storage.read_at(Owner::place(region), &mut note).ok()?;
    Owner::decode(&note)
}
