//! Ids and hashes: fixed bytes, never text; hexadecimal only in `Display` and `FromStr`.

use core::fmt;
use core::str::FromStr;

/// A text that is not the id it was read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseIdError {
    /// The text has the wrong number of characters.
    #[error("an id of {expected} hexadecimal digits was expected, {found} characters were found")]
    Length {
        /// How many digits the id has.
        expected: usize,
        /// How many bytes the text has.
        found: usize,
    },
    /// A character is not a lower-case hexadecimal digit.
    #[error("character {index} of the id is not one of 0-9 a-f")]
    Digit {
        /// Where, counted from 0.
        index: usize,
    },
}

fn parse_hex<const N: usize>(text: &str) -> Result<[u8; N], ParseIdError> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return Err(ParseIdError::Length {
            expected: 2 * N,
            found: digits.len(),
        });
    }
    let mut bytes = [0; N];
    for (index, digit) in digits.iter().enumerate() {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return Err(ParseIdError::Digit { index }),
        };
        if let Some(byte) = bytes.get_mut(index / 2) {
            *byte = (*byte << 4) | value;
        }
    }
    Ok(bytes)
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $len]);

        impl $name {
            /// From its bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// Its bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_hex(text).map(Self)
            }
        }
    };
}

id!(
    /// The name of a 64 KiB block: the BLAKE3 hash of its bytes.
    ChunkId,
    32
);
id!(
    /// The one value that a whole file hangs from: the BLAKE3 hash of its header, which commits to
    /// the section table, which commits to the rest.
    RootHash,
    32
);
id!(
    /// The identity of a snapshot: 16 random bytes, never used twice.
    SnapshotId,
    16
);
id!(
    /// The identity of one run of a guest: 16 random bytes, new at every restore, as ACPI's VM
    /// generation id.
    GenerationId,
    16
);
