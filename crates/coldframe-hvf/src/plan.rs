//! The order in which a machine under Hypervisor.framework is read and written (Apple silicon with
//! the in-kernel GIC, macOS 15 and later).

use coldframe_hv::Op::{self, AllVcpus, Vcpu, Vm, Vmm};
use coldframe_hv::VmmOp::*;
use coldframe_hv::{Direction, Plan, Step, step};

use Controller::*;
use Counters::*;

/// What the plans are for.
pub const TARGET: &str = "hvf-aarch64";

const GIC: &str = "Apple Hypervisor framework, hv_gic_create, hv_gic_set_state";
const VCPU: &str = "Apple Hypervisor framework, hv_vcpu_create, hv_vcpu_set_sys_reg";
const VTIMER: &str = "Apple Hypervisor framework, hv_vcpu_set_vtimer_offset";
const FIELD: &str = "order found by the limina, amber and SporeVM projects";

/// An operation on the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Controller {
    /// The interrupt controller's opaque state.
    GicBlob,
}

/// An operation on all vCPUs at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Counters {
    /// Offset of the virtual timer.
    VtimerOffset,
}

/// What is read of a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SaveVcpu {
    /// General, floating-point and vector registers.
    CoreRegs,
    /// System registers but the timer's.
    SystemRegs,
    /// CPU interface.
    GicCpuInterface,
    /// Timers: compare value and control.
    TimerRegs,
    /// Whether the virtual timer is masked.
    VtimerMask,
    /// Whether the vCPU runs, halts or waits.
    MpState,
    /// Pending interrupt lines.
    PendingLines,
}

/// What is written to a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RestoreVcpu {
    /// Affinity, by which the interrupt controller finds the vCPU.
    Mpidr,
    /// CPU interface.
    GicCpuInterface,
    /// System registers but the timer's.
    SystemRegs,
    /// General, floating-point and vector registers.
    CoreRegs,
    /// Whether the vCPU runs, halts or waits.
    MpState,
    /// Timers: compare value and control.
    TimerRegs,
    /// Whether the virtual timer is masked.
    VtimerMask,
    /// Pending interrupt lines.
    PendingLines,
}

/// An operation of [`SAVE`].
pub type SaveOp = Op<Controller, SaveVcpu, Counters>;

/// An operation of [`RESTORE`].
pub type RestoreOp = Op<Controller, RestoreVcpu, Counters>;

/// The order of reading.
///
#[doc = include_str!("plan/hvf-save.md")]
pub const SAVE: Plan<SaveOp> = {
    use SaveVcpu::*;

    #[rustfmt::skip]
    const STEPS: &[Step<SaveOp>] = &[
    step(Vmm(CompletePendingIo), &[],
        "finish the pending MMIO access and advance the program counter", FIELD),
    step(Vmm(Devices), &[Vmm(CompletePendingIo)],
        "what they finish raises interrupts, which vCPUs and controller must hold", FIELD),
    step(Vcpu(CoreRegs), &[Vmm(CompletePendingIo)], "on the vCPU's own thread", VCPU),
    step(Vcpu(SystemRegs), &[Vmm(CompletePendingIo)], "on the vCPU's own thread", VCPU),
    step(Vcpu(GicCpuInterface), &[Vmm(CompletePendingIo), Vmm(Devices)],
        "not part of the opaque blob; no interrupt may be in service", GIC),
    step(Vcpu(TimerRegs), &[Vmm(CompletePendingIo)], "compare value and control", VTIMER),
    step(AllVcpus(VtimerOffset), &[Vcpu(TimerRegs)], "one machine counter for all vCPUs", FIELD),
    step(Vcpu(VtimerMask), &[AllVcpus(VtimerOffset)], "set by the last timer exit", VTIMER),
    step(Vcpu(MpState), &[Vmm(CompletePendingIo)],
        "the framework has no PSCI: the VMM says it when the vCPU parks", FIELD),
    step(Vcpu(PendingLines), &[Vmm(CompletePendingIo), Vmm(Devices)], "no order of its own", VCPU),
    step(Vm(GicBlob), &[Vcpu(GicCpuInterface), Vcpu(PendingLines)],
        "after the vCPUs, when no interrupt moves any more", GIC),
    ];
    Plan::new(TARGET, Direction::Save, STEPS)
};

/// The order of writing.
///
#[doc = include_str!("plan/hvf-restore.md")]
pub const RESTORE: Plan<RestoreOp> = {
    use RestoreVcpu::*;

    #[rustfmt::skip]
    const STEPS: &[Step<RestoreOp>] = &[
    step(Vmm(CreateVm), &[], "all else hangs on it", GIC),
    step(Vmm(CreateGic), &[Vmm(CreateVm)],
        "refused once there is a vCPU; same layout as saved", GIC),
    step(Vmm(MapMemory), &[Vmm(CreateVm)], "before any vCPU runs", GIC),
    step(Vmm(CreateVcpus), &[Vmm(CreateGic)], "on the thread that will run it", VCPU),
    step(Vcpu(Mpidr), &[Vmm(CreateVcpus)],
        "the redistributor of a vCPU is found by its affinity", GIC),
    step(Vm(GicBlob), &[Vmm(CreateGic), Vcpu(Mpidr)],
        "taken only when the vCPUs are there and none has run", GIC),
    step(Vcpu(GicCpuInterface), &[Vm(GicBlob), Vcpu(Mpidr)],
        "not in the blob, and setting the blob resets it", FIELD),
    step(Vcpu(SystemRegs), &[Vcpu(Mpidr)], "affinity is among them and must stand first", FIELD),
    step(Vcpu(CoreRegs), &[Vmm(CreateVcpus)], "no order of its own", VCPU),
    step(Vcpu(MpState), &[Vmm(CreateVcpus)],
        "handed to the vCPU's thread: what was off stays off, a secondary that ran runs on", FIELD),
    step(AllVcpus(VtimerOffset), &[Vcpu(SystemRegs)],
        "one offset for all: each its own gave stalls; never step the counter back", FIELD),
    step(Vcpu(TimerRegs), &[AllVcpus(VtimerOffset)],
        "the compare value fires against the counter then in force", FIELD),
    step(Vcpu(VtimerMask), &[Vcpu(TimerRegs)], "or the timer fires at once", VTIMER),
    step(Vcpu(PendingLines), &[Vcpu(GicCpuInterface)],
        "the lines are inputs of the interface", VCPU),
    step(Vmm(Devices), &[Vm(GicBlob)], "their interrupts need the controller", FIELD),
    step(Vmm(NotifyGeneration), &[Vmm(Devices)], "its interrupt needs the controller", FIELD),
    step(Vmm(Run), &[Vcpu(CoreRegs), Vcpu(VtimerMask), Vcpu(PendingLines), Vcpu(MpState),
        Vmm(NotifyGeneration), Vmm(MapMemory)], "all is in place", VCPU),
    ];
    Plan::new(TARGET, Direction::Restore, STEPS)
};
