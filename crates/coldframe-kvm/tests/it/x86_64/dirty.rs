//! Both dirty sources against pages that are known to be written.

use coldframe_dirty::DirtyBitmap;
use coldframe_hv::DirtySource;
use coldframe_kvm::{KvmDirty, KvmError, Tracking, is_ring_full};
use coldframe_testkit::require;
use coldframe_units::{ByteLen, PageSize};
use kvm_ioctls::VcpuExit;

use super::machine::{COUNTING, Guest, RAM_BYTES, TestVm};

/// Writes one byte to each of cx pages: segment bx, stride dx paragraphs; a mark on port 0xf0 after
/// each, then the end. 16-bit real mode.
#[rustfmt::skip]
const STRIDE: &[u8] = &[
    0xbb, 0x00, 0x10,       // mov bx, 0x1000: page 16
    0xb9, 0x32, 0x00,       // mov cx, 50
    0x8e, 0xdb,             // again: mov ds, bx
    0xfe, 0x06, 0x05, 0x00, // inc byte [5]
    0x81, 0xc3, 0x00, 0x03, // add bx, 0x300: 3 pages on
    0xe6, 0xf0,             // out 0xf0, al
    0xe2, 0xf2,             // loop again
    0xb0, 0x2a,             // mov al, 42
    0xe6, 0xf4,             // out 0xf4, al
    0xf4,                   // hlt
];
const FIRST_PAGE: u64 = 16;
const STRIDE_PAGES: u64 = 3;
const PAGES: u64 = 50;

fn machine(tracking: Tracking) -> Option<(TestVm, KvmDirty)> {
    machine_of(STRIDE, tracking)
}

fn machine_of(code: &[u8], tracking: Tracking) -> Option<(TestVm, KvmDirty)> {
    let guest = Guest {
        code,
        vcpus: 1,
        tracking,
        ..COUNTING
    };
    let (vm, slots) = TestVm::new(&guest)?;
    let dirty = KvmDirty::new(slots, &vm.vcpus).unwrap();
    vm.boot();
    Some((vm, dirty))
}

fn bitmap(page_size: PageSize) -> DirtyBitmap {
    DirtyBitmap::new(ByteLen::new(RAM_BYTES as u64), page_size).unwrap()
}

fn pages(bitmap: &DirtyBitmap) -> Vec<u64> {
    bitmap
        .runs()
        .flat_map(|run| run.start().get()..run.end().get())
        .collect()
}

/// Pages that the guest writes with marks `from` to `to`.
fn written(from: u64, to: u64) -> Vec<u64> {
    (from..to)
        .map(|mark| FIRST_PAGE + mark * STRIDE_PAGES)
        .collect()
}

#[track_caller]
fn check_exact(tracking: Tracking) {
    let Some((mut vm, mut source)) = machine(tracking) else {
        return;
    };
    let nothing = bitmap(PageSize::SIZE_4K);
    source.harvest(&nothing).unwrap();
    assert!(pages(&nothing).is_empty(), "before the first run");

    for (from, to) in [(0, 7), (7, 8), (8, 30)] {
        assert!(!vm.run(0, u32::try_from(to - from).unwrap()));
        vm.complete();
        let bitmap = bitmap(PageSize::SIZE_4K);
        source.harvest(&bitmap).unwrap();
        assert_eq!(pages(&bitmap), written(from, to));
    }

    let coarse = bitmap(PageSize::SIZE_64K);
    assert!(vm.run(0, 1000));
    source.harvest(&coarse).unwrap();
    let mut blocks: Vec<_> = written(30, PAGES).iter().map(|page| page / 16).collect();
    blocks.dedup();
    assert_eq!(pages(&coarse), blocks);
    let nothing = bitmap(PageSize::SIZE_4K);
    source.harvest(&nothing).unwrap();
    assert!(pages(&nothing).is_empty(), "after the last harvest");
}

#[test]
fn the_log_has_exactly_the_pages_that_were_written() {
    check_exact(Tracking::Log);
}

/// `None` after saying so if this kernel has no dirty ring.
fn ring(bytes: u32) -> Option<Tracking> {
    let kvm = super::machine::open()?;
    if kvm.check_extension_raw(kvm_bindings::KVM_CAP_DIRTY_LOG_RING_ACQ_REL.into()) > 0 {
        return Some(Tracking::Ring { bytes });
    }
    require::skipped("kvm-dirty-ring", "this kernel has no dirty ring");
    None
}

#[test]
fn the_ring_has_exactly_the_pages_that_were_written() {
    if let Some(tracking) = ring(65536) {
        check_exact(tracking);
    }
}

#[test]
fn a_full_ring_is_emptied_and_the_guest_goes_on() {
    // The smallest ring there is, and a guest that writes more pages than it holds.
    let Some(tracking) = ring(4096) else {
        return;
    };
    // Of its 256 entries the kernel keeps 64 and more in reserve: 230 neighbouring pages are many.
    let mut code = STRIDE.to_vec();
    (code[4], code[15]) = (230, 0x01);
    let Some((mut vm, mut source)) = machine_of(&code, tracking) else {
        return;
    };
    let bitmap = bitmap(PageSize::SIZE_4K);
    let mut full = 0;
    loop {
        let exit = vm.vcpus[0].run().unwrap();
        if is_ring_full(&exit) {
            full += 1;
            source.harvest(&bitmap).unwrap();
        } else if matches!(exit, VcpuExit::IoOut(0xf4, _)) {
            break;
        }
    }
    source.harvest(&bitmap).unwrap();
    assert!(full > 0, "the ring was never full");
    assert_eq!(
        pages(&bitmap),
        (FIRST_PAGE..FIRST_PAGE + 230).collect::<Vec<_>>()
    );
}

#[test]
fn a_bitmap_of_a_smaller_ram_is_refused_and_nothing_is_lost() {
    let Some((mut vm, mut source)) = machine(Tracking::Log) else {
        return;
    };
    assert!(!vm.run(0, 4));
    let small = DirtyBitmap::new(ByteLen::new(RAM_BYTES as u64 - 4096), PageSize::SIZE_4K);
    let error = source.harvest(&small.unwrap()).unwrap_err();
    assert!(matches!(error, KvmError::MatchBitmap { .. }));
    let bitmap = bitmap(PageSize::SIZE_4K);
    source.harvest(&bitmap).unwrap();
    assert_eq!(pages(&bitmap), written(0, 4));
}

#[test]
fn a_large_log_is_cleared_in_parts_and_stays_exact() {
    // Written: both ends of the second part of 32768 pages, and the end of the log.
    const RAM: usize = (256 << 20) + 3 * 4096;
    let bases = [128 << 20, (256 << 20) - 0x8000, (256 << 20) - 0x5000];
    for base in bases {
        let guest = Guest {
            vcpus: 1,
            tracking: Tracking::Log,
            ram_bytes: RAM,
            data: base,
            ..COUNTING
        };
        let Some((mut vm, slots)) = TestVm::new(&guest) else {
            return;
        };
        let mut source = KvmDirty::new(slots, &vm.vcpus).unwrap();
        vm.boot();
        for _ in 0..2 {
            // 7 bytes for each mark: the first 100 words lie in page 2 of the segment, or, the
            // second time, still there.
            assert!(!vm.run(0, 100));
            vm.complete();
            let bitmap = DirtyBitmap::new(ByteLen::new(RAM as u64), PageSize::SIZE_4K).unwrap();
            source.harvest(&bitmap).unwrap();
            assert_eq!(pages(&bitmap), [base / 4096 + 2]);
        }
        let nothing = DirtyBitmap::new(ByteLen::new(RAM as u64), PageSize::SIZE_4K).unwrap();
        source.harvest(&nothing).unwrap();
        assert!(pages(&nothing).is_empty());
    }
}

/// A machine with a second vCPU that is made after tracking began, which runs the same code.
fn late_vcpu(tracking: Tracking, code: &[u8]) -> Option<(TestVm, KvmDirty)> {
    let (mut vm, source) = machine_of(code, tracking)?;
    let vcpu = vm.vm.create_vcpu(1).unwrap();
    let entries = kvm_bindings::KVM_MAX_CPUID_ENTRIES;
    let cpuid = vm.kvm.get_supported_cpuid(entries).unwrap();
    vcpu.set_cpuid2(&cpuid).unwrap();
    vm.vcpus.push(vcpu);
    vm.boot();
    Some((vm, source))
}

#[test]
fn a_vcpu_made_after_tracking_began_is_harvested() {
    let trackings = [Some(Tracking::Log), Some(Tracking::PlainLog), ring(65536)];
    for tracking in trackings.into_iter().flatten() {
        let Some((mut vm, mut source)) = late_vcpu(tracking, STRIDE) else {
            return;
        };
        source.add_vcpu(&vm.vcpus[1]).unwrap();
        assert!(!vm.run(1, 7));
        vm.complete();
        let bitmap = bitmap(PageSize::SIZE_4K);
        source.harvest(&bitmap).unwrap();
        assert_eq!(pages(&bitmap), written(0, 7), "{tracking:?}");
    }
}

#[test]
fn a_full_ring_of_an_unknown_vcpu_is_an_error_and_loses_nothing() {
    let Some(tracking) = ring(4096) else {
        return;
    };
    let mut code = STRIDE.to_vec();
    (code[4], code[15]) = (230, 0x01);
    let Some((mut vm, mut source)) = late_vcpu(tracking, &code) else {
        return;
    };
    let bitmap = bitmap(PageSize::SIZE_4K);
    let mut refused = 0;
    loop {
        let exit = vm.vcpus[1].run().unwrap();
        if matches!(exit, VcpuExit::IoOut(0xf4, _)) {
            break;
        }
        if !is_ring_full(&exit) {
            continue;
        }
        match source.ring_full(&vm.vcpus[1], &bitmap) {
            Ok(()) => assert_eq!(refused, 1, "not known yet"),
            Err(KvmError::UnknownVcpu { known: 1 }) => {
                refused += 1;
                assert_eq!(refused, 1);
                source.add_vcpu(&vm.vcpus[1]).unwrap();
                source.ring_full(&vm.vcpus[1], &bitmap).unwrap();
            }
            Err(error) => panic!("{error}"),
        }
    }
    source.harvest(&bitmap).unwrap();
    assert_eq!(refused, 1);
    let all: Vec<u64> = (FIRST_PAGE..FIRST_PAGE + 230).collect();
    assert_eq!(pages(&bitmap), all);
}

#[test]
fn slots_come_and_go_while_pages_are_tracked() {
    let trackings = [Some(Tracking::Log), Some(Tracking::PlainLog), ring(65536)];
    for tracking in trackings.into_iter().flatten() {
        let Some((mut vm, mut source)) = machine(tracking) else {
            return;
        };
        // Pages 120 on of the guest are given away and come back as slots of their own.
        let (first, second) = (120 * 4096, 124 * 4096);
        source.remove_slot(0, &bitmap(PageSize::SIZE_4K)).unwrap();
        vm.add_slots(
            source.slots_mut(),
            &[(1, 0, first), (2, first, second - first)],
        );
        let rest = RAM_BYTES as u64 - second;
        vm.adopt_slot(source.slots_mut(), 3, second, rest);
        let clash = vm.try_slot(source.slots_mut(), 0x1_0000, 0, 4096);
        assert!(matches!(
            clash,
            Err(KvmError::UnsupportedSlot { slot: 0x1_0000 })
        ));
        assert!(vm.run(0, 1000));
        let bitmap = bitmap(PageSize::SIZE_4K);
        source.harvest(&bitmap).unwrap();
        assert_eq!(pages(&bitmap), written(0, PAGES), "{tracking:?}");
        source.remove_slot(3, &bitmap).unwrap();
        let gone = source.remove_slot(3, &bitmap);
        assert!(matches!(gone, Err(KvmError::CheckSlot { slot: 3, .. })));
        source.harvest(&bitmap).unwrap();
    }
}
