//! Options of the handshake, taken apart. Invariants: every length is held against the data that
//! is there; a name is UTF-8 without NUL of at most 4096 bytes.

use super::Violation;
use super::values::OPTION_MAGIC;
use super::wire::{Reader, Short};

/// The most data of one option that is looked at, in bytes; options with more are refused.
pub const OPTION_DATA_BYTES_MAX: u32 = 64 << 10;

/// The longest string of the protocol, in bytes.
const STRING_BYTES_MAX: usize = 4096;

/// The fixed front of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionHeader {
    /// Which option.
    pub code: u32,
    /// Bytes of data behind the header.
    pub data_len: u32,
}

impl OptionHeader {
    /// Bytes of an encoded header.
    pub const LEN: usize = 16;

    /// Takes a header apart.
    ///
    /// # Errors
    /// [`Violation::OptionMagic`].
    pub fn decode(bytes: &[u8; Self::LEN]) -> Result<Self, Violation> {
        let mut reader = Reader::new(bytes);
        let (found, code, data_len) = fields(&mut reader).unwrap_or_default();
        if found == OPTION_MAGIC {
            Ok(Self { code, data_len })
        } else {
            Err(Violation::OptionMagic { found })
        }
    }
}

fn fields(reader: &mut Reader<'_>) -> Result<(u64, u32, u32), Short> {
    Ok((reader.u64()?, reader.u32()?, reader.u32()?))
}

/// The option's data is not what its code promises.
#[derive(Debug)]
pub(super) struct Malformed;

impl From<Short> for Malformed {
    fn from(Short: Short) -> Self {
        Self
    }
}

/// A string of the protocol.
pub(super) fn string(bytes: &[u8]) -> Result<&str, Malformed> {
    let text = str::from_utf8(bytes).map_err(|_| Malformed)?;
    if text.len() > STRING_BYTES_MAX || text.contains('\0') {
        return Err(Malformed);
    }
    Ok(text)
}

/// The data of `NBD_OPT_INFO` and `NBD_OPT_GO`.
pub(super) struct InfoQuery<'a> {
    pub name: &'a str,
    pub wanted: Vec<u16>,
}

impl<'a> InfoQuery<'a> {
    pub(super) fn decode(data: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(data);
        let name_len = reader.u32()?;
        let name = string(reader.bytes(name_len)?)?;
        let count = reader.u16()?;
        let mut wanted = Vec::new();
        for _ in 0..count {
            wanted.push(reader.u16()?);
        }
        if !reader.is_empty() {
            return Err(Malformed);
        }
        Ok(Self { name, wanted })
    }
}

/// The data of `NBD_OPT_LIST_META_CONTEXT` and `NBD_OPT_SET_META_CONTEXT`.
pub(super) struct ContextQuery<'a> {
    pub name: &'a str,
    pub queries: Vec<&'a str>,
}

impl<'a> ContextQuery<'a> {
    pub(super) fn decode(data: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(data);
        let name_len = reader.u32()?;
        let name = string(reader.bytes(name_len)?)?;
        let count = reader.u32()?;
        let mut queries = Vec::new();
        for _ in 0..count {
            let query_len = reader.u32()?;
            let query = string(reader.bytes(query_len)?)?;
            if !query.contains(':') {
                return Err(Malformed);
            }
            queries.push(query);
        }
        if !reader.is_empty() {
            return Err(Malformed);
        }
        Ok(Self { name, queries })
    }
}
