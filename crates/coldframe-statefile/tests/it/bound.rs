//! What the codec may ask for before the counts can be checked.

use coldframe_envelope::DecodeErrorKind as Kind;
use coldframe_statefile::schema::v1::{DeviceV1, VcpuV1};
use coldframe_statefile::{DEVC, StateBuilder, VCPU};
use coldframe_testkit::alloc::{alloc_peak, assert_alloc_bounded};
use coldframe_units::Arch;

use crate::sample::{decode, device, host, machine, producer, vcpu, with_body};

/// A vCPU with as many equal, empty items as `count`: the densest that there is.
fn dense(count: usize) -> Vec<u8> {
    let body = VcpuV1 {
        items: vec![(0, Vec::new()); count],
        ..vcpu(0)
    };
    bitcode::encode(&body)
}

// Spec: STATE-14, CONV-6
#[test]
fn a_list_that_is_too_long_is_refused_before_anything_is_allocated_for_it() {
    let body = dense(1 << 18);
    let file = with_body(VCPU, &body);
    let state = decode(&file).unwrap();
    let kind = assert_alloc_bounded(1024, || state.vcpus().unwrap_err().kind);
    assert!(matches!(kind, Kind::LimitExceeded { what: "items", .. }));
}

/// The longest lists of the smallest elements.
// Spec: STATE-14, CONV-6
#[test]
fn dense_lists_within_their_limits_stay_within_the_stated_bound() {
    let rows = 4096;
    let body = VcpuV1 {
        items: (0..1024).map(|key| (key, Vec::new())).collect(),
        msrs: (0..rows).map(|key| (key, 0)).collect(),
        regs: (0..rows.into()).map(|key| (key, Vec::new())).collect(),
        ..vcpu(0)
    };
    let mut builder = StateBuilder::new(Arch::X86_64, producer());
    builder.host(&host()).unwrap();
    builder.machine(&machine()).unwrap();
    builder.vcpu(&body).unwrap();
    let (file, _) = builder.finish().unwrap();
    let state = decode(&file).unwrap();
    let (read, peak) = alloc_peak(|| state.vcpus());
    assert!(read == Ok(vec![body]));
    assert!(
        peak <= (1 << 20) + 20 * file.len(),
        "{peak} of {}",
        file.len()
    );
}

/// Bytes that take a bit each.
// Spec: STATE-14, CONV-6
#[test]
fn packed_bytes_stay_within_the_stated_bound() {
    let device = DeviceV1 {
        bytes: vec![1; 1 << 20],
        ..device("serial", 0)
    };
    let file = with_body(DEVC, &bitcode::encode(&device));
    let state = decode(&file).unwrap();
    let (_, peak) = alloc_peak(|| state.devices().map(|devices| devices.len()));
    assert!(
        peak <= (1 << 20) + 20 * file.len(),
        "{peak} of {}",
        file.len()
    );
}

// Spec: STATE-13, CONV-6
// Parity: F5
#[test]
fn body_over_its_limit_never_reaches_the_codec() {
    let file = with_body(VCPU, &vec![0; (1 << 20) + 1]);
    let state = decode(&file).unwrap();
    let kind = assert_alloc_bounded(0, || state.vcpus().unwrap_err().kind);
    let (what, limit, found) = ("body length in bytes", 1 << 20, (1 << 20) + 1);
    assert_eq!(kind, Kind::LimitExceeded { what, limit, found });
}
