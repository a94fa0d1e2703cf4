//! Making a new log.

use coldframe_storage::{Storage, StorageError};

use coldframe_walframe::ring::{Control, RegionId};

use crate::lock::{Mode, RegionLock};
use crate::{Region, RingError, RingOptions, RingWal, control};

/// Zeros are written in pieces of this size: larger ones make the host keep the file in large
/// pages of its cache, and every small write to one of those costs several times as much.
const FILL_BYTES: u64 = 64 * 1024;

impl<S: Storage> RingWal<S> {
    /// Makes a log in `region`, which is overwritten with zeros; the storage grows if it must.
    /// That the file itself survives a crash (its name in its directory) is the caller's part.
    ///
    /// Spec: RING-2
    ///
    /// # Errors
    /// [`RingError::Exists`] if there is a log, sound or damaged, [`RingError::Locked`],
    /// [`RingError::Prepare`].
    pub fn create(storage: S, region: Region, options: RingOptions) -> Result<Self, RingError> {
        let lock = RegionLock::acquire(&storage, region, Mode::Write)?;
        match control::read(&storage, region) {
            Err(error) if error.is_foreign() => {}
            Err(error @ RingError::Read { .. }) => return Err(error),
            Ok(_) | Err(_) => {
                let offset = region.offset();
                return Err(RingError::Exists { offset });
            }
        }
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|error| RingError::Lock {
            source: error.into(),
        })?;
        let control = Control::new(RegionId::from_bytes(id), region.ring_len())?;
        prepare(&storage, region, &control).map_err(|source| RingError::Prepare { source })?;
        Self::open_locked(storage, region, options, lock, &mut |_| ())
    }
}

fn prepare<S: Storage>(storage: &S, region: Region, control: &Control) -> Result<(), StorageError> {
    zero_fill(storage, region, 0, region.size().get())?;
    // The zeros first: a control block that holds must never stand before old bytes.
    storage.sync_data()?;
    control::publish(storage, region, control)
}

/// Fills the bytes of the region from `from` up to `to` with zeros; they are written, not only
/// allocated, so that no later write changes the file's metadata.
pub(crate) fn zero_fill<S: Storage>(
    storage: &S,
    region: Region,
    from: u64,
    to: u64,
) -> Result<(), StorageError> {
    let zeros = vec![0; FILL_BYTES as usize];
    let mut at = from;
    while at < to {
        let len = (to - at).min(FILL_BYTES);
        storage.write_at(region.file_offset(at), &zeros[..len as usize])?;
        at += len;
    }
    Ok(())
}
