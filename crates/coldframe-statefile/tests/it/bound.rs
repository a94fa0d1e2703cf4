//! What the codec may ask for before the counts can be checked.

use coldframe_envelope::DecodeErrorKind as Kind;
use coldframe_statefile::VCPU;
use coldframe_statefile::schema::v1::VcpuV1;
use coldframe_testkit::alloc::{alloc_peak, assert_alloc_bounded};

use crate::sample::{decode, vcpu, with_body};

/// A vCPU with as many equal, empty items as `count`: the densest that the codec makes.
fn dense(count: usize) -> Vec<u8> {
    let body = VcpuV1 {
        items: vec![(0, Vec::new()); count],
        ..vcpu(0)
    };
    bitcode::encode(&body)
}

// Spec: STATE-14, CONV-6
#[test]
fn dense_body_is_refused_within_the_stated_bound() {
    let body = dense(1 << 18);
    let file = with_body(VCPU, &body);
    let (kind, peak) = alloc_peak(|| decode(&file).unwrap().vcpus().unwrap_err().kind);
    assert!(matches!(kind, Kind::LimitExceeded { what: "items", .. }));
    assert!(peak > 100 * body.len(), "the test is not hostile: {peak}");
    assert!(peak <= 160 * body.len(), "{peak} of {}", body.len());
}

// Spec: STATE-13, CONV-6
#[test]
fn body_over_its_limit_never_reaches_the_codec() {
    let file = with_body(VCPU, &vec![0; (1 << 20) + 1]);
    let state = decode(&file).unwrap();
    let kind = assert_alloc_bounded(0, || state.vcpus().unwrap_err().kind);
    let (what, limit, found) = ("body length in bytes", 1 << 20, (1 << 20) + 1);
    assert_eq!(kind, Kind::LimitExceeded { what, limit, found });
}
