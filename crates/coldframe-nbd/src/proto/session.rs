//! What was agreed upon with one client. Invariant: a session does not change any more; the
//! export's size is the one that the client was told.

use super::Errno;
use super::values::transmission_flag as flag;

/// The longest read or write that any client may ask for, in bytes.
pub const PAYLOAD_BYTES_MAX: u32 = 32 << 20;

/// The sizes that requests should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockSizes {
    minimum: u32,
    preferred: u32,
}

impl BlockSizes {
    /// Any byte can be addressed; 4 KiB is best. What clients assume that did not ask.
    pub const BYTES: Self = Self {
        minimum: 1,
        preferred: 4096,
    };

    /// Offsets and lengths are multiples of `minimum`, and should be of `preferred` (bytes).
    ///
    /// None unless both are powers of two, `minimum` is at most 64 KiB, and `preferred` at least
    /// 512 and `minimum` and at most 32 MiB.
    #[must_use]
    pub const fn new(minimum: u32, preferred: u32) -> Option<Self> {
        let sound = minimum.is_power_of_two()
            && preferred.is_power_of_two()
            && minimum <= 1 << 16
            && preferred >= 512
            && preferred >= minimum
            && preferred <= PAYLOAD_BYTES_MAX;
        if sound {
            Some(Self { minimum, preferred })
        } else {
            None
        }
    }

    /// Bytes that every offset and length is a multiple of.
    #[must_use]
    pub const fn minimum(self) -> u32 {
        self.minimum
    }

    /// Bytes of the smallest request that costs no more than it must.
    #[must_use]
    pub const fn preferred(self) -> u32 {
        self.preferred
    }
}

/// An export as a client gets to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportInfo {
    /// The catalog's own key, which the session hands back.
    pub index: usize,
    /// Its canonical name.
    pub name: String,
    /// A line for humans; may be empty.
    pub description: String,
    /// Bytes.
    pub size: u64,
    /// Whether writes are refused.
    pub is_read_only: bool,
    /// Whether zeroing is faster than writing zeros.
    pub has_fast_zero: bool,
    /// The sizes that requests should have.
    pub block_sizes: BlockSizes,
}

/// Where the negotiation finds the exports.
pub trait Catalog {
    /// The names that a client may list, in order.
    fn names(&self) -> Vec<String>;

    /// The export of this name; the empty name is the default export.
    fn find(&self, name: &str) -> Option<ExportInfo>;
}

/// What one client and the server agreed upon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The export as the client was told about it.
    pub export: ExportInfo,
    /// Whether replies to reads are structured.
    pub is_structured: bool,
    /// Whether the client chose `base:allocation`.
    pub has_block_status: bool,
}

impl Session {
    /// The transmission flags.
    pub(super) fn flags(&self) -> u16 {
        let mut flags = flag::HAS_FLAGS | flag::SEND_FLUSH | flag::SEND_FUA;
        flags |= flag::CAN_MULTI_CONN | flag::SEND_CACHE;
        if self.is_structured {
            flags |= flag::SEND_DF;
        }
        if self.export.is_read_only {
            return flags | flag::READ_ONLY;
        }
        flags |= flag::SEND_TRIM | flag::SEND_WRITE_ZEROES;
        if self.export.has_fast_zero {
            flags |= flag::SEND_FAST_ZERO;
        }
        flags
    }

    /// Holds a range against the export's size and smallest block.
    pub(super) fn check_range(&self, offset: u64, len: u32, past: Errno) -> Result<(), Errno> {
        let end = offset.checked_add(u64::from(len)).ok_or(past)?;
        if end > self.export.size {
            return Err(past);
        }
        let minimum = u64::from(self.export.block_sizes.minimum());
        if !offset.is_multiple_of(minimum) || !u64::from(len).is_multiple_of(minimum) {
            return Err(Errno::Invalid);
        }
        Ok(())
    }
}
