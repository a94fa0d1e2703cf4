//! Where the bytes of guest memory come from.

use crate::Content;

/// Something that has all blocks of a guest's memory. It is shared between threads, each of which
/// reads by a reader of its own.
pub trait BlockSource: Send + Sync {
    /// What can go wrong.
    type Error: std::error::Error + Send + Sync + 'static;
    /// What one thread reads with: buffers and tables of its own.
    type Reader<'a>: BlockReader<Error = Self::Error>
    where
        Self: 'a;

    /// A reader, made when a thread first needs it. It may take as long as a read.
    ///
    /// # Errors
    /// The block that it was made for then fails, and the next tries again.
    fn reader(&self) -> Result<Self::Reader<'_>, Self::Error>;

    /// Whether memory shows the bytes of a hash block by itself, as [`Content::Mapped`] says,
    /// though nobody may have asked for it there: it may be written to without a fault, and is not
    /// made to fail when the service ends. What was so once stays so.
    fn is_mapped(&self, block: u64) -> bool {
        let _ = block;
        false
    }
}

/// Reads blocks.
pub trait BlockReader {
    /// What can go wrong.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Reads hash block `block`, 64 KiB of RAM offset space, into `buf`, which has its length: less
    /// only at the end of memory. What is left in `buf` is what the guest will see: it was checked
    /// against the block's hash **there**, and is not changed after. For [`Content::Zero`] and
    /// [`Content::Mapped`] nothing need be written.
    ///
    /// # Errors
    /// The block then fails. Tries, and how long they take, are the source's own.
    fn read(&mut self, block: u64, buf: &mut [u8]) -> Result<Content, Self::Error>;
}
