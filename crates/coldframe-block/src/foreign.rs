//! Files that are neither a raw disk image nor plain memory: one list of what is known by its
//! magic, so that a container is never taken for what is in it.
//!
//! What is looked for: bytes at the start that no boot sector, partition table or file system
//! begins with, and the footers that some formats have at the end alone. What a raw disk may well
//! hold (a file system without partitions, LUKS) is no memory, and no other image format either.

use std::fmt;

use coldframe_storage::{Storage, StorageError};
use coldframe_units::FileOffset;

/// How much of the start is looked at.
const HEAD: u64 = 512;

/// Where footers lie: in the last sector; old fixed VHDs are one byte short.
const FOOTERS: [u64; 2] = [512, 511];

/// What a file is known as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A disk in a format that `qemu-img` converts.
    Image,
    /// A disk in a format that `simg2img` converts.
    Sparse,
    /// A compressed file or an archive.
    Packed,
    /// The memory of a machine or process, in a format of its own; or a program.
    Dump,
    /// One of ours.
    Ours,
    /// What a raw disk image may begin with.
    Disk,
}

/// A format that is neither a raw disk image nor plain memory, or only the former.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageFormat {
    name: &'static str,
    kind: Kind,
}

impl ImageFormat {
    /// Its usual name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.name
    }

    /// Whether it is none of a raw disk image either.
    #[must_use]
    const fn is_no_disk(self) -> bool {
        !matches!(self.kind, Kind::Disk)
    }

    /// What makes a raw image, or plain memory, of it.
    #[must_use]
    pub const fn way_out(self) -> &'static str {
        match self.kind {
            Kind::Image => "convert it with 'qemu-img convert -O raw'",
            Kind::Sparse => "convert it with simg2img",
            Kind::Packed => "unpack it first",
            Kind::Dump => "convert it to plain bytes first",
            Kind::Ours => "see what it is with 'coldframe inspect'",
            Kind::Disk => "it is a disk image",
        }
    }
}

impl fmt::Display for ImageFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Where which magic lies, and what it is of; of two that fit, the first one.
const HEADS: &[(u64, &[u8], &str, Kind)] = &[
    (0, b"QFI\xfb\0\0\0\x01", "qcow", Kind::Image),
    (0, b"QFI\xfb", "qcow2", Kind::Image),
    (0, b"KDMV", "vmdk", Kind::Image),
    (0, b"COWD", "vmdk", Kind::Image),
    (0, b"\xbe\xba\xfe\xca\0\0\0\0", "vmdk", Kind::Image),
    (0, b"# Disk DescriptorFile", "vmdk", Kind::Image),
    (0, b"conectix", "vhd", Kind::Image),
    (0, b"vhdxfile", "vhdx", Kind::Image),
    (64, b"\x7f\x10\xda\xbe", "vdi", Kind::Image),
    (0, b"QED\0", "qed", Kind::Image),
    (0, b"WithoutFreeSpace", "parallels", Kind::Image),
    (0, b"WithouFreSpacExt", "parallels", Kind::Image),
    (0, b"Bochs Virtual HD Image", "bochs", Kind::Image),
    (0, b"#!/bin/sh\n#V2.0 Format\n", "cloop", Kind::Image),
    (0, b"\x3a\xff\x26\xed", "Android sparse image", Kind::Sparse),
    (0, b"\x1f\x8b\x08", "gzip", Kind::Packed),
    (0, b"\x1f\x9d", "compress", Kind::Packed),
    (0, b"\x28\xb5\x2f\xfd", "zstd", Kind::Packed),
    (0, b"\xfd7zXZ\0", "xz", Kind::Packed),
    (0, b"\x04\x22\x4d\x18", "lz4", Kind::Packed),
    (0, b"\x02\x21\x4c\x18", "lz4", Kind::Packed),
    (0, b"PK\x03\x04", "zip", Kind::Packed),
    (0, b"PK\x05\x06", "zip", Kind::Packed),
    (0, b"Rar!\x1a\x07", "rar", Kind::Packed),
    (0, b"7z\xbc\xaf\x27\x1c", "7z", Kind::Packed),
    (0, b"LZIP", "lzip", Kind::Packed),
    (0, b"\xff\x06\0\0sNaPpY", "snappy", Kind::Packed),
    (0, b"LRZI", "lrzip", Kind::Packed),
    (0, b"\x89LZO\0", "lzop", Kind::Packed),
    // A block of bzip2 begins with the digits of pi; an empty stream ends with those of its root.
    (4, b"1AY&SY", "bzip2", Kind::Packed),
    (4, b"\x17\x72\x45\x38\x50\x90", "bzip2", Kind::Packed),
    (0, b"\x5d\0\0\x80\0\xff\xff\xff", "lzma", Kind::Packed),
    (0, b"070701", "cpio", Kind::Packed),
    (0, b"070702", "cpio", Kind::Packed),
    (0, b"070707", "cpio", Kind::Packed),
    (257, b"ustar", "tar", Kind::Packed),
    (0, b"MSWIM\0\0\0", "wim", Kind::Packed),
    (0, b"EVF\x09\x0d\x0a\xff\0", "ewf", Kind::Packed),
    (0, b"EVF2\x0d\x0a\x81\0", "ewf", Kind::Packed),
    (0, b"\x7fELF", "ELF", Kind::Dump),
    (0, b"QEVM", "QEMU migration stream", Kind::Dump),
    (0, b"KDUMP   ", "kdump", Kind::Dump),
    (0, b"DISKDUMP", "diskdump", Kind::Dump),
    (0, b"makedumpfile\0", "flattened kdump", Kind::Dump),
    (0, b"LibvirtQemudSave", "libvirt save file", Kind::Dump),
    (0, b"LibvirtQemudPart", "libvirt save file", Kind::Dump),
    (0, b"Xen saved domain", "Xen save file", Kind::Dump),
    (0, b"LinuxGuestRecord", "Xen save file", Kind::Dump),
    (
        0,
        b"\x7fVirtualBox SavedState",
        "VirtualBox state",
        Kind::Dump,
    ),
    (0, b"\xd2\xbe\xd2\xbe", "VMware state", Kind::Dump),
    (0, b"\xd3\xbe\xd3\xbe", "VMware state", Kind::Dump),
    (0, b"HIBR", "Windows hibernation file", Kind::Dump),
    (0, b"PAGEDU64", "Windows crash dump", Kind::Dump),
    (0, b"PAGEDUMP", "Windows crash dump", Kind::Dump),
    (0, b"EMiL", "LiME", Kind::Dump),
    (0, b"\x89CFR\x0d\x0a\x1a\x0a", "coldframe", Kind::Ours),
    (
        0,
        b"\x89CFJ\x0d\x0a\x1a\x0a",
        "coldframe journal",
        Kind::Ours,
    ),
    (
        0,
        b"\x89CFW\x0d\x0a\x1a\x0a",
        "coldframe write-ahead log",
        Kind::Ours,
    ),
    (0, b"LUKS\xba\xbe", "LUKS", Kind::Disk),
    (0, b"hsqs", "squashfs", Kind::Disk),
    (0, b"XFSB", "xfs", Kind::Disk),
    (0, b"\x45\x3d\xcd\x28", "cramfs", Kind::Disk),
];

const TAILS: [(&[u8], &str); 2] = [(b"conectix", "vhd"), (b"koly", "dmg")];

/// The format of what is no raw disk image, as far as it is known; `None` for all else.
///
/// # Errors
/// [`StorageError::Read`].
pub(crate) fn image_format(
    from: &dyn Storage,
    size: u64,
) -> Result<Option<ImageFormat>, StorageError> {
    let found = format_of(size, |offset, bytes| from.read_at(offset, bytes));
    Ok(found?.filter(|format| format.is_no_disk()))
}

/// The format of what is no plain memory, as far as it is known: all that is no raw disk image, and
/// what only a disk begins with; `None` for all else. `read` fills a buffer from an offset on.
///
/// # Errors
/// Those of `read`.
pub fn not_memory<E>(
    size: u64,
    read: impl FnMut(FileOffset, &mut [u8]) -> Result<(), E>,
) -> Result<Option<ImageFormat>, E> {
    format_of(size, read)
}

const fn is_width(bits: u8) -> bool {
    bits >= 9 && bits <= 16
}

fn format_of<E>(
    size: u64,
    mut read: impl FnMut(FileOffset, &mut [u8]) -> Result<(), E>,
) -> Result<Option<ImageFormat>, E> {
    let mut head = vec![0; size.min(HEAD) as usize];
    read(FileOffset::ZERO, &mut head)?;
    for &(at, magic, name, kind) in HEADS {
        let found = head.get(at as usize..).unwrap_or(&[]);
        let is_known = match name {
            "bzip2" => head.starts_with(b"BZh"),
            // Two bytes are few: the third has the width of codes, 9 to 16, and two bits of zero.
            "compress" => head
                .get(2)
                .is_some_and(|it| it & 0x60 == 0 && is_width(it & 0x1f)),
            _ => true,
        };
        if found.starts_with(magic) && is_known {
            return Ok(Some(ImageFormat { name, kind }));
        }
    }
    for distance in FOOTERS {
        let Some(at) = size.checked_sub(distance) else {
            continue;
        };
        let mut tail = [0; 8];
        read(FileOffset::new(at), &mut tail)?;
        for (magic, name) in TAILS {
            if tail.starts_with(magic) {
                let kind = Kind::Image;
                return Ok(Some(ImageFormat { name, kind }));
            }
        }
    }
    Ok(None)
}
