//! Every interleaving of write faults, harvests and steps, by loom.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p coldframe-hvf --release --test loom \
//!   --target-dir target/loom`
//!
//! # Safety
//! The memory that is mapped is never reached: the hardware below knows pages by their number.
#![cfg(loom)]
#![allow(clippy::unwrap_used, unsafe_code)]

use coldframe_dirty::{DirtyBitmap, DirtyPages};
use coldframe_hv::DirtySource;
use coldframe_hvf::{HostRegion, HvStatus, HvfDirty, Perms, Stage2, VmCalls, Watch};
use coldframe_units::{ByteLen, GuestAddr, GuestRegion, PageIndex, PageSize};
use loom::sync::{Arc, Mutex};
use loom::thread;

/// Two pages of 1 MiB to a block.
const PAGE: u64 = 1 << 20;

/// Stage 2 and memory of two pages: a write and a change of permissions exclude each other, as in
/// hardware once `hv_vm_protect` has returned.
#[derive(Clone)]
struct Hardware(Arc<Mutex<Pages>>);

struct Pages {
    may_write: [bool; 2],
    memory: [u64; 2],
}

impl Hardware {
    fn write(&self, page: usize, value: u64) -> bool {
        let mut pages = self.0.lock().unwrap();
        let may = pages.may_write[page];
        if may {
            pages.memory[page] = value;
        }
        may
    }

    fn read(&self, page: usize) -> u64 {
        self.0.lock().unwrap().memory[page]
    }
}

impl VmCalls for Hardware {
    unsafe fn map(&self, _: *mut u8, _: GuestAddr, _: ByteLen, _: Perms) -> Result<(), HvStatus> {
        Ok(())
    }
    fn unmap(&self, _: GuestAddr, _: ByteLen) -> Result<(), HvStatus> {
        Ok(())
    }
    fn protect(&self, ipa: GuestAddr, len: ByteLen, perms: Perms) -> Result<(), HvStatus> {
        let mut pages = self.0.lock().unwrap();
        for page in ipa.get() / PAGE..(ipa.get() + len.get()) / PAGE {
            pages.may_write[page as usize] = perms == Perms::ReadWriteExec;
        }
        Ok(())
    }
    fn gic_state(&self) -> Result<Vec<u8>, HvStatus> {
        Err(HvStatus::Unsupported)
    }
    fn set_gic_state(&self, _: &[u8]) -> Result<(), HvStatus> {
        Err(HvStatus::Unsupported)
    }
    fn exit_vcpus(&self, _: &[u64]) -> Result<(), HvStatus> {
        Ok(())
    }
    fn host_counter(&self) -> u64 {
        0
    }
}

type Memory = Arc<Stage2<'static, Hardware>>;

fn machine() -> (Hardware, Memory, DirtyBitmap) {
    let hardware = Hardware(Arc::new(Mutex::new(Pages {
        may_write: [true; 2],
        memory: [0; 2],
    })));
    let region = HostRegion {
        region: GuestRegion::new(GuestAddr::new(0), ByteLen::new(2 * PAGE)).unwrap(),
        host: std::ptr::without_provenance_mut(1 << 20),
    };
    let watch = Watch {
        page_size: PageSize::new(PAGE).unwrap(),
        faults_per_window: 0,
    };
    // SAFETY: this hardware touches no memory of the host.
    let stage2 = unsafe { Stage2::new(hardware.clone(), vec![region], watch) }.unwrap();
    stage2.arm().unwrap();
    let told = DirtyBitmap::new(ByteLen::new(2 * PAGE), watch.page_size).unwrap();
    (hardware, Arc::new(stage2), told)
}

/// A vCPU writes, by as many faults as it takes: one, unless it is closed in between.
fn guest_write(hardware: &Hardware, stage2: &Memory, page: usize, value: u64) {
    while !hardware.write(page, value) {
        let addr = GuestAddr::new(page as u64 * PAGE);
        assert!(stage2.fault(addr, true).unwrap());
    }
}

/// What a capture of the running guest has of both pages.
fn capture(hardware: &Hardware, stage2: &Memory, told: &DirtyBitmap, copy: &mut [u64; 2]) {
    HvfDirty::new(stage2).harvest(told).unwrap();
    let token = told.take();
    let pages: &DirtyPages = token.pages();
    for page in 0..2 {
        if pages.contains(PageIndex::new(page)) {
            copy[page as usize] = hardware.read(page as usize);
        }
    }
    token.commit();
}

fn check(beside: fn(&Memory)) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || {
        let (hardware, stage2, told) = machine();
        let vcpu = thread::spawn({
            let (hardware, stage2) = (hardware.clone(), stage2.clone());
            move || {
                guest_write(&hardware, &stage2, 0, 1);
                guest_write(&hardware, &stage2, 1, 2);
            }
        });
        let mut copy = [0; 2];
        beside(&stage2);
        capture(&hardware, &stage2, &told, &mut copy);
        vcpu.join().unwrap();
        capture(&hardware, &stage2, &told, &mut copy);
        assert_eq!(copy, [1, 2], "a write is in no capture");
    });
}

// Parity: A3
#[test]
fn no_write_is_lost_beside_a_harvest() {
    check(|_| ());
}

// Parity: A3
#[test]
fn no_write_is_lost_beside_a_step_down_and_a_harvest() {
    check(|stage2| {
        stage2.step_down().unwrap();
    });
}

#[test]
fn two_vcpus_on_one_page_lose_nothing() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(|| {
        let (hardware, stage2, told) = machine();
        let vcpu = |page: usize, value: u64| {
            let (hardware, stage2) = (hardware.clone(), stage2.clone());
            thread::spawn(move || guest_write(&hardware, &stage2, page, value))
        };
        let (first, second) = (vcpu(0, 7), vcpu(1, 9));
        let mut copy = [0; 2];
        capture(&hardware, &stage2, &told, &mut copy);
        first.join().unwrap();
        second.join().unwrap();
        capture(&hardware, &stage2, &told, &mut copy);
        assert_eq!(copy, [7, 9]);
    });
}
