//! Write tracking against plain models: no page is lost, whoever writes, whatever runs beside.

use std::sync::atomic::{AtomicBool, Ordering};

use coldframe_dirty::DirtyBitmap;
use coldframe_hv::DirtySource;
use coldframe_hvf::{HvfDirty, HvfError, Stage2, Watch};
use coldframe_testkit::hvf::Host;
use coldframe_testkit::rng::Rng;
use coldframe_units::{ByteLen, GuestAddr, PageIndex, PageSize, RamOffset};

use crate::calls::OnModel;
use crate::support::{REGIONS, Vmm};

const PAGE: u64 = 16 << 10;
const BLOCK: u64 = 2 << 20;

fn bitmap(vmm: &Vmm) -> DirtyBitmap {
    DirtyBitmap::new(vmm.total(), PageSize::new(PAGE).unwrap()).unwrap()
}

/// A vCPU writes a word: by way of faults, as often as it takes.
fn guest_write(vmm: &Vmm, stage2: &Stage2<'_, OnModel>, offset: u64, value: u64) {
    let addr = stage2.layout().guest_addr(RamOffset::new(offset)).unwrap();
    while !vmm.framework.guest_write(addr.get(), value) {
        assert!(stage2.fault(addr, true).unwrap());
    }
}

/// A device writes a word: past stage 2, and marks it.
fn device_write(vmm: &Vmm, bitmap: &DirtyBitmap, offset: u64, value: u64) {
    let first = REGIONS[0].1;
    if offset < first {
        vmm.rams[0].store(offset, value);
    } else {
        vmm.rams[1].store(offset - first, value);
    }
    bitmap
        .mark(RamOffset::new(offset), ByteLen::new(8))
        .unwrap();
}

/// One thread, exact: what is told is what was written, in pages where a block is watched by
/// pages, and never less.
// Parity: A4
#[test]
fn what_is_told_is_what_was_written() {
    for seed in 0..8 {
        let vmm = Vmm::new(1, Host::default());
        let stage2 = vmm.stage2(Watch::DEFAULT);
        stage2.arm().unwrap();
        let (told, mut source) = (bitmap(&vmm), HvfDirty::new(&stage2));
        let mut rng = Rng::new(seed);
        let pages = told.pages();
        let blocks = pages.div_ceil(BLOCK / PAGE) as usize;
        // Blocks that are watched by pages, and those written to in the last windows.
        let mut fine = vec![false; blocks];
        for _ in 0..30 {
            let mut written = vec![false; pages as usize];
            let mut by_device = vec![false; pages as usize];
            let mut faulted = vec![false; blocks];
            for _ in 0..rng.below(40) {
                let page = rng.below(pages);
                let block = (page * PAGE / BLOCK) as usize;
                let offset = page * PAGE + rng.below(PAGE / 8) * 8;
                if rng.below(4) == 0 {
                    device_write(&vmm, &told, offset, rng.next_u64());
                    by_device[page as usize] = true;
                } else {
                    guest_write(&vmm, &stage2, offset, rng.next_u64());
                    written[page as usize] = true;
                    faulted[block] = true;
                }
            }
            source.harvest(&told).unwrap();
            let token = told.take();
            for page in 0..pages as usize {
                let block = (page as u64 * PAGE / BLOCK) as usize;
                let by_guest = if fine[block] {
                    written[page]
                } else {
                    faulted[block]
                };
                let expected = by_guest || by_device[page];
                let found = token.pages().contains(PageIndex::new(page as u64));
                assert_eq!(found, expected, "seed {seed}, page {page}");
            }
            token.commit();
            fine.copy_from_slice(&faulted);
        }
    }
}

// Parity: A4
#[test]
fn only_what_was_dirty_is_protected_again() {
    let vmm = Vmm::new(1, Host::default());
    let stage2 = vmm.stage2(Watch::DEFAULT);
    stage2.arm().unwrap();
    // One call for each region, whatever its size.
    assert_eq!(vmm.framework.protect_count(), 2);
    let (told, mut source) = (bitmap(&vmm), HvfDirty::new(&stage2));
    guest_write(&vmm, &stage2, 8, 1);
    source.harvest(&told).unwrap();
    told.take().commit();
    // By pages from now on: each of them opened and closed, and nothing else.
    let before = vmm.framework.protect_count();
    for page in [3, 5, 6] {
        guest_write(&vmm, &stage2, page * PAGE, 1);
    }
    source.harvest(&told).unwrap();
    assert_eq!(told.count(), 3);
    assert_eq!(vmm.framework.protect_count() - before, 3 + 2);
}

#[test]
fn a_block_that_steps_down_is_told_whole_once_and_then_by_pages() {
    let vmm = Vmm::new(1, Host::default());
    let stage2 = vmm.stage2(Watch::DEFAULT);
    stage2.arm().unwrap();
    let (told, mut source) = (bitmap(&vmm), HvfDirty::new(&stage2));
    guest_write(&vmm, &stage2, BLOCK + 8, 1);
    assert_eq!(stage2.step_down().unwrap(), 1);
    let closed = vmm.framework.guest_write(REGIONS[0].0 + BLOCK + 8, 2);
    assert!(!closed, "the block is still open");
    guest_write(&vmm, &stage2, BLOCK + 8, 3);
    source.harvest(&told).unwrap();
    assert_eq!(told.take().pages().count(), BLOCK / PAGE);
    assert_eq!(
        told.count(),
        BLOCK / PAGE,
        "a token that is dropped puts its pages back"
    );
    told.take().commit();
    guest_write(&vmm, &stage2, BLOCK + 8, 4);
    source.harvest(&told).unwrap();
    assert_eq!(told.count(), 1);
}

#[test]
fn without_watching_nothing_faults_and_after_it_no_more() {
    let vmm = Vmm::new(1, Host::default());
    let stage2 = vmm.stage2(Watch::DEFAULT);
    assert!(vmm.framework.guest_write(REGIONS[0].0, 1));
    stage2.arm().unwrap();
    assert!(!vmm.framework.guest_write(REGIONS[0].0, 1));
    stage2.disarm().unwrap();
    assert!(vmm.framework.guest_write(REGIONS[0].0, 1));
    assert!(!stage2.fault(GuestAddr::new(0), true).unwrap());
}

#[test]
fn a_harvest_that_fails_tells_all_the_next_time() {
    let vmm = Vmm::new(1, Host::default());
    let stage2 = vmm.stage2(Watch::DEFAULT);
    stage2.arm().unwrap();
    let mut source = HvfDirty::new(&stage2);
    guest_write(&vmm, &stage2, 0, 1);
    guest_write(&vmm, &stage2, BLOCK * 2 + 8, 1);
    // Of another RAM: nothing can be told to it.
    let other = DirtyBitmap::new(ByteLen::new(PAGE), PageSize::new(PAGE).unwrap()).unwrap();
    let refused = source.harvest(&other).unwrap_err();
    assert!(matches!(refused, HvfError::MarkDirty { .. }));
    let told = bitmap(&vmm);
    source.harvest(&told).unwrap();
    assert_eq!(told.count(), 2 * BLOCK / PAGE);
}

/// Writers of both kinds beside harvests and steps: what a copy of the told pages has at the end
/// is what memory has.
// Parity: A3
#[test]
fn no_write_is_lost_beside_harvests_and_steps() {
    const ROUNDS: u64 = 300;
    let vmm = Vmm::new(4, Host::default());
    let watch = Watch {
        faults_per_window: 3,
        ..Watch::DEFAULT
    };
    let stage2 = vmm.stage2(watch);
    let mut copy = vmm.memory();
    stage2.arm().unwrap();
    let told = bitmap(&vmm);
    let done = AtomicBool::new(false);
    let total = vmm.total().get();
    let capture = |copy: &mut Vec<u8>| {
        HvfDirty::new(&stage2).harvest(&told).unwrap();
        let token = told.take();
        for run in token.pages().runs() {
            for offset in (run.start().get() * PAGE..(run.end().get() * PAGE).min(total)).step_by(8)
            {
                let first = REGIONS[0].1;
                let value = match offset.checked_sub(first) {
                    None => vmm.rams[0].load(offset),
                    Some(offset) => vmm.rams[1].load(offset),
                };
                let place = offset as usize;
                copy[place..place + 8].copy_from_slice(&value.to_le_bytes());
            }
        }
        token.commit();
    };
    std::thread::scope(|scope| {
        for vcpu in 0..3 {
            let (vmm, stage2, done) = (&vmm, &stage2, &done);
            scope.spawn(move || {
                let mut rng = Rng::new(vcpu);
                while !done.load(Ordering::SeqCst) {
                    // A hot block that all write to, and the rest of memory.
                    let span = if rng.below(2) == 0 { BLOCK } else { total };
                    let offset = rng.below(span / 8) * 8;
                    guest_write(vmm, stage2, offset, rng.next_u64());
                }
            });
        }
        let (writer, device, end) = (&vmm, &told, &done);
        scope.spawn(move || {
            let mut rng = Rng::new(9);
            while !end.load(Ordering::SeqCst) {
                let offset = rng.below(total / 8) * 8;
                device_write(writer, device, offset, rng.next_u64());
            }
        });
        let stepper = scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                stage2.step_down().unwrap();
                std::thread::yield_now();
            }
        });
        for _ in 0..ROUNDS {
            capture(&mut copy);
        }
        done.store(true, Ordering::SeqCst);
        stepper.join().unwrap();
    });
    capture(&mut copy);
    assert!(copy == vmm.memory(), "a page was lost");
}
