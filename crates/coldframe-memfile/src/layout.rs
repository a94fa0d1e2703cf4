//! Where each byte of the rows lies, and the numbers of the format. Normative text:
//! `specs/memfile.md`.

use core::mem::{offset_of, size_of};

use coldframe_envelope::{Format, Layout, SectionKind, field};
use coldframe_units::PageSize;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The format: version 1.1, bodies without a codec. A file without absent parts is written as 1.0.
pub const FORMAT: Format = Format::new(*b"MEMF", 1, 1).with_flags(FLAG_DIFF);

/// Where the pages of a Full file begin, in bytes: a boundary for huge pages.
pub const FULL_DATA_OFFSET: u64 = 2 << 20;

/// The largest page size of the format.
pub const PAGE_SIZE_MAX: PageSize = PageSize::SIZE_2M;

/// Rows of the block table under one hash: a block is checked without reading the whole table.
pub const ROWS_PER_HASH: usize = 1024;

/// Header flag: the file is a Diff.
pub(crate) const FLAG_DIFF: u32 = 1;

/// The version of every section body.
pub(crate) const SECTION_VERSION: u16 = 1;

pub(crate) const DATA: SectionKind = SectionKind::new(*b"DATA");
pub(crate) const REGN: SectionKind = SectionKind::new(*b"REGN");
pub(crate) const PRNT: SectionKind = SectionKind::new(*b"PRNT");
pub(crate) const EXTN: SectionKind = SectionKind::new(*b"EXTN");
pub(crate) const BLKS: SectionKind = SectionKind::new(*b"BLKS");
pub(crate) const BPAG: SectionKind = SectionKind::new(*b"BPAG");
pub(crate) const ABSN: SectionKind = SectionKind::new(*b"ABSN");

/// What absent parts are counted in: the smallest page of a host.
pub(crate) const ABSENT_UNIT: u64 = 4096;

/// What an extent holds, as stored.
pub(crate) const EXTENT_DATA: u8 = 0;
pub(crate) const EXTENT_ZERO: u8 = 1;

/// What a block's hash covers, as stored.
pub(crate) const COVERS_WHOLE: u8 = 0;
pub(crate) const COVERS_PART: u8 = 1;

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct RegionBytes {
    pub guest_addr: U64,
    pub len: U64,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct ParentBytes {
    pub root: [u8; 32],
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct ExtentBytes {
    pub ram_page: U64,
    pub page_count: U32,
    pub kind: u8,
    pub reserved: [u8; 3],
    pub file_offset: U64,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct BlockBytes {
    pub block: U64,
    pub hash: [u8; 32],
    pub covers: u8,
    pub reserved: [u8; 7],
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct BlockPageBytes {
    pub hash: [u8; 32],
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct AbsentBytes {
    pub ram_offset: U64,
    pub len: U64,
}

/// The structures of this crate.
pub const LAYOUTS: &[Layout] = &[
    Layout {
        name: "region row",
        size: size_of::<RegionBytes>(),
        fields: &[
            field("guest_addr", offset_of!(RegionBytes, guest_addr), 8),
            field("len", offset_of!(RegionBytes, len), 8),
        ],
    },
    Layout {
        name: "parent",
        size: size_of::<ParentBytes>(),
        fields: &[field("root", offset_of!(ParentBytes, root), 32)],
    },
    Layout {
        name: "extent row",
        size: size_of::<ExtentBytes>(),
        fields: &[
            field("ram_page", offset_of!(ExtentBytes, ram_page), 8),
            field("page_count", offset_of!(ExtentBytes, page_count), 4),
            field("kind", offset_of!(ExtentBytes, kind), 1),
            field("reserved", offset_of!(ExtentBytes, reserved), 3),
            field("file_offset", offset_of!(ExtentBytes, file_offset), 8),
        ],
    },
    Layout {
        name: "block row",
        size: size_of::<BlockBytes>(),
        fields: &[
            field("block", offset_of!(BlockBytes, block), 8),
            field("hash", offset_of!(BlockBytes, hash), 32),
            field("covers", offset_of!(BlockBytes, covers), 1),
            field("reserved", offset_of!(BlockBytes, reserved), 7),
        ],
    },
    Layout {
        name: "block page row",
        size: size_of::<BlockPageBytes>(),
        fields: &[field("hash", offset_of!(BlockPageBytes, hash), 32)],
    },
    Layout {
        name: "absent row",
        size: size_of::<AbsentBytes>(),
        fields: &[
            field("ram_offset", offset_of!(AbsentBytes, ram_offset), 8),
            field("len", offset_of!(AbsentBytes, len), 8),
        ],
    },
];

const _: () = assert!(size_of::<RegionBytes>() == 16 && size_of::<ParentBytes>() == 32);
const _: () = assert!(size_of::<ExtentBytes>() == 24 && size_of::<BlockBytes>() == 48);
const _: () = assert!(size_of::<BlockPageBytes>() == 32 && size_of::<AbsentBytes>() == 16);
const _: () = assert!(offset_of!(ExtentBytes, kind) == 12);
const _: () = assert!(offset_of!(ExtentBytes, file_offset) == 16);
const _: () = assert!(offset_of!(BlockBytes, hash) == 8 && offset_of!(BlockBytes, covers) == 40);
