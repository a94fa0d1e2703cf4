//! KVM on aarch64 with a GICv3 and, where present, an ITS.

use coldframe_hv::Op::{self, Vcpu, Vm, Vmm};
use coldframe_hv::VmmOp::*;
use coldframe_hv::{Direction, Plan, Step, step};

/// What the plans are for.
pub const TARGET: &str = "kvm-aarch64";

const API: &str = "Linux Documentation/virt/kvm/api.rst, KVM_ARM_VCPU_INIT, KVM_ARM_VCPU_FINALIZE";
const VGIC: &str = "Linux Documentation/virt/kvm/devices/arm-vgic-v3.rst";
const ITS: &str = "Linux Documentation/virt/kvm/devices/arm-vgic-its.rst, ITS restore sequence";
const VCPU: &str = "Linux Documentation/virt/kvm/devices/vcpu.rst, KVM_ARM_VCPU_PVTIME_CTRL";
const OFFSET: &str = "Linux Documentation/virt/kvm/api.rst, KVM_ARM_SET_COUNTER_OFFSET";
const FIRECRACKER: &str = "Firecracker src/vmm/src/arch/aarch64/vcpu.rs";

/// What is read of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SaveVm {
    /// Have the kernel write pending tables into guest memory.
    GicPendingTables,
    /// Tables of the translation service, from or to guest memory.
    ItsTables,
    /// Distributor, and the levels of its lines.
    GicDistributor,
    /// Registers of the translation service but its control.
    ItsRegs,
    /// Control register of the translation service.
    ItsControl,
}

/// What is read of a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SaveVcpu {
    /// Whether the vCPU runs, halts or waits.
    MpState,
    /// Target and features.
    VcpuInit,
    /// Vector lengths of SVE.
    SveLengths,
    /// General, floating-point and vector registers.
    CoreRegs,
    /// System registers but the timer's.
    SystemRegs,
    /// Timers: compare value and control.
    TimerRegs,
    /// A pending SError.
    VcpuEvents,
    /// Address of the stolen-time record.
    PvTime,
    /// Redistributor.
    GicRedistributors,
    /// CPU interface.
    GicCpuInterface,
}

/// What is written to the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RestoreVm {
    /// One offset of the counter for the whole machine.
    CounterOffset,
    /// Distributor, and the levels of its lines.
    GicDistributor,
    /// Registers of the translation service but its control.
    ItsRegs,
    /// Tables of the translation service, from or to guest memory.
    ItsTables,
    /// Control register of the translation service.
    ItsControl,
}

/// What is written to a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RestoreVcpu {
    /// Target and features.
    VcpuInit,
    /// Vector lengths of SVE.
    SveLengths,
    /// Freeze the features.
    VcpuFinalize,
    /// General, floating-point and vector registers.
    CoreRegs,
    /// System registers but the timer's.
    SystemRegs,
    /// Timers: compare value and control.
    TimerRegs,
    /// Whether the vCPU runs, halts or waits.
    MpState,
    /// A pending SError.
    VcpuEvents,
    /// Address of the stolen-time record.
    PvTime,
    /// Redistributor.
    GicRedistributors,
    /// CPU interface.
    GicCpuInterface,
}

/// An operation of [`SAVE`].
pub type SaveOp = Op<SaveVm, SaveVcpu>;

/// An operation of [`RESTORE`].
pub type RestoreOp = Op<RestoreVm, RestoreVcpu>;

/// The order of reading.
///
#[doc = include_str!("aarch64-save.md")]
pub const SAVE: Plan<SaveOp> = {
    use {SaveVcpu::*, SaveVm::*};

    #[rustfmt::skip]
    const STEPS: &[Step<SaveOp>] = &[
    step(Vmm(CompletePendingIo), &[],
        "the answer to an I/O exit is in no register until the vCPU has entered once more", API),
    step(Vmm(Devices), &[Vmm(CompletePendingIo)],
        "what they finish raises interrupts, which vCPUs and controllers must hold", FIRECRACKER),
    step(Vcpu(MpState), &[Vmm(CompletePendingIo)], "no order of its own", FIRECRACKER),
    step(Vcpu(VcpuInit), &[Vmm(CompletePendingIo)], "features decide the register list", API),
    step(Vcpu(SveLengths), &[Vcpu(VcpuInit)], "length of the vector registers", API),
    step(Vcpu(CoreRegs), &[Vcpu(SveLengths)], "vector registers are as long as that", API),
    step(Vcpu(SystemRegs), &[Vmm(CompletePendingIo)], "no order of its own", FIRECRACKER),
    step(Vcpu(TimerRegs), &[Vcpu(SystemRegs)], "late, so that the pause costs little time", OFFSET),
    step(Vcpu(VcpuEvents), &[Vmm(CompletePendingIo)], "a pending SError is no register", API),
    step(Vcpu(PvTime), &[Vmm(CompletePendingIo)], "no order of its own", VCPU),
    step(Vm(GicPendingTables), &[Vmm(CompletePendingIo), Vmm(Devices)],
        "the kernel writes pending bits into guest memory", VGIC),
    step(Vm(ItsTables), &[Vmm(CompletePendingIo)],
        "the kernel writes the tables into guest memory", ITS),
    step(Vm(GicDistributor), &[Vm(GicPendingTables)], "no vCPU can change it any more", VGIC),
    step(Vcpu(GicRedistributors), &[Vm(GicPendingTables)], "as the distributor", VGIC),
    step(Vcpu(GicCpuInterface), &[Vmm(CompletePendingIo), Vmm(Devices)],
        "after what the devices finish", VGIC),
    step(Vm(ItsRegs), &[Vm(ItsTables)], "after the tables that they describe", ITS),
    step(Vm(ItsControl), &[Vm(ItsTables)], "after the tables that they describe", ITS),
    step(Vmm(CopyMemory), &[Vm(GicPendingTables), Vm(ItsTables)],
        "both tables were just written into guest memory", ITS),
    ];
    Plan::new(TARGET, Direction::Save, STEPS)
};

/// The order of writing.
///
#[doc = include_str!("aarch64-restore.md")]
pub const RESTORE: Plan<RestoreOp> = {
    use {RestoreVcpu::*, RestoreVm::*};

    #[rustfmt::skip]
    const STEPS: &[Step<RestoreOp>] = &[
    step(Vmm(CreateVm), &[], "all else hangs on it", API),
    step(Vmm(MapMemory), &[Vmm(CreateVm)],
        "the interrupt controller's tables are read from it", ITS),
    step(Vmm(CreateVcpus), &[Vmm(CreateVm)], "in rising number, which is their affinity", API),
    step(Vcpu(VcpuInit), &[Vmm(CreateVcpus)], "nothing else works before it", API),
    step(Vcpu(SveLengths), &[Vcpu(VcpuInit)], "cannot change once finalised", API),
    step(Vcpu(VcpuFinalize), &[Vcpu(VcpuInit), Vcpu(SveLengths)],
        "vector registers do not exist before it", API),
    step(Vm(CounterOffset), &[Vmm(CreateVcpus)],
        "one offset for the machine; writes of counter registers then no longer count", OFFSET),
    step(Vcpu(CoreRegs), &[Vcpu(VcpuFinalize)], "vector registers among them", API),
    step(Vcpu(SystemRegs), &[Vcpu(VcpuFinalize)], "their set follows the features", API),
    step(Vcpu(TimerRegs), &[Vm(CounterOffset), Vcpu(SystemRegs)],
        "the compare value fires against the counter then in force", OFFSET),
    step(Vcpu(MpState), &[Vcpu(VcpuInit), Vcpu(CoreRegs)],
        "initialising sets it; a vCPU that is off must stay off", FIRECRACKER),
    step(Vcpu(VcpuEvents), &[Vcpu(SystemRegs)],
        "pends through a control register, which SystemRegs writes", API),
    step(Vcpu(PvTime), &[Vcpu(VcpuInit), Vmm(MapMemory)], "points into guest memory", VCPU),
    step(Vmm(CreateGic), &[Vmm(CreateVcpus), Vcpu(VcpuInit)],
        "finds its vCPUs when initialised", VGIC),
    step(Vm(GicDistributor), &[Vmm(CreateGic)], "sets the model before anything else", VGIC),
    step(Vcpu(GicRedistributors), &[Vm(GicDistributor), Vcpu(SystemRegs), Vmm(MapMemory)],
        "found by the affinity register; the pending table is in memory", VGIC),
    step(Vcpu(GicCpuInterface), &[Vmm(CreateGic), Vcpu(GicRedistributors)],
        "its priorities belong to the redistributor", VGIC),
    step(Vm(ItsRegs), &[Vcpu(GicRedistributors)],
        "base addresses, before the tables are read", ITS),
    step(Vm(ItsTables), &[Vm(ItsRegs), Vmm(MapMemory)],
        "read from guest memory at those bases", ITS),
    step(Vm(ItsControl), &[Vm(ItsTables)], "last: switches it on", ITS),
    step(Vmm(Devices), &[Vcpu(GicCpuInterface), Vm(ItsControl)],
        "their interrupts need the controller", FIRECRACKER),
    step(Vmm(NotifyGeneration), &[Vmm(Devices)], "its interrupt needs the controller", FIRECRACKER),
    step(Vmm(Run), &[Vcpu(TimerRegs), Vcpu(MpState), Vcpu(VcpuEvents), Vcpu(PvTime), Vm(ItsControl),
        Vmm(NotifyGeneration)], "all is in place", API),
    ];
    Plan::new(TARGET, Direction::Restore, STEPS)
};
