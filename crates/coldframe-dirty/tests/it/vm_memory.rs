//! Writes through a vm-memory `GuestMemoryMmap` of two regions that share one bitmap.

use std::sync::atomic::Ordering;

use coldframe_dirty::{DirtyBitmap, RegionDirty};
use coldframe_units::{ByteLen, GuestAddr, GuestRegion, RamLayout, RamOffset};
use vm_memory::bitmap::Bitmap;
use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{
    Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestRegionMmap, VolatileMemory,
};

use crate::{bitmap, page, plain};

/// Where the second region begins, for the guest and in RAM (page 16).
const HIGH: u64 = 0x10_0000;

fn memory() -> (DirtyBitmap, GuestMemoryMmap<RegionDirty>) {
    let layout = RamLayout::new(vec![
        GuestRegion::new(GuestAddr::new(0), ByteLen::new(0x1_0000)).unwrap(),
        GuestRegion::new(GuestAddr::new(HIGH), ByteLen::new(0x8000)).unwrap(),
    ])
    .unwrap();
    let dirty = bitmap(layout.total().get());
    let regions = layout.with_offsets().map(|(offset, region)| {
        let part = RegionDirty::new(dirty.clone(), offset, region.len()).unwrap();
        let len = usize::try_from(region.len().get()).unwrap();
        let builder = MmapRegionBuilder::new_with_bitmap(len, part)
            .with_mmap_prot(0x3) // PROT_READ | PROT_WRITE
            .with_mmap_flags(0x4022); // MAP_ANONYMOUS | MAP_PRIVATE | MAP_NORESERVE
        let addr = GuestAddress(region.addr().get());
        GuestRegionMmap::new(builder.build().unwrap(), addr).unwrap()
    });
    let memory = GuestMemoryMmap::from_regions(regions.collect()).unwrap();
    (dirty, memory)
}

#[track_caller]
fn check(write: impl FnOnce(&GuestMemoryMmap<RegionDirty>), expected: &[(u64, u64)]) {
    let (dirty, memory) = memory();
    write(&memory);
    assert_eq!(plain(dirty.runs()), expected);
}

#[test]
fn device_writes_mark_the_pages_of_their_region() {
    check(
        |m| m.write_obj(1_u64, GuestAddress(0x2ff8)).unwrap(),
        &[(2, 1)],
    );
    check(
        |m| m.write_obj(1_u64, GuestAddress(HIGH)).unwrap(),
        &[(16, 1)],
    );
    let atomic = |m: &GuestMemoryMmap<RegionDirty>| {
        m.store(7_u32, GuestAddress(HIGH + 0x7ffc), Ordering::Relaxed)
            .unwrap();
    };
    check(atomic, &[(23, 1)]);
}

// Parity: D15
#[test]
fn a_device_write_across_pages_marks_all_of_them() {
    check(
        |m| m.write_obj(1_u64, GuestAddress(0x2ffc)).unwrap(),
        &[(2, 2)],
    );
    let long = [5; 0x3000];
    check(
        |m| m.write_slice(&long, GuestAddress(0x1001)).unwrap(),
        &[(1, 4)],
    );
}

#[test]
fn a_read_into_guest_memory_marks_what_it_filled() {
    let source = [9_u8; 0x1001];
    check(
        |m| {
            m.read_exact_volatile_from(GuestAddress(HIGH), &mut &source[..], source.len())
                .unwrap();
        },
        &[(16, 2)],
    );
    // A short read marks only what came.
    check(
        |m| {
            let mut source = &source[..10];
            let read = m.read_volatile_from(GuestAddress(0x4000), &mut source, 0x2000);
            assert_eq!(read.unwrap(), 10);
        },
        &[(4, 1)],
    );
}

#[test]
fn slices_of_slices_mark_at_their_own_offset() {
    check(
        |m| {
            let slice = m.get_slice(GuestAddress(HIGH + 0x1000), 0x6000).unwrap();
            let inner = slice.subslice(0x2800, 0x1000).unwrap();
            inner.copy_from(&[1_u8; 0x1000]);
            slice.get_ref::<u16>(0x10).unwrap().store(3);
        },
        &[(17, 1), (19, 2)],
    );
}

#[test]
fn reads_by_a_device_mark_nothing() {
    let read = |m: &GuestMemoryMmap<RegionDirty>| {
        let _: u64 = m.read_obj(GuestAddress(0x1000)).unwrap();
    };
    check(read, &[]);
}

#[test]
fn dirty_at_sees_marks_of_every_source_and_nothing_past_the_region() {
    let dirty = bitmap(0x1_0000);
    let part = RegionDirty::new(dirty.clone(), RamOffset::new(0x2000), ByteLen::new(0x2000));
    let part = part.unwrap();
    dirty.mark_page(page(3)).unwrap();
    dirty.mark_page(page(4)).unwrap();
    assert!(!part.dirty_at(0xfff) && part.dirty_at(0x1000) && !part.dirty_at(0x2000));
    assert!(part.slice_at(0x800).dirty_at(0x800));
    // Past its end there is no guest memory: the neighbour's pages stay as they are.
    part.mark_dirty(0x1fff, usize::MAX);
    part.mark_dirty(usize::MAX, usize::MAX);
    assert_eq!(plain(dirty.runs()), [(3, 2)]);
}

#[test]
fn a_region_outside_the_ram_is_refused() {
    let dirty = bitmap(0x1_0000);
    RegionDirty::new(dirty, RamOffset::new(0xf000), ByteLen::new(0x2000)).unwrap_err();
}
