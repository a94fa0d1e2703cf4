//! A buffer that is used again. Invariant: between requests it holds at most [`KEEP_BYTES`].

/// Bytes up to which a request is small: its buffers are kept by the thread that serves it, and
/// no budget is asked.
pub(super) const KEEP_BYTES: usize = 260 << 10;

/// Bytes that are written over again and again without being cleared.
#[derive(Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    len: usize,
}

impl Buffer {
    pub(super) fn clear(&mut self) {
        self.len = 0;
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.grow(bytes.len()).copy_from_slice(bytes);
    }

    /// Appends `len` bytes of any content, to be written over.
    pub(super) fn grow(&mut self, len: usize) -> &mut [u8] {
        let start = self.len;
        self.len += len;
        if self.bytes.len() < self.len {
            self.bytes.resize(self.len, 0);
        }
        &mut self.bytes[start..self.len]
    }

    /// Gives back what a large request needed.
    pub(super) fn shrink(&mut self) {
        self.len = 0;
        if self.bytes.len() > KEEP_BYTES {
            self.bytes = Vec::new();
        }
    }
}
