//! The header: read in the order length, magic, format, version, checksum, fields.
//!
//! Invariant: a [`Header`] that exists was checked; its numbers still come from outside and say
//! nothing of the file behind it.

use core::fmt;

use coldframe_units::{Arch, PageSize, RootHash};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, IntoBytes};

use crate::layout::HeaderBytes;
use crate::{
    DecodeError, DecodeErrorKind as Kind, EncodeError, HEADER_LEN, MAGIC, PRODUCER_LEN_MAX,
    SectionKind,
};

/// Where fields lie that errors point at.
mod at {
    pub const FORMAT: u64 = 8;
    pub const MAJOR: u64 = 12;
    pub const ARCH: u64 = 16;
    pub const PAGE_SIZE: u64 = 17;
    pub const RESERVED0: u64 = 18;
    pub const FLAGS: u64 = 20;
    pub const CODEC: u64 = 48;
    pub const PRODUCER: u64 = 96;
    pub const CHECKSUM: u64 = 152;
}

/// A format's version: another major is refused, a later minor of the same major is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Changes when an older reader could not read the file rightly.
    pub major: u16,
    /// Changes when something was added that an older reader may pass over.
    pub minor: u16,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The codec of the section bodies, and its release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Codec {
    name: [u8; 8],
    release: Version,
}

impl Codec {
    /// No codec: bodies are fixed little-endian layouts.
    pub const PLAIN: Self = Self {
        name: [0; 8],
        release: Version { major: 0, minor: 0 },
    };

    /// The codec of this name (ASCII, padded with zero bytes) at this release.
    #[must_use]
    pub const fn new(name: [u8; 8], major: u16, minor: u16) -> Self {
        Self {
            name,
            release: Version { major, minor },
        }
    }

    /// Its release.
    #[must_use]
    pub const fn release(self) -> Version {
        self.release
    }

    /// Its name; empty for none.
    #[must_use]
    pub fn name(&self) -> &str {
        text_of(&self.name).unwrap_or("?")
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            "" => f.write_str("none"),
            name => write!(f, "{name} {}", self.release),
        }
    }
}

/// A file format that a reader understands: its id, its version, its flags, its codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    id: SectionKind,
    version: Version,
    known_flags: u32,
    codec: Codec,
}

impl Format {
    /// A format of this four-letter id and version, without flags, with plain bodies.
    #[must_use]
    pub const fn new(id: [u8; 4], major: u16, minor: u16) -> Self {
        Self {
            id: SectionKind::new(id),
            version: Version { major, minor },
            known_flags: 0,
            codec: Codec::PLAIN,
        }
    }

    /// The same with these flag bits known.
    #[must_use]
    pub const fn with_flags(self, known_flags: u32) -> Self {
        Self {
            known_flags,
            ..self
        }
    }

    /// The same with bodies in this codec.
    #[must_use]
    pub const fn with_codec(self, codec: Codec) -> Self {
        Self { codec, ..self }
    }

    /// Its four-letter id.
    #[must_use]
    pub const fn id(self) -> SectionKind {
        self.id
    }

    /// The version that is written, and the newest that is known.
    #[must_use]
    pub const fn version(self) -> Version {
        self.version
    }

    /// The codec of the bodies.
    #[must_use]
    pub const fn codec(self) -> Codec {
        self.codec
    }
}

/// Who wrote a file: a name and a version, for people and support tools; never interpreted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Producer {
    text: [u8; PRODUCER_LEN_MAX],
}

impl Producer {
    /// `name` and `version`, joined by a space.
    ///
    /// # Errors
    /// [`EncodeError::Producer`] unless the whole is 1 to 48 printable ASCII bytes.
    pub fn new(name: &str, version: &str) -> Result<Self, EncodeError> {
        let bytes = || {
            name.bytes()
                .chain(core::iter::once(b' '))
                .chain(version.bytes())
        };
        let len = bytes().count();
        let refused = EncodeError::Producer { len };
        if len > PRODUCER_LEN_MAX || !bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return Err(refused);
        }
        let mut text = [0; PRODUCER_LEN_MAX];
        for (to, from) in text.iter_mut().zip(bytes()) {
            *to = from;
        }
        Ok(Self { text })
    }

    /// The text, as `name version`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        text_of(&self.text).unwrap_or("?")
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Producer({self})")
    }
}

impl fmt::Display for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Printable ASCII, then only zero bytes; `None` if it is anything else.
fn text_of(bytes: &[u8]) -> Option<&str> {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    let (text, rest) = bytes.split_at_checked(end)?;
    let printable = text.iter().all(|byte| (b' '..=b'~').contains(byte));
    if !printable || rest.iter().any(|byte| *byte != 0) {
        return None;
    }
    core::str::from_utf8(text).ok()
}

/// The decoded header of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The four-letter id of the format.
    pub format: SectionKind,
    /// The version of the format.
    pub version: Version,
    /// The guest's architecture; `None` where the format has none.
    pub arch: Option<Arch>,
    /// The page size; `None` where the format has none.
    pub page_size: Option<PageSize>,
    /// Flags of the format; a bit that a reader does not know is refused.
    pub flags: u32,
    /// The length of the whole file in bytes.
    pub file_len: u64,
    /// Where the section table begins, in bytes.
    pub table_offset: u64,
    /// Rows in the section table.
    pub section_count: u32,
    /// The codec of the bodies.
    pub codec: Codec,
    /// The BLAKE3 hash of the section table.
    pub table_hash: [u8; 32],
    /// Who wrote the file.
    pub producer: Producer,
}

impl Header {
    /// Reads the header of any coldframe file of any version, as `inspect` needs it.
    ///
    /// # Errors
    /// [`DecodeError`]: truncated, bad magic, checksum, a field that is not valid.
    pub fn peek(file: &[u8]) -> Result<Self, DecodeError> {
        let raw = raw_header(file)?;
        check_sum(raw)?;
        fields(raw)
    }

    /// Reads the header of a file of this format, in the order length, magic, format, version,
    /// checksum, fields.
    ///
    /// # Errors
    /// As [`Header::peek`]; also wrong format, unsupported version or codec, unknown flags.
    pub fn decode(file: &[u8], format: Format) -> Result<Self, DecodeError> {
        let raw = raw_header(file)?;
        let found = SectionKind::new(raw.format);
        if found != format.id {
            let kind = Kind::WrongFormat {
                found,
                expected: format.id,
            };
            return Err(DecodeError::new(kind, at::FORMAT));
        }
        let version = Version {
            major: raw.major.get(),
            minor: raw.minor.get(),
        };
        if version.major != format.version.major {
            let min = Version {
                major: format.version.major,
                minor: 0,
            };
            let kind = Kind::Unsupported {
                found: version,
                min,
                max: format.version,
            };
            return Err(DecodeError::new(kind, at::MAJOR));
        }
        check_sum(raw)?;
        let header = fields(raw)?;
        if header.flags & !format.known_flags != 0 {
            let kind = Kind::Invalid { field: "flags" };
            return Err(DecodeError::new(kind, at::FLAGS));
        }
        if header.codec != format.codec {
            let kind = Kind::UnsupportedCodec {
                found: header.codec,
                expected: format.codec,
            };
            return Err(DecodeError::new(kind, at::CODEC));
        }
        Ok(header)
    }

    /// The 160 bytes of the header.
    #[must_use]
    pub fn encode(&self) -> [u8; 160] {
        let mut raw = HeaderBytes {
            magic: MAGIC,
            format: self.format.bytes(),
            major: U16::new(self.version.major),
            minor: U16::new(self.version.minor),
            arch: self.arch.map_or(0, Arch::code),
            page_size_log2: self.page_size.map_or(0, PageSize::log2),
            reserved0: [0; 2],
            flags: U32::new(self.flags),
            file_len: U64::new(self.file_len),
            table_offset: U64::new(self.table_offset),
            section_count: U32::new(self.section_count),
            codec_major: U16::new(self.codec.release.major),
            codec_minor: U16::new(self.codec.release.minor),
            codec: self.codec.name,
            reserved1: [0; 8],
            table_hash: self.table_hash,
            producer: self.producer.text,
            reserved2: [0; 8],
            checksum: [0; 8],
        };
        raw.checksum = checksum(&raw);
        zerocopy::transmute!(raw)
    }

    /// The root of a file: the BLAKE3 hash of its header, which commits to all the rest.
    #[must_use]
    pub fn root(&self) -> RootHash {
        RootHash::from_bytes(*blake3::hash(&self.encode()).as_bytes())
    }
}

fn raw_header(file: &[u8]) -> Result<&HeaderBytes, DecodeError> {
    let have = u64::try_from(file.len()).unwrap_or(u64::MAX);
    let magic_len = MAGIC.len().min(file.len());
    if file.get(..magic_len) != MAGIC.get(..magic_len) || file.is_empty() {
        return Err(DecodeError::new(Kind::BadMagic, 0));
    }
    match HeaderBytes::ref_from_prefix(file) {
        Ok((raw, _)) => Ok(raw),
        Err(_) => Err(DecodeError::new(
            Kind::Truncated {
                need: HEADER_LEN,
                have,
            },
            have,
        )),
    }
}

/// The first eight bytes of the BLAKE3 hash of all that stands before the checksum.
fn checksum(raw: &HeaderBytes) -> [u8; 8] {
    let covered = core::mem::offset_of!(HeaderBytes, checksum);
    let bytes = raw.as_bytes().get(..covered).unwrap_or_default();
    let mut sum = [0; 8];
    for (to, from) in sum.iter_mut().zip(blake3::hash(bytes).as_bytes()) {
        *to = *from;
    }
    sum
}

fn check_sum(raw: &HeaderBytes) -> Result<(), DecodeError> {
    if checksum(raw) == raw.checksum {
        Ok(())
    } else {
        Err(DecodeError::new(Kind::HeaderChecksum, at::CHECKSUM))
    }
}

fn fields(raw: &HeaderBytes) -> Result<Header, DecodeError> {
    let invalid = |field, offset| DecodeError::new(Kind::Invalid { field }, offset);
    if raw.reserved0 != [0; 2] || raw.reserved1 != [0; 8] || raw.reserved2 != [0; 8] {
        return Err(DecodeError::new(Kind::ReservedNotZero, at::RESERVED0));
    }
    let arch = match raw.arch {
        0 => None,
        code => Some(Arch::from_code(code).ok_or(invalid("arch", at::ARCH))?),
    };
    let page_size = match raw.page_size_log2 {
        0 => None,
        log2 => {
            Some(PageSize::from_log2(log2).map_err(|_| invalid("page_size_log2", at::PAGE_SIZE))?)
        }
    };
    text_of(&raw.codec).ok_or(invalid("codec", at::CODEC))?;
    let producer = text_of(&raw.producer).filter(|text| !text.is_empty());
    producer.ok_or(invalid("producer", at::PRODUCER))?;
    Ok(Header {
        format: SectionKind::new(raw.format),
        version: Version {
            major: raw.major.get(),
            minor: raw.minor.get(),
        },
        arch,
        page_size,
        flags: raw.flags.get(),
        file_len: raw.file_len.get(),
        table_offset: raw.table_offset.get(),
        section_count: raw.section_count.get(),
        codec: Codec::new(raw.codec, raw.codec_major.get(), raw.codec_minor.get()),
        table_hash: raw.table_hash,
        producer: Producer { text: raw.producer },
    })
}
