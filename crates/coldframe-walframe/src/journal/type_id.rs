//! The type of an entry: a number, and whether a reader that does not know it must stop.
//!
//! Invariant: a [`TypeId`] made by a constructor is one that a program may use; those of the
//! framing, and 0, exist only on disk.

use core::fmt;

const MUST_UNDERSTAND: u16 = 0x8000;
/// The first two bytes of a part's magic: a record may not look like a part.
const MAGIC_NUMBER: u16 = 0x4389;

/// The type of an entry.
///
/// Numbers 1 to 0x0fff are coldframe's own, 0x1000 to 0x7eff belong to the program whose name the
/// part's schema carries, 0x7f00 to 0x7fff to the framing. A changed entry gets a new number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TypeId(u16);

impl TypeId {
    /// A record that holds a batch of entries, whole or not at all.
    pub const BATCH: Self = Self(0xfffe);

    /// The end of a session that was closed: all before it is durable.
    pub const SEAL: Self = Self(0x7fff);

    /// A type that no reader may pass over: without it, what follows would be wrong.
    ///
    /// # Panics
    /// If `number` is not 1 to 0x7eff, or is 0x4389 (a part begins so); in a `const` this is a
    /// compile error.
    #[must_use]
    pub const fn must_understand(number: u16) -> Self {
        Self(Self::optional(number).0 | MUST_UNDERSTAND)
    }

    /// A type that a reader may pass over if it does not know it.
    ///
    /// # Panics
    /// As [`TypeId::must_understand`].
    #[must_use]
    pub const fn optional(number: u16) -> Self {
        assert!(
            number >= 1 && number <= 0x7eff && number != MAGIC_NUMBER,
            "the number of a type is 1 to 0x7eff, and not 0x4389"
        );
        Self(number)
    }

    /// As it stands on disk, unchecked.
    #[must_use]
    pub const fn from_raw(raw: u16) -> Self {
        Self(raw)
    }

    /// As it stands on disk.
    #[must_use]
    pub const fn raw(self) -> u16 {
        self.0
    }

    /// The number without the must-understand bit.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0 & !MUST_UNDERSTAND
    }

    /// Whether a reader that does not know it must stop.
    #[must_use]
    pub const fn is_must_understand(self) -> bool {
        self.0 & MUST_UNDERSTAND != 0
    }

    /// Whether an entry may have it: neither 0, nor the framing's, nor the beginning of a part.
    #[must_use]
    pub const fn is_entry(self) -> bool {
        let number = self.number();
        number >= 1 && number <= 0x7eff && number != MAGIC_NUMBER
    }
}

impl fmt::Display for TypeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#06x}", self.0)
    }
}

impl fmt::Debug for TypeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TypeId({self})")
    }
}
