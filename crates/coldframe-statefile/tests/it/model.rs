//! Random states against the values that they were made from.

use std::collections::BTreeMap;

use coldframe_envelope::SectionFlags;
use coldframe_statefile::StateBuilder;
use coldframe_statefile::schema::v1::{DeviceV1, HostV1, MachineV1, VcpuV1};
use coldframe_units::Arch;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;

use crate::sample::{CLOCK, decode, host, producer};

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![vec(any::<u8>(), 0..64), vec(Just(0_u8), 0..512)]
}

fn any_host() -> impl Strategy<Value = HostV1> {
    let lists = (
        btree_map(any::<u64>(), any::<u64>(), 0..20),
        btree_set(any::<u32>(), 0..300),
        btree_map(any::<u32>(), any::<i64>(), 0..20),
    );
    let plain = (
        "\\PC{0,60}",
        any::<u32>(),
        option::of(any::<u32>()),
        option::of(any::<u64>()),
        12_u8..=30,
    );
    (lists, plain).prop_map(
        |((ids, msrs, caps), (text, xsave, tsc, counter, log2))| HostV1 {
            brand: text,
            id_registers: ids.into_iter().collect(),
            msr_indexes: msrs.into_iter().collect(),
            xsave_bytes: xsave,
            tsc_khz: tsc,
            counter_hz: counter,
            capabilities: caps.into_iter().collect(),
            page_size_log2: log2,
            ..host()
        },
    )
}

fn any_vcpu() -> impl Strategy<Value = VcpuV1> {
    let items = btree_map(any::<u32>(), bytes(), 0..8);
    let msrs = btree_map(any::<u32>(), any::<u64>(), 0..300);
    let regs = btree_map(any::<u64>(), bytes(), 0..300);
    (items, msrs, regs).prop_map(|(items, msrs, regs)| VcpuV1 {
        index: 0,
        items: items.into_iter().collect(),
        msrs: msrs.into_iter().collect(),
        regs: regs.into_iter().collect(),
    })
}

fn any_device() -> impl Strategy<Value = (u16, Vec<u8>)> {
    (any::<u16>(), bytes())
}

// Spec: STATE-12, CONV-4
proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    // Parity: F1, F20
    #[test]
    fn every_field_survives(
        host in any_host(),
        items in btree_map(any::<u32>(), bytes(), 0..8),
        vcpus in btree_map(any::<u32>(), any_vcpu(), 1..5),
        devices in btree_map(("[ -~]{1,20}", any::<u32>()), any_device(), 0..6),
    ) {
        let machine = MachineV1 {
            arch: Arch::X86_64.code(),
            hypervisor: host.hypervisor,
            items: items.into_iter().collect(),
        };
        let vcpus: Vec<VcpuV1> = vcpus
            .into_iter()
            .map(|(index, vcpu)| VcpuV1 { index, ..vcpu })
            .collect();
        let devices: Vec<DeviceV1> = devices
            .into_iter()
            .map(|((kind, instance), (version, bytes))| DeviceV1 { kind, instance, version, bytes })
            .collect();
        let mut builder = StateBuilder::new(Arch::X86_64, producer());
        builder.host(&host).unwrap();
        builder.machine(&machine).unwrap();
        vcpus.iter().rev().for_each(|vcpu| builder.vcpu(vcpu).unwrap());
        devices.iter().for_each(|device| builder.device(device).unwrap());
        let (file, root) = builder.finish().unwrap();

        let state = decode(&file).unwrap();
        prop_assert_eq!(state.root(), root);
        prop_assert_eq!(state.host(), Ok(host));
        prop_assert_eq!(state.machine(), Ok(machine));
        prop_assert_eq!(state.vcpus(), Ok(vcpus));
        prop_assert_eq!(state.devices(), Ok(devices));
        crate::reencode::check(&file);
    }

    #[test]
    fn typed_sections_hold_any_value(
        number in any::<u64>(),
        text in option::of("\\PC{0,20}"),
        map in btree_map(any::<u16>(), any::<bool>(), 0..20),
    ) {
        let value: (u64, Option<String>, BTreeMap<u16, bool>) = (number, text, map);
        let mut builder = StateBuilder::new(Arch::X86_64, producer());
        builder.typed(CLOCK, 1, 1, SectionFlags::MUST_UNDERSTAND, &value).unwrap();
        let (file, _) = builder.finish().unwrap();
        let read = decode(&file).unwrap().typed(CLOCK, 1, 1);
        prop_assert_eq!(read, Ok(value));
    }
}
