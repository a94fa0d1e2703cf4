//! How a journal is written.

use coldframe_envelope::Producer;
use coldframe_units::ByteLen;

use super::JournalError;

/// When entries become durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// Each before [`append`](super::JournalWriter::append) returns: one write and one sync.
    Each,
    /// All before [`flush`](super::JournalWriter::flush) returns.
    OnFlush,
}

/// How a journal is written.
#[derive(Clone, Copy, Debug)]
pub struct JournalOptions {
    /// When entries become durable.
    pub durability: Durability,
    /// Bytes of zeros that are written ahead of the entries, each time that they run out: a sync
    /// is faster where the file does not grow. 0 for none.
    pub preallocate: ByteLen,
    /// The longest entry or batch, in bytes.
    pub record_max: ByteLen,
    /// Who writes, for people; never interpreted.
    pub producer: Producer,
}

impl JournalOptions {
    /// Durable on flush, without room ahead, records up to 1 GiB.
    ///
    /// # Errors
    /// [`JournalError::Producer`] if this crate's version is no producer text.
    pub fn new() -> Result<Self, JournalError> {
        let producer = Producer::new("coldframe-wal", env!("CARGO_PKG_VERSION"))
            .map_err(|source| JournalError::Producer { source })?;
        Ok(Self {
            durability: Durability::OnFlush,
            preallocate: ByteLen::ZERO,
            record_max: ByteLen::new(1 << 30),
            producer,
        })
    }
}
