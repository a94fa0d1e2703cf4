//! Which of the two logs a file is, by its first bytes.

use coldframe_walframe::journal::PART_MAGIC;
use coldframe_walframe::ring::{CONTROL_MAGIC, CONTROL_SLOT_STRIDE};

/// One of the two logs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogKind {
    /// A ring WAL that begins with the file: [`crate::ring`].
    Ring,
    /// A typed journal: [`crate::journal`].
    Journal,
}

impl LogKind {
    /// How many of a file's first bytes tell.
    pub const PREFIX_LEN: u64 = CONTROL_SLOT_STRIDE + 8;

    /// The log that a file is whose first bytes these are, if it is one. Nothing else is checked:
    /// it may be damaged, or of another version.
    #[must_use]
    pub fn of(prefix: &[u8]) -> Option<Self> {
        // One of a ring's two control blocks may be lost.
        let second = prefix.get(CONTROL_SLOT_STRIDE as usize..).unwrap_or(&[]);
        if prefix.starts_with(&PART_MAGIC) {
            Some(Self::Journal)
        } else if prefix.starts_with(&CONTROL_MAGIC) || second.starts_with(&CONTROL_MAGIC) {
            Some(Self::Ring)
        } else {
            None
        }
    }
}
