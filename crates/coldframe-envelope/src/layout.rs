//! Where each byte of the header and of a section row lies. Frozen: a file with another header
//! layout gets another magic. Normative text: `specs/envelope.md`.

use core::mem::{offset_of, size_of};

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The first eight bytes of every file: not text, and broken by any line-ending conversion.
pub const MAGIC: [u8; 8] = *b"\x89CFR\r\n\x1a\n";

/// Bytes in the header.
pub const HEADER_LEN: u64 = 160;

/// Bytes in one row of the section table.
pub const SECTION_ROW_LEN: u64 = 64;

/// The longest producer text, in bytes.
pub const PRODUCER_LEN_MAX: usize = 48;

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct HeaderBytes {
    pub magic: [u8; 8],
    pub format: [u8; 4],
    pub major: U16,
    pub minor: U16,
    pub arch: u8,
    pub page_size_log2: u8,
    pub reserved0: [u8; 2],
    pub flags: U32,
    pub file_len: U64,
    pub table_offset: U64,
    pub section_count: U32,
    pub codec_major: U16,
    pub codec_minor: U16,
    pub codec: [u8; 8],
    pub reserved1: [u8; 8],
    pub table_hash: [u8; 32],
    pub producer: [u8; PRODUCER_LEN_MAX],
    pub reserved2: [u8; 8],
    pub checksum: [u8; 8],
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct SectionRow {
    pub kind: [u8; 4],
    pub instance: U32,
    pub version: U16,
    pub flags: U16,
    pub reserved: U32,
    pub offset: U64,
    pub len: U64,
    pub hash: [u8; 32],
}

/// One field of an on-disk structure, for checking the spec against the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name in the spec.
    pub name: &'static str,
    /// Bytes from the start of the structure.
    pub offset: usize,
    /// Its size in bytes.
    pub size: usize,
}

/// One on-disk structure, for checking the spec against the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Its name: the spec has it under the heading `### Layout: NAME`.
    pub name: &'static str,
    /// Its size in bytes.
    pub size: usize,
    /// Its fields, in order, without gaps.
    pub fields: &'static [Field],
}

/// A [`Field`] of these properties.
#[must_use]
pub const fn field(name: &'static str, offset: usize, size: usize) -> Field {
    Field { name, offset, size }
}

/// The structures of this crate.
pub const LAYOUTS: &[Layout] = &[
    Layout {
        name: "envelope header",
        size: size_of::<HeaderBytes>(),
        fields: &[
            field("magic", offset_of!(HeaderBytes, magic), 8),
            field("format", offset_of!(HeaderBytes, format), 4),
            field("major", offset_of!(HeaderBytes, major), 2),
            field("minor", offset_of!(HeaderBytes, minor), 2),
            field("arch", offset_of!(HeaderBytes, arch), 1),
            field("page_size_log2", offset_of!(HeaderBytes, page_size_log2), 1),
            field("reserved0", offset_of!(HeaderBytes, reserved0), 2),
            field("flags", offset_of!(HeaderBytes, flags), 4),
            field("file_len", offset_of!(HeaderBytes, file_len), 8),
            field("table_offset", offset_of!(HeaderBytes, table_offset), 8),
            field("section_count", offset_of!(HeaderBytes, section_count), 4),
            field("codec_major", offset_of!(HeaderBytes, codec_major), 2),
            field("codec_minor", offset_of!(HeaderBytes, codec_minor), 2),
            field("codec", offset_of!(HeaderBytes, codec), 8),
            field("reserved1", offset_of!(HeaderBytes, reserved1), 8),
            field("table_hash", offset_of!(HeaderBytes, table_hash), 32),
            field(
                "producer",
                offset_of!(HeaderBytes, producer),
                PRODUCER_LEN_MAX,
            ),
            field("reserved2", offset_of!(HeaderBytes, reserved2), 8),
            field("checksum", offset_of!(HeaderBytes, checksum), 8),
        ],
    },
    Layout {
        name: "section row",
        size: size_of::<SectionRow>(),
        fields: &[
            field("kind", offset_of!(SectionRow, kind), 4),
            field("instance", offset_of!(SectionRow, instance), 4),
            field("version", offset_of!(SectionRow, version), 2),
            field("flags", offset_of!(SectionRow, flags), 2),
            field("reserved", offset_of!(SectionRow, reserved), 4),
            field("offset", offset_of!(SectionRow, offset), 8),
            field("len", offset_of!(SectionRow, len), 8),
            field("hash", offset_of!(SectionRow, hash), 32),
        ],
    },
];

const _: () = assert!(size_of::<HeaderBytes>() == 160 && size_of::<SectionRow>() == 64);
const _: () = assert!(offset_of!(HeaderBytes, table_hash) == 64);
const _: () = assert!(offset_of!(HeaderBytes, checksum) == 152);
const _: () = assert!(offset_of!(SectionRow, hash) == 32);
