//! The memory of a chain as a raw dump.

use coldframe_storage::Storage;
use coldframe_units::FileOffset;

use super::{STEP_BYTES, write_pages};
use crate::chain::reader::{Reader, Tables};
use crate::chain::resolve;
use crate::{Layers, MemError, Verify};

/// What becomes of zero pages in a raw dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holes {
    /// They are written.
    None,
    /// They are left out: the file is sparse.
    ForZeros,
}

/// Writes the memory of a chain as a raw dump into `storage`, which must be empty. Every block is
/// checked in the memory that it is written from. `progress` is told of bytes of RAM that are done.
///
/// # Errors
/// [`MemError::NotEmpty`], [`MemError::ReadSource`], [`MemError::Decode`], [`MemError::Damaged`],
/// [`MemError::WritePages`].
pub fn export_raw(
    chain: &Layers,
    storage: &dyn Storage,
    holes: Holes,
    progress: &mut dyn FnMut(u64),
) -> Result<(), MemError> {
    static ZEROS: [u8; STEP_BYTES as usize] = [0; STEP_BYTES as usize];

    crate::output::check_empty(storage)?;
    storage
        .set_len(chain.layout().total())
        .map_err(write_pages)?;
    let tables = Tables::of(chain.layers(), Verify::Yes)?;
    let mut reader = Reader::new(chain.layers(), &tables);
    for piece in resolve(chain.layers())? {
        let mut start = piece.range.start;
        while start < piece.range.end {
            let end = (start / STEP_BYTES + 1) * STEP_BYTES;
            let part = piece.part(&(start..end));
            let len = part.range.end - part.range.start;
            let bytes = match reader.read(&part)? {
                None if holes == Holes::None => Some(&ZEROS[..len as usize]),
                bytes => bytes,
            };
            if let Some(bytes) = bytes {
                let place = FileOffset::new(part.range.start);
                storage.write_at(place, bytes).map_err(write_pages)?;
            }
            start = part.range.end;
            progress(len);
        }
    }
    Ok(())
}
