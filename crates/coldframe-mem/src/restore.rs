//! Restore: a chain's memory back into a guest, by copying it or by mapping its files.

mod copy;
mod map;
mod plugged;
mod source;

pub use copy::{CopyOptions, Target, restore_copy};
pub use map::{MapOptions, MappedRam, discard, map_over, restore_map};
pub use source::{CopyInto, Map, Source};

/// Whether blocks are checked against their hashes before they are used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verify {
    /// Every block that is read is checked, in the private memory that it is used from.
    Yes,
    /// None is: for files whose hashes were checked before.
    No,
}
