//! Golden files of every version: written once, read for ever.

use coldframe_testkit::golden::{assert_golden, golden};
use coldframe_units::Arch;

use crate::sample::{
    CLOCK, NOTES, decode, device, finish, foreign, host, imported, machine, metadata, producer,
    vcpu, whole,
};

// Spec: CONV-4
#[test]
fn todays_encoder_writes_the_goldens_of_version_1() {
    assert_golden("tests/golden/v1/machine.bin", &finish(whole()).0);
    assert_golden("tests/golden/v1/imported.bin", &finish(imported()).0);
    assert_golden("tests/golden/v1/foreign.bin", &finish(foreign()).0);
}

#[test]
fn goldens_are_under_4_kib() {
    for name in ["machine", "imported", "foreign"] {
        assert!(golden(format!("tests/golden/v1/{name}.bin")).len() < 4096);
    }
}

// Spec: STATE-1, STATE-12
#[test]
fn golden_machine_has_its_known_value() {
    let file = golden("tests/golden/v1/machine.bin");
    let state = decode(&file).unwrap();
    assert_eq!(state.arch(), Arch::X86_64);
    assert_eq!(state.header().producer, producer());
    assert_eq!(state.header().codec.to_string(), "bitcode 0.6");
    assert_eq!(state.host(), Ok(host()));
    assert_eq!(state.machine(), Ok(machine()));
    assert_eq!(state.vcpus(), Ok(vec![vcpu(0), vcpu(2)]));
    let devices = vec![device("serial", 0), device("virtio-blk", 1)];
    assert_eq!(state.devices(), Ok(devices));
    assert_eq!(state.metadata(), Ok(Some(metadata())));
    assert_eq!(state.typed::<(u32, u8)>(CLOCK, 0, 2), Ok((2026, 7)));
    assert_eq!(state.opaque(NOTES, 5).unwrap().body(), b"passed over");
}

// Spec: STATE-2
#[test]
fn golden_import_has_its_known_value() {
    let file = golden("tests/golden/v1/imported.bin");
    let state = decode(&file).unwrap();
    assert!(!state.has_machine());
    assert_eq!(state.arch(), Arch::Aarch64);
    assert_eq!(state.opaque(NOTES, 0).unwrap().body(), [0xfc; 100]);
    assert_eq!(state.metadata(), Ok(None));
    assert_eq!(state.devices(), Ok(Vec::new()));
    let error = state.vcpus().unwrap_err();
    assert!(error.to_string().contains("VCPU.0 is missing"), "{error}");
    assert!(state.host().is_err() && state.machine().is_err());
}

// Spec: STATE-10
#[test]
fn golden_of_another_hypervisor_has_its_known_value() {
    let file = golden("tests/golden/v1/foreign.bin");
    let state = decode(&file).unwrap();
    assert_eq!(state.header().version.to_string(), "1.1");
    assert_eq!(state.host().unwrap().hypervisor, 200);
    assert_eq!(state.machine().unwrap().hypervisor, 200);
    assert_eq!(state.vcpus(), Ok(vec![vcpu(0)]));
}
