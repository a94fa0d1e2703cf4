//! Every flipped bit of a file is found, wherever it is.

use std::sync::Arc;

use coldframe_mem::{DamageKind, MemError, MemoryFile, verify_deep};
use coldframe_storage::{MappedFile, Storage};
use coldframe_testkit::rng::Rng;
use coldframe_units::FileOffset;

use crate::support::{Files, history};

/// What is wrong with a file, also if it cannot be opened.
fn damages_of(file: &MappedFile) -> Vec<DamageKind> {
    match MemoryFile::of_mapped(file) {
        Ok(file) => verify_deep(&file)
            .into_iter()
            .map(|damage| damage.kind)
            .collect(),
        Err(MemError::Decode { source, .. }) => vec![DamageKind::Table(source.kind)],
        Err(error) => panic!("{error}"),
    }
}

/// A copy of the file with one byte changed, as sparse as the file is.
fn flipped(files: &Files, file: &MappedFile, offset: u64, mask: u8) -> Arc<MappedFile> {
    let copy = files.create();
    copy.set_len(coldframe_storage::ByteSource::len(file))
        .unwrap();
    for (index, chunk) in file.as_slice().chunks(4096).enumerate() {
        if chunk.iter().any(|byte| *byte != 0) {
            copy.write_at(FileOffset::new(index as u64 * 4096), chunk)
                .unwrap();
        }
    }
    let mut byte = [0];
    copy.read_at(FileOffset::new(offset), &mut byte).unwrap();
    copy.write_at(FileOffset::new(offset), &[byte[0] ^ mask])
        .unwrap();
    Files::map(copy)
}

#[test]
fn every_flipped_bit_is_found() {
    let files = Files::new();
    let layers = history(
        &files,
        96,
        &[&[(3, 5), (40, 6), (41, 6)], &[(41, 0), (7, 8), (8, 1)]],
    );
    let mut rng = Rng::new(7);
    for file in &layers {
        assert!(damages_of(file).is_empty());
        let len = file.as_slice().len() as u64;
        let tail = len.saturating_sub(2000);
        for round in 0..150 {
            let offset = match round % 3 {
                0 => rng.below(len),
                1 => tail + rng.below(len - tail),
                _ => rng.below(5000).min(len - 1),
            };
            let mask = 1 << rng.below(8);
            let damages = damages_of(&flipped(&files, file, offset, mask));
            assert!(
                !damages.is_empty(),
                "bit {mask:#x} at {offset:#x} of {len:#x}"
            );
        }
    }
}

#[test]
fn damage_is_told_for_each_place_and_does_not_stop_at_the_first() {
    let files = Files::new();
    let layers = history(&files, 96, &[&[(3, 5), (40, 6), (41, 6)]]);
    let data = coldframe_memfile::FULL_DATA_OFFSET;
    let one = flipped(&files, &layers[0], data + 3 * 4096 + 1, 1);
    let two = flipped(&files, &one, data + 41 * 4096 + 5, 1);
    let three = flipped(&files, &two, data + 90 * 4096 + 77, 1);
    let damages = verify_deep(&MemoryFile::of_mapped(&three).unwrap());
    let [first, second, third] = &damages[..] else {
        panic!("{damages:?}")
    };
    assert!(matches!(first.kind, DamageKind::Block { block: 0 }));
    assert!(matches!(second.kind, DamageKind::Block { block: 2 }));
    assert!(matches!(third.kind, DamageKind::NotZero));
    assert_eq!(third.offset.get(), data + 90 * 4096 + 77);
    assert!(
        damages
            .iter()
            .all(|damage| !damage.to_string().contains('\n'))
    );
}
