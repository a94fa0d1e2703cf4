//! Every golden cut at every length and with every bit flipped; whole files too.

use coldframe_envelope::{DecodeError, DecodeErrorKind, Limits};
use coldframe_memfile::MemFile;
use coldframe_testkit::alloc::assert_alloc_bounded;
use coldframe_testkit::golden::golden;
use coldframe_testkit::hostile::{check_bit_flips, check_truncations};
use coldframe_units::{ByteLen, FileOffset};
use proptest::prelude::*;

use crate::reencode;
use crate::sample::{all, diff};
use crate::support::whole;

fn goldens() -> Vec<Vec<u8>> {
    let names = ["full", "diff", "diff_empty", "full_absent"];
    names
        .map(|name| golden(format!("tests/golden/v1/{name}.bin")))
        .to_vec()
}

fn is_refused(file: &[u8]) {
    let sound = assert_alloc_bounded(8 * file.len() + 4096, || reencode::check_raw(file));
    assert!(!sound);
}

// Spec: MEM-21
#[test]
fn every_truncation_is_refused() {
    for file in goldens() {
        check_truncations(&file, &mut is_refused);
    }
}

#[test]
fn every_flipped_bit_of_header_and_tables_is_found() {
    for file in goldens() {
        check_bit_flips(&file, &mut is_refused);
    }
}

/// All that a deep verification does: tables, data against hashes, zeros that no hash covers.
fn verify(file: &[u8]) -> Result<(), DecodeError> {
    let slice = |at: FileOffset, len: ByteLen| {
        let start = usize::try_from(at.get()).unwrap();
        &file[start..start + usize::try_from(len.get()).unwrap()]
    };
    let view = MemFile::open(file, Limits::MEMORY_FILE)?;
    view.verify_tables()?;
    let (extents, blocks) = (view.extents()?, view.blocks()?);
    for plan in extents.block_plans() {
        let data: Vec<u8> = plan
            .data()
            .flat_map(|(at, len)| slice(at, len))
            .copied()
            .collect();
        let row = blocks.get(plan.block())?.unwrap();
        if !row.matches(&plan, &data).unwrap() {
            let at = plan.ram_offset().get();
            return Err(DecodeError::new(DecodeErrorKind::BodyHash, at));
        }
    }
    for (at, len) in view.gaps(&extents) {
        coldframe_envelope::check_zeros(slice(at, len), at.get())?;
    }
    Ok(())
}

// Spec: MEM-22
#[test]
fn every_byte_of_a_whole_file_is_guarded() {
    for (_, file, pages) in all() {
        let mut bytes = whole(&file, &pages);
        assert_eq!(bytes.len() as u64, file.file_len.get());
        verify(&bytes).unwrap();
        // A sample: a prime step meets every kind of byte. Tables are flipped whole above.
        let step = if bytes.len() > 1 << 20 { 4999 } else { 7 };
        for at in (0..bytes.len()).step_by(step) {
            let bit = 1 << (at % 8);
            bytes[at] ^= bit;
            assert!(verify(&bytes).is_err(), "byte {at:#x}");
            bytes[at] ^= bit;
        }
    }
}

// Spec: MEM-4
#[test]
fn a_whole_file_cut_anywhere_is_refused() {
    let (file, pages) = diff();
    let bytes = whole(&file, &pages);
    check_truncations(&bytes, &mut |cut| {
        let opened = assert_alloc_bounded(0, || MemFile::open(cut, Limits::MEMORY_FILE).is_ok());
        assert!(!opened);
    });
}

// The torn-write analysis of the spec: each part in turn never reached the disk.
#[test]
fn an_unwritten_part_is_found() {
    let (file, pages) = diff();
    let bytes = whole(&file, &pages);
    let tail = usize::try_from(file.tail_offset.get()).unwrap();
    let regions = 32;
    let parts = [
        0..160,
        4096..tail,
        tail..tail + regions,
        tail + regions..bytes.len() - 6 * 64,
        bytes.len() - 6 * 64..bytes.len(),
    ];
    for part in parts {
        let mut torn = bytes.clone();
        torn[part.clone()].fill(0);
        assert!(verify(&torn).is_err(), "{part:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    // Changed goldens whose hashes hold: whatever is accepted is written again the same.
    #[test]
    fn resealed_files_never_panic(changes in proptest::collection::vec(any::<u8>(), 0..24)) {
        assert_alloc_bounded(1 << 16, || reencode::check(&changes));
    }
}

// Spec: MEM-21
#[test]
fn a_golden_with_another_producer_is_another_sound_file() {
    let mut file = golden("tests/golden/v1/diff.bin");
    file[96] = b'G';
    assert!(!reencode::check_raw(&file));
    reencode::reseal(&mut file);
    assert!(reencode::check_raw(&file));
    // Page 1 becomes page 0: still a rising list, but block 0 has no other hash than before.
    file[0xe0] = 0;
    reencode::reseal(&mut file);
    assert!(reencode::check_raw(&file));
    file[0xe0] = 3;
    reencode::reseal(&mut file);
    assert!(!reencode::check_raw(&file));
}
