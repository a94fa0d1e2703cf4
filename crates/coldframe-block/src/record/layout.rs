//! Where each byte of a record lies. Normative text: `specs/block.md`.

use std::mem::{offset_of, size_of};

use coldframe_envelope::{Layout, field};
use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The version of every record but a base with its identity.
pub(super) const VERSION: u8 = 1;
/// The version of a base with its identity.
pub(super) const VERSION_IDENTIFIED: u8 = 2;

pub(super) const BASE: u8 = 1;
pub(super) const WRITE: u8 = 2;
pub(super) const ZERO: u8 = 3;
pub(super) const RESIZE: u8 = 4;

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct HeadBytes {
    pub kind: u8,
    pub version: u8,
    pub reserved: [u8; 6],
    pub at: U64,
    pub len: U64,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct BaseBytes {
    pub root: [u8; 32],
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct IdentityBytes {
    pub disk: [u8; 16],
    pub log: [u8; 16],
}

pub(super) const HEAD_LEN: usize = size_of::<HeadBytes>();
pub(super) const BASE_LEN: usize = size_of::<BaseBytes>();
pub(super) const IDENTITY_LEN: usize = size_of::<IdentityBytes>();

/// The structures of this crate.
pub const LAYOUTS: &[Layout] = &[
    Layout {
        name: "block record",
        size: HEAD_LEN,
        fields: &[
            field("kind", offset_of!(HeadBytes, kind), 1),
            field("version", offset_of!(HeadBytes, version), 1),
            field("reserved", offset_of!(HeadBytes, reserved), 6),
            field("at", offset_of!(HeadBytes, at), 8),
            field("len", offset_of!(HeadBytes, len), 8),
        ],
    },
    Layout {
        name: "block base",
        size: BASE_LEN,
        fields: &[field("root", offset_of!(BaseBytes, root), 32)],
    },
    Layout {
        name: "block identity",
        size: IDENTITY_LEN,
        fields: &[
            field("disk", offset_of!(IdentityBytes, disk), 16),
            field("log", offset_of!(IdentityBytes, log), 16),
        ],
    },
    crate::device::attach::LAYOUT,
];

const _: () = assert!(HEAD_LEN == 24 && BASE_LEN == 32 && IDENTITY_LEN == 32);
const _: () = assert!(offset_of!(HeadBytes, at) == 8 && offset_of!(HeadBytes, len) == 16);
