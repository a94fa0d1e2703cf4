//! Where each byte of a part header, a record header and a batch item lies. Frozen: other bytes
//! get another magic or another major version. Normative text: `specs/journal.md`.

use core::mem::{offset_of, size_of};

use coldframe_envelope::{Layout, PRODUCER_LEN_MAX, field};
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The first eight bytes of every part: not text, and broken by any line-ending conversion.
pub const PART_MAGIC: [u8; 8] = *b"\x89CFJ\r\n\x1a\n";

/// Everything in a part begins on a multiple of this many bytes from the part's start.
pub const ALIGN: u64 = 16;

/// Bytes in the header of a part.
pub const PART_HEADER_LEN: u64 = 112;

/// Bytes in the header of a record.
pub const RECORD_HEADER_LEN: u64 = 32;

/// Bytes before each entry of a batch.
pub const BATCH_ITEM_LEN: u64 = 16;

/// The most bytes that a size field can name: 2^48 - 1.
pub const PAYLOAD_LEN_MAX: u64 = 0xffff_ffff_ffff;

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct PartBytes {
    pub magic: [u8; 8],
    pub major: U16,
    pub minor: U16,
    pub codec_major: U16,
    pub codec_minor: U16,
    pub codec: [u8; 8],
    pub schema: [u8; 8],
    pub part_id: [u8; 16],
    pub producer: [u8; PRODUCER_LEN_MAX],
    pub reserved: [u8; 12],
    pub checksum: U32,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct RecordBytes {
    pub type_id: U16,
    pub size: [u8; 6],
    pub unsynced: U32,
    pub checksum: U32,
    pub digest: [u8; 16],
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct ItemBytes {
    pub type_id: U16,
    pub size: [u8; 6],
    pub reserved: [u8; 8],
}

/// The structures of the journal.
pub const JOURNAL_LAYOUTS: &[Layout] = &[
    Layout {
        name: "journal part header",
        size: size_of::<PartBytes>(),
        fields: &[
            field("magic", offset_of!(PartBytes, magic), 8),
            field("major", offset_of!(PartBytes, major), 2),
            field("minor", offset_of!(PartBytes, minor), 2),
            field("codec_major", offset_of!(PartBytes, codec_major), 2),
            field("codec_minor", offset_of!(PartBytes, codec_minor), 2),
            field("codec", offset_of!(PartBytes, codec), 8),
            field("schema", offset_of!(PartBytes, schema), 8),
            field("part_id", offset_of!(PartBytes, part_id), 16),
            field("producer", offset_of!(PartBytes, producer), 48),
            field("reserved", offset_of!(PartBytes, reserved), 12),
            field("checksum", offset_of!(PartBytes, checksum), 4),
        ],
    },
    Layout {
        name: "journal record header",
        size: size_of::<RecordBytes>(),
        fields: &[
            field("type", offset_of!(RecordBytes, type_id), 2),
            field("size", offset_of!(RecordBytes, size), 6),
            field("unsynced", offset_of!(RecordBytes, unsynced), 4),
            field("checksum", offset_of!(RecordBytes, checksum), 4),
            field("digest", offset_of!(RecordBytes, digest), 16),
        ],
    },
    Layout {
        name: "journal batch item",
        size: size_of::<ItemBytes>(),
        fields: &[
            field("type", offset_of!(ItemBytes, type_id), 2),
            field("size", offset_of!(ItemBytes, size), 6),
            field("reserved", offset_of!(ItemBytes, reserved), 8),
        ],
    },
];

const _: () = {
    assert!(size_of::<PartBytes>() == 112);
    assert!(size_of::<RecordBytes>() == 32);
    assert!(size_of::<ItemBytes>() == 16);
};

/// The six bytes of a size field.
pub(crate) const fn size_bytes(size: u64) -> [u8; 6] {
    let [a, b, c, d, e, f, _, _] = size.to_le_bytes();
    [a, b, c, d, e, f]
}

/// What a size field says.
pub(crate) const fn size_of_bytes([a, b, c, d, e, f]: [u8; 6]) -> u64 {
    u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
}
