//! A memory image rebuilt from a journal.

use std::sync::Arc;

use coldframe_journal::kinds::{CoreEntries, MemoryZero};
use coldframe_journal::{ImageError, JournalReader, JournalWriter, apply_memory};
use coldframe_storage::MemStorage;

use super::compaction::region;
use super::sample::options;

fn apply(
    build: impl FnOnce(&mut JournalWriter<CoreEntries>),
) -> (Result<u64, ImageError>, Vec<u8>) {
    let storage = Arc::new(MemStorage::new());
    let mut writer = JournalWriter::create_in(storage.clone(), options()).unwrap();
    build(&mut writer);
    let mut reader = JournalReader::<CoreEntries>::from_storage(storage).unwrap();
    let image = MemStorage::from_vec(vec![0xee; 64]);
    let applied = apply_memory(&mut reader, &image).map(|applied| applied.bytes);
    (applied, image.into_vec())
}

// Spec: JRNL-20
// Parity: F55
#[test]
fn regions_are_applied_in_order() {
    let (applied, image) = apply(|writer| {
        writer.append(&region(0, 64, 1)).unwrap();
        writer.append(&region(8, 8, 2)).unwrap();
        let (ram_offset, len) = (12, 8);
        writer.append(&MemoryZero { ram_offset, len }).unwrap();
        writer.append(&region(64, 0, 9)).unwrap();
    });
    assert_eq!(applied.unwrap(), 80);
    assert_eq!(image[..8], [1; 8]);
    assert_eq!((&image[8..12], &image[12..20]), (&[2; 4][..], &[0; 8][..]));
    assert_eq!(image[20..], [1; 44]);
}

// Spec: JRNL-20
// Parity: F55
#[test]
fn region_outside_the_image_is_refused_and_the_length_stays() {
    for (start, len) in [(60, 5), (64, 1), (u64::MAX, 2), (1 << 40, 1)] {
        let (applied, image) = apply(|writer| {
            writer.append(&region(start, len, 1)).unwrap();
        });
        let error = applied.unwrap_err();
        assert!(matches!(error, ImageError::OutOfImage { .. }), "{error}");
        assert_eq!(image, [0xee; 64]);
        let len = u64::MAX;
        let (applied, image) = apply(|writer| {
            let ram_offset = start;
            writer.append(&MemoryZero { ram_offset, len }).unwrap();
        });
        assert!(applied.is_err());
        assert_eq!(image, [0xee; 64]);
    }
}
