//! Hypervisor.framework on Apple silicon with its in-kernel GIC (macOS 15 and later).

use super::Op::*;
use super::Scope::{AllVcpusTogether, EachVcpu, Vm};
use super::{Step, adapter, vmm};

const GIC: &str = "Apple Hypervisor framework, hv_gic_create, hv_gic_set_state";
const VCPU: &str = "Apple Hypervisor framework, hv_vcpu_create, hv_vcpu_set_sys_reg";
const VTIMER: &str = "Apple Hypervisor framework, hv_vcpu_set_vtimer_offset";
const FIELD: &str = "order found by the limina, amber and SporeVM projects";

#[rustfmt::skip]
pub(super) const SAVE: &[Step] = &[
    vmm(CompletePendingIo, EachVcpu, &[],
        "finish the pending MMIO access and advance the program counter", FIELD),
    adapter(CoreRegs, EachVcpu, &[CompletePendingIo], "on the vCPU's own thread", VCPU),
    adapter(SystemRegs, EachVcpu, &[CompletePendingIo], "on the vCPU's own thread", VCPU),
    adapter(GicCpuInterface, EachVcpu, &[CompletePendingIo],
        "not part of the opaque blob; no interrupt may be in service", GIC),
    adapter(TimerRegs, EachVcpu, &[CompletePendingIo], "compare value and control", VTIMER),
    adapter(VtimerOffset, AllVcpusTogether, &[TimerRegs],
        "one machine counter for all vCPUs", FIELD),
    adapter(VtimerMask, EachVcpu, &[VtimerOffset], "set by the last timer exit", VTIMER),
    adapter(MpState, EachVcpu, &[CompletePendingIo],
        "the framework has no PSCI: the VMM says it when the vCPU parks", FIELD),
    adapter(PendingLines, EachVcpu, &[CompletePendingIo], "no order of its own", VCPU),
    adapter(GicBlob, Vm, &[GicCpuInterface, PendingLines],
        "after the vCPUs, when no interrupt moves any more", GIC),
    vmm(Devices, Vm, &[CompletePendingIo], "devices rest once no vCPU can reach them", FIELD),
];

#[rustfmt::skip]
pub(super) const RESTORE: &[Step] = &[
    vmm(CreateVm, Vm, &[], "all else hangs on it", GIC),
    vmm(CreateGic, Vm, &[CreateVm], "refused once there is a vCPU; same layout as saved", GIC),
    vmm(MapMemory, Vm, &[CreateVm], "before any vCPU runs", GIC),
    vmm(CreateVcpus, EachVcpu, &[CreateGic], "on the thread that will run it", VCPU),
    adapter(Mpidr, EachVcpu, &[CreateVcpus],
        "the redistributor of a vCPU is found by its affinity", GIC),
    adapter(GicBlob, Vm, &[CreateGic, Mpidr],
        "taken only when the vCPUs are there and none has run", GIC),
    adapter(GicCpuInterface, EachVcpu, &[GicBlob, Mpidr],
        "not in the blob, and setting the blob resets it", FIELD),
    adapter(SystemRegs, EachVcpu, &[Mpidr], "affinity is among them and must stand first", FIELD),
    adapter(CoreRegs, EachVcpu, &[CreateVcpus], "no order of its own", VCPU),
    adapter(MpState, EachVcpu, &[CreateVcpus],
        "handed to the vCPU's thread: what was off stays off, a secondary that ran runs on", FIELD),
    adapter(VtimerOffset, AllVcpusTogether, &[SystemRegs],
        "one offset for all: each its own gave stalls; never step the counter back", FIELD),
    adapter(TimerRegs, EachVcpu, &[VtimerOffset],
        "the compare value fires against the counter then in force", FIELD),
    adapter(VtimerMask, EachVcpu, &[TimerRegs], "or the timer fires at once", VTIMER),
    adapter(PendingLines, EachVcpu, &[GicCpuInterface],
        "the lines are inputs of the interface", VCPU),
    vmm(Devices, Vm, &[GicBlob], "their interrupts need the controller", FIELD),
    vmm(NotifyGeneration, Vm, &[Devices], "its interrupt needs the controller", FIELD),
    vmm(Run, EachVcpu, &[CoreRegs, VtimerMask, PendingLines, MpState, NotifyGeneration,
        MapMemory], "all is in place", VCPU),
];
