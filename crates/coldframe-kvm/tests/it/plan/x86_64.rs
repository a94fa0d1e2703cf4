//! KVM on x86_64.

use coldframe_hv::Op::{AllVcpus, Vcpu, Vm, Vmm};
use coldframe_hv::VmmOp::*;
use coldframe_hv::x86_64::msr::{MsrStep, restored_in};
use coldframe_kvm::plan::x86_64::{
    Chip::*, Counters::Tsc, RESTORE, RestoreOp, RestoreVcpu::*, SAVE, SaveOp,
};
use coldframe_testkit::hv::{FakeHypervisor, PlanLaws, Rule, refused, undone};

/// Linux arch/x86/kvm: the function that makes each rule stands beside it.
#[rustfmt::skip]
const RULES: &[Rule<RestoreOp>] = &[
    refused("vm_before_irqchip", Vmm(CreateVm), Vmm(CreateIrqchip)),
    refused("vm_before_memory", Vmm(CreateVm), Vmm(MapMemory)),
    // kvm_vm_ioctl_create_irqchip: EINVAL once there is a vCPU.
    refused("irqchip_before_vcpus", Vmm(CreateIrqchip), Vmm(CreateVcpus)),
    // KVM_CREATE_PIT2: ENOENT without irqchip.
    refused("irqchip_before_pit", Vmm(CreateIrqchip), Vmm(CreatePit)),
    refused("vcpu_exists_for_tsc_rate", Vmm(CreateVcpus), Vcpu(TscKhz)),
    refused("vcpu_exists_for_cpuid", Vmm(CreateVcpus), Vcpu(Cpuid)),
    refused("vcpu_exists_for_mp_state", Vmm(CreateVcpus), Vcpu(MpState)),
    refused("vcpu_exists_for_regs", Vmm(CreateVcpus), Vcpu(Regs)),
    refused("vcpu_exists_for_debug_regs", Vmm(CreateVcpus), Vcpu(DebugRegs)),
    // kvm_is_valid_sregs, kvm_is_valid_cr4: reserved bits follow the guest's CPUID.
    refused("cpuid_before_sregs", Vcpu(Cpuid), Vcpu(Sregs)),
    // kvm_vcpu_after_set_cpuid sets guest_supported_xcr0, which bounds XSAVE and XCR0.
    refused("cpuid_before_xsave", Vcpu(Cpuid), Vcpu(Xsave)),
    refused("cpuid_before_xcrs", Vcpu(Cpuid), Vcpu(Xcrs)),
    // kvm_set_msr_common: guest_cpuid_has decides which MSRs are taken.
    refused("cpuid_before_msrs", Vcpu(Cpuid), Vcpu(Msrs)),
    refused("cpuid_before_feature_msrs", Vcpu(Cpuid), Vcpu(FeatureMsrs)),
    // vmx_set_nested_state: nested_vmx_allowed; svm_set_nested_state: EFER.SVME.
    refused("feature_control_before_nested", Vcpu(FeatureMsrs), Vcpu(NestedState)),
    refused("sregs_before_nested", Vcpu(Sregs), Vcpu(NestedState)),
    refused("memory_before_nested", Vmm(MapMemory), Vcpu(NestedState)),
    // kvm_pv clock MSRs initialise a cache of the guest's page.
    refused("memory_before_clock_msrs", Vmm(MapMemory), Vcpu(Msrs)),
    // kvm_write_wall_clock: 12 bytes of guest memory, if there is any.
    refused("vcpu_exists_for_wall_clock", Vmm(CreateVcpus), Vmm(WallClock)),
    undone("wall_clock_rewrites_memory", Vmm(WallClock), Vmm(MapMemory)),
    // kvm_pmu_refresh, by a new IA32_PERF_CAPABILITIES: counters and selectors are reset.
    undone("perf_capabilities_reset_counters", Vcpu(FeatureMsrs), Vcpu(Msrs)),
    // kvm_set_one_reg: EINVAL unless the guest's CPUID has shadow stacks.
    refused("cpuid_before_listed_regs", Vcpu(Cpuid), Vcpu(ListedRegs)),
    // kvm_apic_set_base: enabling or switching resets what SET_LAPIC put there.
    undone("sregs_before_lapic", Vcpu(Sregs), Vcpu(Lapic)),
    // kvm_vcpu_ioctl_x86_set_regs clears exception.pending and queued.
    undone("regs_clear_exceptions", Vcpu(Regs), Vcpu(VcpuEvents)),
    // __set_sregs queues interrupt_bitmap, over what SET_VCPU_EVENTS said.
    undone("sregs_queue_interrupts", Vcpu(Sregs), Vcpu(VcpuEvents)),
    // vmx_leave_nested / svm_leave_nested drop pending events.
    undone("nested_drops_events", Vcpu(NestedState), Vcpu(VcpuEvents)),
    // kvm_set_lapic_tscdeadline_msr returns early unless the timer is in deadline mode.
    refused("lapic_before_deadline", Vcpu(Lapic), Vcpu(TscDeadline)),
    // kvm_apic_set_state cancels the timer.
    undone("lapic_cancels_deadline", Vcpu(Lapic), Vcpu(TscDeadline)),
    // start_sw_tscdeadline computes from the TSC in force.
    undone("tsc_before_deadline", AllVcpus(Tsc), Vcpu(TscDeadline)),
    // kvm_set_tsc_khz changes the ratio that the offset was computed with.
    undone("rate_before_tsc", Vcpu(TscKhz), AllVcpus(Tsc)),
    // IA32_TSC_ADJUST among the MSRs shifts the counter.
    undone("tsc_adjust_before_tsc", Vcpu(Msrs), AllVcpus(Tsc)),
    // kvm_vm_ioctl_set_clock starts from the masterclock, which a TSC write replaces.
    undone("tsc_before_clock", AllVcpus(Tsc), Vm(Clock)),
    refused("pit_exists", Vmm(CreatePit), Vm(Pit)),
    // kvm_vm_ioctl_set_pit2 restarts the channel, which may raise line 0 anew.
    undone("pit_raises_pic", Vm(Pit), Vm(PicMaster)),
    undone("pit_raises_ioapic", Vm(Pit), Vm(Ioapic)),
    // The slave hangs on the master's line 2, and both reach pin 0 of the I/O APIC.
    undone("pic_master_before_slave", Vm(PicMaster), Vm(PicSlave)),
    undone("pic_before_ioapic", Vm(PicSlave), Vm(Ioapic)),
    // kvm_set_ioapic injects pending lines into the LAPICs; a later SET_LAPIC loses them.
    undone("lapic_before_ioapic", Vcpu(Lapic), Vm(Ioapic)),
    // Device interrupts go through the controllers, whose state a later SET overwrites.
    undone("ioapic_before_devices", Vm(Ioapic), Vmm(Devices)),
    undone("ioapic_before_generation", Vm(Ioapic), Vmm(NotifyGeneration)),
    // kvm_set_guest_paused: EINVAL unless the guest's clock page is active.
    refused("clock_page_before_ctrl", Vcpu(Msrs), Vcpu(KvmclockCtrl)),
    // Other vCPUs that already run could deliver to one whose events are still to be set.
    refused("events_before_run", Vcpu(VcpuEvents), Vmm(Run)),
    refused("generation_before_run", Vmm(NotifyGeneration), Vmm(Run)),
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

#[test]
fn swapping_any_two_steps_that_a_rule_orders_is_caught() {
    LAWS.every_rule_is_felt();
}

#[test]
fn an_order_that_the_hypervisor_refuses_is_refused_by_the_check() {
    LAWS.needs_are_as_strict_as_the_rules();
}

// Parity: D19
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
        include_str!("../../../src/plan/x86_64-save.md"),
        include_str!("../../../src/plan/x86_64-restore.md"),
    ];
    LAWS.documentation_has_both_tables("src/plan/x86_64", tables);
}

#[test]
fn counters_set_one_vcpu_at_a_time_are_caught() {
    let mut fake = FakeHypervisor::new(RULES, 2);
    let before = RESTORE
        .steps()
        .iter()
        .take_while(|step| step.op != AllVcpus(Tsc));
    before.for_each(|step| fake.take(step).unwrap());
    fake.apply(AllVcpus(Tsc), Some(0)).unwrap();
    let violation = fake.apply(Vcpu(TscDeadline), Some(0)).unwrap_err();
    assert_eq!(violation.rule, "counters_from_one_reference");
}

/// Each register is written in the step that the neutral rules name, and what makes KVM write
/// guest memory comes before there is any.
#[test]
fn registers_are_written_in_the_steps_that_the_rules_name() {
    let position = |op| RESTORE.steps().iter().position(|step| step.op == op);
    let step = |index| match restored_in(index, &[].into()) {
        MsrStep::WallClock => Vmm(WallClock),
        MsrStep::Features => Vcpu(FeatureMsrs),
        MsrStep::Msrs => Vcpu(Msrs),
        MsrStep::Tsc => AllVcpus(Tsc),
        MsrStep::TscDeadline => Vcpu(TscDeadline),
    };
    // A new IA32_PERF_CAPABILITIES resets the counters.
    assert!(position(step(0x345)) < position(step(0xc1)));
    assert!(position(step(0x10)) < position(step(0x6e0)));
    assert!(position(step(0x11)) < position(Vmm(MapMemory)));
}
