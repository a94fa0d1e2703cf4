//! Memory that is filled when it is first touched.

use std::error::Error;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use coldframe_dirty::DirtyBitmap;
use coldframe_hv::{DirtySource, Machine};
use coldframe_hvf::{Contents, FILL_BYTES, HvfDirty, HvfError, HvfMachine, Stage2, Watch};
use coldframe_testkit::hvf::Host;
use coldframe_units::{ByteLen, GuestAddr, PageSize, RamOffset};

use crate::calls::OnModel;
use crate::support::{END, REGIONS, Start, Vmm};

type Failure = Box<dyn Error + Send + Sync>;

/// Memory of which each block is asked for at most once, and some cannot be had at first.
struct Image {
    bytes: Vec<u8>,
    reads: AtomicU64,
    fails: Mutex<Option<u64>>,
}

impl Image {
    const fn new(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            reads: AtomicU64::new(0),
            fails: Mutex::new(None),
        }
    }
}

impl Contents for &Image {
    fn read(&self, start: RamOffset, into: &mut [u8]) -> Result<(), Failure> {
        if *self.fails.lock().unwrap() == Some(start.get()) {
            return Err("the store is away".into());
        }
        self.reads.fetch_add(1, Ordering::SeqCst);
        let start = start.get() as usize;
        into.copy_from_slice(&self.bytes[start..start + into.len()]);
        Ok(())
    }
}

#[allow(unsafe_code)]
fn lazy<'m>(vmm: &'m Vmm, image: &'m Image) -> Stage2<'m, OnModel> {
    // SAFETY: the memory is as old as the machine, and is reached by atomics; tests read it only
    // where it was filled.
    unsafe { Stage2::lazy(vmm.calls(), vmm.regions(), Watch::DEFAULT, image) }.unwrap()
}

fn pattern(len: u64) -> Vec<u8> {
    (0..len / 8)
        .flat_map(|word| (word * 3 + 1).to_le_bytes())
        .collect()
}

// Parity: A1
#[test]
fn a_guest_thawed_on_demand_ends_as_if_never_stopped() {
    let vmm = Vmm::new(2, Host::default());
    let stage2 = vmm.stage2(Watch::DEFAULT);
    vmm.allowed.store(15, Ordering::SeqCst);
    let ((state, bytes), ends) = vmm.run(&stage2, Start::Boot, || {
        vmm.wait_for(15);
        let parked = vmm.pause();
        let calls = vmm.calls();
        let state = HvfMachine::new(&vmm.host, &calls, &parked).save().unwrap();
        vmm.allowed.store(END, Ordering::SeqCst);
        (state, vmm.memory())
    });
    let image = Image::new(bytes);
    let thawed = Vmm::new(2, Host::default());
    let stage2 = lazy(&thawed, &image);
    // Watched from the start: what is filled later is protected, too.
    stage2.arm().unwrap();
    let thawed_ends = thawed.thaw(&stage2, &state, None).unwrap();
    assert_eq!(thawed_ends, ends);
    assert!(
        !stage2.is_whole(),
        "the guest does not use all of its memory"
    );
    let told = DirtyBitmap::new(thawed.total(), PageSize::new(16 << 10).unwrap()).unwrap();
    HvfDirty::new(&stage2).harvest(&told).unwrap();
    assert!(told.count() > 0);
    stage2.fill(RamOffset::ZERO, thawed.total()).unwrap();
    assert!(stage2.is_whole());
    assert!(thawed.memory() == vmm.memory());
    let blocks = thawed.total().get().div_ceil(FILL_BYTES);
    assert_eq!(image.reads.load(Ordering::SeqCst), blocks);
}

// Parity: A10
#[test]
fn a_block_is_read_once_whoever_wants_it() {
    let vmm = Vmm::new(1, Host::default());
    let image = Image::new(pattern(vmm.total().get()));
    let stage2 = lazy(&vmm, &image);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let addr = GuestAddr::new(REGIONS[0].0 + 5 * FILL_BYTES + 8);
                assert!(stage2.fault(addr, false).unwrap());
                stage2
                    .fill(RamOffset::new(5 * FILL_BYTES), ByteLen::new(1))
                    .unwrap();
            });
        }
    });
    assert_eq!(image.reads.load(Ordering::SeqCst), 1);
    let word = (5 * FILL_BYTES) / 8;
    assert_eq!(vmm.rams[0].load(5 * FILL_BYTES), word * 3 + 1);
}

// Parity: A10
#[test]
fn a_block_that_cannot_be_had_stays_missing_and_is_never_zeros() {
    let vmm = Vmm::new(1, Host::default());
    let image = Image::new(pattern(vmm.total().get()));
    let stage2 = lazy(&vmm, &image);
    *image.fails.lock().unwrap() = Some(0);
    let addr = GuestAddr::new(REGIONS[0].0);
    let refused = stage2.fault(addr, false).unwrap_err();
    assert!(matches!(refused, HvfError::Fill { ram, .. } if ram == RamOffset::ZERO));
    assert!(
        !vmm.framework.guest_write(addr.get(), 1),
        "the guest can reach it"
    );
    *image.fails.lock().unwrap() = None;
    assert!(stage2.fault(addr, false).unwrap());
    assert_eq!(vmm.rams[0].load(0), 1);
}

#[test]
fn a_write_to_missing_memory_is_filled_marked_and_opened() {
    let vmm = Vmm::new(1, Host::default());
    let image = Image::new(pattern(vmm.total().get()));
    let stage2 = lazy(&vmm, &image);
    stage2.arm().unwrap();
    let addr = GuestAddr::new(REGIONS[1].0 + (2 << 20) + 8);
    assert!(stage2.fault(addr, true).unwrap());
    assert!(vmm.framework.guest_write(addr.get(), 7));
    let told = DirtyBitmap::new(vmm.total(), PageSize::new(16 << 10).unwrap()).unwrap();
    HvfDirty::new(&stage2).harvest(&told).unwrap();
    // The last block of memory is partial: three pages.
    assert_eq!(told.count(), 3);
    assert!(
        !vmm.framework.guest_write(addr.get(), 8),
        "it is not closed again"
    );
    // What comes later to the block is closed from the start.
    stage2.disarm().unwrap();
    assert!(vmm.framework.guest_write(addr.get(), 8));
}

#[test]
fn memory_that_goes_is_unmapped_and_can_be_mapped_again() {
    let vmm = Vmm::new(1, Host::default());
    let image = Image::new(pattern(vmm.total().get()));
    let stage2 = lazy(&vmm, &image);
    stage2
        .fill(RamOffset::ZERO, ByteLen::new(3 * FILL_BYTES))
        .unwrap();
    drop(stage2);
    assert!(!vmm.framework.guest_write(REGIONS[0].0, 1));
    drop(vmm.stage2(Watch::DEFAULT));
    let stage2 = vmm.stage2(Watch::DEFAULT);
    assert!(vmm.framework.guest_write(REGIONS[0].0, 1));
    assert_eq!(stage2.layout().total(), vmm.total());
}
