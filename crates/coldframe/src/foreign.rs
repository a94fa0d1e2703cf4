//! Files that are not plain memory, by their first bytes.

/// How many bytes [`kind`] looks at.
pub const BYTES: u64 = 512;

/// Where in a file which bytes stand, and what it is then.
const KINDS: &[(usize, &[u8], &str)] = &[
    (0, b"\x7fELF", "an ELF file (a core dump?)"),
    (0, b"QFI\xfb", "a qcow image"),
    (0, b"KDMV", "a VMDK image"),
    (0, b"COWD", "a VMDK image"),
    (0, b"# Disk DescriptorFile", "a VMDK descriptor"),
    (0, b"vhdxfile", "a VHDX image"),
    (0, b"conectix", "a VHD image"),
    (0x40, b"\x7f\x10\xda\xbe", "a VDI image"),
    (0, b"\x1f\x8b\x08", "a gzip file"),
    (0, b"\x28\xb5\x2f\xfd", "a zstd file"),
    (0, b"\xfd7zXZ\0", "an xz file"),
    (0, b"BZh", "a bzip2 file"),
    (0, b"\x04\x22\x4d\x18", "an lz4 file"),
    (0, b"PK\x03\x04", "a zip archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"QEVM", "a QEMU migration stream"),
    (0, b"KDUMP   ", "a kdump file"),
    (0, b"DISKDUMP", "a diskdump file"),
    (0, b"PAGEDU64", "a Windows crash dump"),
    (0, b"PAGEDUMP", "a Windows crash dump"),
    (0, b"EMiL", "a LiME dump"),
    (0, b"\x89CFR\r\n\x1a\n", "a file of coldframe"),
];

/// What a file is that begins with these bytes, if it is known and is not plain memory.
pub fn kind(start: &[u8]) -> Option<&'static str> {
    let mut kinds = KINDS.iter();
    let found =
        kinds.find(|(at, magic, _)| start.get(*at..).is_some_and(|rest| rest.starts_with(magic)));
    found.map(|(_, _, kind)| *kind)
}
