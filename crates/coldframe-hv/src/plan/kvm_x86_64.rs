//! KVM on x86_64. The orders of Firecracker, Cloud Hypervisor, crosvm and QEMU laid side by side;
//! where they differ, the one with a stated reason in the kernel.

use super::Op::*;
use super::Scope::{AllVcpusTogether, EachVcpu, Vm};
use super::{Step, adapter, vmm};

const API: &str = "Linux Documentation/virt/kvm/api.rst";
const X86: &str = "Linux arch/x86/kvm/x86.c";
const LAPIC: &str = "Linux arch/x86/kvm/lapic.c";
const TSC: &str = "Linux Documentation/virt/kvm/devices/vcpu.rst, KVM_VCPU_TSC_CTRL";
const FIRECRACKER: &str = "Firecracker src/vmm/src/arch/x86_64/vcpu.rs";
const QEMU: &str = "QEMU target/i386/kvm/kvm.c, kvm_arch_put_registers";
const CLOUD: &str = "Cloud Hypervisor issue 7932";

#[rustfmt::skip]
pub(super) const SAVE: &[Step] = &[
    vmm(CompletePendingIo, EachVcpu, &[],
        "the answer to an I/O exit is in no structure until the vCPU has entered once more", API),
    adapter(MpState, EachVcpu, &[CompletePendingIo],
        "reading it takes pending start signals in, which changes LAPIC, CS and RIP", X86),
    adapter(Regs, EachVcpu, &[MpState], "RIP may have been changed by MpState", X86),
    adapter(Sregs, EachVcpu, &[MpState], "CS may have been changed by MpState", X86),
    adapter(NestedState, EachVcpu, &[Sregs], "belongs to the mode that Sregs shows", QEMU),
    adapter(Xsave, EachVcpu, &[CompletePendingIo], "no order of its own", FIRECRACKER),
    adapter(Xcrs, EachVcpu, &[CompletePendingIo], "no order of its own", FIRECRACKER),
    adapter(DebugRegs, EachVcpu, &[CompletePendingIo], "no order of its own", FIRECRACKER),
    adapter(Lapic, EachVcpu, &[MpState], "start signals taken in by MpState change it", LAPIC),
    adapter(TscKhz, EachVcpu, &[CompletePendingIo], "no order of its own", FIRECRACKER),
    adapter(Cpuid, EachVcpu, &[CompletePendingIo], "no order of its own", FIRECRACKER),
    adapter(Msrs, EachVcpu, &[Lapic], "the deadline is read after the timer it belongs to", LAPIC),
    adapter(ListedRegs, EachVcpu, &[CompletePendingIo], "no order of its own", API),
    adapter(Tsc, AllVcpusTogether, &[Msrs],
        "all counters are read against one reference, so that their distances are kept", TSC),
    adapter(VcpuEvents, EachVcpu, &[MpState, Regs, Sregs, Lapic, Msrs],
        "last, since each earlier read may still turn a signal into an event", FIRECRACKER),
    adapter(Pit, Vm, &[VcpuEvents], "after the vCPUs, which may still have acknowledged", API),
    adapter(Clock, Vm, &[Tsc], "belongs to the counters that were just read", CLOUD),
    adapter(PicMaster, Vm, &[VcpuEvents], "after the vCPUs, as Pit", API),
    adapter(PicSlave, Vm, &[PicMaster], "after the first, which it hangs on", API),
    adapter(Ioapic, Vm, &[VcpuEvents], "after the vCPUs, as Pit", API),
    vmm(Devices, Vm, &[VcpuEvents], "devices rest once no vCPU can reach them", CLOUD),
];

#[rustfmt::skip]
pub(super) const RESTORE: &[Step] = &[
    vmm(CreateVm, Vm, &[], "all else hangs on it", API),
    vmm(CreateIrqchip, Vm, &[CreateVm],
        "a vCPU gets its LAPIC when it is made; refused once there is a vCPU", API),
    vmm(CreatePit, Vm, &[CreateIrqchip], "its interrupt goes to the irqchip", API),
    vmm(CreateVcpus, EachVcpu, &[CreateIrqchip],
        "a vCPU made before the irqchip has no local APIC", API),
    vmm(WallClock, Vm, &[CreateVcpus],
        "setting it makes KVM write 12 bytes of guest memory: before there is any, or never", X86),
    vmm(MapMemory, Vm, &[CreateVm, WallClock],
        "registers point into it; some are checked against it", API),
    adapter(TscKhz, EachVcpu, &[CreateVcpus],
        "the offset of the TSC is computed at this rate", API),
    adapter(Cpuid, EachVcpu, &[CreateVcpus],
        "decides which control bits, extended state and MSRs the guest may have", X86),
    adapter(FeatureMsrs, EachVcpu, &[Cpuid],
        "feature control decides on VMX state; PERF_CAPABILITIES resets the counters", QEMU),
    adapter(MpState, EachVcpu, &[CreateVcpus],
        "a vCPU that waits for its start signal must be known as such first", FIRECRACKER),
    adapter(Regs, EachVcpu, &[CreateVcpus], "clears pending exceptions", X86),
    adapter(Sregs, EachVcpu, &[Cpuid, CreateIrqchip],
        "control bits are checked against CPUID; sets the APIC base", X86),
    adapter(NestedState, EachVcpu, &[Sregs, FeatureMsrs, MapMemory],
        "needs EFER.SVME or CR4.VMXE, and maps pages of the guest", QEMU),
    adapter(Xsave, EachVcpu, &[Cpuid], "its size and bits follow CPUID", X86),
    adapter(Xcrs, EachVcpu, &[Cpuid, Xsave],
        "its bits follow CPUID; the majority of VMMs sets it after Xsave", QEMU),
    adapter(DebugRegs, EachVcpu, &[CreateVcpus], "no order of its own", FIRECRACKER),
    adapter(Lapic, EachVcpu, &[Sregs],
        "a new APIC base by Sregs switches or resets the LAPIC", LAPIC),
    vmm(SynicEnable, EachVcpu, &[Lapic],
        "only for guests that use it: its MSRs are refused before it is on", CLOUD),
    adapter(Msrs, EachVcpu, &[Cpuid, FeatureMsrs, Lapic, MapMemory],
        "CPUID allows them; those of paravirtual clocks point into memory", X86),
    adapter(ListedRegs, EachVcpu, &[Cpuid, Sregs, Msrs],
        "the shadow-stack pointer is refused unless CPUID has shadow stacks", API),
    adapter(Tsc, AllVcpusTogether, &[TscKhz, Cpuid, Msrs],
        "one reference for all: writes close together are taken as an attempt to synchronise", TSC),
    adapter(TscDeadline, EachVcpu, &[Lapic, Tsc],
        "arms only if the LAPIC's timer is in deadline mode, and against the TSC then in force",
        LAPIC),
    adapter(VcpuEvents, EachVcpu, &[Regs, Sregs, NestedState, Lapic, TscDeadline],
        "Regs clears exceptions, Sregs queues interrupts: both would undo it", X86),
    adapter(Pit, Vm, &[CreatePit, VcpuEvents],
        "starting it may raise its line, which the interrupt controllers then overwrite", API),
    adapter(Clock, Vm, &[Tsc], "computed from the TSC in force; wrong order stalls guests", CLOUD),
    adapter(PicMaster, Vm, &[Pit], "overwrites what starting the PIT raised", API),
    adapter(PicSlave, Vm, &[PicMaster], "hangs on the first", API),
    adapter(Ioapic, Vm, &[Lapic, VcpuEvents, Pit, PicSlave],
        "delivers what is pending to the LAPICs, so they must stand", API),
    adapter(CheckMsrs, EachVcpu, &[FeatureMsrs, Msrs, TscDeadline, VcpuEvents],
        "one write may reset what another has set, and no call fails", X86),
    vmm(Devices, Vm, &[Ioapic], "their interrupts need the controllers", FIRECRACKER),
    vmm(NotifyGeneration, Vm, &[Devices, Ioapic],
        "its interrupt would be overwritten by the controllers' state", FIRECRACKER),
    adapter(KvmclockCtrl, EachVcpu, &[Msrs, Clock],
        "needs the guest's clock page; refused, and that tolerated, where it has none", API),
    vmm(Run, EachVcpu, &[VcpuEvents, Ioapic, NotifyGeneration, KvmclockCtrl, CheckMsrs],
        "all is in place", API),
];
