//! The disk behind a page cache.

use coldframe_storage::Storage;
use coldframe_testkit::fault::EIO;
use coldframe_testkit::pagecache::{CachedFile, PageCacheDisk};
use coldframe_units::{ByteLen, FileOffset};

const PAGE: usize = 4096;

fn write(file: &CachedFile, page: u64, byte: u8) {
    let offset = FileOffset::new(page * PAGE as u64);
    file.write_at(offset, &[byte; PAGE]).unwrap();
}

/// The first byte of each page.
fn pages(image: &[u8]) -> Vec<u8> {
    image.iter().step_by(PAGE).copied().collect()
}

fn shown(file: &CachedFile) -> Vec<u8> {
    let mut image = vec![0; file.len().unwrap().get() as usize];
    file.read_at(FileOffset::ZERO, &mut image).unwrap();
    pages(&image)
}

// Spec: CRASH-10
#[test]
fn a_failed_sync_leaves_clean_pages_that_no_later_sync_writes() {
    let disk = PageCacheDisk::new(Vec::new());
    let file = disk.open();
    write(&file, 0, 1);
    file.sync_data().unwrap();
    write(&file, 1, 2);
    disk.fail_next_sync(EIO, 0);
    file.sync_data().unwrap_err();
    file.sync_data().unwrap();
    assert_eq!(shown(&file), [1, 2]);
    assert_eq!(pages(&disk.power_cut(1)), [1]);
    // What is written after it gets there, and there are zeros where nothing was.
    write(&file, 2, 3);
    file.sync_data().unwrap();
    assert_eq!(pages(&disk.power_cut(0)), [1, 0, 3]);
    disk.evict();
    assert_eq!(shown(&file), [1, 0, 3]);
    // The same bytes again.
    write(&file, 1, 2);
    file.sync_data().unwrap();
    assert_eq!(pages(&disk.power_cut(0)), [1, 2, 3]);
}

// Spec: CRASH-10
#[test]
fn an_error_is_told_once_to_each_descriptor() {
    let disk = PageCacheDisk::new(vec![0; PAGE]);
    let (first, second) = (disk.open(), disk.open());
    write(&first, 0, 1);
    disk.fail_in_background(EIO, 0);
    // Nobody was told yet: who comes now is told, too.
    let late = disk.open();
    first.sync_data().unwrap_err();
    first.sync_data().unwrap();
    second.sync_data().unwrap_err();
    late.sync_data().unwrap_err();
    late.sync_data().unwrap();
    disk.open().sync_data().unwrap();
}

// Spec: CRASH-10
#[test]
fn some_pages_of_a_failed_sync_may_reach_the_disk() {
    let mut counts = std::collections::BTreeSet::new();
    for seed in 1..20 {
        let disk = PageCacheDisk::new(vec![0; 4 * PAGE]);
        let file = disk.open();
        for page in 0..4 {
            write(&file, page, 7);
        }
        disk.fail_next_sync(EIO, seed);
        file.sync_data().unwrap_err();
        let there = pages(&disk.power_cut(1));
        counts.insert(there.iter().filter(|byte| **byte == 7).count());
    }
    assert!(counts.len() > 2, "{counts:?}");
}

// Spec: CRASH-10
#[test]
fn a_length_that_was_set_is_not_forgotten() {
    let disk = PageCacheDisk::new(vec![1; 2 * PAGE]);
    let file = disk.open();
    file.set_len(ByteLen::new(PAGE as u64)).unwrap();
    assert_eq!(disk.power_cut(0).len(), 2 * PAGE);
    assert_eq!(disk.power_cut(1).len(), PAGE);
    disk.fail_next_sync(EIO, 0);
    file.sync_data().unwrap_err();
    assert_eq!(disk.power_cut(0).len(), PAGE);
}

// Spec: CRASH-10
#[test]
fn the_power_can_be_cut_after_any_call() {
    let disk = PageCacheDisk::new(vec![0; PAGE]);
    let file = disk.open();
    write(&file, 0, 1);
    file.sync_data().unwrap();
    write(&file, 0, 2);
    let cuts = |moment| [0, 1].map(|seed| pages(&disk.power_cut_at(moment, seed).0)[0]);
    assert_eq!(cuts(0), [0, 0]);
    assert_eq!(cuts(1), [0, 1]);
    assert_eq!(cuts(2), [1, 1]);
    assert_eq!(cuts(3), [1, 2]);
    let halves = (2..40).map(|seed| disk.power_cut(seed));
    assert!(
        halves
            .map(|image| image.iter().filter(|byte| **byte == 2).count())
            .any(|count| count > 0 && count < PAGE && count.is_multiple_of(512))
    );
}
