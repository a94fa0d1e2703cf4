//! A reply on its way out: bytes of its own, and between them bytes that an export shares.
//!
//! Invariant: what is shared goes out behind the bytes that were there when it was added.

use bytes::Bytes;

use super::buffer::Buffer;

/// All of a reply; used again for the next.
#[derive(Default)]
pub(super) struct Outgoing {
    own: Buffer,
    /// With the number of own bytes in front of each.
    shared: Vec<(usize, Bytes)>,
}

impl Outgoing {
    pub(super) fn clear(&mut self) {
        self.own.clear();
        self.shared.clear();
    }

    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.own.extend(bytes);
    }

    /// Appends `len` bytes of any content, to be written over.
    pub(super) fn grow(&mut self, len: usize) -> &mut [u8] {
        self.own.grow(len)
    }

    /// Appends bytes without a copy.
    pub(super) fn share(&mut self, bytes: Bytes) {
        self.shared.push((self.own.len(), bytes));
    }

    /// The whole of it, if nothing is shared.
    pub(super) fn as_slice(&self) -> Option<&[u8]> {
        self.shared.is_empty().then(|| self.own.as_slice())
    }

    /// All parts, in order.
    pub(super) fn parts(&self) -> Vec<&[u8]> {
        let own = self.own.as_slice();
        let mut parts = Vec::with_capacity(2 * self.shared.len() + 1);
        let mut done = 0;
        for (at, bytes) in &self.shared {
            parts.push(&own[done..*at]);
            parts.push(bytes);
            done = *at;
        }
        parts.push(&own[done..]);
        parts
    }

    /// Gives back what a large request needed.
    pub(super) fn shrink(&mut self) {
        self.shared.clear();
        self.own.shrink();
    }
}
