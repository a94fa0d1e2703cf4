//! Memory to restore into that is not plugged in: it gets no bytes, and none may be lost by that.

use crate::chain::Layers;
use crate::chain::reader::{Reader, Tables};
use crate::chain::sweep::Piece;
use crate::ram::RamMap;
use crate::{MemError, Verify};

/// How much is looked at at a time.
const STEP_BYTES: u64 = 1 << 20;

/// Refuses bytes of a chain, other than zeros, for memory that is not plugged in; `pieces` are all
/// of the chain. Nothing is read unless there is such memory.
pub(super) fn check_plugged(
    chain: &Layers,
    map: &RamMap<'_>,
    pieces: &[Piece],
    verify: Verify,
) -> Result<(), MemError> {
    if map.absent().next().is_none() {
        return Ok(());
    }
    let tables = Tables::of(chain.layers(), verify)?;
    let mut reader = Reader::new(chain.layers(), &tables);
    for piece in pieces.iter().filter(|piece| piece.file.is_some()) {
        for (window, part) in map.pieces(piece.range.clone()) {
            for absent in window.absent_in(&part) {
                let mut next = absent.start;
                while next < absent.end {
                    let step = next..absent.end.min(next + STEP_BYTES);
                    let bytes = reader.read(&piece.part(&step))?.unwrap_or_default();
                    if let Some(at) = bytes.iter().position(|byte| *byte != 0) {
                        let addr = window.guest_addr(next + at as u64);
                        return Err(MemError::NotPlugged { addr });
                    }
                    next = step.end;
                }
            }
        }
    }
    Ok(())
}
