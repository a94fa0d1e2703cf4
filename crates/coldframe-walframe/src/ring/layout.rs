//! Where each byte of the control block and of a record's header lies. Frozen for version 1.

use core::mem::{offset_of, size_of};

use coldframe_envelope::{Layout, field};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The first eight bytes of a control block.
pub const CONTROL_MAGIC: [u8; 8] = *b"\x89CFW\r\n\x1a\n";

/// Records begin at, and are padded to, multiples of this many bytes.
pub const ALIGN: u64 = 16;

/// Bytes in a control block.
pub const CONTROL_LEN: u64 = 128;

/// Bytes from the first control block to the second.
pub const CONTROL_SLOT_STRIDE: u64 = 4096;

/// Bytes of the region before the ring.
pub const RING_START: u64 = 8192;

/// Bytes in the header of a record.
pub const RECORD_HEADER_LEN: u64 = 48;

/// The smallest ring, in bytes: one record without payload.
pub const RING_LEN_MIN: u64 = RECORD_HEADER_LEN;

/// The major version that is written, and the only one that is read.
pub(crate) const MAJOR: u16 = 1;

/// The minor version that is written.
pub(crate) const MINOR: u16 = 0;

/// Control flag: the log was closed, `synced_sequence` is its last record.
pub(crate) const CLOSED: u32 = 1;

/// The version of the record header.
pub(crate) const RECORD_VERSION: u8 = 1;

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct ControlBytes {
    pub magic: [u8; 8],
    pub major: U16,
    pub minor: U16,
    pub flags: U32,
    pub generation: U64,
    pub region_id: [u8; 16],
    pub ring_len: U64,
    pub base: U64,
    pub tail_position: U64,
    pub tail_sequence: U64,
    pub resume_sequence: U64,
    pub synced_sequence: U64,
    pub epoch: U32,
    pub reserved: [u8; 20],
    pub digest: [u8; 16],
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct RecordBytes {
    pub digest: [u8; 16],
    pub sequence: U64,
    pub position: U64,
    pub length: U32,
    pub epoch: U32,
    pub unsynced: U32,
    pub kind: u8,
    pub version: u8,
    pub reserved: [u8; 2],
}

/// The structures of the ring.
pub const LAYOUTS: &[Layout] = &[
    Layout {
        name: "ring control block",
        size: size_of::<ControlBytes>(),
        fields: &[
            field("magic", offset_of!(ControlBytes, magic), 8),
            field("major", offset_of!(ControlBytes, major), 2),
            field("minor", offset_of!(ControlBytes, minor), 2),
            field("flags", offset_of!(ControlBytes, flags), 4),
            field("generation", offset_of!(ControlBytes, generation), 8),
            field("region_id", offset_of!(ControlBytes, region_id), 16),
            field("ring_len", offset_of!(ControlBytes, ring_len), 8),
            field("base", offset_of!(ControlBytes, base), 8),
            field("tail_position", offset_of!(ControlBytes, tail_position), 8),
            field("tail_sequence", offset_of!(ControlBytes, tail_sequence), 8),
            field(
                "resume_sequence",
                offset_of!(ControlBytes, resume_sequence),
                8,
            ),
            field(
                "synced_sequence",
                offset_of!(ControlBytes, synced_sequence),
                8,
            ),
            field("epoch", offset_of!(ControlBytes, epoch), 4),
            field("reserved", offset_of!(ControlBytes, reserved), 20),
            field("digest", offset_of!(ControlBytes, digest), 16),
        ],
    },
    Layout {
        name: "ring record header",
        size: size_of::<RecordBytes>(),
        fields: &[
            field("digest", offset_of!(RecordBytes, digest), 16),
            field("sequence", offset_of!(RecordBytes, sequence), 8),
            field("position", offset_of!(RecordBytes, position), 8),
            field("length", offset_of!(RecordBytes, length), 4),
            field("epoch", offset_of!(RecordBytes, epoch), 4),
            field("unsynced", offset_of!(RecordBytes, unsynced), 4),
            field("kind", offset_of!(RecordBytes, kind), 1),
            field("version", offset_of!(RecordBytes, version), 1),
            field("reserved", offset_of!(RecordBytes, reserved), 2),
        ],
    },
];

const _: () = assert!(size_of::<ControlBytes>() == 128 && size_of::<RecordBytes>() == 48);
const _: () = assert!(offset_of!(ControlBytes, digest) == 112);
const _: () = assert!(offset_of!(RecordBytes, position) == 24);
