//! Raw images in and out.

use std::fs;

use coldframe_block::{BlockError, DiskImage, ImportMode, ImportOptions, export, import};
use coldframe_storage::{MemStorage, Overwrite, PendingFile};

use crate::support::{BLOCK, assert_same, name, new_store, noise};

#[test]
fn an_image_comes_out_as_it_went_in() {
    for len in [
        0,
        1,
        4096,
        BLOCK,
        3 * BLOCK + 5,
        70 * BLOCK,
        200 * BLOCK + 1,
    ] {
        let dir = coldframe_testkit::scratch::on_disk();
        let path = dir.path().join("x.img");
        let mut bytes = noise(len + 1, len);
        let middle = bytes.len() / 3..bytes.len() / 2;
        bytes[middle].fill(0);
        fs::write(&path, &bytes).unwrap();
        let (store, _) = new_store();
        let mut told = 0;
        let disk = name("disk");
        let imported = import(&store, &path, &disk, ImportMode::Now, &mut |n| told += n).unwrap();
        assert_eq!(imported.size.get(), len);
        assert!(told >= len);
        let image = DiskImage::open(&store, &disk, None).unwrap();
        let out = MemStorage::new();
        let data = export(&image, &out, &mut |_| {}).unwrap();
        assert_same(&out.to_vec(), &bytes, "exported");
        assert_eq!(data, imported.data_bytes);
        assert!(store.verify(&[]).unwrap().is_sound());
    }
}

#[test]
fn holes_cost_nothing_on_either_side() {
    let dir = coldframe_testkit::scratch::on_disk();
    let path = dir.path().join("sparse.img");
    let file = fs::File::create(&path).unwrap();
    file.set_len(1 << 40).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"far away", (1 << 39) + 5).unwrap();
    let (store, _) = new_store();
    let disk = name("disk");
    let imported = import(&store, &path, &disk, ImportMode::Now, &mut |_| {}).unwrap();
    assert_eq!(imported.chunks.written, 1);
    let image = DiskImage::open(&store, &disk, None).unwrap();
    let out = dir.path().join("out.img");
    let pending = PendingFile::create(&out, Overwrite::Refuse).unwrap();
    assert_eq!(export(&image, &pending, &mut |_| {}).unwrap(), BLOCK);
    pending.publish().unwrap();
    let metadata = fs::metadata(&out).unwrap();
    assert_eq!(metadata.len(), 1 << 40);
    assert!(std::os::unix::fs::MetadataExt::blocks(&metadata) < 1024);
}

#[test]
fn an_import_over_a_tag_or_of_nothing_is_refused() {
    let dir = coldframe_testkit::scratch::on_disk();
    let path = dir.path().join("x.img");
    let (store, _) = new_store();
    let disk = name("disk");
    let missing = import(&store, &path, &disk, ImportMode::Now, &mut |_| {}).unwrap_err();
    assert!(
        matches!(missing, BlockError::BaseRead { .. }),
        "{missing:?}"
    );
    fs::write(&path, b"x").unwrap();
    import(&store, &path, &disk, ImportMode::Now, &mut |_| {}).unwrap();
    let again = import(&store, &path, &disk, ImportMode::Now, &mut |_| {}).unwrap_err();
    assert!(matches!(again, BlockError::Exists { .. }));
}

// Spec: BLK-34
#[test]
fn what_is_no_file_with_bytes_at_offsets_is_refused_before_it_is_opened() {
    let dir = coldframe_testkit::scratch::on_disk();
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let socket = dir.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&fifo, &link).unwrap();
    let (store, _) = new_store();
    let null = std::path::Path::new("/dev/null");
    for path in [&fifo, &socket, &link, dir.path(), null] {
        for mode in [ImportMode::Now, ImportMode::Lazy] {
            let refused = import(&store, path, &name("disk"), mode, &mut |_| {}).unwrap_err();
            assert!(
                matches!(&refused, BlockError::NotAnImage { path: found } if found == path),
                "{refused:?}"
            );
        }
    }
    assert!(store.tags().unwrap().is_empty());
}

/// What bytes are known as that are to be plain memory.
fn memory_format(magic: &[u8], at: u64) -> Option<&'static str> {
    let mut bytes = vec![0; 3 * BLOCK as usize];
    bytes[at as usize..][..magic.len()].copy_from_slice(magic);
    let found = coldframe_block::not_memory(bytes.len() as u64, |offset, to| {
        let at = offset.get() as usize;
        to.copy_from_slice(&bytes[at..at + to.len()]);
        Ok::<_, std::convert::Infallible>(())
    });
    found.unwrap().map(|format| format.name())
}

// Spec: BLK-34
#[test]
fn what_a_disk_begins_with_is_taken_for_a_disk_and_not_for_memory() {
    let kinds: [(Option<&str>, u64, &[u8]); 8] = [
        (Some("LUKS"), 0, b"LUKS\xba\xbe\0\x02"),
        (Some("squashfs"), 0, b"hsqs"),
        (Some("xfs"), 0, b"XFSB"),
        (Some("cramfs"), 0, b"\x45\x3d\xcd\x28"),
        (None, 1024, b"\xe2\xe1\xf5\xe0"),
        (None, 32769, b"CD001"),
        (None, 1080, b"\x53\xef"),
        (None, 510, b"\x55\xaa"),
    ];
    let dir = coldframe_testkit::scratch::on_disk();
    let path = dir.path().join("x.img");
    let (store, _) = new_store();
    for (number, (kind, at, magic)) in kinds.into_iter().enumerate() {
        assert_eq!(memory_format(magic, at), kind);
        let mut bytes = vec![0; 3 * BLOCK as usize];
        bytes[at as usize..][..magic.len()].copy_from_slice(magic);
        fs::write(&path, &bytes).unwrap();
        let disk = name(&format!("disk{number}"));
        import(&store, &path, &disk, ImportMode::Now, &mut |_| {}).unwrap();
    }
}

// Spec: BLK-34
#[test]
fn what_holds_a_disk_is_not_taken_for_the_disk() {
    let kinds: &[(&str, u64, &[u8])] = &[
        ("qcow2", 0, b"QFI\xfb\0\0\0\x03"),
        ("vmdk", 0, b"KDMV\x01"),
        ("vmdk", 0, b"# Disk DescriptorFile\n"),
        ("vhd", 0, b"conectix"),
        ("vhd", 3 * BLOCK - 512, b"conectix"),
        ("vhdx", 0, b"vhdxfile"),
        ("vdi", 64, b"\x7f\x10\xda\xbe"),
        ("qed", 0, b"QED\0"),
        ("gzip", 0, b"\x1f\x8b\x08"),
        ("zstd", 0, b"\x28\xb5\x2f\xfd"),
        ("xz", 0, b"\xfd7zXZ\0"),
        ("bzip2", 0, b"BZh91AY&SY"),
        ("lz4", 0, b"\x04\x22\x4d\x18"),
        ("zip", 0, b"PK\x03\x04"),
        ("qcow", 0, b"QFI\xfb\0\0\0\x01"),
        ("parallels", 0, b"WithoutFreeSpace"),
        ("7z", 0, b"7z\xbc\xaf\x27\x1c"),
        ("lzop", 0, b"\x89LZO\0"),
        ("lzip", 0, b"LZIP"),
        ("rar", 0, b"Rar!\x1a\x07\x01\0"),
        ("cpio", 0, b"070701"),
        ("compress", 0, b"\x1f\x9d\x90"),
        ("tar", 257, b"ustar\0"),
        ("Android sparse image", 0, b"\x3a\xff\x26\xed"),
        ("ELF", 0, b"\x7fELF\x02\x01"),
        ("kdump", 0, b"KDUMP   "),
        ("LiME", 0, b"EMiL"),
        ("coldframe", 0, b"\x89CFR\r\n\x1a\n"),
        ("coldframe journal", 0, b"\x89CFJ\r\n\x1a\n"),
        ("coldframe write-ahead log", 0, b"\x89CFW\r\n\x1a\n"),
        ("dmg", 3 * BLOCK - 512, b"koly"),
    ];
    let dir = coldframe_testkit::scratch::on_disk();
    let path = dir.path().join("x.img");
    let (store, _) = new_store();
    for (number, &(kind, at, magic)) in kinds.iter().enumerate() {
        assert_eq!(memory_format(magic, at), Some(kind));
        let mut bytes = vec![0; 3 * BLOCK as usize];
        bytes[at as usize..][..magic.len()].copy_from_slice(magic);
        fs::write(&path, &bytes).unwrap();
        let disk = name(&format!("disk{number}"));
        for mode in [ImportMode::Now, ImportMode::Lazy] {
            let refused = import(&store, &path, &disk, mode, &mut |_| {}).unwrap_err();
            assert!(
                matches!(&refused, BlockError::NotRaw { format, .. } if format.name() == kind),
                "{kind}: {refused:?}"
            );
            assert_eq!(store.tag(&disk).unwrap(), None);
        }
        let as_raw = ImportOptions {
            as_raw: true,
            ..ImportMode::Now.into()
        };
        import(&store, &path, &disk, as_raw, &mut |_| {}).unwrap();
        let (out, image) = (MemStorage::new(), DiskImage::open(&store, &disk, None));
        export(&image.unwrap(), &out, &mut |_| {}).unwrap();
        assert_same(&out.to_vec(), &bytes, kind);
    }
}

// Spec: BLK-34
#[test]
fn a_disk_that_only_begins_like_a_compressed_file_is_a_disk() {
    let ((store, _), dir) = (new_store(), coldframe_testkit::scratch::on_disk());
    for (number, third) in [0, 8, 0x11, 0xf0, 0xff].into_iter().enumerate() {
        let mut bytes = noise(number as u64, BLOCK);
        bytes[..3].copy_from_slice(&[0x1f, 0x9d, third]);
        let path = dir.path().join(format!("image{number}"));
        fs::write(&path, &bytes).unwrap();
        let disk = name(&format!("disk{number}"));
        import(&store, &path, &disk, ImportMode::Now, &mut |_| {}).unwrap();
    }
}
