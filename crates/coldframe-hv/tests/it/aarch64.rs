//! What is decided about aarch64 machines without a hypervisor.

use std::collections::BTreeSet;

use coldframe_hv::aarch64::{
    Aarch64Error, Counters, GicModel, GicRow, GuestTime, ITS_ATTRS, ITS_CONTROL_ATTR, Mpidr,
    PowerState, RegClass, RegId, RegStep, SysReg, check, decode_rows, distributor_attrs,
    encode_rows, interface_order, redistributor_attrs, restore_writes, v2_distributor_attrs,
};
use coldframe_hv::{HostIdentity, Hypervisor, ItemKind, MachineState, VcpuState, VmState};
use coldframe_units::Arch;
use proptest::prelude::*;

/// Ids as Linux arch/arm64/include/uapi/asm/kvm.h spells them out.
const KVM_TIMER_CTL: u64 = 0x6030_0000_0013_df19;
const KVM_TIMER_CVAL: u64 = 0x6030_0000_0013_df02;
const KVM_TIMER_CNT: u64 = 0x6030_0000_0013_df1a;

fn state(vcpus: u32) -> MachineState {
    let rows = encode_rows(&[GicRow { attr: 8, value: 1 }]);
    let vcpu = |index: u32| {
        let mut vcpu = VcpuState {
            index,
            ..VcpuState::default()
        };
        assert!(vcpu.set_reg(RegId::MPIDR_EL1, 0x8000_0000 | u64::from(index)));
        assert!(vcpu.set_reg(RegId::FPCR, 7));
        PowerState::On.store(&mut vcpu);
        for item in [ItemKind::GIC_REDISTRIBUTOR, ItemKind::GIC_CPU_INTERFACE] {
            vcpu.items.insert(item, rows.clone());
        }
        vcpu
    };
    let mut vm = VmState::default();
    GicModel::V3.store(&mut vm);
    vm.items.insert(ItemKind::GIC_DISTRIBUTOR, rows.clone());
    MachineState {
        arch: Arch::Aarch64,
        hypervisor: Hypervisor::KVM,
        host: HostIdentity::bare(Arch::Aarch64, Hypervisor::KVM),
        vm,
        vcpus: (0..vcpus).map(vcpu).collect(),
    }
}

// Spec: ITEM-5
// Parity: A11
#[test]
fn the_timer_ids_that_kvm_swaps_get_their_true_names() {
    let name = |id| RegId::from_kvm(id).as_system().unwrap();
    assert_eq!(name(KVM_TIMER_CTL), SysReg::CNTV_CTL_EL0);
    assert_eq!(name(KVM_TIMER_CVAL), SysReg::CNTV_CVAL_EL0);
    assert_eq!(name(KVM_TIMER_CNT), SysReg::CNTVCT_EL0);
    let both = |register| RegId::from_system(register).to_kvm();
    assert_eq!(both(SysReg::CNTV_CVAL_EL0), KVM_TIMER_CVAL);
    assert_eq!(both(SysReg::CNTVCT_EL0), KVM_TIMER_CNT);
    assert_eq!(RegId::from_kvm(KVM_TIMER_CVAL).class(), RegClass::Timer);
    assert_eq!(RegId::from_kvm(KVM_TIMER_CNT).class(), RegClass::Counter);
}

// Spec: ITEM-4
#[test]
fn registers_have_the_numbers_of_kvm() {
    assert_eq!(RegId::general(3).unwrap().to_kvm(), 0x6030_0000_0010_0006);
    assert_eq!(RegId::PC.to_kvm(), 0x6030_0000_0010_0040);
    assert_eq!(RegId::PSTATE.to_kvm(), 0x6030_0000_0010_0042);
    assert_eq!(RegId::simd(1).unwrap().to_kvm(), 0x6040_0000_0010_0058);
    assert_eq!(RegId::FPSR.to_kvm(), 0x6020_0000_0010_00d4);
    assert_eq!(RegId::SVE_LENGTHS.to_kvm(), 0x6060_0000_0015_ffff);
    assert_eq!(RegId::MPIDR_EL1.to_kvm(), 0x6030_0000_0013_c005);
    assert_eq!((RegId::general(31), RegId::simd(32)), (None, None));
    let lengths = [RegId::FPSR, RegId::PC, RegId::simd(0).unwrap()].map(RegId::bytes);
    assert_eq!(lengths, [Some(4), Some(8), Some(16)]);
}

#[test]
fn stack_pointers_are_one_register_under_both_hypervisors() {
    for (register, id) in [
        (SysReg::SP_EL0, RegId::SP_EL0),
        (SysReg::SP_EL1, RegId::SP_EL1),
        (SysReg::ELR_EL1, RegId::ELR_EL1),
        (SysReg::SPSR_EL1, RegId::SPSR_EL1),
    ] {
        assert_eq!(RegId::from_system(register), id);
        assert_eq!(id.as_system(), Some(register));
        assert_eq!(id.class(), RegClass::Core);
    }
    assert_eq!(SysReg::SP_EL1.bits(), 0xe208);
    assert_eq!(SysReg::SP_EL1.to_string(), "s3_4_c4_c1_0");
}

#[test]
fn each_register_is_restored_in_the_step_of_its_kind() {
    let step = |register| RegId::from_system(register).restored_in();
    assert_eq!(step(SysReg::CNTV_CVAL_EL0), Some(RegStep::Timers));
    assert_eq!(step(SysReg::CNTVCT_EL0), Some(RegStep::Counter));
    assert_eq!(step(SysReg::CNTP_TVAL_EL0), None);
    assert_eq!(step(SysReg::ICC_RPR_EL1), None);
    assert_eq!(step(SysReg::MIDR_EL1), Some(RegStep::System));
    assert_eq!(RegId::PC.restored_in(), Some(RegStep::Core));
    assert_eq!(RegId::SVE_LENGTHS.restored_in(), Some(RegStep::SveLengths));
    let vector = RegId::from_code(0x6080_0000_0015_0000);
    assert_eq!(vector.class(), RegClass::Vector);
    let firmware = RegId::from_code(0x6030_0000_0014_0000);
    assert_eq!(firmware.class(), RegClass::Firmware);
}

#[test]
fn the_power_of_a_vcpu_is_kept_as_it_was() {
    let mut vcpu = VcpuState::default();
    assert_eq!(PowerState::of(&vcpu), None);
    for power in [PowerState::On, PowerState::Off, PowerState::Suspended] {
        power.store(&mut vcpu);
        assert_eq!(PowerState::of(&vcpu), Some(power));
    }
    vcpu.items.insert(ItemKind::MP_STATE, vec![1, 0, 0, 0]);
    assert_eq!(PowerState::of(&vcpu), None);
}

#[test]
fn affinity_names_a_vcpu_and_its_redistributor() {
    let vcpu = Mpidr::new(0x01_8102_0304);
    assert_eq!(vcpu.affinity(), 0x01_0002_0304);
    assert_eq!(vcpu.vgic(), 0x0102_0304_0000_0000);
    assert_eq!(vcpu.to_string(), "1.2.3.4");
}

#[test]
fn every_register_of_a_controller_is_named_once() {
    let vcpu = Mpidr::new(5);
    for attrs in [
        distributor_attrs(288),
        redistributor_attrs(vcpu),
        v2_distributor_attrs(96, 2),
        ITS_ATTRS.to_vec(),
    ] {
        let unique: BTreeSet<_> = attrs.iter().collect();
        assert_eq!(unique.len(), attrs.len());
    }
    // 256 shared interrupts: routes take 64 bits each, priorities 8, the others 1 or 2.
    assert_eq!(distributor_attrs(288).len(), 3 + 4 * 8 + 16 + 64 + 512);
    assert_eq!(distributor_attrs(288)[..2], [0x8, 0x0]);
    assert!(redistributor_attrs(vcpu).iter().all(|attr| attr >> 32 == 5));
    assert!(!ITS_ATTRS.contains(&ITS_CONTROL_ATTR));
}

#[test]
fn what_switches_on_comes_after_what_it_switches() {
    let place = |attrs: &[u64], attr: u64| attrs.iter().position(|a| a & 0xf_ffff == attr).unwrap();
    let redistributor = redistributor_attrs(Mpidr::new(0));
    assert!(place(&redistributor, 0x70) < place(&redistributor, 0x0));
    assert!(place(&redistributor, 0x78) < place(&redistributor, 0x0));
    // The base of the queue resets where it is read.
    assert!(place(&ITS_ATTRS, 0x80) < place(&ITS_ATTRS, 0x90));
    for bits in [5, 6, 7] {
        let order = interface_order(bits);
        assert_eq!(order.len(), 7 + 2 * (1 << (bits - 5)));
        assert_eq!(order.first(), Some(&SysReg::ICC_SRE_EL1));
        assert_eq!(order.last(), Some(&SysReg::ICC_IGRPEN1_EL1));
    }
}

#[test]
fn registers_that_only_set_bits_are_cleared_before() {
    let row = |attr| GicRow { attr, value: 6 };
    let (clear, write) = restore_writes(row(0x104));
    assert_eq!((clear.unwrap().attr, write), (0x184, row(0x104)));
    assert_eq!(restore_writes(row(0x300)).0.unwrap().attr, 0x380);
    assert!(restore_writes(row(0x200)).0.is_none());
    assert!(restore_writes(row(0x400)).0.is_none());
}

#[test]
fn a_whole_state_passes_and_each_fault_is_named() {
    assert_eq!(check(&state(3)), Ok(()));
    #[track_caller]
    fn refused(change: impl FnOnce(&mut MachineState)) -> Aarch64Error {
        let mut state = state(2);
        change(&mut state);
        check(&state).unwrap_err()
    }
    let code = RegId::MPIDR_EL1.code();
    let no_affinity = refused(|state| drop(state.vcpus[1].regs.remove(&code)));
    assert_eq!(no_affinity, Aarch64Error::NoAffinity { vcpu: 1 });
    let same = refused(|state| assert!(state.vcpus[1].set_reg(RegId::MPIDR_EL1, 0)));
    assert!(matches!(
        same,
        Aarch64Error::SameAffinity {
            first: 0,
            second: 1,
            ..
        }
    ));
    let short = refused(|state| {
        let code = RegId::PC.code();
        state.vcpus[0].regs.insert(code, vec![0; 4]);
    });
    assert!(matches!(
        short,
        Aarch64Error::RegisterLength { found: 4, .. }
    ));
    let alien = refused(|state| drop(state.vcpus[0].regs.insert(5, vec![0; 8])));
    assert_eq!(alien, Aarch64Error::NoRegister { vcpu: 0, code: 5 });
    let vectors = refused(|state| {
        let vector = 0x6080_0000_0015_0000;
        state.vcpus[0].regs.insert(vector, vec![0; 256]);
    });
    assert_eq!(vectors, Aarch64Error::NoVectorLengths { vcpu: 0 });
    let power = refused(|state| drop(state.vcpus[1].items.remove(&ItemKind::MP_STATE)));
    assert_eq!(power, Aarch64Error::Power { vcpu: 1 });
}

#[test]
fn a_machine_has_one_interrupt_controller_and_all_of_it() {
    #[track_caller]
    fn refused(change: impl FnOnce(&mut MachineState)) -> Aarch64Error {
        let mut state = state(1);
        change(&mut state);
        check(&state).unwrap_err()
    }
    let none = refused(|state| drop(state.vm.items.remove(&ItemKind::GIC_MODEL)));
    assert_eq!(none, Aarch64Error::NoGic);
    // A GICv3 does not turn into a GICv2, nor into Apple's.
    for model in [GicModel::V2, GicModel::Apple] {
        let other = refused(|state| model.store(&mut state.vm));
        assert!(matches!(other, Aarch64Error::OtherGic { .. }), "{other}");
    }
    let item = ItemKind::GIC_REDISTRIBUTOR;
    let lacks = refused(|state| drop(state.vcpus[0].items.remove(&item)));
    assert!(matches!(lacks, Aarch64Error::GicItem { item: found, .. } if found == item));
    let torn = refused(|state| drop(state.vcpus[0].items.insert(item, vec![0; 17])));
    assert_eq!(torn, Aarch64Error::GicRows { item });
}

#[test]
fn the_counter_goes_on_where_it_stopped_or_by_the_time_that_passed() {
    let mut vm = VmState::default();
    let counters = Counters::new(1000, 400, 24_000_000);
    counters.store(&mut vm);
    assert_eq!(Counters::of(&vm, 24_000_000), Some(counters));
    // Another host, whose counter began later: the offset is negative.
    let offset = counters.offset_at(50, GuestTime::Continue);
    assert_eq!(50_u64.wrapping_sub(offset), 600);
    let second = GuestTime::Advance {
        nanos: 1_000_000_000,
    };
    let offset = counters.offset_at(50, second);
    assert_eq!(50_u64.wrapping_sub(offset), 24_000_600);
    // A physical timer 10 ticks ahead stays so, or has come due.
    let compare = counters.physical_compare_at(50, 1010, GuestTime::Continue);
    assert_eq!(compare, 60);
}

proptest! {
    #[test]
    fn ids_go_in_and_out_unchanged(id in any::<u64>()) {
        prop_assert_eq!(RegId::from_kvm(id).to_kvm(), id);
        prop_assert_eq!(RegId::from_code(id).code(), id);
    }

    #[test]
    fn no_system_register_is_lost_between_the_hypervisors(bits in any::<u16>()) {
        let register = SysReg::from_bits(bits);
        prop_assert_eq!(RegId::from_system(register).as_system(), Some(register));
    }

    // Parity: A8
    #[test]
    fn the_counter_never_steps_back(host in any::<u64>(), guest in 0..u64::MAX / 2,
                                    later in any::<u64>(), nanos in 0..u64::MAX / 64) {
        let counters = Counters::new(host, host.wrapping_sub(guest), 24_000_000);
        for time in [GuestTime::Continue, GuestTime::Advance { nanos }] {
            let shown = later.wrapping_sub(counters.offset_at(later, time));
            prop_assert!(shown >= guest);
        }
    }

    #[test]
    fn rows_come_back_as_they_were(rows in prop::collection::vec(any::<(u64, u64)>(), 0..20)) {
        let rows: Vec<_> = rows.into_iter().map(|(attr, value)| GicRow { attr, value }).collect();
        prop_assert_eq!(decode_rows(&encode_rows(&rows)), Some(rows));
    }
}
