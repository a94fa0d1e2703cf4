//! Memory that is not plugged in: kept apart from zero in the file, through every operation, and
//! left alone by every thaw.
//!
//! # Safety
//! Pages of the tests' own guests, which nobody borrows.
#![allow(unsafe_code)]

use std::ptr::NonNull;
use std::sync::Arc;

use coldframe_mem::{
    CopyOptions, Described, Fill, GuestRam, Layers, MapOptions, MemError, MemRoot, Target, Verify,
    diff, flatten, map_over, merge, restore_copy,
};
use coldframe_storage::{FileStorage, MappedFile};
use coldframe_units::{ByteLen, GuestAddr, GuestRegion, PageSize};
use nix::sys::mman::{ProtFlags, mprotect};

use crate::support::{
    Backing, Files, Guest, PAGE, all_opened, chain, dirty, memory, page, rewrite, spec,
};

const LEN: u64 = 64 * PAGE;

fn region(start: u64, len: u64) -> GuestRegion {
    GuestRegion::new(GuestAddr::new(start), ByteLen::new(len)).unwrap()
}

/// Gives pages these rights.
fn protect(guest: &Guest, first: u64, pages: u64, rights: ProtFlags) {
    let host = guest.regions()[0]
        .host
        .wrapping_add((first * PAGE) as usize);
    let start = NonNull::new(host.cast()).unwrap();
    // SAFETY: pages of the guest; the caller reads them only while it may.
    unsafe { mprotect(start, (pages * PAGE) as usize, rights) }.unwrap();
}

/// A guest of which pages 40 to 44 were unplugged between a Full and a Diff.
struct Unplugged {
    files: Files,
    layers: Vec<Arc<MappedFile>>,
    absent: GuestRegion,
    expected: Vec<u8>,
}

impl Unplugged {
    fn new(page_size: PageSize) -> Self {
        let guest = Guest::anonymous(LEN);
        for (index, tag) in [(20, 7), (38, 6), (40, 8), (41, 9), (63, 10)] {
            guest.write(index * PAGE, &page(tag));
        }
        let files = Files::new();
        let (full, made) = files.full(&guest, &spec(page_size));
        let mut expected = guest.read();
        expected[40 * 4096..44 * 4096].fill(0);
        protect(&guest, 40, 4, ProtFlags::PROT_NONE);
        let absent = region(40 * PAGE, 4 * PAGE);
        let described = Described::new(&guest, Fill::Unstated, &[absent]);
        // Nothing was written since: only what was unplugged is in the Diff.
        let (top, _) = files.diff(&described, &dirty(LEN, &[]), made.root, &spec(page_size));
        Self {
            files,
            layers: vec![full, top],
            absent,
            expected,
        }
    }

    fn chain(&self) -> Layers {
        chain(&self.layers)
    }

    fn write(
        &self,
        write: impl FnOnce(&FileStorage) -> Result<MemRoot, MemError>,
    ) -> Arc<MappedFile> {
        let file = self.files.create();
        write(&file).unwrap();
        Files::map(file)
    }
}

// Spec: MEM-28
#[test]
fn what_was_unplugged_since_the_parent_is_zero_and_named() {
    for page_size in [PageSize::SIZE_4K, PageSize::SIZE_16K] {
        let case = Unplugged::new(page_size);
        assert_eq!(chain(&case.layers[..1]).absent(), []);
        assert_eq!(case.chain().absent(), [case.absent]);
        assert!(memory(&case.chain()) == case.expected);
        assert!(case.chain().verify().is_empty());
    }
}

#[test]
fn a_page_larger_than_the_part_keeps_it_named() {
    let case = Unplugged::new(PageSize::SIZE_64K);
    assert_eq!(case.chain().absent(), [case.absent]);
    // The parent has bytes there, and beside it in the same page.
    assert!(memory(&case.chain()) == case.expected);
    for is_mapped in [false, true] {
        let target = Guest::anonymous(LEN);
        protect(&target, 40, 4, ProtFlags::PROT_NONE);
        thaw(&case.chain(), &target, is_mapped);
        protect(&target, 40, 4, ProtFlags::PROT_READ);
        assert!(target.read() == case.expected, "mapped: {is_mapped}");
    }
}

#[test]
fn flatten_merge_and_diff_keep_what_is_absent() {
    let case = Unplugged::new(PageSize::SIZE_4K);
    let chain_of = |file: &Arc<MappedFile>| chain(std::slice::from_ref(file));
    let flat = case.write(|file| flatten(&case.chain(), &rewrite(), file));
    assert_eq!(chain_of(&flat).absent(), [case.absent]);
    assert!(memory(&chain_of(&flat)) == case.expected);

    let top = std::slice::from_ref(&case.layers[1]);
    let merged = case.write(|file| merge(&all_opened(top), &rewrite(), file));
    let merged = chain(&[Arc::clone(&case.layers[0]), merged]);
    assert_eq!(merged.absent(), [case.absent]);
    assert!(memory(&merged) == case.expected);

    let base = chain_of(&case.layers[0]);
    let between = case.write(|file| diff(&base, &case.chain(), &rewrite(), file));
    let between = chain(&[Arc::clone(&case.layers[0]), between]);
    assert_eq!(between.absent(), [case.absent]);
    assert!(memory(&between) == case.expected);
    // And plugged in again, with nothing in it.
    let back = case.write(|file| diff(&case.chain(), &base, &rewrite(), file));
    let back = chain(&[case.layers.clone(), vec![back]].concat());
    assert_eq!(back.absent(), []);
    assert!(memory(&back) == memory(&base));
}

const COPY: CopyOptions = CopyOptions {
    target: Target::Used,
    verify: Verify::Yes,
};

/// Thaws into a guest that has plugged in what the chain has.
fn thaw(chain: &Layers, target: &Guest, is_mapped: bool) {
    let absent = chain.absent();
    let described = Described::new(target, Fill::Unstated, &absent);
    if is_mapped {
        // SAFETY: the guest's own pages, which it unmaps by address.
        unsafe { map_over(chain, &described, MapOptions::default()) }.unwrap();
    } else {
        restore_copy(chain, &described, COPY).unwrap();
    }
}

// Spec: MEM-29
#[test]
fn a_thaw_leaves_alone_what_is_not_plugged_in() {
    let case = Unplugged::new(PageSize::SIZE_4K);
    let old = page(77);
    for is_mapped in [false, true] {
        let target = Guest::anonymous(LEN);
        for index in 40..44 {
            target.write(index * PAGE, &old);
        }
        // It must not be touched: a write would end in a signal.
        protect(&target, 40, 4, ProtFlags::PROT_NONE);
        thaw(&case.chain(), &target, is_mapped);
        protect(&target, 40, 4, ProtFlags::PROT_READ);
        let mut expected = case.expected.clone();
        expected[40 * 4096..44 * 4096].copy_from_slice(&old.repeat(4));
        assert!(target.read() == expected, "mapped: {is_mapped}");
    }
}

// Spec: MEM-29
#[test]
fn bytes_for_memory_that_is_not_plugged_in_are_refused() {
    let case = Unplugged::new(PageSize::SIZE_4K);
    let before = chain(&case.layers[..1]);
    let target = Guest::anonymous(LEN);
    target.write(0, &page(1));
    let described = Described::new(&target, Fill::Unstated, &[region(41 * PAGE, 8 * PAGE)]);
    let copied = restore_copy(&before, &described, COPY).unwrap_err();
    // SAFETY: the guest's own pages, which it unmaps by address.
    let mapped = unsafe { map_over(&before, &described, MapOptions::default()) }.unwrap_err();
    for error in [copied, mapped] {
        // The page is zero but for its end.
        let at = GuestAddr::new(42 * PAGE - 1);
        let is_named = matches!(error, MemError::NotPlugged { addr } if addr == at);
        assert!(is_named, "{error:?}");
    }
    assert_eq!(target.read()[..4096], page(1), "nothing was changed");
    // Where the snapshot is zero anyway, nothing is missing.
    let described = Described::new(&target, Fill::Unstated, &[region(42 * PAGE, 8 * PAGE)]);
    restore_copy(&before, &described, COPY).unwrap();
}

#[test]
fn parts_of_several_regions_come_back_as_they_were_named() {
    let guest = Guest::new(&[
        (16 * PAGE, Backing::Anonymous),
        (16 * PAGE, Backing::Anonymous),
    ]);
    let second = guest.regions()[1].region.addr().get();
    let absent = [region(12 * PAGE, 4 * PAGE), region(second, 2 * PAGE)];
    let described = Described::new(&guest, Fill::Unstated, &absent);
    let files = Files::new();
    let (full, _) = files.full(&described, &spec(PageSize::SIZE_4K));
    assert_eq!(chain(&[full]).absent(), absent);
}
