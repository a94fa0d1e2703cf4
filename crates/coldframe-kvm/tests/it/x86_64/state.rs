//! Freeze and thaw, with the guest that never stopped as the oracle.

use coldframe_hv::{Comparison, ItemKind, Machine, MachineState, VcpuState};
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
    let _generation = vm.machine(host).restore(&accepted).unwrap().generation();
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

// Parity: D19, F18
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

// Parity: D19, F18
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
    change(&mut state);
    let accepted = host.compare(&state).accept(&[]).unwrap();
    let (target, _) = TestVm::new(&COUNTING).unwrap();
    let error = target.machine(&host).restore(&accepted).unwrap_err();
    assert!(expected(&error), "{error:?}");
}

// Parity: F18
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

#[test]
fn extended_state_that_has_no_room_here_is_refused_before_anything_is_made() {
    let Some((original, host)) = midway(&COUNTING) else {
        return;
    };
    let mut state = original.machine(&host).save().unwrap();
    let area = state.vcpus[0].items.get_mut(&ItemKind::XSAVE).unwrap();
    area.extend([0; 64 * 1024]);
    // Zeros are components in their initial state: they need no room.
    assert!(host.compare(&state).accept(&[]).is_ok());
    let area = state.vcpus[0].items.get_mut(&ItemKind::XSAVE).unwrap();
    *area.last_mut().unwrap() = 1;
    let refused = host.compare(&state).accept(&["xsave.bytes"]).unwrap_err();
    assert_eq!(refused.items[0].item, "xsave.bytes");
}

#[test]
fn a_state_accepted_for_another_host_is_refused_and_nothing_is_written() {
    let Some((original, host)) = midway(&COUNTING) else {
        return;
    };
    let state = original.machine(&host).save().unwrap();
    let mut other = host.identity().clone();
    other.xsave_bytes += 64;
    let accepted = Comparison::of(&state, (&other).into()).accept(&[]).unwrap();
    let (target, _) = TestVm::new(&COUNTING).unwrap();
    let before = target.regs();
    let refused = target.machine(&host).restore(&accepted);
    assert!(matches!(refused, Err(KvmError::Accept { .. })));
    assert_eq!(target.regs(), before);
}

#[test]
fn the_wall_clock_does_not_rewrite_restored_memory() {
    const CLOCK: u32 = 0x4b56_4d00;
    const AT: usize = 0x5000;
    let Some((original, host)) = midway(&COUNTING) else {
        return;
    };
    let entry = kvm_bindings::kvm_msr_entry {
        index: CLOCK,
        data: AT as u64,
        ..Default::default()
    };
    let msrs = kvm_bindings::Msrs::from_entries(&[entry]).unwrap();
    assert_eq!(original.vcpus[0].set_msrs(&msrs).unwrap(), 1);
    assert_ne!(original.ram()[AT..AT + 12], [0; 12], "KVM writes at once");
    // The guest uses the memory for something else.
    original.write(AT, &[0x5a; 16]);
    let state = original.machine(&host).save().unwrap();
    assert_eq!(state.vcpus[0].msrs[&CLOCK], AT as u64);
    let ram = original.ram();
    let thawed = thaw(&COUNTING, &host, &state, &ram);
    assert!(thawed.ram() == ram);

    // Before there is memory the register can have its value back.
    let vm = thawed.kvm.create_vm().unwrap();
    let vcpu = vm.create_vcpu(0).unwrap();
    let machine = coldframe_kvm::KvmMachine::new(&host, &vm, [&vcpu]);
    machine.restore_wall_clock(&state).unwrap();
    assert_eq!(machine.save().unwrap().vcpus[0].msrs[&CLOCK], AT as u64);
}

#[test]
fn time_passes_for_the_guest_if_the_vmm_says_so() {
    let Some((original, host)) = midway(&COUNTING) else {
        return;
    };
    const HOUR: u64 = 3_600_000_000_000;
    let state = original.machine(&host).save().unwrap();
    let clock = |state: &MachineState| {
        let bytes = &state.vm.items[&ItemKind::CLOCK];
        u64::from_le_bytes(bytes[..8].try_into().unwrap())
    };
    let (target, _) = TestVm::new(&COUNTING).unwrap();
    let accepted = host.compare(&state).accept(&[]).unwrap();
    let time = coldframe_hv::GuestTime::Advance { nanos: HOUR };
    let mut machine = target.machine(&host).with_time(time);
    let _generation = machine.restore(&accepted).unwrap().generation();
    let again = target.machine(&host).save().unwrap();
    let passed = clock(&again) - clock(&state);
    assert!((HOUR..HOUR + HOUR / 10).contains(&passed), "{passed}");
    let khz = state.vcpus[0].items.get(&ItemKind::TSC_KHZ);
    let khz = khz.map(|bytes| u32::from_le_bytes(bytes.as_slice().try_into().unwrap()));
    let hour = u64::from(khz.unwrap_or(0)) * 3_600_000;
    let offset = |state: &MachineState| state.vcpus[0].items.get(&ItemKind::TSC_OFFSET).cloned();
    if hour == 0 || offset(&again) == offset(&state) {
        let reason = "this kernel tells no rate of the TSC, or keeps no offset";
        coldframe_testkit::require::skipped("tsc-offset", reason);
        return;
    }
    for (before, after) in state.vcpus.iter().zip(&again.vcpus) {
        let passed = after.msrs[&0x10].wrapping_sub(before.msrs[&0x10]);
        assert!((hour..=hour + hour / 10).contains(&passed), "{passed}");
    }
}

#[test]
fn hyper_v_registers_are_left_alone_where_the_guest_has_none() {
    let Some((original, host)) = midway(&COUNTING) else {
        return;
    };
    let state = original.machine(&host).save().unwrap();
    for vcpu in &state.vcpus {
        let mut registers = vcpu.msrs.keys();
        assert!(!registers.any(|index| (0x4000_0000..0x4000_0200).contains(index)));
    }
}

#[test]
fn the_number_of_machine_check_banks_comes_back() {
    const MCG_CAP: u32 = 0x179;
    const SETUP_MCE: u64 = 0x4008_ae9c;
    let Some((original, host)) = midway(&COUNTING) else {
        return;
    };
    let mut cap: u64 = 3 | 1 << 8;
    let fd = std::os::fd::AsRawFd::as_raw_fd(&original.vcpus[0]);
    // SAFETY: KVM_X86_SETUP_MCE reads 8 bytes, which live through the call.
    #[allow(unsafe_code)]
    let answer = unsafe { libc::ioctl(fd, SETUP_MCE as libc::Ioctl, &raw mut cap) };
    assert_eq!(answer, 0);
    let state = original.machine(&host).save().unwrap();
    assert_eq!(state.vcpus[0].msrs[&MCG_CAP] & 0xff, 3);
    let thawed = thaw(&COUNTING, &host, &state, &original.ram());
    let again = thawed.machine(&host).save().unwrap();
    assert_eq!(again.vcpus[0].msrs[&MCG_CAP], state.vcpus[0].msrs[&MCG_CAP]);
}

#[test]
fn a_guest_with_a_template_is_held_against_the_host_by_what_it_sees() {
    let guest = Guest {
        vcpus: 1,
        ..COUNTING
    };
    let Some((vm, _)) = TestVm::new(&guest) else {
        return;
    };
    let host = KvmHost::probe(&vm.kvm).unwrap();
    let entries = kvm_bindings::KVM_MAX_CPUID_ENTRIES;
    let whole = vm.vcpus[0].get_cpuid2(entries).unwrap();
    let masked = |ebx: u32| {
        let mut cpuid = whole.clone();
        let mut rows = cpuid.as_mut_slice().iter_mut();
        let leaf = rows.find(|row| (row.function, row.index) == (7, 0));
        if let Some(row) = leaf {
            (row.ebx, row.ecx, row.edx) = (ebx, 0, 0);
        }
        vm.vcpus[0].set_cpuid2(&cpuid).unwrap();
        let kept = vm.vcpus[0].get_cpuid2(entries).unwrap();
        let mut rows = kept.as_slice().iter();
        let row = rows.find(|row| (row.function, row.index) == (7, 0));
        let is_kept = row.is_some_and(|row| row.ebx == ebx);
        let mut state = vm.machine(&host).save().unwrap();
        // Saved where there was more than here.
        state.host.cpuid.retain(|leaf| leaf.function != 7);
        state.host.cpuid.push(coldframe_hv::CpuidLeaf {
            function: 7,
            ebx: u32::MAX,
            ..Default::default()
        });
        (host.compare(&state), is_kept)
    };
    assert!(masked(0).0.accept(&[]).is_ok());
    let here = host.identity().cpuid.iter();
    let here = here.filter(|leaf| (leaf.function, leaf.index) == (7, 0));
    let here = here.map(|leaf| leaf.ebx).next().unwrap_or(0);
    let Some(bit) = (0..32).find(|bit| here >> bit & 1 == 0) else {
        return;
    };
    let (report, is_kept) = masked(1 << bit);
    if !is_kept {
        let reason = "this kernel shows each guest the hardware's CPUID";
        coldframe_testkit::require::skipped("cpuid-template", reason);
        return;
    }
    let refused = report.accept(&[]).unwrap_err();
    let [item] = refused.items.as_slice() else {
        panic!("{refused:?}");
    };
    assert!(item.item.starts_with("cpuid.7.ebx."), "{item:?}");
}

#[test]
fn a_host_is_probed_on_what_exists_or_known_from_before() {
    let Some((vm, _)) = TestVm::new(&COUNTING) else {
        return;
    };
    let host = KvmHost::probe(&vm.kvm).unwrap();
    let other = KvmHost::probe_on(&vm.kvm, &vm.vm, &vm.vcpus[0]).unwrap();
    assert_eq!(other.identity(), host.identity());
    let known = KvmHost::from_identity(host.identity().clone());
    vm.boot();
    let state = vm.machine(&known).save().unwrap();
    let accepted = known.compare(&state).accept(&[]).unwrap();
    let (target, _) = TestVm::new(&COUNTING).unwrap();
    let mut machine = target.machine(&known);
    let _generation = machine.restore(&accepted).unwrap().generation();
}
