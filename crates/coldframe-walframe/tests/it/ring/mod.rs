//! The framing of the ring.

use coldframe_envelope::{DecodeErrorKind as Kind, Version};
use coldframe_testkit::golden::{assert_golden, golden};
use coldframe_testkit::hostile::{check_bit_flips, check_truncations};
use coldframe_walframe::ring::{
    Control, EncodeError, End, Gap, Geometry, RecordHeader, RecordKind, RegionId, SliceSource,
    Step, choose, record_extent,
};
use proptest::prelude::*;

const GOLDEN: &str = "tests/golden/v1/ring.bin";
const RING: u64 = 512;

/// A control block, then its ring: a record in the middle of the first lap, a gap, a record that
/// straddles the end, an empty one.
fn sample() -> (Control, Vec<u8>) {
    let mut control = Control::new(RegionId::from_bytes(*b"golden region id"), RING).unwrap();
    control.open_epoch().unwrap();
    control.tail_position = 256;
    control.tail_sequence = 4;
    control.resume_sequence = 5;
    let mut records = Vec::new();
    let payloads: [(u64, &[u8]); 3] = [(5, b"five"), (8, &[8; 100]), (9, b"")];
    for (sequence, payload) in payloads {
        let position = 256 + records.len() as u64;
        RecordHeader::data(control.epoch, sequence, position, sequence - 1)
            .encode(&control.key(), payload, &mut records)
            .unwrap();
        if sequence == 5 {
            let gap = RecordHeader {
                sequence: 6,
                position: 256 + records.len() as u64,
                length: 0,
                epoch: control.epoch,
                unsynced: 2,
                kind: RecordKind::Gap,
            };
            gap.encode(&control.key(), &[0xee; 80], &mut records)
                .unwrap();
        }
    }
    let mut ring = vec![0; RING as usize];
    let (head, tail) = records.split_at(256);
    ring[256..].copy_from_slice(head);
    ring[..tail.len()].copy_from_slice(tail);
    (control, ring)
}

fn sample_bytes() -> Vec<u8> {
    let (control, ring) = sample();
    [&control.encode()[..], &ring].concat()
}

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Record(u64, Vec<u8>),
    Gap(Gap),
}

fn scan(control: &Control, ring: &[u8]) -> (Vec<Seen>, End) {
    let mut source = SliceSource::new(ring, control.geometry());
    let (mut scan, mut seen) = (control.scan(), Vec::new());
    loop {
        match scan.step(&mut source).unwrap() {
            Step::Record(r) => seen.push(Seen::Record(r.header.sequence, r.payload.to_vec())),
            Step::Gap(gap) => seen.push(Seen::Gap(gap)),
            Step::End(end) => return (seen, end),
        }
    }
}

fn expected() -> Vec<Seen> {
    vec![
        Seen::Record(5, b"five".to_vec()),
        Seen::Gap(Gap {
            position: 320,
            sequence: 6,
            lost: 2,
            bytes: 128,
        }),
        Seen::Record(8, vec![8; 100]),
        Seen::Record(9, Vec::new()),
    ]
}

// Spec: RING-4, RING-10
#[test]
fn todays_encoder_writes_the_golden_of_version_1() {
    assert_golden(GOLDEN, &sample_bytes());
}

// Spec: RING-11, RING-13, RING-62
#[test]
fn the_golden_has_its_known_value() {
    let bytes = golden(GOLDEN);
    let control = Control::decode(&bytes).unwrap();
    assert_eq!(control, sample().0);
    let (seen, end) = scan(&control, &bytes[128..]);
    assert_eq!(seen, expected());
    assert_eq!(
        end,
        End::Clean {
            position: 256 + 400
        }
    );
}

// Spec: RING-4
// Parity: F64
#[test]
fn the_first_bytes_are_frozen() {
    let bytes = sample_bytes();
    let prefix = [
        0x89, b'C', b'F', b'W', b'\r', b'\n', 0x1a, b'\n', // magic
        1, 0, 0, 0, 0, 0, 0, 0, // major, minor, flags
        2, 0, 0, 0, 0, 0, 0, 0, // generation
    ];
    assert_eq!(bytes[..24], prefix);
    let record = &bytes[128 + 256 + 16..128 + 256 + 52];
    let fields = [
        5, 0, 0, 0, 0, 0, 0, 0, // sequence
        0, 1, 0, 0, 0, 0, 0, 0, // position
        4, 0, 0, 0, 1, 0, 0, 0, // length, epoch
        1, 0, 0, 0, 1, 1, 0, 0, // unsynced, kind, version, reserved
        b'f', b'i', b'v', b'e',
    ];
    assert_eq!(record, fields);
}

// Spec: RING-4, RING-5
// Parity: F64
#[test]
#[cfg_attr(miri, ignore = "too slow under Miri")]
fn every_flipped_bit_of_a_control_block_is_found() {
    let block = sample().0.encode();
    check_bit_flips(&block, &mut |damaged| {
        assert!(Control::decode(damaged).is_err());
        let chosen = choose([damaged, &block]).unwrap();
        assert_eq!(chosen.control, sample().0);
        assert!(!chosen.is_whole());
    });
    check_truncations(&block, &mut |cut| assert!(Control::decode(cut).is_err()));
}

// Spec: RING-10, RING-23
#[test]
#[cfg_attr(miri, ignore = "too slow under Miri")]
fn every_flipped_bit_of_a_ring_leaves_records_or_an_end_before_them() {
    let (control, ring) = sample();
    check_bit_flips(&ring, &mut |damaged| {
        let (seen, end) = scan(&control, damaged);
        assert_eq!(seen[..], expected()[..seen.len()]);
        let all = seen.len() == expected().len();
        assert!(all || !matches!(end, End::Clean { .. }));
    });
}

// Spec: RING-12
// Parity: F60
#[test]
fn a_record_is_sound_only_in_its_place_and_its_region() {
    let (control, _) = sample();
    let mut bytes = Vec::new();
    let header = RecordHeader::data(1, 5, 256, 4);
    let header = header.encode(&control.key(), b"x", &mut bytes).unwrap();
    assert_eq!(header.check(&control.key(), &bytes), Some(&b"x"[..]));
    let other = Control::new(RegionId::from_bytes([1; 16]), RING).unwrap();
    assert_eq!(header.check(&other.key(), &bytes), None);
    for position in [0, 256 + RING, 272] {
        let moved = RecordHeader { position, ..header };
        assert_eq!(moved.check(&control.key(), &bytes), None);
    }
}

// Spec: RING-4
// Parity: F64
#[test]
fn a_newer_major_version_is_unsupported_and_not_corrupt() {
    let mut block = sample().0.encode();
    block[8] = 2;
    let error = Control::decode(&block).unwrap_err();
    let version = |major| Version { major, minor: 0 };
    let (found, min, max) = (version(2), version(1), version(1));
    assert_eq!(error.kind, Kind::Unsupported { found, min, max });
    assert!(
        choose([&block, &[0; 128]])
            .unwrap_err()
            .is_unsupported_version()
    );
    assert!(choose([&[0; 128], &[0; 128]]).unwrap_err().is_foreign());
}

// Spec: RING-4
#[test]
fn a_block_whose_write_ended_behind_the_magic_is_corrupt() {
    let mut block = sample().0.encode();
    block[8..].fill(0);
    let error = Control::decode(&block).unwrap_err();
    assert_eq!(error.kind, Kind::HeaderChecksum);
    assert!(choose([&block, &[0; 128]]).unwrap_err().is_corrupt());
    // With the rest of it, too: there is no version 0.
    let mut block = sample().0.encode();
    block[8] = 0;
    assert_eq!(
        Control::decode(&block).unwrap_err().kind,
        Kind::HeaderChecksum
    );
}

// Spec: RING-35
#[test]
fn counters_that_are_used_up_say_so() {
    let (mut control, _) = sample();
    control.epoch = u32::MAX;
    assert!(matches!(
        control.open_epoch(),
        Err(EncodeError::Exhausted { .. })
    ));
    control.generation = u64::MAX;
    assert!(matches!(
        control.advance(),
        Err(EncodeError::Exhausted { .. })
    ));
    for len in [0, 32, 47, 50, u64::MAX - 15] {
        assert!(Control::new(RegionId::from_bytes([0; 16]), len).is_err());
    }
}

fn geometry(ring: u64, base: u64) -> Geometry {
    let mut control = Control::new(RegionId::from_bytes([0; 16]), ring).unwrap();
    control.base = base;
    control.geometry()
}

proptest! {
    // Spec: RING-11
    #[test]
    fn parts_cover_a_range_byte_for_byte(
        ring in 3..64_u64, base in 0..100_u64, from in 0..500_u64, len in 0..64_u64,
    ) {
        let (ring, base) = (ring * 16, base * 16);
        let geometry = geometry(ring, base);
        let (position, len) = (base + from * 16, (len * 16).min(ring));
        let (first, rest) = geometry.parts(position, len);
        prop_assert_eq!(first.len + rest.len, len);
        for byte in 0..len {
            let offset = if byte < first.len { first.offset + byte } else { byte - first.len };
            prop_assert_eq!(offset, geometry.offset_of(position + byte));
            prop_assert_eq!(geometry.lap_of(position), (position - base) / ring);
        }
    }

    // Spec: RING-26
    #[test]
    fn any_bytes_can_be_scanned(
        ring in prop::collection::vec(any::<u8>(), 0..2000), synced in 0..9_u64,
    ) {
        let (mut control, _) = sample();
        control.closed = false;
        control.synced_sequence = synced;
        let (seen, end) = scan(&control, &ring);
        prop_assert!(seen.is_empty());
        let corrupt = matches!(end, End::Corrupt { .. });
        prop_assert_eq!(corrupt, synced >= 5);
    }
}

#[test]
fn extents_are_whole_multiples_of_16() {
    for (len, extent) in [(0, 48), (1, 64), (16, 64), (17, 80)] {
        assert_eq!(record_extent(len), extent);
    }
}
