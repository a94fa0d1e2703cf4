//! Every record cut at every length and with every bit of its head flipped.

use coldframe_block::Record;
use coldframe_envelope::DecodeErrorKind as Error;
use coldframe_testkit::alloc::assert_alloc_bounded;
use coldframe_testkit::hostile::{check_bit_flips, check_truncations};
use coldframe_testkit::rng::Rng;

use crate::record::{check, check_raw};
use crate::sample::{all, encode};

// Spec: BLK-40, BLK-42
#[test]
fn every_truncation_is_refused() {
    for (name, record) in all() {
        let bytes = encode(&record);
        assert!(check_raw(&bytes));
        check_truncations(&bytes, &mut |cut| {
            // A shorter name is another name: the log's own digest is what protects it.
            let name_at = match name {
                "base" => 56,
                "base_identified" => 88,
                _ => usize::MAX,
            };
            let is_named = cut.len() > name_at;
            assert_eq!(check_raw(cut), is_named);
        });
    }
}

// Spec: BLK-40
#[test]
fn flipped_bits_are_refused_or_are_another_record() {
    for (_, record) in all() {
        let bytes = encode(&record);
        check_bit_flips(&bytes[..bytes.len().min(64)], &mut |damaged| {
            let mut whole = damaged.to_vec();
            whole.extend_from_slice(&bytes[damaged.len()..]);
            assert_alloc_bounded(1 << 14, || {
                check_raw(&whole);
            });
            assert_ne!(Record::decode(&whole), Ok(record));
        });
    }
}

#[track_caller]
fn refused(record: Record<'_>, change: impl FnOnce(&mut Vec<u8>)) -> Error {
    let mut bytes = encode(&record);
    change(&mut bytes);
    Record::decode(&bytes).unwrap_err().kind
}

// Spec: BLK-41, BLK-42, BLK-43, BLK-44
// Parity: D28b
#[test]
fn each_rule_is_refused_by_name() {
    let [(_, base), (_, write), (_, zero), (_, resize), _] = all();
    let put = |at: usize, value: u64| {
        move |bytes: &mut Vec<u8>| bytes[at..at + 8].copy_from_slice(&value.to_le_bytes())
    };
    let invalid = |field| Error::Invalid { field };
    assert_eq!(refused(write, put(8, 5)), invalid("at"));
    assert_eq!(
        refused(write, put(8, u64::MAX / 4096 * 4096)),
        invalid("at")
    );
    assert_eq!(refused(write, put(16, 0)), invalid("len"));
    assert_eq!(refused(write, put(16, 8192)), invalid("len"));
    assert!(matches!(
        refused(write, put(16, 2 << 20)),
        Error::LimitExceeded { .. }
    ));
    assert_eq!(refused(zero, put(16, 4097)), invalid("len"));
    assert_eq!(refused(zero, put(16, 1 << 60)), invalid("len"));
    assert!(matches!(
        refused(zero, |b| b.push(0)),
        Error::TrailingBytes { .. }
    ));
    assert!(matches!(
        refused(resize, |b| b.push(0)),
        Error::TrailingBytes { .. }
    ));
    assert_eq!(refused(resize, put(8, 1)), Error::ReservedNotZero);
    assert!(matches!(
        refused(resize, put(16, (1 << 60) + 1)),
        Error::LimitExceeded { .. }
    ));
    assert_eq!(refused(base, |b| b[60] = b' '), invalid("head"));
    assert_eq!(refused(base, |b| b.truncate(56)), invalid("head"));
    assert_eq!(refused(base, |b| b.resize(56 + 129, b'a')), invalid("head"));
    assert!(matches!(
        refused(base, |b| b.truncate(55)),
        Error::Truncated { .. }
    ));
    assert_eq!(refused(base, |b| b[5] = 1), Error::ReservedNotZero);
}

#[test]
fn random_bytes_never_panic() {
    let mut rng = Rng::new(4);
    for len in 0..400 {
        check(&rng.bytes(len));
    }
}
