//! What is saved of a machine, what is refused, and what may be waived.

use coldframe_hv::aarch64::{GicModel, GuestTime, PowerState, RegId, SysReg, check, register_item};
use coldframe_hv::{Hypervisor, ItemKind, Machine, MachineState, StateError};
use coldframe_hvf::{HvfError, HvfMachine, Line, ParkingLot, Ready, VcpuCalls, Watch};
use coldframe_testkit::hvf::Host;
use coldframe_units::Arch;
use std::time::Duration;

use crate::calls::ModelVcpu;
use crate::support::{Start, Vmm};

/// A machine that never runs: one vCPU on a thread of its own, parked, with registers set.
fn parked<R: Send>(
    vmm: &Vmm,
    power: PowerState,
    prepare: impl FnOnce(&ModelVcpu) + Send,
    then: impl FnOnce(&mut HvfMachine<'_, crate::calls::OnModel>) -> R,
) -> (R, PowerState, Vec<bool>) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let framework = vmm.framework.clone();
            let id = framework.vcpu_create().unwrap();
            let vcpu = ModelVcpu { framework, id };
            prepare(&vcpu);
            let seat = vmm.lot.seat(0, id).unwrap();
            let ready = seat.park_when_wanted(Ready::fresh(&vcpu, 0, power));
            let lines = [Line::Irq, Line::Fiq].map(|line| vcpu.pending(line).unwrap());
            let mask = vcpu.vtimer_mask().unwrap();
            (ready.power(), [&lines[..], &[mask]].concat())
        });
        let parked = vmm
            .lot
            .pause(&vmm.calls(), Duration::from_secs(60))
            .unwrap();
        let calls = vmm.calls();
        let result = then(&mut HvfMachine::new(&vmm.host, &calls, &parked));
        parked.resume();
        let (power, lines) = thread.join().unwrap();
        (result, power, lines)
    })
}

fn with_affinity(vcpu: &ModelVcpu) {
    vcpu.set_sys_reg(SysReg::MPIDR_EL1, 0x8000_0000).unwrap();
}

fn save(host: Host, prepare: impl FnOnce(&ModelVcpu) + Send) -> Result<MachineState, HvfError> {
    let vmm = Vmm::new(1, host);
    parked(&vmm, PowerState::On, prepare, |machine| machine.save()).0
}

fn restore(state: &MachineState, waivers: &[&str]) -> Result<(), HvfError> {
    let vmm = Vmm::new(1, Host::default());
    let accepted = vmm.host.compare(state).accept(waivers).unwrap();
    let restored = parked(
        &vmm,
        PowerState::On,
        |_| (),
        |machine| machine.restore(&accepted).map(|thawed| thawed.generation()),
    );
    restored.0.map(drop)
}

#[test]
fn a_saved_state_is_whole_and_names_its_controller() {
    let state = save(Host::default(), with_affinity).unwrap();
    assert_eq!(state.check(), Ok(()));
    assert_eq!(check(&state), Ok(()));
    assert_eq!(
        (state.arch, state.hypervisor),
        (Arch::Aarch64, Hypervisor::HVF)
    );
    assert_eq!(GicModel::of(&state.vm), Some(GicModel::Apple));
    assert_eq!(state.vm.items[&ItemKind::HVF_GIC_BUILD], b"24A335");
    let vcpu = &state.vcpus[0];
    assert_eq!(vcpu.reg(RegId::MPIDR_EL1), Some(0x8000_0000));
    // 31 general and 4 special registers, 32 vectors, 64 for debugging, and those of the system.
    assert_eq!(vcpu.regs.len(), 35 + 32 + 64 + 50);
    assert_eq!(vcpu.reg(RegId::SP_EL0), Some(0));
    restore(&state, &[]).unwrap();
}

#[test]
fn a_host_without_physical_timer_saves_none() {
    let host = Host {
        has_physical_timer: false,
        ..Host::default()
    };
    let state = save(host, with_affinity).unwrap();
    let timer = RegId::from_system(SysReg::CNTP_CVAL_EL0);
    assert_eq!(state.vcpus[0].reg(timer), None);
    restore(&state, &[]).unwrap();
}

// Parity: A7
#[test]
fn power_lines_and_mask_are_restored_as_they_were() {
    let vmm = Vmm::new(1, Host::default());
    let prepare = |vcpu: &ModelVcpu| {
        with_affinity(vcpu);
        vcpu.set_pending(Line::Fiq, true).unwrap();
        vcpu.set_vtimer_mask(true).unwrap();
    };
    for power in [PowerState::Off, PowerState::On] {
        let saved = parked(&Vmm::new(1, Host::default()), power, prepare, |m| m.save()).0;
        let state = saved.unwrap();
        // Whatever the VMM made the vCPU with.
        let other = if power == PowerState::On {
            PowerState::Off
        } else {
            PowerState::On
        };
        let fresh = Vmm::new(1, Host::default());
        let accepted = vmm.host.compare(&state).accept(&[]).unwrap();
        let (restored, now, lines) = parked(
            &fresh,
            other,
            |_| (),
            |machine| machine.restore(&accepted).map(|thawed| thawed.generation()),
        );
        restored.unwrap();
        assert_eq!(now, power);
        assert_eq!(lines, [false, true, true]);
    }
}

#[test]
fn a_vcpu_that_is_off_does_not_run() {
    let vmm = Vmm::new(1, Host::default());
    let framework = vmm.framework.clone();
    let id = framework.vcpu_create().unwrap();
    let vcpu = ModelVcpu { framework, id };
    let refused = Ready::fresh(&vcpu, 0, PowerState::Off).run().unwrap_err();
    assert!(matches!(refused, HvfError::PoweredOff { vcpu: 0 }));
}

// Parity: A9
#[test]
fn an_interrupt_in_service_is_refused_for_the_moment() {
    let error = save(Host::default(), |vcpu| {
        with_affinity(vcpu);
        vcpu.framework.set_running_priority(vcpu.id, 0x80).unwrap();
    })
    .unwrap_err();
    assert!(matches!(
        error,
        HvfError::InterruptInService {
            vcpu: 0,
            priority: 0x80
        }
    ));
    assert!(error.is_retryable());
}

// Parity: A11
#[test]
fn a_guest_that_is_offered_sme_is_refused() {
    let error = save(Host::default(), |vcpu| {
        with_affinity(vcpu);
        let features = SysReg::new(3, 0, 0, 4, 1);
        vcpu.set_sys_reg(features, 2 << 24).unwrap();
    })
    .unwrap_err();
    assert!(matches!(error, HvfError::SmeOffered { vcpu: 0 }));
    assert!(!error.is_retryable());
}

// Parity: A11
#[test]
fn a_register_that_the_framework_lacks_is_named_and_may_be_waived() {
    let mut state = save(Host::default(), with_affinity).unwrap();
    // SCXTNUM_EL1, of a later release.
    let code = RegId::from_system(SysReg::new(3, 0, 13, 0, 7)).code();
    state.vcpus[0].regs.insert(code, vec![1; 8]);
    let error = restore(&state, &[]).unwrap_err();
    assert!(matches!(
        error,
        HvfError::SetSystemReg {
            value: 0x0101_0101_0101_0101,
            ..
        }
    ));
    restore(&state, &[&register_item(code)]).unwrap();
    // One of KVM's firmware, which is no system register.
    let code = 0x6030_0000_0014_0000;
    state.vcpus[0].regs.insert(code, vec![1; 8]);
    let scxtnum = register_item(RegId::from_system(SysReg::new(3, 0, 13, 0, 7)).code());
    let error = restore(&state, &[&scxtnum]).unwrap_err();
    assert!(matches!(error, HvfError::UnknownRegister { .. }));
    restore(&state, &[&scxtnum, &register_item(code)]).unwrap();
}

#[test]
fn states_that_are_not_of_this_machine_are_refused_before_anything_is_written() {
    let state = save(Host::default(), with_affinity).unwrap();
    let refused = |change: fn(&mut MachineState)| {
        let mut state = state.clone();
        change(&mut state);
        restore(&state, &[]).unwrap_err()
    };
    let more = refused(|state| {
        let mut second = state.vcpus[0].clone();
        second.index = 1;
        second.set_reg(RegId::MPIDR_EL1, 1);
        state.vcpus.push(second);
    });
    assert!(matches!(more, HvfError::MatchVcpus { saved: 2, here: 1 }));
    let empty = refused(|state| state.vcpus.clear());
    let HvfError::CheckState { source } = empty else {
        panic!("{empty}");
    };
    assert!(matches!(source, StateError::VcpuCount { found: 0, .. }));
    let no_affinity = refused(|state| drop(state.vcpus[0].regs.remove(&RegId::MPIDR_EL1.code())));
    assert!(matches!(no_affinity, HvfError::CheckAarch64 { .. }));
    let no_counter = refused(|state| drop(state.vm.items.remove(&ItemKind::GUEST_COUNTER)));
    let HvfError::MatchItem { item, .. } = no_counter else {
        panic!("{no_counter}");
    };
    assert_eq!(item, ItemKind::GUEST_COUNTER);
}

// Parity: A8
#[test]
fn vcpus_with_counters_of_their_own_are_refused() {
    let vmm = Vmm::new(2, Host::default());
    let saved = std::thread::scope(|scope| {
        for index in 0..2 {
            let vmm = &vmm;
            scope.spawn(move || {
                let framework = vmm.framework.clone();
                let id = framework.vcpu_create().unwrap();
                let vcpu = ModelVcpu { framework, id };
                vcpu.set_sys_reg(SysReg::MPIDR_EL1, u64::from(index))
                    .unwrap();
                vcpu.set_vtimer_offset(u64::from(index)).unwrap();
                let seat = vmm.lot.seat(index, id).unwrap();
                let _ready = seat.park_when_wanted(Ready::fresh(&vcpu, index, PowerState::On));
            });
        }
        let parked = vmm.pause();
        let calls = vmm.calls();
        HvfMachine::new(&vmm.host, &calls, &parked).save()
    });
    let error = saved.unwrap_err();
    assert!(matches!(
        error,
        HvfError::CounterSplit {
            vcpu: 1,
            found: 1,
            first: 0
        }
    ));
}

// Parity: A8
#[test]
fn the_counter_goes_on_as_it_is_told_to() {
    let state = save(Host::default(), with_affinity).unwrap();
    let saved = u64::from_le_bytes(
        state.vm.items[&ItemKind::GUEST_COUNTER]
            .as_slice()
            .try_into()
            .unwrap(),
    );
    let second = GuestTime::Advance {
        nanos: 1_000_000_000,
    };
    for (time, ticks) in [(GuestTime::Continue, 0), (second, 24_000_000)] {
        let host = Host {
            counter: 5,
            ..Host::default()
        };
        let vmm = Vmm::new(1, host);
        let accepted = vmm.host.compare(&state).accept(&[]).unwrap();
        let lot = ParkingLot::new(1);
        let shown = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let framework = vmm.framework.clone();
                let id = framework.vcpu_create().unwrap();
                let vcpu = ModelVcpu { framework, id };
                let seat = lot.seat(0, id).unwrap();
                let ready = Ready::fresh(&vcpu, 0, PowerState::On);
                let ready = seat.park_when_wanted(ready);
                let offset = ready.vcpu().vtimer_offset().unwrap();
                vmm.framework.absolute_time().wrapping_sub(offset)
            });
            let parked = lot.pause(&vmm.calls(), Duration::from_secs(60)).unwrap();
            let calls = vmm.calls();
            let machine = HvfMachine::new(&vmm.host, &calls, &parked);
            let thawed = machine.with_time(time).restore(&accepted);
            let _id = thawed.unwrap().generation();
            parked.resume();
            thread.join().unwrap()
        });
        assert_eq!(shown, saved + ticks);
    }
}

#[test]
fn a_machine_boots_on_the_memory_it_is_given() {
    let vmm = Vmm::new(1, Host::default());
    let stage2 = vmm.stage2(Watch::DEFAULT);
    let ((), ends) = vmm.run(&stage2, Start::Boot, || ());
    assert!(ends[0][0] > 1000);
}
