//! Integers on the wire. Invariant: all are big-endian, and reading past the end is an error.
// The one place that knows of the order of bytes: the network's, as the protocol says.
#![allow(clippy::big_endian_bytes)]

/// What a client sent that leaves no way to go on but to close the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// The client flags hold a bit that the server did not offer.
    #[error("client sent unknown handshake flags {flags:#x}")]
    ClientFlags {
        /// All flags as sent.
        flags: u32,
    },
    /// An option does not begin with its magic.
    #[error("client sent an option with magic {found:#x}")]
    OptionMagic {
        /// The eight bytes found in its place.
        found: u64,
    },
    /// A request does not begin with its magic.
    #[error("client sent a request with magic {found:#x}")]
    RequestMagic {
        /// The four bytes found in its place.
        found: u32,
    },
}

/// Takes integers and strings from the front of a message.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

/// The message ended too early.
#[derive(Debug)]
pub(super) struct Short;

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn bytes(&mut self, len: u32) -> Result<&'a [u8], Short> {
        let len = usize::try_from(len).map_err(|_| Short)?;
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(Short)?;
        self.rest = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Short> {
        let (bytes, rest) = self.rest.split_first_chunk::<N>().ok_or(Short)?;
        self.rest = rest;
        Ok(*bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Short> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Short> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Short> {
        Ok(u64::from_be_bytes(self.array()?))
    }
}

/// Appends integers to a message.
pub(super) trait Put {
    fn put_u16(&mut self, value: u16);
    fn put_u32(&mut self, value: u32);
    fn put_u64(&mut self, value: u64);
}

impl Put for Vec<u8> {
    fn put_u16(&mut self, value: u16) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn put_u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn put_u64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_be_bytes());
    }
}

pub(super) fn be16(value: u16) -> [u8; 2] {
    value.to_be_bytes()
}

pub(super) fn be32(value: u32) -> [u8; 4] {
    value.to_be_bytes()
}

pub(super) fn be64(value: u64) -> [u8; 8] {
    value.to_be_bytes()
}

/// Joins fields of fixed size to one array of `N` bytes.
pub(super) fn join<const N: usize>(fields: &[&[u8]]) -> [u8; N] {
    let mut joined = [0; N];
    let bytes = fields.iter().flat_map(|field| field.iter());
    for (slot, byte) in joined.iter_mut().zip(bytes) {
        *slot = *byte;
    }
    joined
}
