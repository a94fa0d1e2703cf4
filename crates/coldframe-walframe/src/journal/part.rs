//! The header of a part: a part is what one file has, before it is joined to others by `cat`.
//!
//! Invariant: a [`PartHeader`] that exists was checked, in the order magic, length, checksum,
//! version, fields, codec.

use core::fmt;

use coldframe_envelope::{Codec, DecodeError, DecodeErrorKind as Kind, Producer, Version};
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, IntoBytes};

use super::layout::{PART_HEADER_LEN, PART_MAGIC, PartBytes};

/// The version that is written, and the newest that is known.
pub const PART_VERSION: Version = Version { major: 1, minor: 0 };

/// The codec of the payloads: rkyv 0.8, little-endian, aligned, with 4-byte relative pointers.
pub const PART_CODEC: Codec = Codec::new(CODEC_NAME, 0, 8);

const CODEC_NAME: [u8; 8] = *b"rkyv-le4";

/// Where fields lie that errors point at.
mod at {
    pub const MAJOR: u64 = 8;
    pub const CODEC: u64 = 12;
    pub const SCHEMA: u64 = 24;
    pub const PRODUCER: u64 = 48;
    pub const RESERVED: u64 = 96;
    pub const CHECKSUM: u64 = 108;
}

/// The payload of a seal: the header of its part with every bit turned over, so that it is not
/// taken for a part, and a damaged header can be had again.
#[must_use]
pub fn turned_over(header: [u8; 112]) -> [u8; 112] {
    header.map(|byte| !byte)
}

/// Random bytes that bind records to their part.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PartId(pub [u8; 16]);

impl fmt::Display for PartId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PartId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PartId({self})")
    }
}

/// Whose entry types these are: up to eight printable ASCII bytes, padded with zero bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Schema([u8; 8]);

impl Schema {
    /// The schema of coldframe's own entries alone.
    pub const COLDFRAME: Self = Self::new("coldfrm");

    /// The schema of this name.
    ///
    /// # Panics
    /// Unless `name` is 1 to 8 printable ASCII characters; in a `const` this is a compile error.
    #[must_use]
    #[expect(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
    pub const fn new(name: &str) -> Self {
        let name = name.as_bytes();
        assert!(
            !name.is_empty() && name.len() <= 8,
            "a schema has 1 to 8 characters"
        );
        let mut bytes = [0; 8];
        let mut index = 0;
        while index < name.len() {
            assert!(name[index] > b' ' && name[index] <= b'~', "not printable");
            bytes[index] = name[index];
            index += 1;
        }
        Self(bytes)
    }

    fn from_bytes(bytes: [u8; 8]) -> Option<Self> {
        let len = bytes.iter().position(|byte| *byte == 0).unwrap_or(8);
        let (name, rest) = bytes.split_at_checked(len)?;
        let printable = name.iter().all(|byte| (b'!'..=b'~').contains(byte));
        let sound = len > 0 && printable && rest.iter().all(|byte| *byte == 0);
        sound.then_some(Self(bytes))
    }
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.0.iter().take_while(|byte| **byte != 0);
        name.into_iter()
            .try_for_each(|byte| write!(f, "{}", char::from(*byte)))
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schema({self})")
    }
}

/// The header of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartHeader {
    /// The version of the framing.
    pub version: Version,
    /// Whose entry types these are.
    pub schema: Schema,
    /// What binds records to this part.
    pub id: PartId,
    /// Who wrote it.
    pub producer: Producer,
}

impl PartHeader {
    /// Whether a part may begin here: the magic is there, as far as the bytes go.
    #[must_use]
    pub fn is_announced(bytes: &[u8]) -> bool {
        !bytes.is_empty() && bytes.iter().zip(&PART_MAGIC).all(|(a, b)| a == b)
    }

    /// Decodes the header at the beginning of `bytes`; offsets of errors count from there.
    ///
    /// # Errors
    /// `Truncated`, `BadMagic`, `Unsupported`, `HeaderChecksum`, `ReservedNotZero`, `Invalid`,
    /// `UnsupportedCodec`.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let error = |kind, offset| Err(DecodeError::new(kind, offset));
        if !Self::is_announced(bytes) {
            return error(Kind::BadMagic, 0);
        }
        let have = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let Ok((raw, _)) = PartBytes::read_from_prefix(bytes) else {
            let need = PART_HEADER_LEN;
            return error(Kind::Truncated { need, have }, have);
        };
        // Before the version: a header may be torn, and its layout is the same for every version.
        if checksum(&raw) != raw.checksum.get() {
            return error(Kind::HeaderChecksum, at::CHECKSUM);
        }
        let (major, minor) = (raw.major.get(), raw.minor.get());
        let version = Version { major, minor };
        if major != PART_VERSION.major {
            let (found, min, max) = (version, Version { major: 1, minor: 0 }, PART_VERSION);
            return error(Kind::Unsupported { found, min, max }, at::MAJOR);
        }
        if raw.reserved.iter().any(|byte| *byte != 0) {
            return error(Kind::ReservedNotZero, at::RESERVED);
        }
        let Some(schema) = Schema::from_bytes(raw.schema) else {
            return error(Kind::Invalid { field: "schema" }, at::SCHEMA);
        };
        let Some(producer) = producer_of(&raw.producer) else {
            return error(Kind::Invalid { field: "producer" }, at::PRODUCER);
        };
        let found = Codec::new(raw.codec, raw.codec_major.get(), raw.codec_minor.get());
        if found != PART_CODEC {
            let expected = PART_CODEC;
            return error(Kind::UnsupportedCodec { found, expected }, at::CODEC);
        }
        Ok(Self {
            version,
            schema,
            id: PartId(raw.part_id),
            producer,
        })
    }

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; 112] {
        let mut producer = [0; 48];
        for (to, from) in producer.iter_mut().zip(self.producer.as_str().bytes()) {
            *to = from;
        }
        let mut raw = PartBytes {
            magic: PART_MAGIC,
            major: U16::new(self.version.major),
            minor: U16::new(self.version.minor),
            codec_major: U16::new(PART_CODEC.release().major),
            codec_minor: U16::new(PART_CODEC.release().minor),
            codec: CODEC_NAME,
            schema: self.schema.0,
            part_id: self.id.0,
            producer,
            reserved: [0; 12],
            checksum: U32::ZERO,
        };
        raw.checksum = U32::new(checksum(&raw));
        zerocopy::transmute!(raw)
    }
}

/// The first four bytes of the BLAKE3 hash of all that lies before it.
fn checksum(raw: &PartBytes) -> u32 {
    let (covered, _) = raw.as_bytes().split_at(108);
    let [a, b, c, d, ..] = *blake3::hash(covered).as_bytes();
    u32::from_le_bytes([a, b, c, d])
}

fn producer_of(bytes: &[u8; 48]) -> Option<Producer> {
    let len = bytes.iter().position(|byte| *byte == 0).unwrap_or(48);
    let (text, rest) = bytes.split_at_checked(len)?;
    let (name, version) = core::str::from_utf8(text).ok()?.split_once(' ')?;
    if rest.iter().any(|byte| *byte != 0) {
        return None;
    }
    Producer::new(name, version).ok()
}
