//! Freeze and thaw, with the guest that never stopped as the oracle.

use coldframe_hv::aarch64::{Counters, PowerState, RegClass, RegId, SysReg, register_item};
use coldframe_hv::{ItemKind, Machine, MachineState};
use coldframe_kvm::{KvmError, Tracking};
use coldframe_testkit::require::skipped;
use kvm_bindings::{
    KVM_CAP_ARM_INJECT_SERROR_ESR, KVM_CAP_ARM_MTE, KVM_CAP_VCPU_EVENTS, KVM_MP_STATE_STOPPED,
    kvm_enable_cap, kvm_mp_state, kvm_vcpu_events,
};

use super::machine::TestVm;

const STRIDE: u64 = 24;
const TIMES: u64 = 1000;

/// A guest of two vCPUs in the middle of its work.
fn midway() -> Option<TestVm> {
    let (mut vm, _) = TestVm::new(2, Tracking::Off)?;
    vm.boot(STRIDE, TIMES);
    assert!(!vm.run(0, 300) && !vm.run(1, 377));
    vm.complete();
    Some(vm)
}

fn thaw(state: &MachineState, ram: &[u8], waivers: &[&str]) -> Result<TestVm, KvmError> {
    let (vm, _) = TestVm::new(2, Tracking::Off).unwrap();
    vm.write(0, ram);
    let accepted = vm.host.compare(state).accept(waivers).unwrap();
    vm.machine().restore(&accepted).map(drop)?;
    Ok(vm)
}

// Parity: D18, K1
#[test]
fn a_thawed_guest_ends_as_one_that_was_never_stopped() {
    let Some(mut original) = midway() else {
        return;
    };
    let state = original.machine().save().unwrap();
    let ram = original.ram();
    let mut thawed = thaw(&state, &ram, &[]).unwrap();
    for vm in [&mut original, &mut thawed] {
        assert!(vm.run(0, 10_000) && vm.run(1, 10_000));
        vm.complete();
        assert_eq!(vm.get(1, RegId::general(0).unwrap()), TIMES);
    }
    assert!(thawed.ram() == original.ram() && thawed.ram() != ram);
}

// Parity: K2
#[test]
fn every_register_comes_back_as_it_was() {
    let Some(mut original) = midway() else {
        return;
    };
    // One of each kind that the guest itself does not touch.
    original.set(0, RegId::from_system(SysReg::new(3, 3, 13, 0, 2)), 0x1234);
    original.set(1, RegId::from_system(SysReg::CNTV_CVAL_EL0), 0x5678_9abc);
    original.set(0, RegId::ELR_EL1, 0xffff_0000_1234);
    original.complete();
    let state = original.machine().save().unwrap();
    let classes: Vec<RegClass> = state.vcpus[0]
        .regs
        .keys()
        .map(|code| RegId::from_code(*code).class())
        .collect();
    for class in [
        RegClass::Core,
        RegClass::Affinity,
        RegClass::Identification,
        RegClass::System,
        RegClass::Firmware,
        RegClass::Timer,
    ] {
        assert!(classes.contains(&class), "{class:?}");
    }
    let thawed = thaw(&state, &original.ram(), &[]).unwrap();
    let again = thawed.machine().save().unwrap();
    let physical = RegId::from_system(SysReg::CNTP_CVAL_EL0).code();
    for (left, right) in state.vcpus.iter().zip(&again.vcpus) {
        assert_eq!(left.items, right.items);
        assert!(left.regs.keys().eq(right.regs.keys()));
        for (code, value) in &left.regs {
            // Where the host's counter cannot be offset, this goes with it.
            if *code != physical {
                let name = RegId::from_code(*code);
                assert_eq!(Some(value), right.regs.get(code), "{name}");
            }
        }
    }
}

// Parity: K3
#[test]
fn the_counters_go_on_and_never_step_back() {
    let Some(original) = midway() else {
        return;
    };
    let state = original.machine().save().unwrap();
    let hz = state.host.counter_hz.unwrap();
    let thawed = thaw(&state, &original.ram(), &[]).unwrap();
    let again = thawed.machine().save().unwrap();
    let before = Counters::of(&state.vm, hz).unwrap();
    let after = Counters::of(&again.vm, hz).unwrap();
    let passed = after.guest.wrapping_sub(before.guest);
    assert!(passed < 60 * hz, "{passed}");
    assert!(after.physical >= before.physical);
}

// Parity: K4
#[test]
fn a_vcpu_that_was_off_stays_off() {
    let Some((vm, _)) = TestVm::new(2, Tracking::Off) else {
        return;
    };
    vm.boot(STRIDE, TIMES);
    let off = kvm_mp_state {
        mp_state: KVM_MP_STATE_STOPPED,
    };
    vm.vcpus[1].set_mp_state(off).unwrap();
    let state = vm.machine().save().unwrap();
    assert_eq!(PowerState::of(&state.vcpus[0]), Some(PowerState::On));
    assert_eq!(PowerState::of(&state.vcpus[1]), Some(PowerState::Off));
    let thawed = thaw(&state, &vm.ram(), &[]).unwrap();
    let power = |vcpu: usize| thawed.vcpus[vcpu].get_mp_state().unwrap().mp_state;
    assert_eq!([power(0), power(1)], [0, KVM_MP_STATE_STOPPED]);
}

// Parity: K2
#[test]
fn a_register_that_this_kernel_lacks_is_named_and_can_be_left_out() {
    let Some(original) = midway() else {
        return;
    };
    let mut state = original.machine().save().unwrap();
    // Encodings that the architecture keeps for implementers.
    let lacking =
        [SysReg::new(3, 7, 15, 15, 7), SysReg::new(3, 7, 15, 15, 6)].map(RegId::from_system);
    for register in lacking {
        assert!(state.vcpus[1].set_reg(register, 1));
    }
    let names = lacking.map(|register| register_item(register.code()));
    let ram = original.ram();
    let Err(error) = thaw(&state, &ram, &[]) else {
        panic!("it was restored");
    };
    let KvmError::UnknownRegisters { vcpu, registers } = &error else {
        panic!("{error}");
    };
    assert_eq!(*vcpu, 1);
    assert!(lacking.iter().all(|register| registers.contains(register)));
    assert!(names.iter().all(|name| error.to_string().contains(name)));
    let one = thaw(&state, &ram, &[&names[0]]);
    assert!(
        matches!(one, Err(KvmError::UnknownRegisters { registers, .. }) if registers.len() == 1)
    );
    thaw(&state, &ram, &[&names[0], &names[1]]).unwrap();
}

// Parity: K7
#[test]
fn a_state_of_another_machine_is_refused_before_anything_is_written() {
    let Some(original) = midway() else {
        return;
    };
    let state = original.machine().save().unwrap();
    let refused = |change: &dyn Fn(&mut MachineState)| {
        let mut state = state.clone();
        change(&mut state);
        let thawed = thaw(&state, &original.ram(), &[]);
        thawed.err().expect("it was restored")
    };
    let error = refused(&|state| drop(state.vcpus.pop()));
    assert!(matches!(error, KvmError::MatchVcpus { saved: 1, here: 2 }));
    let error = refused(&|state| drop(state.vcpus[0].items.remove(&ItemKind::VCPU_INIT)));
    assert!(matches!(error, KvmError::FindItem { .. }));
    let error = refused(&|state| drop(state.vm.items.remove(&ItemKind::GIC_MODEL)));
    assert!(matches!(error, KvmError::CheckAarch64 { .. }));
    let error = refused(&|state| {
        let init = state.vcpus[0].items.get_mut(&ItemKind::VCPU_INIT).unwrap();
        init[31] = 0x80;
    });
    assert!(matches!(
        error,
        KvmError::SetItem {
            item: ItemKind::VCPU_INIT,
            ..
        }
    ));
}

#[test]
fn a_pending_serror_comes_back_with_its_syndrome() {
    let Some(original) = midway() else {
        return;
    };
    let has = |capability: u32| original.vm.check_extension_raw(capability.into()) > 0;
    if !has(KVM_CAP_VCPU_EVENTS) {
        skipped("vcpu-events", "this kernel has no KVM_CAP_VCPU_EVENTS");
        return;
    }
    let mut pending = kvm_vcpu_events::default();
    pending.exception.serror_pending = 1;
    // A syndrome of its own needs a processor with RAS.
    if has(KVM_CAP_ARM_INJECT_SERROR_ESR) {
        pending.exception.serror_has_esr = 1;
        pending.exception.serror_esr = 0x12_3456;
    }
    original.vcpus[1].set_vcpu_events(&pending).unwrap();
    let state = original.machine().save().unwrap();
    let events =
        |state: &MachineState, vcpu: usize| state.vcpus[vcpu].items[&ItemKind::VCPU_EVENTS].clone();
    // Where there is a syndrome at all, the kernel says so of what is not pending, too.
    assert_eq!(events(&state, 0)[0], 0);
    assert_eq!(
        events(&state, 1)[..2],
        [1, pending.exception.serror_has_esr]
    );
    let thawed = thaw(&state, &original.ram(), &[]).unwrap();
    let found = thawed.vcpus[1].get_vcpu_events().unwrap().exception;
    assert_eq!(found.serror_pending, 1);
    assert_eq!(found.serror_has_esr, pending.exception.serror_has_esr);
    assert_eq!(found.serror_esr, pending.exception.serror_esr);
    let again = thawed.machine().save().unwrap();
    assert_eq!(events(&again, 1), events(&state, 1));
    let none = thawed.vcpus[0].get_vcpu_events().unwrap().exception;
    assert_eq!(none.serror_pending, 0, "of another vCPU");
}

#[test]
fn a_guest_with_memory_tags_is_refused_by_name() {
    let Some(kvm) = super::machine::open() else {
        return;
    };
    if kvm.check_extension_raw(KVM_CAP_ARM_MTE.into()) <= 0 {
        skipped(
            "mte",
            "this host gives guests no allocation tags (KVM_CAP_ARM_MTE)",
        );
        return;
    }
    let (vm, _) = TestVm::with(&kvm, 1, Tracking::Off, |vm| {
        let enable = kvm_enable_cap {
            cap: KVM_CAP_ARM_MTE,
            ..Default::default()
        };
        vm.enable_cap(&enable).unwrap();
    });
    vm.boot(STRIDE, TIMES);
    let error = vm.machine().save().unwrap_err();
    assert!(matches!(error, KvmError::Unsupported { .. }), "{error}");
    assert!(error.to_string().contains("memory tagging"), "{error}");
}
