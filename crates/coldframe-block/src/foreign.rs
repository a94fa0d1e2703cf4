//! Images that are not raw: known by their magic, so that a container is never taken for the disk
//! in it.
//!
//! What is looked for: bytes at the start that no boot sector, partition table or file system
//! begins with, and the footers that some formats have at the end alone. LUKS and tar are what a
//! raw disk may well hold, and are not among them.

use std::fmt;

use coldframe_storage::{Storage, StorageError};
use coldframe_units::FileOffset;

/// How much of the start is looked at.
const HEAD: u64 = 512;

/// Where footers lie: in the last sector; old fixed VHDs are one byte short.
const FOOTERS: [u64; 2] = [512, 511];

/// A format that is no raw image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageFormat {
    name: &'static str,
    /// A disk format that `qemu-img` converts; else a compressed file or an archive.
    is_disk: bool,
}

impl ImageFormat {
    /// Its usual name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.name
    }

    /// What makes a raw image of it.
    #[must_use]
    pub const fn way_out(self) -> &'static str {
        match self.is_disk {
            true => "convert it with 'qemu-img convert -O raw'",
            false => "unpack it first",
        }
    }
}

impl fmt::Display for ImageFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Magic, where it lies, and whose it is.
const HEADS: [(u64, &[u8], &str, bool); 24] = [
    (0, b"QFI\xfb", "qcow2", true),
    (0, b"KDMV", "vmdk", true),
    (0, b"COWD", "vmdk", true),
    (0, b"# Disk DescriptorFile", "vmdk", true),
    (0, b"conectix", "vhd", true),
    (0, b"vhdxfile", "vhdx", true),
    (64, b"\x7f\x10\xda\xbe", "vdi", true),
    (0, b"QED\0", "qed", true),
    (0, b"WithoutFreeSpace", "parallels", true),
    (0, b"WithouFreSpacExt", "parallels", true),
    (0, b"Bochs Virtual HD Image", "bochs", true),
    (0, b"\x1f\x8b\x08", "gzip", false),
    (0, b"\x28\xb5\x2f\xfd", "zstd", false),
    (0, b"\xfd7zXZ\0", "xz", false),
    (0, b"\x04\x22\x4d\x18", "lz4", false),
    (0, b"\x02\x21\x4c\x18", "lz4", false),
    (0, b"PK\x03\x04", "zip", false),
    (0, b"7z\xbc\xaf\x27\x1c", "7z", false),
    (0, b"LZIP", "lzip", false),
    (0, b"\x89LZO\0", "lzop", false),
    // A block of bzip2 begins with the digits of pi; an empty stream ends with those of its root.
    (4, b"1AY&SY", "bzip2", false),
    (4, b"\x17\x72\x45\x38\x50\x90", "bzip2", false),
    (0, b"EVF\x09\x0d\x0a\xff\0", "ewf", false),
    (0, b"\x5d\0\0\x80\0\xff\xff\xff", "lzma", false),
];

const TAILS: [(&[u8], &str); 2] = [(b"conectix", "vhd"), (b"koly", "dmg")];

/// The format of what is no raw image, as far as it is known; `None` for all else.
///
/// # Errors
/// [`StorageError::Read`].
pub(crate) fn image_format(
    from: &dyn Storage,
    size: u64,
) -> Result<Option<ImageFormat>, StorageError> {
    let mut head = vec![0; size.min(HEAD) as usize];
    from.read_at(FileOffset::ZERO, &mut head)?;
    for (at, magic, name, is_disk) in HEADS {
        let found = head.get(at as usize..).unwrap_or(&[]);
        let is_known = at != 4 || head.starts_with(b"BZh");
        if found.starts_with(magic) && is_known {
            return Ok(Some(ImageFormat { name, is_disk }));
        }
    }
    for distance in FOOTERS {
        let Some(at) = size.checked_sub(distance) else {
            continue;
        };
        let mut tail = [0; 8];
        from.read_at(FileOffset::new(at), &mut tail)?;
        for (magic, name) in TAILS {
            if tail.starts_with(magic) {
                let is_disk = true;
                return Ok(Some(ImageFormat { name, is_disk }));
            }
        }
    }
    Ok(None)
}
