//! A VMM of a few lines, on the model.
//!
//! # Safety
//! A [`Vmm`] keeps its memory until it is dropped, and reads and writes it by atomics.
#![allow(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use coldframe_hv::aarch64::{PowerState, SysReg};
use coldframe_hv::{Machine, MachineState, Step};
use coldframe_hvf::plan::RestoreOp;
use coldframe_hvf::{
    CoreReg, Exit, HostFacts, HostRegion, HvfError, HvfHost, HvfMachine, Parked, ParkingLot, Ready,
    Resolved, Stage2, VcpuCalls, Watch,
};
use coldframe_mem::{RamRegion, RawRam};
use coldframe_testkit::hvf::{Framework, Host, ModelRam};
use coldframe_units::{ByteLen, GuestAddr, GuestRegion};

use crate::calls::{ModelVcpu, OnModel};

/// Guest memory: one region of whole blocks of 2 MiB, one that ends within a block.
pub const REGIONS: [(u64, u64); 2] = [
    (0x4000_0000, 4 << 20),
    (0x8000_0000, (2 << 20) + (48 << 10)),
];

/// Loops of its program after which a guest is at its end.
pub const END: u64 = 60;

/// A machine with memory and interrupt controller, and no vCPU yet.
pub struct Vmm {
    pub framework: Framework,
    pub rams: Vec<Arc<ModelRam>>,
    pub lot: ParkingLot,
    pub host: HvfHost,
    pub vcpus: u32,
    /// Loops that the guests may do before they wait for a pause.
    pub allowed: AtomicU64,
    /// Loops that the slowest guest has done, by vCPU.
    progress: Vec<AtomicU64>,
    stopped: AtomicBool,
}

/// What a vCPU was at its end: every register that the model has.
pub type End = Vec<u64>;

/// How a vCPU begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Boot,
    Thaw,
}

/// The process ends if a test fails while vCPUs wait, instead of waiting with them.
struct EndWithPanic;

impl Drop for EndWithPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::exit(101);
        }
    }
}

impl Vmm {
    pub fn new(vcpus: u32, host: Host) -> Self {
        let facts = HostFacts {
            brand: "Apple M2".to_string(),
            family: 0xda33_d83d,
            build: host.build.clone(),
            counter_hz: 24_000_000,
            features: vec![(SysReg::new(3, 0, 0, 4, 0), 0x11)],
        };
        let framework = Framework::new(host);
        framework.vm_create().unwrap();
        framework.gic_create(0x0800_0000).unwrap();
        let rams: Vec<_> = REGIONS.iter().map(|(_, len)| ModelRam::new(*len)).collect();
        rams.iter().for_each(|ram| framework.add_ram(ram));
        Self {
            framework,
            rams,
            lot: ParkingLot::new(vcpus),
            host: HvfHost::new(facts),
            vcpus,
            allowed: AtomicU64::new(END),
            progress: (0..vcpus).map(|_| AtomicU64::new(0)).collect(),
            stopped: AtomicBool::new(false),
        }
    }

    pub fn calls(&self) -> OnModel {
        OnModel(self.framework.clone())
    }

    pub fn regions(&self) -> Vec<HostRegion> {
        let rams = self.rams.iter().zip(REGIONS);
        rams.map(|(ram, (addr, len))| HostRegion {
            region: GuestRegion::new(GuestAddr::new(addr), ByteLen::new(len)).unwrap(),
            host: ram.host(),
        })
        .collect()
    }

    pub fn total(&self) -> ByteLen {
        ByteLen::new(self.rams.iter().map(|ram| ram.len()).sum())
    }

    /// All memory mapped.
    pub fn stage2(&self, watch: Watch) -> Stage2<'_, OnModel> {
        // SAFETY: the memory is as old as `self`, and is reached by atomics.
        unsafe { Stage2::new(self.calls(), self.regions(), watch) }.unwrap()
    }

    /// The memory as the capture sees it.
    pub fn ram(&self) -> RawRam<'_> {
        let regions = self.regions().into_iter();
        let regions = regions.map(|HostRegion { region, host }| RamRegion::new(region, host));
        // SAFETY: the memory is as old as `self`, and is reached by atomics.
        unsafe { RawRam::new(regions.collect()) }
    }

    pub fn memory(&self) -> Vec<u8> {
        self.rams.iter().flat_map(|ram| ram.bytes()).collect()
    }

    pub fn pause(&self) -> Parked {
        self.lot
            .pause(&self.calls(), Duration::from_secs(60))
            .unwrap()
    }

    /// Waits until each guest has done so many loops.
    pub fn wait_for(&self, loops: u64) {
        let behind = |done: &AtomicU64| done.load(Ordering::SeqCst) < loops;
        while self.progress.iter().any(behind) {
            std::thread::yield_now();
        }
    }

    /// Runs the vCPUs, each on its thread, until `END` or until [`Self::stop`]; `control` is the
    /// VMM's own thread meanwhile.
    pub fn run<R>(
        &self,
        stage2: &Stage2<'_, OnModel>,
        start: Start,
        control: impl FnOnce() -> R,
    ) -> (R, Vec<End>) {
        std::thread::scope(|scope| {
            let spawn = |index| scope.spawn(move || self.vcpu(stage2, index, start));
            let threads: Vec<_> = (0..self.vcpus).map(spawn).collect();
            let _end = EndWithPanic;
            let result = control();
            let ends = threads.into_iter().map(|thread| thread.join().unwrap());
            (result, ends.collect())
        })
    }

    /// Has the vCPUs end when they get out of their seats.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    fn vcpu(&self, stage2: &Stage2<'_, OnModel>, index: u32, start: Start) -> End {
        let _end = EndWithPanic;
        let framework = self.framework.clone();
        let id = framework.vcpu_create().unwrap();
        let vcpu = ModelVcpu { framework, id };
        let seat = self.lot.seat(index, id).unwrap();
        let mut ready = Ready::fresh(&vcpu, index, PowerState::On);
        match start {
            Start::Boot => self.boot(&vcpu, index),
            Start::Thaw => ready = seat.park_when_wanted(ready),
        }
        while !self.stopped.load(Ordering::SeqCst) {
            ready = match ready.run().unwrap() {
                Exit::Canceled(ready) => seat.park(ready),
                Exit::Vtimer(ready) | Exit::Wait(ready) => ready,
                Exit::System(access) => access.answer(8).unwrap(),
                Exit::Abort(abort) => match abort.resolve(stage2).unwrap() {
                    Resolved::Again(ready) => ready,
                    Resolved::Mmio(access) => {
                        let steps = vcpu.reg(CoreReg::general(0).unwrap()).unwrap();
                        access.answer(steps.wrapping_mul(0x9e37_79b9)).unwrap()
                    }
                },
                Exit::Call(ready) => {
                    let loops = vcpu.reg(CoreReg::general(4).unwrap()).unwrap();
                    self.progress[index as usize].store(loops, Ordering::SeqCst);
                    if loops >= END {
                        break;
                    }
                    if loops >= self.allowed.load(Ordering::SeqCst) {
                        seat.park_when_wanted(ready)
                    } else {
                        ready
                    }
                }
                Exit::Other { syndrome, .. } => panic!("syndrome {syndrome:#x}"),
            };
        }
        registers(&vcpu)
    }

    /// What firmware and kernel would have set up.
    fn boot(&self, vcpu: &ModelVcpu, index: u32) {
        let affinity = 0x8000_0000 | u64::from(index);
        vcpu.set_sys_reg(SysReg::MPIDR_EL1, affinity).unwrap();
        self.framework.gic_enable(vcpu.id, 1 << 27).unwrap();
        vcpu.set_icc_reg(SysReg::ICC_PMR_EL1, 0xf0).unwrap();
        vcpu.set_icc_reg(SysReg::ICC_IGRPEN1_EL1, 1).unwrap();
        vcpu.set_sys_reg(SysReg::SP_EL1, 0xffff_0000 + u64::from(index))
            .unwrap();
        vcpu.set_sys_reg(SysReg::new(2, 0, 0, 15, 5), 0x1e5)
            .unwrap();
        // The clock is one for all: only a guest that is alone sees the same on every run.
        let (base, len) = REGIONS[0];
        let len = len / u64::from(self.vcpus);
        let registers = [
            (1, u64::from(index)),
            (20, u64::from(self.vcpus == 1)),
            (21, base + len * u64::from(index)),
            (22, len),
        ];
        for (number, value) in registers {
            vcpu.set_reg(CoreReg::general(number).unwrap(), value)
                .unwrap();
        }
    }

    /// Thaws into this machine, which is fresh, and runs to the end; by the plan, or by `order`.
    pub fn thaw(
        &self,
        stage2: &Stage2<'_, OnModel>,
        state: &MachineState,
        order: Option<&[Step<RestoreOp>]>,
    ) -> Result<Vec<End>, HvfError> {
        let (restored, ends) = self.run(stage2, Start::Thaw, || {
            let parked = self.pause();
            let calls = self.calls();
            let mut machine = HvfMachine::new(&self.host, &calls, &parked);
            if let Some(order) = order {
                machine = machine.with_order(order);
            }
            let accepted = self.host.compare(state).accept(&[]).unwrap();
            let restored = machine.restore(&accepted);
            if restored.is_err() {
                self.stop();
            }
            restored.map(|thawed| thawed.generation())
        });
        restored.map(|_| ends)
    }
}

fn registers(vcpu: &ModelVcpu) -> End {
    let core = (0..35).map(|number| vcpu.framework.reg(vcpu.id, number).unwrap());
    let simd = (0..32).flat_map(|number| {
        let value = u128::from_le_bytes(vcpu.simd(number).unwrap());
        [value as u64, (value >> 64) as u64]
    });
    let system = [
        SysReg::MPIDR_EL1,
        SysReg::SP_EL1,
        SysReg::CNTV_CTL_EL0,
        SysReg::CNTV_CVAL_EL0,
        SysReg::new(3, 3, 13, 0, 2),
        SysReg::new(2, 0, 0, 15, 5),
    ];
    let system = system.map(|register| vcpu.sys_reg(register).unwrap());
    let interface = [SysReg::ICC_PMR_EL1, SysReg::ICC_IGRPEN1_EL1];
    // A machine whose restore was refused may have no affinity, and so no interface.
    let interface = interface.map(|register| vcpu.icc_reg(register).unwrap_or_default());
    core.chain(simd).chain(system).chain(interface).collect()
}
