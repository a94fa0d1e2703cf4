//! Freeze and thaw, with the guest that never stopped as the oracle.

use coldframe_hv::{ItemKind, Machine, MachineState, VcpuState};
use coldframe_kvm::{KvmError, KvmHost, Place, complete_pending_io};
use kvm_ioctls::{Kvm, VcpuExit};

use super::machine::{COUNTING, Guest, TestVm, open};

/// A guest in the middle of its work.
fn midway(guest: &Guest<'_>) -> Option<(TestVm, KvmHost)> {
    let (mut vm, _) = TestVm::new(guest)?;
    let host = KvmHost::probe(&vm.kvm).unwrap();
    vm.boot();
    for vcpu in 0..vm.vcpus.len() {
        assert!(!vm.run(vcpu, 300 + 77 * u32::try_from(vcpu).unwrap()));
    }
    vm.complete();
    Some((vm, host))
}

fn thaw(guest: &Guest<'_>, host: &KvmHost, state: &MachineState, ram: &[u8]) -> TestVm {
    let (vm, _) = TestVm::new(guest).unwrap();
    vm.write(0, ram);
    let accepted = host.compare(state).accept(&[]).unwrap();
    let _generation = vm
        .machine(host)
        .restore(state, accepted)
        .unwrap()
        .generation();
    vm
}

/// Without what goes on by itself: counters, clocks, and the timers' current counts.
fn without_clocks(mut state: MachineState) -> MachineState {
    const TSC: u32 = 0x10;
    const LAPIC_CURRENT_COUNT: usize = 0x390;
    // struct kvm_pit_channel_state is 24 bytes; its last 8 are the moment of loading.
    const PIT_CHANNEL: usize = 24;
    state.vm.items.remove(&ItemKind::CLOCK);
    if let Some(pit) = state.vm.items.get_mut(&ItemKind::PIT2) {
        for channel in pit.chunks_mut(PIT_CHANNEL).take(3) {
            channel[16..].fill(0);
        }
    }
    for vcpu in &mut state.vcpus {
        vcpu.msrs.remove(&TSC);
        vcpu.items.remove(&ItemKind::TSC_OFFSET);
        if let Some(lapic) = vcpu.items.get_mut(&ItemKind::LAPIC) {
            lapic[LAPIC_CURRENT_COUNT..LAPIC_CURRENT_COUNT + 4].fill(0);
        }
    }
    state
}

#[track_caller]
fn assert_same(left: &VcpuState, right: &VcpuState) {
    for (item, bytes) in &left.items {
        assert_eq!(
            Some(bytes),
            right.items.get(item),
            "{item} of vCPU {}",
            left.index
        );
    }
    for (index, value) in &left.msrs {
        assert_eq!(Some(value), right.msrs.get(index), "register {index:#x}");
    }
    assert_eq!(left, right);
}

fn check_end_is_the_same(guest: &Guest<'_>) {
    let Some((mut original, host)) = midway(guest) else {
        return;
    };
    let state = original.machine(&host).save().unwrap();
    let ram = original.ram();
    let mut thawed = thaw(guest, &host, &state, &ram);
    assert_eq!(thawed.regs(), original.regs());
    original.finish();
    thawed.finish();
    assert_eq!(thawed.regs(), original.regs());
    assert!(thawed.ram() == original.ram() && thawed.ram() != ram);
}

#[test]
fn a_thawed_guest_ends_as_one_that_was_never_stopped() {
    check_end_is_the_same(&COUNTING);
}

#[test]
fn a_machine_without_irqchip_is_frozen_and_thawed_too() {
    check_end_is_the_same(&Guest {
        irqchip: false,
        vcpus: 1,
        ..COUNTING
    });
}

#[test]
fn saving_after_restoring_gives_the_same_state() {
    let Some((original, host)) = midway(&COUNTING) else {
        return;
    };
    let state = original.machine(&host).save().unwrap();
    let thawed = thaw(&COUNTING, &host, &state, &original.ram());
    let again = without_clocks(thawed.machine(&host).save().unwrap());
    let state = without_clocks(state);
    for (left, right) in state.vcpus.iter().zip(&again.vcpus) {
        assert_same(left, right);
    }
    for (item, bytes) in &state.vm.items {
        assert_eq!(Some(bytes), again.vm.items.get(item), "{item}");
    }
    assert_eq!(state, again);
}

#[test]
fn the_counters_go_on_and_keep_their_distances() {
    let Some((original, host)) = midway(&COUNTING) else {
        return;
    };
    let state = original.machine(&host).save().unwrap();
    let thawed = thaw(&COUNTING, &host, &state, &original.ram());
    let again = thawed.machine(&host).save().unwrap();
    for (before, after) in state.vcpus.iter().zip(&again.vcpus) {
        let passed = after.msrs[&0x10].wrapping_sub(before.msrs[&0x10]);
        // Less than a minute at any rate there is: no jump back, none ahead.
        assert!(passed < 60 * 10_000_000_000, "{passed}");
    }
    let offset = |vcpu: &VcpuState| {
        let bytes = vcpu.items.get(&ItemKind::TSC_OFFSET)?;
        Some(u64::from_le_bytes(bytes.as_slice().try_into().unwrap()))
    };
    let distance = |state: &MachineState| {
        Some(offset(&state.vcpus[1])?.wrapping_sub(offset(&state.vcpus[0])?))
    };
    assert_eq!(distance(&state), distance(&again));
}

/// The guest does: in al, 0xf1; mov [0x3000], al; mov al, 42; out 0xf4, al. The answer to `in` is
/// in no structure before it is completed.
#[test]
fn an_answer_to_a_port_read_is_not_lost() {
    const READ: &[u8] = &[0xe4, 0xf1, 0xa2, 0x00, 0x30, 0xb0, 0x2a, 0xe6, 0xf4, 0xf4];
    let guest = Guest {
        code: READ,
        vcpus: 1,
        ..COUNTING
    };
    let Some((mut vm, _)) = TestVm::new(&guest) else {
        return;
    };
    let host = KvmHost::probe(&vm.kvm).unwrap();
    vm.boot();
    match vm.vcpus[0].run().unwrap() {
        VcpuExit::IoIn(0xf1, data) => data.copy_from_slice(&[0x5a]),
        exit => panic!("unexpected exit {exit:?}"),
    }
    let before = vm.regs()[0];
    complete_pending_io(&mut vm.vcpus[0], |exit| panic!("unexpected exit {exit:?}")).unwrap();
    let after = vm.regs()[0];
    assert_eq!((after.rip, after.rax & 0xff), (0x1002, 0x5a), "{before:?}");
    // Nothing is pending any more: once again changes nothing.
    complete_pending_io(&mut vm.vcpus[0], |exit| panic!("unexpected exit {exit:?}")).unwrap();
    assert_eq!(vm.regs()[0], after);
    let state = vm.machine(&host).save().unwrap();
    let mut thawed = thaw(&guest, &host, &state, &vm.ram());
    assert!(thawed.run(0, 1));
    assert_eq!(thawed.ram()[0x3000], 0x5a);
}

/// The guest loads a register that only the extended state holds, and stores it after the thaw:
/// movdqu xmm0, [0x3000]; out 0xf0, al; movdqu [0x3010], xmm0; mov al, 42; out 0xf4, al.
#[test]
fn extended_state_and_debug_registers_come_back() {
    const CODE: &[u8] = &[
        0xf3, 0x0f, 0x6f, 0x06, 0x00, 0x30, 0xe6, 0xf0, 0xf3, 0x0f, 0x7f, 0x06, 0x10, 0x30, 0xb0,
        0x2a, 0xe6, 0xf4, 0xf4,
    ];
    const CR4_OSFXSR: u64 = 1 << 9;
    let guest = Guest {
        code: CODE,
        ..COUNTING
    };
    let Some((mut vm, _)) = TestVm::new(&guest) else {
        return;
    };
    let host = KvmHost::probe(&vm.kvm).unwrap();
    vm.boot();
    for (index, value) in [(0, 0x41), (1, 0x51)] {
        let vcpu = &vm.vcpus[index];
        let mut sregs = vcpu.get_sregs().unwrap();
        sregs.cr4 |= CR4_OSFXSR;
        vcpu.set_sregs(&sregs).unwrap();
        let mut debug = vcpu.get_debug_regs().unwrap();
        debug.db = [u64::from(value); 4];
        vcpu.set_debug_regs(&debug).unwrap();
        vm.write(0x3000 + index * 0x1_0000, &[value; 16]);
    }
    assert!(!vm.run(0, 1) && !vm.run(1, 1));
    vm.complete();
    let state = vm.machine(&host).save().unwrap();
    let mut thawed = thaw(&guest, &host, &state, &vm.ram());
    thawed.finish();
    for (index, value) in [(0, 0x41), (1, 0x51)] {
        let stored = 0x3010 + index * 0x1_0000;
        assert_eq!(thawed.ram()[stored..stored + 16], [value; 16]);
        let debug = thawed.vcpus[index].get_debug_regs().unwrap();
        assert_eq!(debug.db, [u64::from(value); 4]);
    }
}

#[test]
fn everything_that_this_host_keeps_is_saved() {
    let Some((original, host)) = midway(&COUNTING) else {
        return;
    };
    let state = original.machine(&host).save().unwrap();
    assert_eq!(state.host, *host.identity());
    for item in [
        ItemKind::PIT2,
        ItemKind::CLOCK,
        ItemKind::PIC_MASTER,
        ItemKind::PIC_SLAVE,
    ] {
        assert!(state.vm.items.contains_key(&item), "{item}");
    }
    assert!(state.vm.items.contains_key(&ItemKind::IOAPIC));
    for vcpu in &state.vcpus {
        for item in [
            ItemKind::LAPIC,
            ItemKind::CPUID2,
            ItemKind::XCRS,
            ItemKind::DEBUGREGS,
        ] {
            assert!(vcpu.items.contains_key(&item), "{item}");
        }
        let omitted = vcpu.omitted_msrs(&state.host);
        println!(
            "{} registers saved, left out: {omitted:x?}",
            vcpu.msrs.len()
        );
        assert!(vcpu.msrs.contains_key(&0x10));
    }
}

/// What `change` does to a sound state must be refused with an error like `expected`.
#[track_caller]
fn check_refused(change: impl FnOnce(&mut MachineState), expected: impl Fn(&KvmError) -> bool) {
    let Some((original, host)) = midway(&COUNTING) else {
        return;
    };
    let mut state = original.machine(&host).save().unwrap();
    let accepted = host.compare(&state).accept(&[]).unwrap();
    change(&mut state);
    let (target, _) = TestVm::new(&COUNTING).unwrap();
    let error = target.machine(&host).restore(&state, accepted).unwrap_err();
    assert!(expected(&error), "{error:?}");
}

#[test]
fn a_register_that_refuses_its_value_is_named() {
    // A reserved bit of the memory type of the first fixed range.
    let change = |state: &mut MachineState| {
        state.vcpus[1].msrs.insert(0x250, 0xff);
    };
    check_refused(change, |error| {
        matches!(
            error,
            KvmError::SetMsr {
                vcpu: 1,
                index: 0x250,
                value: 0xff
            }
        )
    });
}

#[test]
fn a_structure_of_another_length_is_refused() {
    let change = |state: &mut MachineState| {
        state.vcpus[0].items.get_mut(&ItemKind::REGS).unwrap().pop();
    };
    check_refused(change, |error| {
        matches!(
            error,
            KvmError::MatchItem {
                item: ItemKind::REGS,
                expected: 144,
                ..
            }
        )
    });
    let change = |state: &mut MachineState| {
        state.vcpus[0]
            .items
            .get_mut(&ItemKind::XSAVE)
            .unwrap()
            .extend([0; 64 * 1024]);
    };
    check_refused(change, |error| {
        matches!(
            error,
            KvmError::MatchItem {
                item: ItemKind::XSAVE,
                ..
            }
        )
    });
    let change = |state: &mut MachineState| {
        state.vcpus[0]
            .items
            .get_mut(&ItemKind::CPUID2)
            .unwrap()
            .pop();
    };
    check_refused(change, |error| {
        matches!(
            error,
            KvmError::MatchItem {
                item: ItemKind::CPUID2,
                ..
            }
        )
    });
}

#[test]
fn a_state_that_lacks_what_no_vcpu_can_lack_is_refused() {
    let change = |state: &mut MachineState| drop(state.vcpus[1].items.remove(&ItemKind::REGS));
    check_refused(change, |error| {
        matches!(
            error,
            KvmError::FindItem {
                item: ItemKind::REGS,
                place: Place::Vcpu(1)
            }
        )
    });
}

#[test]
fn another_number_of_vcpus_is_refused() {
    let change = |state: &mut MachineState| drop(state.vcpus.pop());
    check_refused(change, |error| {
        matches!(error, KvmError::MatchVcpus { saved: 1, here: 2 })
    });
}

#[test]
fn the_host_knows_itself() {
    let Some(kvm) = open() else {
        return;
    };
    let host = KvmHost::probe(&kvm).unwrap();
    let identity = host.identity();
    println!(
        "{:?} {} {:?}",
        identity.cpu, identity.kernel, identity.tsc_khz
    );
    assert!(!identity.cpu.vendor.is_empty() && !identity.kernel.is_empty());
    assert!(!identity.cpuid.is_empty() && !identity.msr_indexes.is_empty());
    assert!(identity.xsave_bytes >= 4096);
    // Whichever CPU is asked.
    for _ in 0..8 {
        std::thread::yield_now();
        let again = KvmHost::probe(&Kvm::new().unwrap()).unwrap();
        assert_eq!(again.identity(), identity);
    }
    let leaf = identity.cpuid.iter().find(|leaf| leaf.function == 1);
    assert_eq!(leaf.unwrap().ebx >> 24, 0, "the id of one CPU");
}
