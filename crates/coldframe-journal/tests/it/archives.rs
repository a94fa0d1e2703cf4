//! The bytes of coldframe's own entries against `specs/journal-entries.md`.

use std::sync::Arc;

use coldframe_journal::kinds::{ConsoleInput, CoreEntries, Leased, Published, SnapshotMark};
use coldframe_journal::{EntrySet, JournalReader, JournalWriter, Next, Source};
use coldframe_storage::MemStorage;
use rkyv::rancor::Error;

use super::sample::options;

/// The payload that the writer makes of an entry.
fn payload(append: impl FnOnce(&mut JournalWriter<CoreEntries>)) -> Vec<u8> {
    let storage = Arc::new(MemStorage::new());
    let mut writer = JournalWriter::create_in(storage.clone(), options()).unwrap();
    append(&mut writer);
    writer.flush().unwrap();
    let mut reader = JournalReader::<CoreEntries>::from_storage(storage).unwrap();
    let Next::Entry(entry) = Source::read(&mut reader).unwrap() else {
        panic!("no entry");
    };
    entry.payload().to_vec()
}

/// Whether a payload is taken for an entry of this type.
macro_rules! sound {
    ($type:ty) => {
        |payload: &[u8]| {
            let mut aligned = rkyv::util::AlignedVec::<16>::new();
            aligned.extend_from_slice(payload);
            rkyv::access::<rkyv::Archived<$type>, Error>(&aligned).is_ok()
        }
    };
}

fn leased(holder: &str) -> Vec<u8> {
    let entry = Leased {
        snapshot: [1; 16],
        until_unix_ns: 2,
        holder: holder.to_owned(),
    };
    payload(|writer| _ = writer.append(&entry).unwrap())
}

// Spec: ENTR-1
#[test]
fn each_type_has_a_layout_and_must_be_understood() {
    assert_eq!(CoreEntries::TYPES.len(), CoreEntries::LAYOUTS.len());
    assert!(CoreEntries::TYPES.is_sorted_by(|a, b| a.number() < b.number()));
    assert!(
        CoreEntries::TYPES
            .iter()
            .all(|one| one.is_must_understand())
    );
}

// Spec: ENTR-2, ENTR-4
#[test]
fn a_text_lies_in_its_field_or_before_the_structure() {
    let short = leased("8 bytes!");
    assert_eq!((short.len(), &short[24..]), (32, &b"8 bytes!"[..]));
    let text = "x".repeat(300);
    let long = leased(&text);
    assert_eq!(&long[..300], text.as_bytes());
    let root = long.len() - 32;
    assert_eq!((root % 8, root), (0, 304));
    // 300 is 0b100_101100: the low six bits, bit 7, and the rest from bit 8 on.
    let field = &long[root + 24..];
    assert_eq!(field[..4], (0b101100_u32 | 0x80 | 4 << 8).to_le_bytes());
    assert_eq!(field[4..], (-328_i32).to_le_bytes());
}

// Spec: ENTR-3, ENTR-5
#[test]
fn values_that_no_field_has_are_refused() {
    let refused = |payload: &[u8], at: usize, value: u8, is_sound: fn(&[u8]) -> bool| {
        assert!(is_sound(payload));
        let mut damaged = payload.to_vec();
        damaged[at] = value;
        assert!(!is_sound(&damaged), "{value} at {at}");
    };
    // The length of a text, its first bytes, and the distance to one.
    let long = leased("a holder of some length");
    let field = long.len() - 8;
    refused(&long, field, 0xc1, sound!(Leased));
    refused(&long, 0, 0xff, sound!(Leased));
    refused(&long, field + 7, 0x7f, sound!(Leased));
    let input = ConsoleInput {
        progress: 1,
        console: 2,
        bytes: vec![3; 9],
    };
    let input = payload(|writer| _ = writer.append(&input).unwrap());
    refused(&input, input.len() - 5, 0x7f, sound!(ConsoleInput));
    let mark = SnapshotMark {
        progress: 1,
        unix_ns: 2,
        snapshot: [3; 16],
        trigger: coldframe_journal::kinds::Trigger::Other,
    };
    let mark = payload(|writer| _ = writer.append(&mark).unwrap());
    refused(&mark, 32, 8, sound!(SnapshotMark));
    let published = Published {
        snapshot: [1; 16],
        parent: None,
        root: [2; 32],
        unix_ns: 3,
        name: "name".to_owned(),
    };
    let published = payload(|writer| _ = writer.append(&published).unwrap());
    assert_eq!(published[16], 0);
    refused(&published, 16, 2, sound!(Published));
}
