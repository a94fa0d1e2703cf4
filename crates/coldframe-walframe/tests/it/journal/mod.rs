//! The framing of the journal: `specs/journal.md`.

use coldframe_envelope::{DecodeErrorKind as Kind, Producer, Version};
use coldframe_testkit::golden::assert_golden;
use coldframe_testkit::hostile::{check_bit_flips, check_truncations};
use coldframe_walframe::journal::{
    BatchItems, PART_VERSION, PartHeader, PartId, PartKey, RecordHeader, Schema, TypeId,
    item_header, padded_len, seal_record, turned_over,
};

const NOTE: TypeId = TypeId::must_understand(0x1001);

fn part() -> PartHeader {
    PartHeader {
        version: PART_VERSION,
        schema: Schema::new("sample"),
        id: PartId([0xa5; 16]),
        producer: Producer::new("golden", "0.1.0").unwrap(),
    }
}

fn record(position: u64, type_id: TypeId, unsynced: u64, payload: &[u8]) -> Vec<u8> {
    let size = payload.len() as u64;
    let mut record = vec![0; 32 + padded_len(size) as usize];
    record[32..32 + payload.len()].copy_from_slice(payload);
    let key = PartKey::new(part().id);
    seal_record(&key, position, type_id, unsynced, size, &mut record);
    record
}

/// A part with a record, a batch of two entries, and a seal.
fn sample() -> Vec<u8> {
    let mut bytes = part().encode().to_vec();
    bytes.extend(record(112, NOTE, 0, b"hello"));
    let mut batch = Vec::new();
    for payload in [&b"one"[..], b"0123456789abcdef"] {
        batch.extend(item_header(NOTE, payload.len() as u64));
        batch.extend(payload);
        batch.resize(batch.len().next_multiple_of(16), 0);
    }
    let position = bytes.len() as u64;
    bytes.extend(record(position, TypeId::BATCH, 48, &batch));
    let position = bytes.len() as u64;
    bytes.extend(record(
        position,
        TypeId::SEAL,
        0,
        &turned_over(part().encode()),
    ));
    bytes
}

// Spec: JRNL-1, JRNL-3, JRNL-14
#[test]
fn part_with_record_batch_and_seal_is_the_golden() {
    assert_golden("tests/golden/v1/journal.bin", &sample());
}

// Spec: JRNL-2
#[test]
fn first_bytes_of_a_part_are_frozen() {
    let bytes = part().encode();
    let prefix = [
        0x89, b'C', b'F', b'J', b'\r', b'\n', 0x1a, b'\n', // magic
        1, 0, 0, 0, 0, 0, 8, 0, // version, release of the codec
        b'r', b'k', b'y', b'v', b'-', b'l', b'e', b'4', // codec
        b's', b'a', b'm', b'p', b'l', b'e', 0, 0, // schema
    ];
    assert_eq!(bytes[..32], prefix);
    assert_eq!(bytes[32..48], [0xa5; 16]);
    assert_eq!(&bytes[48..61], b"golden 0.1.0\0");
    assert_eq!(PartHeader::decode(&bytes).unwrap(), part());
}

// Spec: JRNL-2
#[test]
fn every_flipped_bit_and_every_cut_of_a_part_header_is_refused() {
    let bytes = part().encode();
    check_bit_flips(&bytes, &mut |damaged| {
        assert!(PartHeader::decode(damaged).is_err());
    });
    check_truncations(&bytes, &mut |cut| {
        assert!(PartHeader::decode(cut).is_err());
    });
}

// Spec: JRNL-2
// Parity: F48
#[test]
fn another_major_version_is_unsupported_and_a_later_minor_is_read() {
    let mut later = part();
    later.version = Version { major: 1, minor: 9 };
    assert_eq!(PartHeader::decode(&later.encode()).unwrap(), later);
    later.version.major = 2;
    let error = PartHeader::decode(&later.encode()).unwrap_err();
    assert!(error.is_unsupported_version(), "{error}");
}

// Spec: JRNL-4
#[test]
fn record_is_refused_with_any_bit_flipped() {
    let key = PartKey::new(part().id);
    let check = |bytes: &[u8]| {
        let header = RecordHeader::decode(bytes, &key, 112)?;
        header.check(&key, &bytes[32..]).map(<[u8]>::to_vec)
    };
    let bytes = record(112, NOTE, 16, b"hello");
    assert_eq!(check(&bytes).unwrap(), b"hello");
    check_bit_flips(&bytes, &mut |damaged| assert!(check(damaged).is_err()));
    check_truncations(&bytes, &mut |cut| {
        let header = RecordHeader::decode(cut, &key, 112);
        assert!(header.is_err() || cut.len() >= 32 && check(cut).is_err());
    });
}

// Spec: JRNL-4
#[test]
fn record_of_another_place_or_part_is_refused() {
    let key = PartKey::new(part().id);
    let bytes = record(112, NOTE, 0, b"hello");
    for position in [0, 96, 128, u64::MAX] {
        let error = RecordHeader::decode(&bytes, &key, position).unwrap_err();
        assert_eq!(error.kind, Kind::HeaderChecksum);
    }
    let other = PartKey::new(PartId([0xa4; 16]));
    assert!(RecordHeader::decode(&bytes, &other, 112).is_err());
}

// Spec: JRNL-3
#[test]
fn unsynced_distance_is_kept_or_saturates() {
    let key = PartKey::new(part().id);
    let unsynced = |distance| {
        let bytes = record(112, NOTE, distance, &[]);
        RecordHeader::decode(&bytes, &key, 112).unwrap().unsynced
    };
    assert_eq!([unsynced(0), unsynced(16), unsynced(17)], [0, 16, 32]);
    assert_eq!(unsynced(u64::MAX), u64::MAX);
    assert_eq!(unsynced(1 << 40), u64::MAX);
}

// Spec: JRNL-10
#[test]
fn batch_items_are_bounded_by_their_record() {
    let mut batch = item_header(NOTE, 3).to_vec();
    batch.extend(b"one\0\0\0\0\0\0\0\0\0\0\0\0\0");
    let mut items = BatchItems::new(&batch);
    assert_eq!(items.next_item().unwrap().unwrap().payload, b"one");
    assert_eq!(items.next_item().unwrap(), None);
    batch[31] = 1;
    let error = BatchItems::new(&batch).next_item().unwrap_err();
    assert_eq!(error.kind, Kind::ReservedNotZero);
    for hostile in [
        item_header(NOTE, 0xffff_ffff_ffff),
        item_header(NOTE, 1),
        item_header(TypeId::BATCH, 0),
        [0; 16],
    ] {
        assert!(BatchItems::new(&hostile).next_item().is_err());
    }
}

// Spec: JRNL-7
#[test]
fn type_knows_its_number_and_its_bit() {
    assert_eq!((NOTE.raw(), NOTE.number()), (0x9001, 0x1001));
    assert!(NOTE.is_must_understand() && NOTE.is_entry());
    for raw in [0, 0x8000, 0x7f00, 0xffff, 0x4389, 0xc389] {
        assert!(!TypeId::from_raw(raw).is_entry(), "{raw:#x}");
    }
}
