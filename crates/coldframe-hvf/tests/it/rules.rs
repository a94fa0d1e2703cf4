//! The rules of the model itself, each with the code that it answers.

use std::sync::Arc;

use coldframe_testkit::hvf::{
    Framework, HV_BAD_ARGUMENT, HV_BUSY, HV_DENIED, HV_ERROR, HV_NO_DEVICE, HV_UNSUPPORTED, Host,
    ModelRam, PAGE_BYTES,
};

const MPIDR: u16 = 0xc005;
const CNTP_TVAL: u16 = 0xdf10;
const ICC_PMR: u16 = 0xc230;
const ICC_RPR: u16 = 0xc65b;

fn machine() -> (Framework, u64) {
    let framework = Framework::new(Host::default());
    framework.vm_create().unwrap();
    framework.gic_create(1).unwrap();
    let vcpu = framework.vcpu_create().unwrap();
    (framework, vcpu)
}

#[test]
fn there_is_one_machine_and_all_else_hangs_on_it() {
    let framework = Framework::new(Host::default());
    let ram = ModelRam::new(PAGE_BYTES);
    framework.add_ram(&ram);
    assert_eq!(framework.gic_create(1), Err(HV_NO_DEVICE));
    assert_eq!(framework.vcpu_create(), Err(HV_NO_DEVICE));
    assert_eq!(
        framework.vm_map(ram.host(), 0, PAGE_BYTES, 7),
        Err(HV_NO_DEVICE)
    );
    assert_eq!(framework.gic_state(), Err(HV_NO_DEVICE));
    framework.vm_create().unwrap();
    assert_eq!(framework.vm_create(), Err(HV_BUSY));
}

#[test]
fn the_controller_comes_before_the_vcpus() {
    let framework = Framework::new(Host::default());
    framework.vm_create().unwrap();
    framework.vcpu_create().unwrap();
    assert_eq!(framework.gic_create(1), Err(HV_BUSY));
}

#[test]
fn affinity_comes_before_interface_and_blob() {
    let (framework, vcpu) = machine();
    let blob = framework.gic_state().unwrap();
    assert_eq!(framework.icc_reg(vcpu, ICC_PMR), Err(HV_BAD_ARGUMENT));
    assert_eq!(framework.gic_set_state(&blob), Err(HV_BAD_ARGUMENT));
    framework.set_sys_reg(vcpu, MPIDR, 0).unwrap();
    framework.gic_set_state(&blob).unwrap();
    framework.set_icc_reg(vcpu, ICC_PMR, 0xf0).unwrap();
    // Setting the blob resets the interface.
    framework.gic_set_state(&blob).unwrap();
    assert_eq!(framework.icc_reg(vcpu, ICC_PMR), Ok(0));
}

#[test]
fn no_blob_is_taken_after_a_run_nor_one_of_others() {
    let (framework, vcpu) = machine();
    framework.set_sys_reg(vcpu, MPIDR, 3).unwrap();
    framework.gic_enable(vcpu, 1).unwrap();
    let blob = framework.gic_state().unwrap();
    assert_eq!(framework.gic_set_state(&blob[1..]), Err(HV_BAD_ARGUMENT));
    assert_eq!(
        framework.gic_set_state(&blob[..blob.len() - 1]),
        Err(HV_BAD_ARGUMENT)
    );
    let other_build = Framework::new(Host {
        build: "25A001".to_string(),
        ..Host::default()
    });
    other_build.vm_create().unwrap();
    other_build.gic_create(1).unwrap();
    let there = other_build.vcpu_create().unwrap();
    other_build.set_sys_reg(there, MPIDR, 3).unwrap();
    assert_eq!(other_build.gic_set_state(&blob), Err(HV_BAD_ARGUMENT));
    let (same_build, other_affinity) = machine();
    same_build.set_sys_reg(other_affinity, MPIDR, 4).unwrap();
    assert_eq!(same_build.gic_set_state(&blob), Err(HV_BAD_ARGUMENT));
    framework.vcpus_exit(&[vcpu]).unwrap();
    framework.vcpu_run(vcpu).unwrap();
    assert_eq!(framework.gic_set_state(&blob), Err(HV_DENIED));
    assert_eq!(framework.set_sys_reg(vcpu, MPIDR, 4), Err(HV_DENIED));
}

#[test]
fn some_registers_are_not_to_be_had() {
    let (framework, vcpu) = machine();
    framework.set_sys_reg(vcpu, MPIDR, 0).unwrap();
    assert_eq!(framework.set_icc_reg(vcpu, ICC_RPR, 0), Err(HV_DENIED));
    assert_eq!(framework.sys_reg(vcpu, CNTP_TVAL), Err(HV_UNSUPPORTED));
    assert_eq!(framework.sys_reg(vcpu, 1), Err(HV_BAD_ARGUMENT));
    let second = framework.vcpu_create().unwrap();
    assert_eq!(
        framework.set_sys_reg(second, MPIDR, 0),
        Err(HV_BAD_ARGUMENT)
    );
}

#[test]
fn a_vcpu_answers_to_its_own_thread_alone() {
    let (framework, vcpu) = machine();
    let framework = Arc::new(framework);
    let other = framework.clone();
    let answer = std::thread::spawn(move || other.reg(vcpu, 0)).join();
    assert_eq!(answer.unwrap(), Err(HV_BAD_ARGUMENT));
    assert_eq!(framework.reg(vcpu, 0), Ok(0));
}

#[test]
fn memory_is_mapped_in_whole_pages_once() {
    let (framework, _) = machine();
    let ram = ModelRam::new(4 * PAGE_BYTES);
    let host = ram.host();
    assert_eq!(
        framework.vm_map(host, 0, PAGE_BYTES, 7),
        Err(HV_BAD_ARGUMENT)
    );
    framework.add_ram(&ram);
    for (ipa, size) in [(1, PAGE_BYTES), (4096, PAGE_BYTES), (0, 4096), (0, 0)] {
        assert_eq!(framework.vm_map(host, ipa, size, 7), Err(HV_BAD_ARGUMENT));
    }
    framework.vm_map(host, 0, 4 * PAGE_BYTES, 7).unwrap();
    assert_eq!(
        framework.vm_map(host, PAGE_BYTES, PAGE_BYTES, 7),
        Err(HV_ERROR)
    );
    framework.vm_protect(PAGE_BYTES, PAGE_BYTES, 5).unwrap();
    assert!(framework.guest_write(0, 1) && !framework.guest_write(PAGE_BYTES, 1));
    assert_eq!(
        framework.vm_protect(4 * PAGE_BYTES, PAGE_BYTES, 5),
        Err(HV_BAD_ARGUMENT)
    );
    framework.vm_unmap(0, PAGE_BYTES).unwrap();
    assert!(!framework.guest_write(0, 1));
}
