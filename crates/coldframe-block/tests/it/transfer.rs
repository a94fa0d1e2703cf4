//! Raw images in and out.

use std::fs;

use coldframe_block::{BlockError, DiskImage, ImportMode, export, import};
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
        let dir = tempfile::tempdir().unwrap();
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
    let dir = tempfile::tempdir().unwrap();
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
    let dir = tempfile::tempdir().unwrap();
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
