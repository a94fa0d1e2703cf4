//! Model-specific registers against a model of what KVM resets when one of them is written.

use std::collections::{BTreeMap, BTreeSet};

use coldframe_hv::x86_64::msr::{
    FEATURES, LostMsr, MEMORY_MSRS, MsrStep, WritesMemory, is_hyper_v, lost, restored_in,
};

const PERF_CAPABILITIES: u32 = 0x345;

/// Registers of a vCPU as KVM keeps them: a new value of IA32_PERF_CAPABILITIES resets the PMU
/// (Linux arch/x86/kvm/pmu.c, `kvm_pmu_refresh`), one that is equal is passed over.
#[derive(Default)]
struct Vcpu {
    values: BTreeMap<u32, u64>,
    ram_writes: Vec<u32>,
}

impl Vcpu {
    fn write(&mut self, index: u32, value: u64) {
        let was = self.values.insert(index, value).unwrap_or(0);
        if index == PERF_CAPABILITIES && was != value {
            const PMU: [std::ops::Range<u32>; 4] =
                [0xc1..0xc9, 0x186..0x18e, 0x309..0x312, 0x38d..0x390];
            let is_pmu = |index| PMU.iter().any(|range| range.contains(&index));
            self.values.retain(|index, _| !is_pmu(*index));
        }
        if matches!(index, 0x11 | 0x4b56_4d00) && value != 0 {
            self.ram_writes.push(index);
        }
    }

    fn read(&self, wanted: impl Iterator<Item = u32>) -> BTreeMap<u32, u64> {
        let value = |index| (index, self.values.get(&index).copied().unwrap_or(0));
        wanted.map(value).collect()
    }
}

fn saved() -> BTreeMap<u32, u64> {
    [
        (0x10, 5_000),
        (0x11, 0x20_0000),
        (0x3a, 5),
        (0xc1, 123),
        (0x186, 0x53_00c0),
        (0x309, 77),
        (PERF_CAPABILITIES, 0x2000),
        (0x38f, 7),
        (0x6e0, 9_000),
        (0x4b56_4d00, 0x20_0000),
        (0xc001_1029, 2),
    ]
    .into()
}

/// The steps of an adapter, in their order.
const STEPS: [MsrStep; 4] = [
    MsrStep::Features,
    MsrStep::Msrs,
    MsrStep::Tsc,
    MsrStep::TscDeadline,
];

/// Writes `saved` as the steps of a restore do.
fn by_plan(vcpu: &mut Vcpu, saved: &BTreeMap<u32, u64>) {
    let listed = BTreeSet::new();
    for step in STEPS {
        for (index, value) in saved {
            if restored_in(*index, &listed) == step {
                vcpu.write(*index, *value);
            }
        }
    }
}

#[test]
fn what_a_write_resets_is_written_after_it() {
    let saved = saved();
    let mut vcpu = Vcpu::default();
    by_plan(&mut vcpu, &saved);
    let found = vcpu.read(saved.keys().copied());
    assert_eq!(lost(&saved, &found), []);
    assert_eq!(found[&0x186], 0x53_00c0);
}

/// The order that was there before: all in rising number.
#[test]
fn a_planted_order_is_found_by_reading_back() {
    let saved = saved();
    let mut vcpu = Vcpu::default();
    for (index, value) in &saved {
        vcpu.write(*index, *value);
    }
    let found = vcpu.read(saved.keys().copied());
    let names: Vec<u32> = lost(&saved, &found).iter().map(|row| row.index).collect();
    assert_eq!(names, [0xc1, 0x186, 0x309]);
    let first = lost(&saved, &found)[0];
    let expected = LostMsr {
        index: 0xc1,
        saved: 123,
        found: Some(0),
    };
    assert_eq!(first, expected);
}

#[test]
fn a_register_that_cannot_be_read_back_is_lost_and_a_counter_is_not() {
    let saved = saved();
    let mut found = saved.clone();
    found.remove(&0x3a);
    // These go on by themselves, or have a step of their own.
    found.extend([(0x10, 9), (0x6e0, 0), (0x11, 0), (0x4b56_4d00, 0)]);
    let rows = lost(&saved, &found);
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].index, rows[0].found), (0x3a, None));
}

#[test]
fn features_come_first_whoever_lists_them() {
    let listed = [0x1234].into();
    for index in FEATURES.iter().chain(&[0x1234]) {
        assert_eq!(
            restored_in(*index, &listed),
            MsrStep::Features,
            "{index:#x}"
        );
    }
    assert_eq!(restored_in(0x1234, &BTreeSet::new()), MsrStep::Msrs);
    assert_eq!(restored_in(0x10, &listed), MsrStep::Tsc);
    assert_eq!(restored_in(0x6e0, &listed), MsrStep::TscDeadline);
}

#[test]
fn no_step_of_the_adapter_writes_guest_memory_by_a_register() {
    let mut vcpu = Vcpu::default();
    by_plan(&mut vcpu, &saved());
    assert_eq!(vcpu.ram_writes, [0; 0]);
    for row in MEMORY_MSRS {
        let op = restored_in(row.index, &BTreeSet::new());
        assert!(row.rule.starts_with(&format!("{op:?}:")), "{}", row.name);
        // What the plan leaves to the adapter is KVM's to write at any entry, or changes nothing.
        if row.when == WritesMemory::AtTheWrite && op != MsrStep::WallClock {
            assert!(is_hyper_v(row.index), "{}", row.name);
        }
    }
}
