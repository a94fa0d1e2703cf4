//! Byte positions and lengths, one type for each space. Arithmetic is checked, never wrapping.

use core::fmt;

macro_rules! scalar {
    ($(#[$doc:meta])* $name:ident, $format:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(u64);

        impl $name {
            /// Zero.
            pub const ZERO: Self = Self(0);

            /// From a plain number of bytes.
            #[must_use]
            pub const fn new(bytes: u64) -> Self {
                Self(bytes)
            }

            /// The plain number of bytes.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }

            /// This many bytes further on; `None` past 2^64.
            #[must_use]
            pub const fn checked_add(self, len: ByteLen) -> Option<Self> {
                match self.0.checked_add(len.0) {
                    Some(sum) => Some(Self(sum)),
                    None => None,
                }
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "(", $format, ")"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $format, self.0)
            }
        }
    };
}

scalar!(
    /// An address in the guest's physical address space, in bytes.
    GuestAddr,
    "{:#x}"
);
scalar!(
    /// An offset into guest RAM with all its regions laid end to end, in bytes.
    ///
    /// Unlike a [`GuestAddr`] it has no holes: every table of coldframe speaks in it.
    RamOffset,
    "{:#x}"
);
scalar!(
    /// An offset into a file, in bytes.
    FileOffset,
    "{:#x}"
);
scalar!(
    /// A length in bytes.
    ByteLen,
    "{}"
);
