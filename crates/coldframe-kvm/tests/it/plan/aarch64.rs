//! KVM on aarch64.

use coldframe_hv::Op::{Vcpu, Vm, Vmm};
use coldframe_hv::VmmOp::*;
use coldframe_kvm::plan::aarch64::{
    RESTORE, RestoreOp, RestoreVcpu::*, RestoreVm::*, SAVE, SaveOp,
};
use coldframe_testkit::hv::{PlanLaws, Rule, closed, refused, undone};

/// Linux arch/arm64/kvm.
#[rustfmt::skip]
const RULES: &[Rule<RestoreOp>] = &[
    refused("vm_before_memory", Vmm(CreateVm), Vmm(MapMemory)),
    refused("vm_before_vcpus", Vmm(CreateVm), Vmm(CreateVcpus)),
    refused("vcpu_before_init", Vmm(CreateVcpus), Vcpu(VcpuInit)),
    // set_sve_vls: EPERM once finalised.
    refused("init_before_sve_lengths", Vcpu(VcpuInit), Vcpu(SveLengths)),
    closed("sve_lengths_not_after_finalize", Vcpu(SveLengths), Vcpu(VcpuFinalize)),
    refused("sve_lengths_before_finalize", Vcpu(SveLengths), Vcpu(VcpuFinalize)),
    // kvm_arm_vcpu_is_finalized: EPERM for SVE registers, ENOEXEC for others before init.
    refused("finalize_before_core", Vcpu(VcpuFinalize), Vcpu(CoreRegs)),
    refused("finalize_before_system", Vcpu(VcpuFinalize), Vcpu(SystemRegs)),
    // KVM_ARM_VCPU_INIT resets registers and power state.
    undone("init_resets_core", Vcpu(VcpuInit), Vcpu(CoreRegs)),
    undone("init_resets_system", Vcpu(VcpuInit), Vcpu(SystemRegs)),
    undone("init_resets_power", Vcpu(VcpuInit), Vcpu(MpState)),
    refused("init_before_pvtime", Vcpu(VcpuInit), Vcpu(PvTime)),
    // KVM_ARM_SET_COUNTER_OFFSET moves the counter under a compare value.
    undone("offset_before_timer", Vm(CounterOffset), Vcpu(TimerRegs)),
    // vgic_init looks at the vCPUs that are there.
    refused("vcpus_before_gic", Vmm(CreateVcpus), Vmm(CreateGic)),
    // kvm_arch_vcpu_precreate: EBUSY once the controller is initialised.
    closed("no_vcpus_after_gic", Vmm(CreateVcpus), Vmm(CreateGic)),
    // vgic_v3_attr_regs_access, vgic_its_set_attr: EBUSY while a vCPU runs.
    closed("distributor_before_run", Vm(GicDistributor), Vmm(Run)),
    closed("redistributors_before_run", Vcpu(GicRedistributors), Vmm(Run)),
    closed("interface_before_run", Vcpu(GicCpuInterface), Vmm(Run)),
    closed("its_tables_before_run", Vm(ItsTables), Vmm(Run)),
    refused("power_before_run", Vcpu(MpState), Vmm(Run)),
    refused("init_before_gic", Vcpu(VcpuInit), Vmm(CreateGic)),
    refused("gic_before_distributor", Vmm(CreateGic), Vm(GicDistributor)),
    // The distributor's IIDR chooses the behaviour of the redistributors' registers.
    refused("distributor_before_redistributors", Vm(GicDistributor), Vcpu(GicRedistributors)),
    refused("memory_before_pending_tables", Vmm(MapMemory), Vcpu(GicRedistributors)),
    // vgic_get_mmio_reg_attr finds a redistributor by the affinity among the system registers.
    refused("affinity_before_redistributors", Vcpu(SystemRegs), Vcpu(GicRedistributors)),
    refused("redistributors_before_interface", Vcpu(GicRedistributors), Vcpu(GicCpuInterface)),
    // vgic_its_restore_tables_v0 reads BASER and CBASER, then guest memory.
    refused("bases_before_its_tables", Vm(ItsRegs), Vm(ItsTables)),
    refused("memory_before_its_tables", Vmm(MapMemory), Vm(ItsTables)),
    // Documented restore sequence: GITS_CTLR comes last.
    refused("its_tables_before_control", Vm(ItsTables), Vm(ItsControl)),
    undone("its_control_before_devices", Vm(ItsControl), Vmm(Devices)),
    refused("generation_before_run", Vmm(NotifyGeneration), Vmm(Run)),
    refused("timer_before_run", Vcpu(TimerRegs), Vmm(Run)),
];

const LAWS: PlanLaws<SaveOp, RestoreOp> = PlanLaws {
    save: SAVE,
    restore: RESTORE,
    rules: RULES,
    save_only: &["CompletePendingIo", "CopyMemory", "GicPendingTables"],
};

#[test]
fn needs_come_first() {
    LAWS.needs_come_first();
}

#[test]
fn the_restore_is_taken_by_the_hypervisor() {
    LAWS.restore_is_taken();
}

#[test]
fn swapping_any_two_steps_that_a_rule_orders_is_caught() {
    LAWS.every_rule_is_felt();
}

#[test]
fn an_order_that_the_hypervisor_refuses_is_refused_by_the_check() {
    LAWS.needs_are_as_strict_as_the_rules();
}

#[test]
fn what_a_save_reads_a_restore_writes() {
    LAWS.what_is_read_is_written();
}

#[test]
fn every_step_says_why_and_whence() {
    LAWS.every_step_says_why_and_whence();
}

#[test]
fn the_documentation_has_the_plan() {
    let tables = [
        include_str!("../../../src/plan/aarch64-save.md"),
        include_str!("../../../src/plan/aarch64-restore.md"),
    ];
    LAWS.documentation_has_both_tables("src/plan/aarch64", tables);
}
