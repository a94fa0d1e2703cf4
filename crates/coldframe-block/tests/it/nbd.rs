//! A device and an image as exports.

use coldframe_chunks::Folder;
use coldframe_nbd::{Allocation, Errno, Export, ExportError, Extents, ZeroMode};

use crate::backend::Trouble;
use crate::support::{BLOCK, CALM, MIB, PAGE, Rig, STORE, noise};

// Spec: BLK-12
// Parity: F37
#[test]
fn an_export_tells_holes_and_keeps_zero_modes() {
    let rig = Rig::new(MIB, MIB, CALM);
    let device = rig.open();
    Export::write_at(&device, &noise(1, 2 * BLOCK), BLOCK).unwrap();
    let mode = ZeroMode {
        may_punch: true,
        is_fast_only: true,
    };
    Export::write_zeroes(&device, BLOCK, PAGE, mode).unwrap();
    device.trim(2 * BLOCK, PAGE).unwrap();
    let told = |export: &dyn Export| {
        let mut extents = Extents::new(u32::try_from(4 * BLOCK).unwrap(), 10);
        export.block_status(0, &mut extents).unwrap();
        let told = extents.as_slice().iter();
        told.map(|extent| (u64::from(extent.len), extent.allocation))
            .collect::<Vec<_>>()
    };
    use Allocation::{Data, Hole};
    let expected = [
        (BLOCK + PAGE, Hole),
        (BLOCK - PAGE, Data),
        (PAGE, Hole),
        (BLOCK - PAGE, Data),
        (BLOCK, Hole),
    ];
    assert_eq!(told(&device), expected);
    device.fold().unwrap();
    let image = rig.image("disk");
    let expected = [(BLOCK, Hole), (2 * BLOCK, Data), (BLOCK, Hole)];
    assert_eq!(told(&image), expected);
    assert!(image.is_read_only() && !device.is_read_only() && device.has_fast_zero());
    assert!(Export::write_at(&image, b"x", 0).is_err());
    device.cache(0, MIB).unwrap();
}

// Parity: F35
#[test]
fn errors_have_the_number_that_is_nearest() {
    let rig = Rig::new(MIB, 96 << 10, CALM);
    let device = rig.open();
    let past = Export::write_at(&device, b"xx", MIB - 1).unwrap_err();
    assert_eq!(past.errno(), Errno::NoSpace);
    rig.backend.trouble(Trouble::Full);
    let full =
        (0..256).find_map(|page| Export::write_at(&device, &noise(1, PAGE), page * PAGE).err());
    let full: ExportError = full.unwrap();
    assert_eq!(full.errno(), Errno::NoSpace, "{full}");
    assert!(full.message().contains("No space left"), "{full}");
}

// Spec: BLK-12
#[test]
fn caching_brings_chunks_into_memory_and_tells_what_cannot_be_read() {
    let rig = Rig::new(MIB, MIB, CALM);
    let device = rig.open();
    Export::write_at(&device, &noise(1, 8 * BLOCK), BLOCK).unwrap();
    device.close().unwrap();
    let device = rig.open();
    assert_eq!(device.cache_bytes_max(), STORE.cache_bytes);
    // From the middle of a block to that of another, with zeros behind.
    device.cache(BLOCK + 5, 7 * BLOCK).unwrap();
    device.cache(8 * BLOCK + 9, 5 * BLOCK).unwrap();
    // Nothing is fetched a second time.
    rig.backend.trouble(Trouble::Flipped(Folder::Packs));
    let calls = rig.backend.calls();
    let mut found = vec![0; 8 * BLOCK as usize];
    Export::read_at(&device, &mut found, BLOCK).unwrap();
    assert!(found == noise(1, 8 * BLOCK));
    assert_eq!(rig.backend.calls(), calls);
    let damaged = rig.open();
    // What was written over it is not looked for below.
    Export::write_at(&damaged, &noise(2, BLOCK), 3 * BLOCK).unwrap();
    damaged.cache(3 * BLOCK, BLOCK).unwrap();
    let error = damaged.cache(0, 3 * BLOCK).unwrap_err();
    assert_eq!(error.errno(), Errno::Io, "{error}");
}
