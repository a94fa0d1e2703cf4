//! The plans against a fake that knows the framework's rules but not the plans.

use coldframe_hv::Op::{AllVcpus, Vcpu, Vm, Vmm};
use coldframe_hv::VmmOp::*;
use coldframe_hvf::plan::{
    Controller::GicBlob, Counters::VtimerOffset, RESTORE, RestoreOp, RestoreVcpu::*, SAVE, SaveOp,
};
use coldframe_testkit::hv::{PlanLaws, Rule, closed, refused, undone};

/// As found in the field.
#[rustfmt::skip]
const RULES: &[Rule<RestoreOp>] = &[
    refused("vm_before_gic", Vmm(CreateVm), Vmm(CreateGic)),
    refused("vm_before_memory", Vmm(CreateVm), Vmm(MapMemory)),
    // hv_gic_create: must be called before vCPUs are created.
    closed("gic_before_vcpus", Vmm(CreateGic), Vmm(CreateVcpus)),
    refused("gic_before_blob", Vmm(CreateGic), Vm(GicBlob)),
    // hv_gic_set_state: only before any vCPU has run.
    closed("blob_before_run", Vm(GicBlob), Vmm(Run)),
    // hv_gic_set_icc_reg: the interface is found by affinity.
    refused("affinity_before_interface", Vcpu(Mpidr), Vcpu(GicCpuInterface)),
    refused("vcpus_before_power", Vmm(CreateVcpus), Vcpu(MpState)),
    refused("power_before_run", Vcpu(MpState), Vmm(Run)),
    refused("vcpus_before_affinity", Vmm(CreateVcpus), Vcpu(Mpidr)),
    refused("affinity_before_system_regs", Vcpu(Mpidr), Vcpu(SystemRegs)),
    refused("vcpus_before_core", Vmm(CreateVcpus), Vcpu(CoreRegs)),
    // hv_gic_set_state: the redistributors are found by affinity.
    refused("affinity_before_blob", Vcpu(Mpidr), Vm(GicBlob)),
    // Setting the blob resets the CPU interfaces.
    undone("blob_resets_interface", Vm(GicBlob), Vcpu(GicCpuInterface)),
    // A new offset moves the counter under a compare value.
    undone("offset_before_compare", AllVcpus(VtimerOffset), Vcpu(TimerRegs)),
    undone("compare_before_mask", Vcpu(TimerRegs), Vcpu(VtimerMask)),
    undone("interface_before_lines", Vcpu(GicCpuInterface), Vcpu(PendingLines)),
    undone("system_regs_before_offset", Vcpu(SystemRegs), AllVcpus(VtimerOffset)),
    undone("blob_before_devices", Vm(GicBlob), Vmm(Devices)),
    refused("memory_before_run", Vmm(MapMemory), Vmm(Run)),
    refused("generation_before_run", Vmm(NotifyGeneration), Vmm(Run)),
    refused("mask_before_run", Vcpu(VtimerMask), Vmm(Run)),
];

const LAWS: PlanLaws<SaveOp, RestoreOp> = PlanLaws {
    save: SAVE,
    restore: RESTORE,
    rules: RULES,
    save_only: &["CompletePendingIo"],
};

#[test]
fn needs_come_first() {
    LAWS.needs_come_first();
}

#[test]
fn the_restore_is_taken_by_the_hypervisor() {
    LAWS.restore_is_taken();
}

// Parity: A2
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
        include_str!("../../src/plan/hvf-save.md"),
        include_str!("../../src/plan/hvf-restore.md"),
    ];
    LAWS.documentation_has_both_tables("src/plan/hvf", tables);
}
