//! The ordering rules of real hypervisors, one row each.

use coldframe_hv::Op::{self, *};
use coldframe_hv::Target;

/// How a rule shows itself when it is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breach {
    /// `then` is refused until `first` was done.
    Refused,
    /// Doing `first` after `then` silently undoes `then`.
    Undone,
    /// `first` is refused for ever once `then` was done.
    Closed,
}

/// `first` must come before `then`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name.
    pub name: &'static str,
    /// What comes first.
    pub first: Op,
    /// What comes then.
    pub then: Op,
    /// What happens otherwise.
    pub breach: Breach,
}

const fn refused(name: &'static str, first: Op, then: Op) -> Rule {
    Rule {
        name,
        first,
        then,
        breach: Breach::Refused,
    }
}

const fn undone(name: &'static str, first: Op, then: Op) -> Rule {
    Rule {
        name,
        first,
        then,
        breach: Breach::Undone,
    }
}

const fn closed(name: &'static str, first: Op, then: Op) -> Rule {
    Rule {
        name,
        first,
        then,
        breach: Breach::Closed,
    }
}

/// The rules that a restore on `target` must keep.
#[must_use]
pub fn rules_of(target: Target) -> &'static [Rule] {
    match target {
        Target::KvmX86_64 => KVM_X86_64,
        Target::KvmAarch64 => KVM_AARCH64,
        Target::Hvf => HVF,
        _ => &[],
    }
}

/// Linux arch/x86/kvm: the function that makes each rule stands beside it.
#[rustfmt::skip]
const KVM_X86_64: &[Rule] = &[
    refused("vm_before_irqchip", CreateVm, CreateIrqchip),
    refused("vm_before_memory", CreateVm, MapMemory),
    // kvm_vm_ioctl_create_irqchip: EINVAL once there is a vCPU.
    refused("irqchip_before_vcpus", CreateIrqchip, CreateVcpus),
    // KVM_CREATE_PIT2: ENOENT without irqchip.
    refused("irqchip_before_pit", CreateIrqchip, CreatePit),
    refused("vcpu_exists_for_tsc_rate", CreateVcpus, TscKhz),
    refused("vcpu_exists_for_cpuid", CreateVcpus, Cpuid),
    refused("vcpu_exists_for_mp_state", CreateVcpus, MpState),
    refused("vcpu_exists_for_regs", CreateVcpus, Regs),
    refused("vcpu_exists_for_debug_regs", CreateVcpus, DebugRegs),
    // kvm_is_valid_sregs, kvm_is_valid_cr4: reserved bits follow the guest's CPUID.
    refused("cpuid_before_sregs", Cpuid, Sregs),
    // kvm_vcpu_after_set_cpuid sets guest_supported_xcr0, which bounds XSAVE and XCR0.
    refused("cpuid_before_xsave", Cpuid, Xsave),
    refused("cpuid_before_xcrs", Cpuid, Xcrs),
    // kvm_set_msr_common: guest_cpuid_has decides which MSRs are taken.
    refused("cpuid_before_msrs", Cpuid, Msrs),
    refused("cpuid_before_feature_msrs", Cpuid, FeatureMsrs),
    // vmx_set_nested_state: nested_vmx_allowed; svm_set_nested_state: EFER.SVME.
    refused("feature_control_before_nested", FeatureMsrs, NestedState),
    refused("sregs_before_nested", Sregs, NestedState),
    refused("memory_before_nested", MapMemory, NestedState),
    // kvm_pv clock MSRs initialise a cache of the guest's page.
    refused("memory_before_clock_msrs", MapMemory, Msrs),
    // kvm_write_wall_clock: 12 bytes of guest memory, if there is any.
    refused("vcpu_exists_for_wall_clock", CreateVcpus, WallClock),
    undone("wall_clock_rewrites_memory", WallClock, MapMemory),
    // kvm_pmu_refresh, by a new IA32_PERF_CAPABILITIES: counters and selectors are reset.
    undone("perf_capabilities_reset_counters", FeatureMsrs, Msrs),
    // kvm_set_one_reg: EINVAL unless the guest's CPUID has shadow stacks.
    refused("cpuid_before_listed_regs", Cpuid, ListedRegs),
    // kvm_apic_set_base: enabling or switching resets what SET_LAPIC put there.
    undone("sregs_before_lapic", Sregs, Lapic),
    // kvm_vcpu_ioctl_x86_set_regs clears exception.pending and queued.
    undone("regs_clear_exceptions", Regs, VcpuEvents),
    // __set_sregs queues interrupt_bitmap, over what SET_VCPU_EVENTS said.
    undone("sregs_queue_interrupts", Sregs, VcpuEvents),
    // vmx_leave_nested / svm_leave_nested drop pending events.
    undone("nested_drops_events", NestedState, VcpuEvents),
    // kvm_set_lapic_tscdeadline_msr returns early unless the timer is in deadline mode.
    refused("lapic_before_deadline", Lapic, TscDeadline),
    // kvm_apic_set_state cancels the timer.
    undone("lapic_cancels_deadline", Lapic, TscDeadline),
    // start_sw_tscdeadline computes from the TSC in force.
    undone("tsc_before_deadline", Tsc, TscDeadline),
    // kvm_set_tsc_khz changes the ratio that the offset was computed with.
    undone("rate_before_tsc", TscKhz, Tsc),
    // IA32_TSC_ADJUST among the MSRs shifts the counter.
    undone("tsc_adjust_before_tsc", Msrs, Tsc),
    // kvm_vm_ioctl_set_clock starts from the masterclock, which a TSC write replaces.
    undone("tsc_before_clock", Tsc, Clock),
    refused("pit_exists", CreatePit, Pit),
    // kvm_vm_ioctl_set_pit2 restarts the channel, which may raise line 0 anew.
    undone("pit_raises_pic", Pit, PicMaster),
    undone("pit_raises_ioapic", Pit, Ioapic),
    // The slave hangs on the master's line 2, and both reach pin 0 of the I/O APIC.
    undone("pic_master_before_slave", PicMaster, PicSlave),
    undone("pic_before_ioapic", PicSlave, Ioapic),
    // kvm_set_ioapic injects pending lines into the LAPICs; a later SET_LAPIC loses them.
    undone("lapic_before_ioapic", Lapic, Ioapic),
    // Device interrupts go through the controllers, whose state a later SET overwrites.
    undone("ioapic_before_devices", Ioapic, Devices),
    undone("ioapic_before_generation", Ioapic, NotifyGeneration),
    // kvm_set_guest_paused: EINVAL unless the guest's clock page is active.
    refused("clock_page_before_ctrl", Msrs, KvmclockCtrl),
    // Other vCPUs that already run could deliver to one whose events are still to be set.
    refused("events_before_run", VcpuEvents, Run),
    refused("generation_before_run", NotifyGeneration, Run),
];

/// Linux arch/arm64/kvm.
#[rustfmt::skip]
const KVM_AARCH64: &[Rule] = &[
    refused("vm_before_memory", CreateVm, MapMemory),
    refused("vm_before_vcpus", CreateVm, CreateVcpus),
    refused("vcpu_before_init", CreateVcpus, VcpuInit),
    // set_sve_vls: EPERM once finalised.
    refused("init_before_sve_lengths", VcpuInit, SveLengths),
    closed("sve_lengths_not_after_finalize", SveLengths, VcpuFinalize),
    refused("sve_lengths_before_finalize", SveLengths, VcpuFinalize),
    // kvm_arm_vcpu_is_finalized: EPERM for SVE registers, ENOEXEC for others before init.
    refused("finalize_before_core", VcpuFinalize, CoreRegs),
    refused("finalize_before_system", VcpuFinalize, SystemRegs),
    // KVM_ARM_VCPU_INIT resets registers and power state.
    undone("init_resets_core", VcpuInit, CoreRegs),
    undone("init_resets_system", VcpuInit, SystemRegs),
    undone("init_resets_power", VcpuInit, MpState),
    refused("init_before_pvtime", VcpuInit, PvTime),
    // KVM_ARM_SET_COUNTER_OFFSET moves the counter under a compare value.
    undone("offset_before_timer", CounterOffset, TimerRegs),
    // vgic_init looks at the vCPUs that are there.
    refused("vcpus_before_gic", CreateVcpus, CreateGic),
    // kvm_arch_vcpu_precreate: EBUSY once the controller is initialised.
    closed("no_vcpus_after_gic", CreateVcpus, CreateGic),
    // vgic_v3_attr_regs_access, vgic_its_set_attr: EBUSY while a vCPU runs.
    closed("distributor_before_run", GicDistributor, Run),
    closed("redistributors_before_run", GicRedistributors, Run),
    closed("interface_before_run", GicCpuInterface, Run),
    closed("its_tables_before_run", ItsTables, Run),
    refused("power_before_run", MpState, Run),
    refused("init_before_gic", VcpuInit, CreateGic),
    refused("gic_before_distributor", CreateGic, GicDistributor),
    // The distributor's IIDR chooses the behaviour of the redistributors' registers.
    refused("distributor_before_redistributors", GicDistributor, GicRedistributors),
    refused("memory_before_pending_tables", MapMemory, GicRedistributors),
    // vgic_get_mmio_reg_attr finds a redistributor by the affinity among the system registers.
    refused("affinity_before_redistributors", SystemRegs, GicRedistributors),
    refused("redistributors_before_interface", GicRedistributors, GicCpuInterface),
    // vgic_its_restore_tables_v0 reads BASER and CBASER, then guest memory.
    refused("bases_before_its_tables", ItsRegs, ItsTables),
    refused("memory_before_its_tables", MapMemory, ItsTables),
    // Documented restore sequence: GITS_CTLR comes last.
    refused("its_tables_before_control", ItsTables, ItsControl),
    undone("its_control_before_devices", ItsControl, Devices),
    refused("generation_before_run", NotifyGeneration, Run),
    refused("timer_before_run", TimerRegs, Run),
];

/// Hypervisor.framework, as found in the field.
#[rustfmt::skip]
const HVF: &[Rule] = &[
    refused("vm_before_gic", CreateVm, CreateGic),
    refused("vm_before_memory", CreateVm, MapMemory),
    // hv_gic_create: must be called before vCPUs are created.
    closed("gic_before_vcpus", CreateGic, CreateVcpus),
    refused("gic_before_blob", CreateGic, GicBlob),
    // hv_gic_set_state: only before any vCPU has run.
    closed("blob_before_run", GicBlob, Run),
    // hv_gic_set_icc_reg: the interface is found by affinity.
    refused("affinity_before_interface", Mpidr, GicCpuInterface),
    refused("vcpus_before_power", CreateVcpus, MpState),
    refused("power_before_run", MpState, Run),
    refused("vcpus_before_affinity", CreateVcpus, Mpidr),
    refused("affinity_before_system_regs", Mpidr, SystemRegs),
    refused("vcpus_before_core", CreateVcpus, CoreRegs),
    // hv_gic_set_state: the redistributors are found by affinity.
    refused("affinity_before_blob", Mpidr, GicBlob),
    // Setting the blob resets the CPU interfaces.
    undone("blob_resets_interface", GicBlob, GicCpuInterface),
    // A new offset moves the counter under a compare value.
    undone("offset_before_compare", VtimerOffset, TimerRegs),
    undone("compare_before_mask", TimerRegs, VtimerMask),
    undone("interface_before_lines", GicCpuInterface, PendingLines),
    undone("system_regs_before_offset", SystemRegs, VtimerOffset),
    undone("blob_before_devices", GicBlob, Devices),
    refused("memory_before_run", MapMemory, Run),
    refused("generation_before_run", NotifyGeneration, Run),
    refused("mask_before_run", VtimerMask, Run),
];
