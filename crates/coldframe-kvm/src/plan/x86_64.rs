//! KVM on x86_64. The orders of Firecracker, Cloud Hypervisor, crosvm and QEMU side by side; where
//! they differ, the one with a stated reason in the kernel.
//!
//! The two directions have vCPU operations of their own, in two modules, since a restore does more
//! than a save.

use coldframe_hv::Op::{self, AllVcpus, Vcpu, Vm, Vmm};
use coldframe_hv::VmmOp::*;
use coldframe_hv::{Direction, Plan, Step, step};

use Chip::*;
use Counters::*;

/// What the plans are for.
pub const TARGET: &str = "kvm-x86_64";

const API: &str = "Linux Documentation/virt/kvm/api.rst";
const X86: &str = "Linux arch/x86/kvm/x86.c";
const LAPIC: &str = "Linux arch/x86/kvm/lapic.c";
const TSC: &str = "Linux Documentation/virt/kvm/devices/vcpu.rst, KVM_VCPU_TSC_CTRL";
const FIRECRACKER: &str = "Firecracker src/vmm/src/arch/x86_64/vcpu.rs";
const QEMU: &str = "QEMU target/i386/kvm/kvm.c, kvm_arch_put_registers";
const CLOUD: &str = "Cloud Hypervisor issue 7932";

/// An operation on the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Chip {
    /// Interval timer.
    Pit,
    /// Paravirtual clock.
    Clock,
    /// First PIC.
    PicMaster,
    /// Second PIC.
    PicSlave,
    /// I/O APIC.
    Ioapic,
}

/// An operation on all vCPUs at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Counters {
    /// The time-stamp counters.
    Tsc,
}

/// What is read of a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SaveVcpu {
    /// Whether the vCPU runs, halts or waits.
    MpState,
    /// General registers.
    Regs,
    /// Segments, control registers, APIC base.
    Sregs,
    /// State of a nested guest.
    NestedState,
    /// Extended state.
    Xsave,
    /// Extended control registers.
    Xcrs,
    /// Debug registers.
    DebugRegs,
    /// Local interrupt controller.
    Lapic,
    /// Rate of the guest's TSC.
    TscKhz,
    /// What the guest sees of its CPU.
    Cpuid,
    /// Model-specific registers but the TSC and its deadline.
    Msrs,
    /// Registers that KVM lists one by one: the shadow-stack pointer.
    ListedRegs,
    /// Pending exceptions and interrupts.
    VcpuEvents,
}

/// What is written to a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RestoreVcpu {
    /// Rate of the guest's TSC.
    TscKhz,
    /// What the guest sees of its CPU.
    Cpuid,
    /// Registers that switch features on, before those that need them.
    FeatureMsrs,
    /// Whether the vCPU runs, halts or waits.
    MpState,
    /// General registers.
    Regs,
    /// Segments, control registers, APIC base.
    Sregs,
    /// State of a nested guest.
    NestedState,
    /// Extended state.
    Xsave,
    /// Extended control registers.
    Xcrs,
    /// Debug registers.
    DebugRegs,
    /// Local interrupt controller.
    Lapic,
    /// Model-specific registers but the TSC and its deadline.
    Msrs,
    /// Registers that KVM lists one by one: the shadow-stack pointer.
    ListedRegs,
    /// The deadline timer.
    TscDeadline,
    /// Pending exceptions and interrupts.
    VcpuEvents,
    /// Read the model-specific registers back: each must hold what was saved.
    CheckMsrs,
    /// Tell the guest's watchdogs that it was stopped.
    KvmclockCtrl,
}

/// An operation of [`SAVE`].
pub type SaveOp = Op<Chip, SaveVcpu, Counters>;

/// An operation of [`RESTORE`].
pub type RestoreOp = Op<Chip, RestoreVcpu, Counters>;

/// The order of reading.
///
#[doc = include_str!("x86_64-save.md")]
pub const SAVE: Plan<SaveOp> = {
    use SaveVcpu::*;

    #[rustfmt::skip]
    const STEPS: &[Step<SaveOp>] = &[
    step(Vmm(CompletePendingIo), &[],
        "the answer to an I/O exit is in no structure until the vCPU has entered once more", API),
    step(Vmm(Devices), &[Vmm(CompletePendingIo)],
        "what they finish raises interrupts, which vCPUs and controllers must hold", FIRECRACKER),
    step(Vcpu(MpState), &[Vmm(CompletePendingIo), Vmm(Devices)],
        "reading it takes pending start signals in, which changes LAPIC, CS and RIP", X86),
    step(Vcpu(Regs), &[Vcpu(MpState)], "RIP may have been changed by MpState", X86),
    step(Vcpu(Sregs), &[Vcpu(MpState)], "CS may have been changed by MpState", X86),
    step(Vcpu(NestedState), &[Vcpu(Sregs)], "belongs to the mode that Sregs shows", QEMU),
    step(Vcpu(Xsave), &[Vmm(CompletePendingIo)], "no order of its own", FIRECRACKER),
    step(Vcpu(Xcrs), &[Vmm(CompletePendingIo)], "no order of its own", FIRECRACKER),
    step(Vcpu(DebugRegs), &[Vmm(CompletePendingIo)], "no order of its own", FIRECRACKER),
    step(Vcpu(Lapic), &[Vcpu(MpState)], "start signals taken in by MpState change it", LAPIC),
    step(Vcpu(TscKhz), &[Vmm(CompletePendingIo)], "no order of its own", FIRECRACKER),
    step(Vcpu(Cpuid), &[Vmm(CompletePendingIo)], "no order of its own", FIRECRACKER),
    step(Vcpu(Msrs), &[Vcpu(Lapic)], "the deadline is read after the timer it belongs to", LAPIC),
    step(Vcpu(ListedRegs), &[Vmm(CompletePendingIo)], "no order of its own", API),
    step(AllVcpus(Tsc), &[Vcpu(Msrs)],
        "all counters are read against one reference, so that their distances are kept", TSC),
    step(Vcpu(VcpuEvents), &[Vcpu(MpState), Vcpu(Regs), Vcpu(Sregs), Vcpu(Lapic), Vcpu(Msrs)],
        "last, since each earlier read may still turn a signal into an event", FIRECRACKER),
    step(Vm(Pit), &[Vcpu(VcpuEvents)], "after the vCPUs, which may still have acknowledged", API),
    step(Vm(Clock), &[AllVcpus(Tsc)], "belongs to the counters that were just read", CLOUD),
    step(Vm(PicMaster), &[Vcpu(VcpuEvents)], "after the vCPUs, as Pit", API),
    step(Vm(PicSlave), &[Vm(PicMaster)], "after the first, which it hangs on", API),
    step(Vm(Ioapic), &[Vcpu(VcpuEvents)], "after the vCPUs, as Pit", API),
    ];
    Plan::new(TARGET, Direction::Save, STEPS)
};

/// The order of writing.
///
#[doc = include_str!("x86_64-restore.md")]
pub const RESTORE: Plan<RestoreOp> = {
    use RestoreVcpu::*;

    #[rustfmt::skip]
    const STEPS: &[Step<RestoreOp>] = &[
    step(Vmm(CreateVm), &[], "all else hangs on it", API),
    step(Vmm(CreateIrqchip), &[Vmm(CreateVm)],
        "a vCPU gets its LAPIC when it is made; refused once there is a vCPU", API),
    step(Vmm(CreatePit), &[Vmm(CreateIrqchip)], "its interrupt goes to the irqchip", API),
    step(Vmm(CreateVcpus), &[Vmm(CreateIrqchip)],
        "a vCPU made before the irqchip has no local APIC", API),
    step(Vmm(WallClock), &[Vmm(CreateVcpus)],
        "setting it makes KVM write 12 bytes of guest memory: before there is any, or never", X86),
    step(Vmm(MapMemory), &[Vmm(CreateVm), Vmm(WallClock)],
        "registers point into it; some are checked against it", API),
    step(Vcpu(TscKhz), &[Vmm(CreateVcpus)], "the offset of the TSC is computed at this rate", API),
    step(Vcpu(Cpuid), &[Vmm(CreateVcpus)],
        "decides which control bits, extended state and MSRs the guest may have", X86),
    step(Vcpu(FeatureMsrs), &[Vcpu(Cpuid)],
        "feature control decides on VMX state; PERF_CAPABILITIES resets the counters", QEMU),
    step(Vcpu(MpState), &[Vmm(CreateVcpus)],
        "a vCPU that waits for its start signal must be known as such first", FIRECRACKER),
    step(Vcpu(Regs), &[Vmm(CreateVcpus)], "clears pending exceptions", X86),
    step(Vcpu(Sregs), &[Vcpu(Cpuid), Vmm(CreateIrqchip)],
        "control bits are checked against CPUID; sets the APIC base", X86),
    step(Vcpu(NestedState), &[Vcpu(Sregs), Vcpu(FeatureMsrs), Vmm(MapMemory)],
        "needs EFER.SVME or CR4.VMXE, and maps pages of the guest", QEMU),
    step(Vcpu(Xsave), &[Vcpu(Cpuid)], "its size and bits follow CPUID", X86),
    step(Vcpu(Xcrs), &[Vcpu(Cpuid), Vcpu(Xsave)],
        "its bits follow CPUID; the majority of VMMs sets it after Xsave", QEMU),
    step(Vcpu(DebugRegs), &[Vmm(CreateVcpus)], "no order of its own", FIRECRACKER),
    step(Vcpu(Lapic), &[Vcpu(Sregs)],
        "a new APIC base by Sregs switches or resets the LAPIC", LAPIC),
    step(Vmm(SynicEnable), &[Vcpu(Lapic)],
        "only for guests that use it: its MSRs are refused before it is on", CLOUD),
    step(Vcpu(Msrs), &[Vcpu(Cpuid), Vcpu(FeatureMsrs), Vcpu(Lapic), Vmm(MapMemory)],
        "CPUID allows them; those of paravirtual clocks point into memory", X86),
    step(Vcpu(ListedRegs), &[Vcpu(Cpuid), Vcpu(Sregs), Vcpu(Msrs)],
        "the shadow-stack pointer is refused unless CPUID has shadow stacks", API),
    step(AllVcpus(Tsc), &[Vcpu(TscKhz), Vcpu(Cpuid), Vcpu(Msrs)],
        "one reference for all: writes close together are taken as an attempt to synchronise", TSC),
    step(Vcpu(TscDeadline), &[Vcpu(Lapic), AllVcpus(Tsc)],
        "arms only if the LAPIC's timer is in deadline mode, and against the TSC then in force",
        LAPIC),
    step(Vcpu(VcpuEvents), &[Vcpu(Regs), Vcpu(Sregs), Vcpu(NestedState), Vcpu(Lapic),
        Vcpu(TscDeadline)],
        "Regs clears exceptions, Sregs queues interrupts: both would undo it", X86),
    step(Vm(Pit), &[Vmm(CreatePit), Vcpu(VcpuEvents)],
        "starting it may raise its line, which the interrupt controllers then overwrite", API),
    step(Vm(Clock), &[AllVcpus(Tsc)],
        "computed from the TSC in force; wrong order stalls guests", CLOUD),
    step(Vm(PicMaster), &[Vm(Pit)], "overwrites what starting the PIT raised", API),
    step(Vm(PicSlave), &[Vm(PicMaster)], "hangs on the first", API),
    step(Vm(Ioapic), &[Vcpu(Lapic), Vcpu(VcpuEvents), Vm(Pit), Vm(PicSlave)],
        "delivers what is pending to the LAPICs, so they must stand", API),
    step(Vcpu(CheckMsrs), &[Vcpu(FeatureMsrs), Vcpu(Msrs), Vcpu(TscDeadline), Vcpu(VcpuEvents)],
        "one write may reset what another has set, and no call fails", X86),
    step(Vmm(Devices), &[Vm(Ioapic)], "their interrupts need the controllers", FIRECRACKER),
    step(Vmm(NotifyGeneration), &[Vmm(Devices), Vm(Ioapic)],
        "its interrupt would be overwritten by the controllers' state", FIRECRACKER),
    step(Vcpu(KvmclockCtrl), &[Vcpu(Msrs), Vm(Clock)],
        "needs the guest's clock page; refused, and that tolerated, where it has none", API),
    step(Vmm(Run), &[Vcpu(VcpuEvents), Vm(Ioapic), Vmm(NotifyGeneration), Vcpu(KvmclockCtrl),
        Vcpu(CheckMsrs)], "all is in place", API),
    ];
    Plan::new(TARGET, Direction::Restore, STEPS)
};
