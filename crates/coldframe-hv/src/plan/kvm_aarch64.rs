//! KVM on aarch64 with a GICv3 and, where present, an ITS.

use super::Op::*;
use super::Scope::{EachVcpu, Vm};
use super::{Step, adapter, vmm};

const API: &str = "Linux Documentation/virt/kvm/api.rst, KVM_ARM_VCPU_INIT, KVM_ARM_VCPU_FINALIZE";
const VGIC: &str = "Linux Documentation/virt/kvm/devices/arm-vgic-v3.rst";
const ITS: &str = "Linux Documentation/virt/kvm/devices/arm-vgic-its.rst, ITS restore sequence";
const VCPU: &str = "Linux Documentation/virt/kvm/devices/vcpu.rst, KVM_ARM_VCPU_PVTIME_CTRL";
const OFFSET: &str = "Linux Documentation/virt/kvm/api.rst, KVM_ARM_SET_COUNTER_OFFSET";
const FIRECRACKER: &str = "Firecracker src/vmm/src/arch/aarch64/vcpu.rs";

#[rustfmt::skip]
pub(super) const SAVE: &[Step] = &[
    vmm(CompletePendingIo, EachVcpu, &[],
        "the answer to an I/O exit is in no register until the vCPU has entered once more", API),
    adapter(MpState, EachVcpu, &[CompletePendingIo], "no order of its own", FIRECRACKER),
    adapter(VcpuInit, EachVcpu, &[CompletePendingIo], "features decide the register list", API),
    adapter(SveLengths, EachVcpu, &[VcpuInit], "length of the vector registers", API),
    adapter(CoreRegs, EachVcpu, &[SveLengths], "vector registers are as long as that", API),
    adapter(SystemRegs, EachVcpu, &[CompletePendingIo], "no order of its own", FIRECRACKER),
    adapter(TimerRegs, EachVcpu, &[SystemRegs],
        "late, so that the pause costs little time", OFFSET),
    adapter(VcpuEvents, EachVcpu, &[CompletePendingIo], "a pending SError is no register", API),
    adapter(PvTime, EachVcpu, &[CompletePendingIo], "no order of its own", VCPU),
    adapter(GicPendingTables, Vm, &[CompletePendingIo],
        "the kernel writes pending bits into guest memory", VGIC),
    adapter(ItsTables, Vm, &[CompletePendingIo],
        "the kernel writes the tables into guest memory", ITS),
    adapter(GicDistributor, Vm, &[GicPendingTables], "no vCPU can change it any more", VGIC),
    adapter(GicRedistributors, EachVcpu, &[GicPendingTables], "as the distributor", VGIC),
    adapter(GicCpuInterface, EachVcpu, &[CompletePendingIo], "no order of its own", VGIC),
    adapter(ItsRegs, Vm, &[ItsTables], "after the tables that they describe", ITS),
    adapter(ItsControl, Vm, &[ItsTables], "after the tables that they describe", ITS),
    vmm(Devices, Vm, &[CompletePendingIo], "devices rest once no vCPU can reach them", FIRECRACKER),
    vmm(CopyMemory, Vm, &[GicPendingTables, ItsTables],
        "both tables were just written into guest memory", ITS),
];

#[rustfmt::skip]
pub(super) const RESTORE: &[Step] = &[
    vmm(CreateVm, Vm, &[], "all else hangs on it", API),
    vmm(MapMemory, Vm, &[CreateVm], "the interrupt controller's tables are read from it", ITS),
    vmm(CreateVcpus, EachVcpu, &[CreateVm], "in rising number, which is their affinity", API),
    adapter(VcpuInit, EachVcpu, &[CreateVcpus], "nothing else works before it", API),
    adapter(SveLengths, EachVcpu, &[VcpuInit], "cannot change once finalised", API),
    adapter(VcpuFinalize, EachVcpu, &[VcpuInit, SveLengths],
        "vector registers do not exist before it", API),
    adapter(CounterOffset, Vm, &[CreateVcpus],
        "one offset for the machine; writes of counter registers then no longer count", OFFSET),
    adapter(CoreRegs, EachVcpu, &[VcpuFinalize], "vector registers among them", API),
    adapter(SystemRegs, EachVcpu, &[VcpuFinalize], "their set follows the features", API),
    adapter(TimerRegs, EachVcpu, &[CounterOffset, SystemRegs],
        "the compare value fires against the counter then in force", OFFSET),
    adapter(MpState, EachVcpu, &[VcpuInit, CoreRegs],
        "initialising sets it; a vCPU that is off must stay off", FIRECRACKER),
    adapter(VcpuEvents, EachVcpu, &[SystemRegs],
        "pends through a control register, which SystemRegs writes", API),
    adapter(PvTime, EachVcpu, &[VcpuInit, MapMemory], "points into guest memory", VCPU),
    vmm(CreateGic, Vm, &[CreateVcpus, VcpuInit], "finds its vCPUs when initialised", VGIC),
    adapter(GicDistributor, Vm, &[CreateGic], "sets the model before anything else", VGIC),
    adapter(GicRedistributors, EachVcpu, &[GicDistributor, SystemRegs, MapMemory],
        "found by the affinity register; the pending table is in memory", VGIC),
    adapter(GicCpuInterface, EachVcpu, &[CreateGic, GicRedistributors],
        "its priorities belong to the redistributor", VGIC),
    adapter(ItsRegs, Vm, &[GicRedistributors], "base addresses, before the tables are read", ITS),
    adapter(ItsTables, Vm, &[ItsRegs, MapMemory], "read from guest memory at those bases", ITS),
    adapter(ItsControl, Vm, &[ItsTables], "last: switches it on", ITS),
    vmm(Devices, Vm, &[GicCpuInterface, ItsControl], "their interrupts need the controller",
        FIRECRACKER),
    vmm(NotifyGeneration, Vm, &[Devices], "its interrupt needs the controller", FIRECRACKER),
    vmm(Run, EachVcpu, &[TimerRegs, MpState, VcpuEvents, PvTime, ItsControl, NotifyGeneration],
        "all is in place", API),
];
