//! Flat images that blocks are taken from when they are first read.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::Arc;

use coldframe_block::{BaseFile, BlockDevice, BlockError, DiskImage, ImportMode, create, import};
use coldframe_chunks::PackStore;
use coldframe_units::ByteLen;

use crate::backend::MemBackend;
use crate::support::{
    BLOCK, CALM, MIB, PAGE, STORE, all, all_of, assert_same, name, new_log, new_store, noise,
    parts, read,
};

struct Flat {
    _dir: tempfile::TempDir,
    path: PathBuf,
    bytes: Vec<u8>,
    store: PackStore<MemBackend>,
    backend: MemBackend,
}

impl Flat {
    /// Blocks of noise and of zeros, and an end that is no block.
    fn new() -> Self {
        let dir = coldframe_testkit::scratch::on_disk();
        let path = dir.path().join("flat.img");
        let mut bytes = noise(1, 10 * BLOCK + 777);
        bytes[3 * BLOCK as usize..6 * BLOCK as usize].fill(0);
        fs::write(&path, &bytes).unwrap();
        let (store, backend) = new_store();
        let imported = import(&store, &path, &name("disk"), ImportMode::Lazy, &mut |_| {});
        assert_eq!(imported.unwrap().chunks.written, 0);
        Self {
            _dir: dir,
            path,
            bytes,
            store,
            backend,
        }
    }

    fn base(&self) -> Option<Arc<BaseFile>> {
        Some(Arc::new(BaseFile::open(&self.path).unwrap()))
    }

    fn open(&self) -> Result<crate::support::MemDevice, BlockError> {
        let mut parts = parts(&self.store, "disk", new_log(MIB)).unwrap();
        parts.base = self.base();
        BlockDevice::open(parts, CALM)
    }

    fn image(&self) -> Result<DiskImage<MemBackend>, BlockError> {
        let store = PackStore::open_at(self.backend.clone(), STORE).unwrap();
        DiskImage::open(&store, &name("disk"), self.base())
    }
}

// Spec: BLK-31
// Parity: F31
#[test]
fn what_was_read_is_in_the_store_and_zeros_are_nothing() {
    let flat = Flat::new();
    assert_same(&all_of(&flat.image().unwrap()), &flat.bytes, "read-only");
    let device = flat.open().unwrap();
    assert_eq!(
        read(&device, BLOCK + 5, 10),
        flat.bytes[BLOCK as usize + 5..][..10]
    );
    assert_eq!(read(&device, 4 * BLOCK, 10), [0; 10]);
    device.write_at(7 * BLOCK, &noise(2, PAGE)).unwrap();
    let folded = device.fold().unwrap();
    assert_eq!(
        (folded.blocks, folded.chunks.written),
        (3, 2),
        "two chunks, one block of zeros"
    );
    let mut expected = flat.bytes.clone();
    expected[7 * BLOCK as usize..][..4096].copy_from_slice(&noise(2, PAGE));
    assert_same(&all(&device), &expected, "all");
    device.close().unwrap();
    // By now every block was read: the file is needed no more, and not asked for.
    fs::remove_file(&flat.path).unwrap();
    let image = DiskImage::open(&flat.store, &name("disk"), None).unwrap();
    assert!(!image.needs_base() && image.ancestor_count() == 0);
    assert_same(&all_of(&image), &expected, "without the file");
}

// Spec: BLK-32
// Parity: F32
#[test]
fn a_disk_names_its_base_until_its_last_block_was_read() {
    let flat = Flat::new();
    let device = flat.open().unwrap();
    // From the end to the start, so that the last one is not the last in the index.
    for block in (0..11).rev() {
        let needs_base = flat.image().unwrap().needs_base();
        assert!(needs_base, "block {block} was not read yet");
        read(&device, block * BLOCK, 5);
        device.fold().unwrap();
    }
    assert!(!flat.image().unwrap().needs_base());
    drop(device);
    // A checkpoint from before needs it still, the disk does not.
    let parts = parts(&flat.store, "disk", new_log(MIB)).unwrap();
    let device = BlockDevice::open(parts, CALM).unwrap();
    assert_same(&all(&device), &flat.bytes, "without the file");
}

// Spec: BLK-32
// Parity: F32
#[test]
fn a_disk_shorter_than_its_base_takes_all_of_it_in_when_its_chain_is_full() {
    let flat = Flat::new();
    let device = flat.open().unwrap();
    let size = 9 * BLOCK + 9;
    device
        .resize(ByteLen::new(size), coldframe_block::Shrink::Allow)
        .unwrap();
    let mut expected = flat.bytes[..size as usize].to_vec();
    for round in 0..2 * CALM.ancestors_max as u64 {
        device.write_at(round * 100, &noise(round, 50)).unwrap();
        expected[round as usize * 100..][..50].copy_from_slice(&noise(round, 50));
        device.fold().unwrap();
        let ancestors = device.stat().ancestors;
        assert!(ancestors <= CALM.ancestors_max, "{ancestors}");
    }
    assert!(!flat.image().unwrap().needs_base());
    assert_same(&all(&device), &expected, "shorter");
    assert_same(&all_of(&flat.image().unwrap()), &expected, "its index");
}

// Spec: BLK-31
// Parity: D32
#[test]
fn what_was_taken_from_the_base_never_hides_a_change() {
    let flat = Flat::new();
    let device = flat.open().unwrap();
    let mut expected = flat.bytes.clone();
    let mut write = |at: u64, bytes: &[u8]| {
        device.write_at(at, bytes).unwrap();
        expected[at as usize..][..bytes.len()].copy_from_slice(bytes);
    };
    // Changed after it was read, before it is read, and made zero after it was read.
    read(&device, BLOCK, 10);
    read(&device, 2 * BLOCK, BLOCK);
    write(BLOCK, &noise(2, PAGE));
    write(7 * BLOCK, &noise(3, PAGE));
    read(&device, 7 * BLOCK, BLOCK);
    write(2 * BLOCK, &vec![0; BLOCK as usize]);
    device.fold().unwrap();
    // And changed again while a block of the same index was read only.
    read(&device, 8 * BLOCK, 10);
    write(BLOCK + 5000, b"again");
    write(8 * BLOCK + 5, b"now");
    device.fold().unwrap();
    assert_same(&all_of(&flat.image().unwrap()), &expected, "the index");
    assert_same(&all(&device), &expected, "the device");
}

// Spec: BLK-30
// Parity: F31
#[test]
fn a_base_image_that_changed_is_refused() {
    let flat = Flat::new();
    let device = flat.open().unwrap();
    assert_eq!(read(&device, 0, 10), flat.bytes[..10]);
    let file = fs::OpenOptions::new().write(true).open(&flat.path).unwrap();
    file.write_all_at(b"changed", 9 * BLOCK).unwrap();
    file.set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(2))
        .unwrap();
    let mut buf = [0; 10];
    let error = device.read_at(9 * BLOCK, &mut buf).unwrap_err();
    assert!(matches!(error, BlockError::BaseChanged { .. }), "{error:?}");
    assert_eq!(
        read(&device, 0, 10),
        flat.bytes[..10],
        "what was read before is known"
    );
    for opened in [flat.open().map(drop), flat.image().map(drop)] {
        assert!(
            matches!(opened, Err(BlockError::BaseChanged { .. })),
            "{opened:?}"
        );
    }
    let none = DiskImage::open(&flat.store, &name("disk"), None).unwrap_err();
    assert!(matches!(none, BlockError::BaseMissing { .. }));
}

// Spec: BLK-33
#[test]
fn a_base_image_that_changed_under_its_old_time_of_change_is_refused_while_it_is_used() {
    let flat = Flat::new();
    let device = flat.open().unwrap();
    let before = fs::metadata(&flat.path).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&flat.path).unwrap();
    let inode_changed = |found: &fs::Metadata| (found.ctime(), found.ctime_nsec());
    // Times of files are as coarse as the kernel's clock.
    loop {
        file.write_all_at(b"changed", 9 * BLOCK).unwrap();
        file.set_modified(before.modified().unwrap()).unwrap();
        if inode_changed(&file.metadata().unwrap()) != inode_changed(&before) {
            break;
        }
    }
    let mut buf = [0; 10];
    for block in [9, 0, 1] {
        let error = device.read_at(block * BLOCK, &mut buf).unwrap_err();
        assert!(matches!(error, BlockError::BaseChanged { .. }), "{error:?}");
    }
    // What was taken out of it under another name is the same inode, and what was put into its
    // place is not looked at.
    let flat = Flat::new();
    let device = flat.open().unwrap();
    fs::remove_file(&flat.path).unwrap();
    fs::write(&flat.path, noise(9, flat.bytes.len() as u64)).unwrap();
    match device.read_at(9 * BLOCK, &mut buf) {
        Ok(()) => assert_eq!(buf, flat.bytes[9 * BLOCK as usize..][..10]),
        Err(error) => assert!(matches!(error, BlockError::BaseChanged { .. }), "{error:?}"),
    }
}

// Spec: BLK-30
// Parity: D24b, F31
#[test]
fn identity_is_of_the_content_not_of_the_name() {
    let flat = Flat::new();
    let id = BaseFile::open(&flat.path).unwrap().id();
    let moved = flat.path.with_file_name("moved.img");
    fs::rename(&flat.path, &moved).unwrap();
    let modified = fs::metadata(&moved).unwrap().modified().unwrap();
    assert_eq!(BaseFile::open(&moved).unwrap().id(), id);
    // Sampled bytes count, even with the time set back; so does the length.
    let file = fs::OpenOptions::new().write(true).open(&moved).unwrap();
    file.write_all_at(b"changed", 0).unwrap();
    file.set_modified(modified).unwrap();
    assert_ne!(BaseFile::open(&moved).unwrap().id(), id);
}

// Spec: BLK-31
#[test]
fn a_disk_longer_and_shorter_than_its_base_reads_zeros_behind_it() {
    let flat = Flat::new();
    let device = flat.open().unwrap();
    device
        .resize(
            ByteLen::new(20 * BLOCK + 5),
            coldframe_block::Shrink::Refuse,
        )
        .unwrap();
    let mut expected = flat.bytes.clone();
    expected.resize(20 * BLOCK as usize + 5, 0);
    assert_same(&all(&device), &expected, "longer");
    device.fold().unwrap();
    assert_same(&all(&device), &expected, "longer, in the index");
    device
        .resize(ByteLen::new(2 * BLOCK + 9), coldframe_block::Shrink::Allow)
        .unwrap();
    for round in 0..6 {
        device.write_at(round * 100, &noise(round, 50)).unwrap();
        expected[round as usize * 100..][..50].copy_from_slice(&noise(round, 50));
        device.fold().unwrap();
    }
    assert_same(
        &all(&device),
        &expected[..2 * BLOCK as usize + 9],
        "shorter",
    );
}

#[test]
fn a_disk_of_zeros_needs_no_base() {
    let (store, _) = new_store();
    create(&store, &name("disk"), ByteLen::new(5)).unwrap();
    assert!(
        !DiskImage::open(&store, &name("disk"), None)
            .unwrap()
            .needs_base()
    );
    let again = create(&store, &name("disk"), ByteLen::new(5)).unwrap_err();
    assert!(matches!(again, BlockError::Exists { .. }));
}
