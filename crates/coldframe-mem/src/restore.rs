//! Restore: a chain's memory back into a guest, by copying it or by mapping its files.

mod copy;
mod map;
mod verify;

pub use copy::{CopyOptions, Target, restore_copy};
pub use map::{MapOptions, MappedRam, map_over, restore_map};
pub(crate) use verify::Checker;
pub use verify::Verify;
