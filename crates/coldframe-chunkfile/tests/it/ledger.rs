//! What a ledger may say.

use coldframe_chunkfile::{CondemnedFile, Ledger, Round};
use coldframe_envelope::{DecodeErrorKind as Error, SectionFlags};
use coldframe_testkit::golden::golden;
use coldframe_units::{ChunkId, PageSize, RootHash};
use proptest::prelude::*;

use crate::forge::{Forge, field};
use crate::sample::{ledger, ledger_file, producer};

// Spec: STORE-17, STORE-18
#[test]
fn golden_ledger_has_its_known_value() {
    let file = golden("tests/golden/v1/ledger.bin");
    assert_eq!(Ledger::decode(&file).unwrap(), ledger());
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
    (rounds, prop::collection::vec(file, 0..9), damaged).prop_map(|(rounds, files, damaged)| {
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
        let damaged = damaged.into_iter();
        let damaged = damaged.map(|(id, pack)| (ChunkId::from_bytes([id; 32]), pack));
        Ledger {
            rounds: rounds.collect(),
            condemned: condemned.collect(),
            damaged: damaged.collect(),
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
