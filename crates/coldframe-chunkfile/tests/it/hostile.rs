//! Every golden cut at every length and with every bit flipped.

use coldframe_testkit::alloc::assert_alloc_bounded;
use coldframe_testkit::golden::golden;
use coldframe_testkit::hostile::{check_bit_flips, check_truncations};
use proptest::prelude::*;

use crate::sample::all;
use crate::{reencode_index, reencode_pack};

fn is_sound(name: &str, file: &[u8]) -> bool {
    assert_alloc_bounded(8 * file.len() + 8192, || match name {
        name if name.starts_with("pack") => reencode_pack::check_raw(file),
        name if name.starts_with("tag") => reencode_index::check_tag(file),
        name if name.starts_with("ledger") => reencode_index::check_ledger(file),
        _ => reencode_index::check_raw(file),
    })
}

fn goldens() -> impl Iterator<Item = (&'static str, Vec<u8>)> {
    let names = all().map(|(name, _)| name);
    let read = |name| (name, golden(format!("tests/golden/v1/{name}.bin")));
    names.into_iter().map(read)
}

// Spec: PACK-2, CIDX-2, STORE-2
// Parity: F28
#[test]
fn every_truncation_is_refused() {
    for (name, file) in goldens() {
        assert!(is_sound(name, &file));
        check_truncations(&file, &mut |cut| assert!(!is_sound(name, cut)));
    }
}

// Parity: D71, D72, F28
#[test]
fn every_flipped_bit_is_found_or_leaves_an_equal_table() {
    for (name, file) in goldens() {
        let sound = coldframe_chunkfile::Pack::open(&file, coldframe_chunkfile::PACK_LIMITS);
        let body = sound.ok().map_or(160..160, |pack| {
            let len: u32 = pack.chunks().iter().map(|chunk| chunk.stored_len).sum();
            160..160 + usize::try_from(len).unwrap()
        });
        check_bit_flips(&file, &mut |damaged| {
            let at = damaged.iter().zip(&file).position(|(a, b)| a != b);
            // The bytes of chunks are checked against their ids by whoever decompresses them.
            let in_body = body.contains(&at.unwrap());
            assert_eq!(is_sound(name, damaged), in_body);
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    // Changed goldens whose hashes hold: whatever is accepted is written again the same.
    #[test]
    fn resealed_files_never_panic(changes in proptest::collection::vec(any::<u8>(), 0..24)) {
        assert_alloc_bounded(1 << 16, || reencode_pack::check(&changes));
        assert_alloc_bounded(1 << 16, || reencode_index::check(&changes));
    }
}
