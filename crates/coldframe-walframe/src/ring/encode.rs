//! Why something cannot be put into a ring.

/// Why a record or a control block cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The payload is longer than a length field can say.
    #[error("a payload of {len} bytes is too long, the limit is {max}")]
    PayloadTooLong {
        /// Its length in bytes.
        len: u64,
        /// The most that is allowed.
        max: u64,
    },
    /// The ring's length is no multiple of 16 or is too small.
    #[error("a ring of {len} bytes is not possible: it must be a multiple of 16, at least {min}")]
    RingLen {
        /// The length asked for.
        len: u64,
        /// The smallest that is possible.
        min: u64,
    },
    /// A counter of the log is at its end: nothing more can be appended, ever.
    #[error("{what} of this log is used up")]
    Exhausted {
        /// Which counter.
        what: &'static str,
    },
}
