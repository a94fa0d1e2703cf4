//! flock(2) that a signal does not end.
//!
//! The standard library hands `EINTR` on. A VMM that kicks its threads by signals would see a lock
//! fail for no reason.

use std::fs::{File, TryLockError};
use std::io;

/// Waits for the exclusive lock of an open file.
///
/// # Errors
/// The host's, but never that the call was interrupted.
pub fn lock(file: &File) -> io::Result<()> {
    loop {
        match file.lock() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Takes the exclusive lock of an open file if nobody has it.
///
/// # Errors
/// [`TryLockError::WouldBlock`] if someone has it, else the host's error, but never that the call
/// was interrupted.
pub fn try_lock(file: &File) -> Result<(), TryLockError> {
    loop {
        match file.try_lock() {
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
