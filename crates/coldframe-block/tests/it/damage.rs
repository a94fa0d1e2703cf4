//! Chunks that are damaged or missing: an error on their block, while the others are read.

use coldframe_block::{BlockError, DiskImage};
use coldframe_chunks::{ChunkStore, Folder, PackStore, StoreError};
use coldframe_storage::Storage;
use coldframe_units::FileOffset;

use crate::support::{BLOCK, CALM, MIB, PAGE, Rig, STORE, all, assert_same, name, noise, read};

/// A disk of eight blocks, the third of which cannot be read any more.
fn damaged(is_missing: bool) -> Rig {
    let rig = Rig::new(8 * BLOCK, MIB, CALM);
    let device = rig.open();
    device.write_at(0, &noise(1, 8 * BLOCK)).unwrap();
    device.close().unwrap();
    let third = &noise(1, 8 * BLOCK)[2 * BLOCK as usize..3 * BLOCK as usize];
    if is_missing {
        let id = coldframe_chunks::Chunk::new(bytes::Bytes::copy_from_slice(third)).unwrap();
        rig.store.delete(&[id.id()]).unwrap();
        return rig;
    }
    // Noise is stored as it is, so its bytes are found in the pack.
    for key in rig.backend.keys(Folder::Packs) {
        rig.backend.rot(&key, |pack| {
            let mut windows = pack.windows(64);
            if let Some(at) = windows.position(|bytes| bytes == &third[..64]) {
                pack[at + 1000] ^= 1;
            }
        });
    }
    rig
}

// Spec: BLK-2
// Parity: D22b
#[test]
fn a_block_whose_chunk_is_lost_is_an_error_that_names_it_and_never_zeros() {
    for is_missing in [false, true] {
        let rig = damaged(is_missing);
        let device = rig.open();
        let image = rig.image("disk");
        let mut buf = vec![0; 100];
        let errors = [
            device.read_at(2 * BLOCK + 5, &mut buf).unwrap_err(),
            device.read_at(2 * BLOCK - 50, &mut buf).unwrap_err(),
            image.read_at(3 * BLOCK - 100, &mut buf).unwrap_err(),
        ];
        for error in errors {
            assert!(error.is_corrupt(), "{error:?}");
            assert!(
                matches!(&error, BlockError::Read { block: 2, .. }),
                "{error:?}"
            );
            let BlockError::Read { source, .. } = error else {
                return;
            };
            let missing = matches!(source, StoreError::MissingChunk { .. });
            assert_eq!(missing, is_missing, "{source:?}");
        }
        let bytes = noise(1, 8 * BLOCK);
        assert_eq!(read(&device, 0, 2 * BLOCK), bytes[..2 * BLOCK as usize]);
        assert_eq!(
            read(&device, 3 * BLOCK, 5 * BLOCK),
            bytes[3 * BLOCK as usize..]
        );
    }
}

// Spec: BLK-24
// Parity: D22b
#[test]
fn changes_of_a_block_that_cannot_be_read_are_kept_and_hold_nothing_up() {
    for is_missing in [false, true] {
        let rig = damaged(is_missing);
        let device = rig.open();
        device.write_at(2 * BLOCK + PAGE, &noise(2, PAGE)).unwrap();
        device.write_at(5 * BLOCK, &noise(3, PAGE)).unwrap();
        assert!(
            device.write_at(2 * BLOCK + 5, b"in part").is_err(),
            "its page is unknown"
        );
        for _ in 0..3 {
            device.fold().unwrap();
            assert_eq!(read(&device, 2 * BLOCK + PAGE, PAGE), noise(2, PAGE));
        }
        drop(device);
        let device = rig.open();
        assert_eq!(read(&device, 2 * BLOCK + PAGE, PAGE), noise(2, PAGE));
        assert_eq!(read(&device, 5 * BLOCK, PAGE), noise(3, PAGE));
        let mut buf = [0; 10];
        assert!(device.read_at(2 * BLOCK, &mut buf).is_err());
        // Written whole, it is sound again.
        device.write_at(2 * BLOCK, &noise(4, BLOCK)).unwrap();
        device.fold().unwrap();
        assert_eq!(read(&device, 2 * BLOCK, BLOCK), noise(4, BLOCK));
        assert_eq!(all(&device).len() as u64, 8 * BLOCK);
    }
}

// Spec: BLK-2
#[test]
fn a_page_that_is_damaged_in_the_log_is_an_error_with_its_place_until_it_is_written_again() {
    let rig = Rig::new(8 * BLOCK, MIB, CALM);
    let device = rig.open();
    device.write_at(0, &noise(1, 2 * BLOCK)).unwrap();
    let page = &noise(1, 2 * BLOCK)[(5 * PAGE) as usize..][..PAGE as usize];
    let log = rig.log.to_vec();
    let at = log.windows(64).position(|bytes| bytes == &page[..64]);
    let at = at.unwrap() as u64;
    let rotten = [page[77] ^ 4];
    rig.log.write_at(FileOffset::new(at + 77), &rotten).unwrap();
    let mut buf = vec![0; BLOCK as usize];
    let (whole, part) = (
        device.read_at(0, &mut buf).unwrap_err(),
        device.read_at(5 * PAGE + 9, &mut buf[..5]).unwrap_err(),
    );
    for error in [whole, part] {
        assert!(error.is_corrupt(), "{error:?}");
        let place = |offset: &FileOffset| offset.get() == at;
        assert!(matches!(&error, BlockError::LogDamaged { offset } if place(offset)));
    }
    let bytes = noise(1, 2 * BLOCK);
    let behind = (6 * PAGE) as usize;
    assert_eq!(read(&device, 0, 5 * PAGE), bytes[..behind - 4096]);
    assert_same(
        &read(&device, 6 * PAGE, 2 * BLOCK - 6 * PAGE),
        &bytes[behind..],
        "others",
    );
    device.write_at(5 * PAGE, page).unwrap();
    device.fold().unwrap();
    assert_same(&all(&device)[..bytes.len()], &bytes, "written again");
}

// Parity: D23b
#[test]
fn a_chunk_that_is_put_again_heals_its_block() {
    let rig = damaged(true);
    let image = rig.image("disk");
    let mut buf = vec![0; BLOCK as usize];
    assert!(image.read_at(2 * BLOCK, &mut buf).is_err());
    let store = PackStore::open_at(rig.backend.clone(), STORE).unwrap();
    let third = noise(1, 8 * BLOCK)[2 * BLOCK as usize..3 * BLOCK as usize].to_vec();
    let chunk = coldframe_chunks::Chunk::new(bytes::Bytes::from(third.clone())).unwrap();
    store.put(&chunk).unwrap();
    image.read_at(2 * BLOCK, &mut buf).unwrap();
    assert!(buf == third);
}

#[test]
fn a_tag_that_is_no_disk_or_is_not_there_is_told() {
    let rig = Rig::new(BLOCK, MIB, CALM);
    let missing = DiskImage::open(&rig.store, &name("none"), None).unwrap_err();
    assert!(matches!(missing, BlockError::MissingDisk { .. }) && missing.is_misuse());
}
