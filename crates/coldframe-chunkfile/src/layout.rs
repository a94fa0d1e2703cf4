//! Where each byte of the rows lies. Normative text: `specs/chunk-pack.md`,
//! `specs/chunk-index.md`, `specs/chunk-store.md`.

use core::mem::{offset_of, size_of};

use coldframe_envelope::{Layout, SectionKind, field};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The version of every section body.
pub(crate) const SECTION_VERSION: u16 = 1;

pub(crate) const BODY: SectionKind = SectionKind::new(*b"BODY");
pub(crate) const CHNK: SectionKind = SectionKind::new(*b"CHNK");
pub(crate) const ROWS: SectionKind = SectionKind::new(*b"ROWS");
pub(crate) const IMAG: SectionKind = SectionKind::new(*b"IMAG");
pub(crate) const PRNT: SectionKind = SectionKind::new(*b"PRNT");
pub(crate) const BASE: SectionKind = SectionKind::new(*b"BASE");
pub(crate) const PAGE: SectionKind = SectionKind::new(*b"PAGE");
pub(crate) const PART: SectionKind = SectionKind::new(*b"PART");
pub(crate) const TAGR: SectionKind = SectionKind::new(*b"TAGR");
pub(crate) const DISK: SectionKind = SectionKind::new(*b"DISK");
pub(crate) const WLOG: SectionKind = SectionKind::new(*b"WLOG");
pub(crate) const ROUN: SectionKind = SectionKind::new(*b"ROUN");
pub(crate) const WAIT: SectionKind = SectionKind::new(*b"WAIT");
pub(crate) const COND: SectionKind = SectionKind::new(*b"COND");
pub(crate) const DAMG: SectionKind = SectionKind::new(*b"DAMG");

pub(crate) const NAME: SectionKind = SectionKind::new(*b"NAME");
pub(crate) const FILE: SectionKind = SectionKind::new(*b"FILE");

/// What an index row holds, as stored.
pub(crate) const ROW_CHUNK: u8 = 0;
pub(crate) const ROW_ZERO: u8 = 1;

/// What an index part holds, as stored.
pub(crate) const PART_CHUNK: u8 = 0;
pub(crate) const PART_ZERO: u8 = 1;
pub(crate) const PART_ORIGIN: u8 = 2;
pub(crate) const PART_LOST: u8 = 3;

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct ChunkBytes {
    pub id: [u8; 32],
    pub offset: U64,
    pub stored_len: U32,
    pub raw_len: U32,
    pub compression: u8,
    pub reserved: [u8; 7],
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct RowBytes {
    pub block: U64,
    pub count: U32,
    pub kind: u8,
    pub reserved: [u8; 3],
    pub id: [u8; 32],
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct PartBytes {
    pub block: U64,
    pub pages: U16,
    pub kind: u8,
    pub reserved: u8,
    pub len: U32,
    pub id: [u8; 32],
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct ImageBytes {
    pub size: U64,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct OriginBytes {
    pub id: [u8; 32],
    pub size: U64,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct PageBytes {
    pub first_block: U64,
    pub hash: [u8; 32],
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct TagBytes {
    pub root: [u8; 32],
    pub kind: u8,
    pub reserved: [u8; 7],
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct DiskBytes {
    pub id: [u8; 16],
}

/// The name of the log's host and the log's path follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct WriterBytes {
    pub log: [u8; 16],
    pub host_len: U16,
    pub path_len: U16,
    pub reserved: [u8; 4],
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct RoundBytes {
    pub round: U64,
    pub is_scanned: u8,
    pub reserved: [u8; 7],
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct WaitBytes {
    pub round: U64,
    pub lease: U64,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct CondemnedBytes {
    pub kind: u8,
    pub reserved: [u8; 7],
    pub root: [u8; 32],
    pub file: U64,
    pub round: U64,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct DamagedBytes {
    pub id: [u8; 32],
    pub pack: U64,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct NameBytes {
    pub len: u8,
    pub reserved: [u8; 7],
    pub name: [u8; 128],
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct FileBytes {
    pub root: [u8; 32],
    pub file: U64,
}

/// The structures of this crate.
pub const LAYOUTS: &[Layout] = &[
    Layout {
        name: "chunk row",
        size: size_of::<ChunkBytes>(),
        fields: &[
            field("id", offset_of!(ChunkBytes, id), 32),
            field("offset", offset_of!(ChunkBytes, offset), 8),
            field("stored_len", offset_of!(ChunkBytes, stored_len), 4),
            field("raw_len", offset_of!(ChunkBytes, raw_len), 4),
            field("compression", offset_of!(ChunkBytes, compression), 1),
            field("reserved", offset_of!(ChunkBytes, reserved), 7),
        ],
    },
    Layout {
        name: "index row",
        size: size_of::<RowBytes>(),
        fields: &[
            field("block", offset_of!(RowBytes, block), 8),
            field("count", offset_of!(RowBytes, count), 4),
            field("kind", offset_of!(RowBytes, kind), 1),
            field("reserved", offset_of!(RowBytes, reserved), 3),
            field("id", offset_of!(RowBytes, id), 32),
        ],
    },
    Layout {
        name: "image",
        size: size_of::<ImageBytes>(),
        fields: &[field("size", offset_of!(ImageBytes, size), 8)],
    },
    Layout {
        name: "origin",
        size: size_of::<OriginBytes>(),
        fields: &[
            field("id", offset_of!(OriginBytes, id), 32),
            field("size", offset_of!(OriginBytes, size), 8),
        ],
    },
    Layout {
        name: "index page row",
        size: size_of::<PageBytes>(),
        fields: &[
            field("first_block", offset_of!(PageBytes, first_block), 8),
            field("hash", offset_of!(PageBytes, hash), 32),
        ],
    },
    Layout {
        name: "index part",
        size: size_of::<PartBytes>(),
        fields: &[
            field("block", offset_of!(PartBytes, block), 8),
            field("pages", offset_of!(PartBytes, pages), 2),
            field("kind", offset_of!(PartBytes, kind), 1),
            field("reserved", offset_of!(PartBytes, reserved), 1),
            field("len", offset_of!(PartBytes, len), 4),
            field("id", offset_of!(PartBytes, id), 32),
        ],
    },
    Layout {
        name: "tag",
        size: size_of::<TagBytes>(),
        fields: &[
            field("root", offset_of!(TagBytes, root), 32),
            field("kind", offset_of!(TagBytes, kind), 1),
            field("reserved", offset_of!(TagBytes, reserved), 7),
        ],
    },
    Layout {
        name: "tag disk",
        size: size_of::<DiskBytes>(),
        fields: &[field("id", offset_of!(DiskBytes, id), 16)],
    },
    Layout {
        name: "tag writer",
        size: size_of::<WriterBytes>(),
        fields: &[
            field("log", offset_of!(WriterBytes, log), 16),
            field("host_len", offset_of!(WriterBytes, host_len), 2),
            field("path_len", offset_of!(WriterBytes, path_len), 2),
            field("reserved", offset_of!(WriterBytes, reserved), 4),
        ],
    },
    Layout {
        name: "ledger round",
        size: size_of::<RoundBytes>(),
        fields: &[
            field("round", offset_of!(RoundBytes, round), 8),
            field("is_scanned", offset_of!(RoundBytes, is_scanned), 1),
            field("reserved", offset_of!(RoundBytes, reserved), 7),
        ],
    },
    Layout {
        name: "ledger lease",
        size: size_of::<WaitBytes>(),
        fields: &[
            field("round", offset_of!(WaitBytes, round), 8),
            field("lease", offset_of!(WaitBytes, lease), 8),
        ],
    },
    Layout {
        name: "condemned file",
        size: size_of::<CondemnedBytes>(),
        fields: &[
            field("kind", offset_of!(CondemnedBytes, kind), 1),
            field("reserved", offset_of!(CondemnedBytes, reserved), 7),
            field("root", offset_of!(CondemnedBytes, root), 32),
            field("file", offset_of!(CondemnedBytes, file), 8),
            field("round", offset_of!(CondemnedBytes, round), 8),
        ],
    },
    Layout {
        name: "damaged chunk",
        size: size_of::<DamagedBytes>(),
        fields: &[
            field("id", offset_of!(DamagedBytes, id), 32),
            field("pack", offset_of!(DamagedBytes, pack), 8),
        ],
    },
    Layout {
        name: "known tag",
        size: size_of::<NameBytes>(),
        fields: &[
            field("len", offset_of!(NameBytes, len), 1),
            field("reserved", offset_of!(NameBytes, reserved), 7),
            field("name", offset_of!(NameBytes, name), 128),
        ],
    },
    Layout {
        name: "known file",
        size: size_of::<FileBytes>(),
        fields: &[
            field("root", offset_of!(FileBytes, root), 32),
            field("file", offset_of!(FileBytes, file), 8),
        ],
    },
];

const _: () = assert!(size_of::<ChunkBytes>() == 56 && size_of::<RowBytes>() == 48);
const _: () = assert!(size_of::<PartBytes>() == 48 && offset_of!(PartBytes, kind) == 10);
const _: () = assert!(size_of::<ImageBytes>() == 8 && size_of::<OriginBytes>() == 40);
const _: () = assert!(size_of::<PageBytes>() == 40 && size_of::<TagBytes>() == 40);
const _: () = assert!(offset_of!(ChunkBytes, offset) == 32);
const _: () = assert!(offset_of!(ChunkBytes, compression) == 48);
const _: () = assert!(offset_of!(RowBytes, kind) == 12 && offset_of!(RowBytes, id) == 16);
const _: () = assert!(size_of::<DiskBytes>() == 16 && size_of::<WriterBytes>() == 24);
const _: () = assert!(size_of::<RoundBytes>() == 16 && size_of::<WaitBytes>() == 16);
const _: () = assert!(size_of::<CondemnedBytes>() == 56 && size_of::<DamagedBytes>() == 40);
const _: () = assert!(size_of::<NameBytes>() == 136 && size_of::<FileBytes>() == 40);
