//! What a ledger may say.

use coldframe_chunkfile::{CondemnedFile, Ledger, Round};
use coldframe_envelope::{DecodeErrorKind as Error, SectionFlags};
use coldframe_testkit::golden::golden;
use coldframe_units::{ChunkId, PageSize, RootHash};
use proptest::prelude::*;

use crate::forge::{Forge, field};
use crate::sample::{ledger, ledger_file, ledger_files, ledger_names, producer};

// Spec: STORE-17, STORE-18
#[test]
fn golden_ledger_has_its_known_value() {
    let file = golden("tests/golden/v1/ledger.bin");
    assert_eq!(Ledger::decode(&file).unwrap(), ledger());
    let file = golden("tests/golden/v1/ledger_names.bin");
    assert_eq!(Ledger::decode(&file).unwrap(), ledger_names());
    let file = golden("tests/golden/v1/ledger_files.bin");
    assert_eq!(Ledger::decode(&file).unwrap(), ledger_files());
}

// Spec: STORE-45
#[test]
fn names_of_files_that_break_a_rule_are_refused_and_none_need_be_there() {
    let file = ledger_files().encode(producer()).unwrap();
    // They rise, by root and by number.
    let put = |at: usize, bytes: &[u8]| {
        let forge = Forge::new(&file).put(b"FILE", at, bytes);
        Ledger::decode(&forge.seal())
    };
    assert_eq!(field(put(0, &[0xff])), "known file");
    assert_eq!(field(put(72, &[0, 0, 0, 0, 0, 2])), "known file");
    let odd = Forge::new(&file).body(b"FILE", &[0; 39]);
    assert_eq!(field(Ledger::decode(&odd.seal())), "section length");
    let without = Forge::new(&file).without(b"FILE").seal();
    assert_eq!(Ledger::decode(&without).unwrap(), ledger_names());
    let without = Forge::new(&file).without(b"FILE").without(b"NAME").seal();
    assert_eq!(Ledger::decode(&without).unwrap(), ledger());
    let later = Forge::new(&file).row(b"FILE", |row| row.version = 2).seal();
    let later = Ledger::decode(&later).unwrap_err();
    assert!(matches!(later.kind, Error::UnsupportedSection { .. }));
}

// Spec: STORE-26
#[test]
fn names_of_tags_that_break_a_rule_are_refused_and_none_need_be_there() {
    let file = ledger_names().encode(producer()).unwrap();
    let put = |at: usize, bytes: &[u8]| {
        let forge = Forge::new(&file).put(b"NAME", at, bytes);
        Ledger::decode(&forge.seal())
    };
    assert_eq!(field(put(0, &[0])), "tag name");
    assert_eq!(field(put(0, &[129])), "tag name");
    assert_eq!(field(put(8, b".")), "tag name");
    assert_eq!(field(put(8, b"/")), "tag name");
    assert_eq!(field(put(8, &[0xff])), "tag name");
    // They rise.
    assert_eq!(field(put(8, b"z")), "tag name");
    assert_eq!(put(1, &[1]).unwrap_err().kind, Error::ReservedNotZero);
    assert_eq!(put(100, &[1]).unwrap_err().kind, Error::ReservedNotZero);
    let odd = Forge::new(&file).body(b"NAME", &[0; 7]);
    assert_eq!(field(Ledger::decode(&odd.seal())), "section length");
    let without = Forge::new(&file).without(b"NAME").seal();
    assert_eq!(Ledger::decode(&without).unwrap(), ledger());
    let later = Forge::new(&file).row(b"NAME", |row| row.version = 2).seal();
    let later = Ledger::decode(&later).unwrap_err();
    assert!(matches!(later.kind, Error::UnsupportedSection { .. }));
}

// Spec: STORE-18
#[test]
fn a_ledger_that_breaks_a_rule_is_refused() {
    let decode = |forge: Forge| Ledger::decode(&forge.seal());
    let put = |name: &[u8; 4], at: usize, bytes: &[u8]| {
        decode(Forge::new(&ledger_file()).put(name, at, bytes))
    };
    assert_eq!(field(put(b"ROUN", 8, &[2])), "is_scanned");
    assert_eq!(field(put(b"ROUN", 16, &[1])), "round");
    assert_eq!(
        put(b"ROUN", 9, &[1]).unwrap_err().kind,
        Error::ReservedNotZero
    );
    // A lease of a round that is not there, or was not looked at.
    assert_eq!(field(put(b"WAIT", 0, &[9])), "round");
    assert_eq!(field(put(b"WAIT", 0, &[2])), "round");
    assert_eq!(field(put(b"WAIT", 24, &[7])), "lease");
    assert_eq!(field(put(b"COND", 0, &[2])), "kind of file");
    assert_eq!(field(put(b"COND", 8, &[1])), "kind of file");
    assert_eq!(field(put(b"COND", 48, &[9])), "round");
    assert_eq!(field(put(b"COND", 0, &[1])), "file");
    assert_eq!(
        put(b"COND", 1, &[1]).unwrap_err().kind,
        Error::ReservedNotZero
    );
    let twice = Forge::new(&ledger_file()).body(b"DAMG", &[7; 80]);
    assert_eq!(field(decode(twice)), "chunk");
    for name in [b"ROUN", b"WAIT", b"COND", b"DAMG"] {
        let missing = decode(Forge::new(&ledger_file()).without(name)).unwrap_err();
        assert!(matches!(missing.kind, Error::MissingSection { .. }));
        let odd = Forge::new(&ledger_file()).body(name, &[0; 7]);
        assert_eq!(field(decode(odd)), "section length");
        let later = Forge::new(&ledger_file()).row(name, |row| row.version = 2);
        let later = decode(later).unwrap_err();
        assert!(matches!(later.kind, Error::UnsupportedSection { .. }));
        let optional = |row: &mut coldframe_envelope::Section| row.flags = SectionFlags::OPTIONAL;
        let optional = decode(Forge::new(&ledger_file()).row(name, optional));
        assert_eq!(field(optional), "section flags");
    }
    let mut paged = Forge::new(&ledger_file());
    paged.header.page_size = Some(PageSize::SIZE_4K);
    assert_eq!(field(decode(paged)), "page_size_log2");
}

fn any_ledger() -> impl Strategy<Value = Ledger> {
    let waits = prop::option::of(prop::collection::btree_set(0..9_u64, 0..4));
    let rounds = prop::collection::btree_map(0..4_u64, waits, 1..4);
    let file = (
        any::<bool>(),
        0..4_u8,
        0..9_u64,
        any::<prop::sample::Index>(),
    );
    let damaged = prop::collection::btree_set((0..4_u8, 0..9_u64), 0..5);
    let names = prop::collection::btree_set("[a-z0-9._@+=:-]{1,128}", 0..4);
    let names = names.prop_map(|names| names.into_iter().filter(|name| !name.starts_with('.')));
    let files = prop::collection::vec(file, 0..9);
    let known = prop::collection::btree_set((0..4_u8, any::<u64>()), 0..5);
    let all = (rounds, files, damaged, names, known);
    all.prop_map(|(rounds, files, damaged, names, known)| {
        let numbers: Vec<u64> = rounds.keys().copied().collect();
        let rounds = rounds
            .into_iter()
            .map(|(round, waits_for)| (round, Round { waits_for }));
        let condemned = files.into_iter().map(|(is_pack, root, file, round)| {
            let root = RootHash::from_bytes([root; 32]);
            let condemned = match is_pack {
                true => CondemnedFile::Pack(file),
                false => CondemnedFile::Root(root, file),
            };
            (condemned, *round.get(&numbers))
        });
        let known = known.into_iter();
        let known = known.map(|(root, file)| (RootHash::from_bytes([root; 32]), file));
        let damaged = damaged.into_iter();
        let damaged = damaged.map(|(id, pack)| (ChunkId::from_bytes([id; 32]), pack));
        Ledger {
            rounds: rounds.collect(),
            condemned: condemned.collect(),
            damaged: damaged.collect(),
            names: names.collect(),
            files: known.collect(),
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    // Spec: STORE-18
    #[test]
    fn a_ledger_survives_being_written(ledger in any_ledger()) {
        let file = ledger.encode(producer()).unwrap();
        prop_assert_eq!(Ledger::decode(&file).unwrap(), ledger);
    }
}
