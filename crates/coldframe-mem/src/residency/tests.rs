//! Every way to ask the page table finds all that was touched, and the exact one nothing else.
//!
//! # Safety
//! The memory is mapped for the rest of the process and reached through raw pointers only.
#![allow(unsafe_code, clippy::unwrap_used)]

use std::num::NonZeroUsize;

use coldframe_units::{ByteLen, GuestAddr, GuestRegion};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};

use super::backing::as_mapped;
use super::linux::Host;
use super::maps::mappings;
use super::pagemap::Pagemap;
use super::{Refusal, Touched};
use crate::ram::{Fill, RamMap};
use crate::{RamRegion, RawRam};

const PAGE: u64 = 4096;
const PAGES: u64 = 4096;

#[test]
fn all_ways_to_ask_agree_on_what_was_touched() {
    let len = NonZeroUsize::new((PAGES * PAGE) as usize).unwrap();
    let (prot, flags) = (
        ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
        MapFlags::MAP_PRIVATE,
    );
    // SAFETY: a new mapping where the kernel likes, never unmapped.
    let host = unsafe { mmap_anonymous(None, len, prot, flags) }.unwrap();
    let host = host.as_ptr().cast::<u8>();
    let written: Vec<u64> = (0..PAGES).filter(|page| page % 7 < 2).collect();
    for page in &written {
        // SAFETY: inside the mapping.
        unsafe { host.wrapping_add((page * PAGE) as usize).write_volatile(1) };
    }
    let only_read = 5;
    // SAFETY: inside the mapping.
    let zero = unsafe { host.wrapping_add(only_read * PAGE as usize).read_volatile() };
    assert_eq!(zero, 0);

    let region = GuestRegion::new(GuestAddr::ZERO, ByteLen::new(PAGES * PAGE)).unwrap();
    // SAFETY: mapped for the rest of the process, no references into it.
    let ram = unsafe { RawRam::new(vec![RamRegion::new(region, host)]) };
    let map = RamMap::new(&ram).unwrap();
    let base = host.addr() as u64;
    let pages = |pagemap: Pagemap| -> Vec<u64> {
        let mut touched = Touched::default();
        let host = Host::with(&map, pagemap).unwrap();
        host.touched(base..base + PAGES * PAGE, Fill::Unstated, &mut touched)
            .unwrap();
        let pages = touched
            .spans
            .iter()
            .flat_map(|span| span.clone().step_by(4096));
        pages.map(|addr| (addr - base) / PAGE).collect()
    };
    let scanned = pages(Pagemap::open().unwrap());
    let entries = pages(Pagemap::open().unwrap().without_scan());
    assert!(written.iter().all(|page| scanned.contains(page)));
    assert!(written.iter().all(|page| entries.contains(page)));
    assert!(entries.len() <= written.len() + 1);
    if scanned != entries {
        assert_eq!(scanned, written, "the scan leaves the shared zero page out");
    }
}

#[test]
fn memory_that_is_not_mapped_is_an_error() {
    let region = GuestRegion::new(GuestAddr::ZERO, ByteLen::new(PAGE)).unwrap();
    let host = std::ptr::without_provenance_mut(4096);
    // SAFETY: nothing is mapped there, so nothing is read before that is found out.
    let ram = unsafe { RawRam::new(vec![RamRegion::new(region, host)]) };
    let map = RamMap::new(&ram).unwrap();
    let host = Host::with(&map, Pagemap::open().unwrap()).unwrap();
    let mut touched = Touched::default();
    let refusal = host.touched(4096..8192, Fill::Unstated, &mut touched);
    assert!(matches!(refusal, Err(Refusal::NotMapped(4096))));
}

#[test]
fn a_file_is_known_by_what_a_mapping_of_it_shows() {
    use nix::sys::mman::mmap;
    use std::fs::File;
    let (prot, flags) = (ProtFlags::PROT_READ, MapFlags::MAP_PRIVATE);
    let page = NonZeroUsize::new(PAGE as usize).unwrap();
    let file = tempfile::tempfile().unwrap();
    file.set_len(PAGE).unwrap();
    // SAFETY: a new mapping where the kernel likes, never unmapped.
    let host = unsafe { mmap(None, page, prot, flags, &file, 0) }.unwrap();
    let start = host.addr().get() as u64;
    let range = start..start + PAGE;
    let found = mappings(std::slice::from_ref(&range)).unwrap();
    let inode = found[0].file.as_ref().unwrap();
    assert_eq!(as_mapped(&file), Some((inode.device, inode.inode)));
    let other: File = tempfile::tempfile().unwrap();
    assert_ne!(as_mapped(&other), as_mapped(&file));
}
