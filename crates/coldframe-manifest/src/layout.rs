//! Where each byte of a manifest's sections lies. Normative text: `specs/manifest.md`.

use core::mem::{offset_of, size_of};

use coldframe_envelope::{Format, Layout, Limits, SectionKind, field};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The format and its version; bodies are plain.
pub const FORMAT: Format = Format::new(*b"MANI", 1, 1);

/// Identity and parent; instance 0.
pub const IDNT: SectionKind = SectionKind::new(*b"IDNT");

/// Rows of RAM regions; instance 0.
pub const RAML: SectionKind = SectionKind::new(*b"RAML");

/// A file of the snapshot; the instance says which.
pub const FILE: SectionKind = SectionKind::new(*b"FILE");

/// The host, for people; instance 0.
pub const HOST: SectionKind = SectionKind::new(*b"HOST");

/// Rows of disks; instance 0.
pub const DISK: SectionKind = SectionKind::new(*b"DISK");

/// Labels; instance 0.
pub const LABL: SectionKind = SectionKind::new(*b"LABL");

/// The name of the parent's directory; instance 0.
pub const PNAM: SectionKind = SectionKind::new(*b"PNAM");

pub(crate) const KINDS: [SectionKind; 7] = [IDNT, RAML, FILE, HOST, DISK, LABL, PNAM];

/// The instance of `FILE` that names the memory file.
pub const FILE_MEMORY: u32 = 1;

/// The instance of `FILE` that names the state file.
pub const FILE_STATE: u32 = 2;

/// The most RAM regions.
pub const REGION_COUNT_MAX: u64 = 1024;

/// The most disks.
pub const DISK_COUNT_MAX: u64 = 256;

/// The longest name of a disk, in bytes.
pub const DISK_NAME_BYTES_MAX: usize = 255;

/// The longest name of a parent's directory, in bytes (`NAME_MAX` of limits.h).
pub const PARENT_NAME_BYTES_MAX: usize = 255;

/// The most labels.
pub const LABEL_COUNT_MAX: u64 = 256;

/// The longest key of a label, in bytes.
pub const LABEL_KEY_BYTES_MAX: u64 = 64;

/// The longest value of a label, in bytes.
pub const LABEL_VALUE_BYTES_MAX: u64 = 1024;

/// What a reader takes on: 64 sections, 512 KiB each, 1 MiB in all.
pub const LIMITS: Limits = Limits {
    sections_max: 64,
    section_bytes_max: 512 << 10,
    file_bytes_max: 1 << 20,
};

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct IdentityBytes {
    pub id: [u8; 16],
    pub kind: u8,
    pub reserved0: [u8; 3],
    pub created_nanos: U32,
    pub created_seconds: U64,
    pub parent_id: [u8; 16],
    pub parent_root: [u8; 32],
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct RegionRow {
    pub guest_addr: U64,
    pub len: U64,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct FileBytes {
    pub len: U64,
    pub root: [u8; 32],
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct HostBytes {
    pub digest: [u8; 32],
    pub hypervisor: [u8; 16],
    pub cpu: [u8; 64],
    pub kernel: [u8; 80],
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct DiskRow {
    pub index: [u8; 32],
    pub name_len: u8,
    pub name: [u8; DISK_NAME_BYTES_MAX],
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct LabelHead {
    pub key_len: U16,
    pub value_len: U16,
}

/// The structures of this crate.
pub const LAYOUTS: &[Layout] = &[
    Layout {
        name: "identity",
        size: size_of::<IdentityBytes>(),
        fields: &[
            field("id", offset_of!(IdentityBytes, id), 16),
            field("kind", offset_of!(IdentityBytes, kind), 1),
            field("reserved0", offset_of!(IdentityBytes, reserved0), 3),
            field("created_nanos", offset_of!(IdentityBytes, created_nanos), 4),
            field(
                "created_seconds",
                offset_of!(IdentityBytes, created_seconds),
                8,
            ),
            field("parent_id", offset_of!(IdentityBytes, parent_id), 16),
            field("parent_root", offset_of!(IdentityBytes, parent_root), 32),
        ],
    },
    Layout {
        name: "ram region row",
        size: size_of::<RegionRow>(),
        fields: &[
            field("guest_addr", offset_of!(RegionRow, guest_addr), 8),
            field("len", offset_of!(RegionRow, len), 8),
        ],
    },
    Layout {
        name: "file reference",
        size: size_of::<FileBytes>(),
        fields: &[
            field("len", offset_of!(FileBytes, len), 8),
            field("root", offset_of!(FileBytes, root), 32),
        ],
    },
    Layout {
        name: "host summary",
        size: size_of::<HostBytes>(),
        fields: &[
            field("digest", offset_of!(HostBytes, digest), 32),
            field("hypervisor", offset_of!(HostBytes, hypervisor), 16),
            field("cpu", offset_of!(HostBytes, cpu), 64),
            field("kernel", offset_of!(HostBytes, kernel), 80),
        ],
    },
    Layout {
        name: "disk row",
        size: size_of::<DiskRow>(),
        fields: &[
            field("index", offset_of!(DiskRow, index), 32),
            field("name_len", offset_of!(DiskRow, name_len), 1),
            field("name", offset_of!(DiskRow, name), DISK_NAME_BYTES_MAX),
        ],
    },
    Layout {
        name: "label head",
        size: size_of::<LabelHead>(),
        fields: &[
            field("key_len", offset_of!(LabelHead, key_len), 2),
            field("value_len", offset_of!(LabelHead, value_len), 2),
        ],
    },
];

const _: () = assert!(size_of::<IdentityBytes>() == 80);
const _: () = assert!(offset_of!(IdentityBytes, parent_root) == 48);
const _: () = assert!(size_of::<RegionRow>() == 16 && size_of::<FileBytes>() == 40);
const _: () = assert!(size_of::<HostBytes>() == 192 && size_of::<DiskRow>() == 288);
const _: () = assert!(size_of::<LabelHead>() == 4);
