//! The laws of flatten, merge, apply and diff.

use std::sync::Arc;

use coldframe_envelope::Limits;
use coldframe_mem::{Holes, Layers, MemRoot, diff, export_raw, flatten, merge, verify_deep};
use coldframe_memfile::MemFile;
use coldframe_storage::{MappedFile, Storage};
use coldframe_units::{FileOffset, PageSize};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::support::{
    Files, Guest, PAGE, all_opened, chain, dirty, memory, opened, page, rewrite, spec,
};

/// Pages of 4 KiB: three of the largest pages, and no whole number of blocks behind each.
const PAGES: u64 = 3 * 512;

type Step = Vec<(u64, u8)>;

/// Every page size of the format; often the same for all files, so that the largest are not always
/// cut by smaller ones.
fn sizes(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<PageSize>> {
    let size = || (12..=21_u8).prop_map(|log2| PageSize::from_log2(log2).unwrap());
    let count = count.end;
    prop_oneof![
        size().prop_map(move |size| vec![size; count]),
        vec(size(), count),
    ]
}

fn steps(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<(Step, PageSize)>> {
    let tag = prop_oneof![1 => Just(0_u8), 3 => 1..=255_u8];
    let write = (0..PAGES, prop_oneof![4 => 1..20_u64, 1 => 1..700_u64], tag);
    let step = vec(write, 0..8).prop_map(|writes| {
        let pages = writes.into_iter().flat_map(|(start, len, tag)| {
            (start..PAGES.min(start + len)).map(move |page| (page, tag))
        });
        pages.collect::<Step>()
    });
    (vec(step, count.clone()), sizes(count))
        .prop_map(|(steps, sizes)| steps.into_iter().zip(sizes).collect())
}

/// A Full file and Diffs, and the memory after each.
fn files_of(files: &Files, steps: &[(Step, PageSize)]) -> (Vec<Arc<MappedFile>>, Vec<Vec<u8>>) {
    let guest = Guest::anonymous(PAGES * PAGE);
    let (mut layers, mut memories, mut parent) = (Vec::new(), Vec::new(), None);
    for (writes, page_size) in steps {
        for (index, tag) in writes {
            guest.write(index * PAGE, &page(*tag));
        }
        let pages: Vec<u64> = writes.iter().map(|(index, _)| *index).collect();
        let (file, made) = match parent {
            None => files.full(&guest, &spec(*page_size)),
            Some(root) => files.diff(&guest, &dirty(guest.len(), &pages), root, &spec(*page_size)),
        };
        parent = Some(made.root);
        layers.push(file);
        memories.push(guest.read());
    }
    (layers, memories)
}

fn written(
    files: &Files,
    write: impl FnOnce(&dyn Storage) -> Result<MemRoot, coldframe_mem::MemError>,
) -> Arc<MappedFile> {
    let file = files.create();
    write(&file).unwrap();
    let mapped = Files::map(file);
    let damages = verify_deep(&opened(&mapped));
    assert!(damages.is_empty(), "{damages:?}");
    mapped
}

/// The root that the file would have if its parent were `parent`.
fn bytes_behind_parent(file: &MappedFile) -> (Vec<String>, Vec<u8>) {
    let view = MemFile::open(file.as_slice(), Limits::MEMORY_FILE).unwrap();
    let extents = view.extents().unwrap();
    let list = extents.iter().map(|extent| format!("{extent:?}")).collect();
    let at = usize::try_from(view.data_offset().get()).unwrap();
    let len = usize::try_from(view.data_len().get()).unwrap();
    (list, file.as_slice()[at..at + len].to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    // Parity: F12
    #[test]
    fn flatten_is_replay(steps in steps(1..6)) {
        let files = Files::new();
        let (layers, memories) = files_of(&files, &steps);
        let chained = chain(&layers);
        let flat = written(&files, |out| flatten(&chained, &rewrite(), out));
        prop_assert!(memory(&chain(&[flat])) == *memories.last().unwrap());
        let raw = files.create();
        export_raw(&chained, &raw, Holes::ForZeros, &mut |_| ()).unwrap();
        prop_assert!(std::fs::read(raw.path()).unwrap() == *memories.last().unwrap());
    }

    #[test]
    fn merge_is_associative_and_equals_applying_all(steps in steps(4..5)) {
        let files = Files::new();
        let (layers, memories) = files_of(&files, &steps);
        let [base, d1, d2, d3] = &layers[..] else { unreachable!() };
        let fold = |diffs: &[&Arc<MappedFile>]| {
            let diffs: Vec<_> = diffs.iter().map(|file| opened(file)).collect();
            written(&files, |out| merge(&diffs, &rewrite(), out))
        };
        let d12 = fold(&[d1, d2]);
        prop_assert!(memory(&chain(&[base.clone(), d12.clone()])) == memories[2]);
        let all = fold(&[d1, d2, d3]);
        prop_assert!(memory(&chain(&[base.clone(), all.clone()])) == memories[3]);
        // A merged Diff has a root of its own, which d3 does not name: d3 is made anew on it.
        let on = chain(&[base.clone(), d12.clone()]);
        let d3_on_d12 = written(&files, |out| {
            diff(&on, &chain(&[base.clone(), all.clone()]), &rewrite(), out)
        });
        let left = fold(&[&d12, &d3_on_d12]);
        prop_assert!(memory(&chain(&[base.clone(), left])) == memories[3]);
        let d23 = fold(&[d2, d3]);
        let right = fold(&[d1, &d23]);
        prop_assert_eq!(bytes_behind_parent(&right), bytes_behind_parent(&all));
        prop_assert_eq!(right.as_slice(), all.as_slice());
    }

    #[test]
    fn a_diff_applied_to_the_first_gives_the_second(
        shared in steps(1..3), one in steps(0..3), other in steps(0..3),
    ) {
        let files = Files::new();
        let a_steps = [shared.clone(), one].concat();
        let b_steps = [shared, other].concat();
        let (a_layers, _) = files_of(&files, &a_steps);
        let (b_layers, b_memories) = files_of(&files, &b_steps);
        let (a, b) = (chain(&a_layers), chain(&b_layers));
        let between = written(&files, |out| diff(&a, &b, &rewrite(), out));
        let there = a.apply(opened(&between)).unwrap();
        prop_assert!(memory(&there) == *b_memories.last().unwrap());
        let nothing = files.create();
        let made = diff(&there, &b, &rewrite(), &nothing).unwrap();
        prop_assert_eq!((made.stats.data_pages, made.stats.zero_pages), (0, 0));
    }
}

#[test]
fn every_page_size_is_flattened_merged_and_compared() {
    for log2 in 12..=21 {
        let size = PageSize::from_log2(log2).unwrap();
        let files = Files::new();
        let all: Vec<(u64, u8)> = (0..PAGES)
            .map(|page| (page, 1 + (page % 200) as u8))
            .collect();
        let some: Vec<(u64, u8)> = vec![(0, 3), (700, 0), (1300, 9)];
        let steps = [(all, size), (some, size), (vec![(701, 8)], size)];
        let (layers, memories) = files_of(&files, &steps);
        let chained = chain(&layers);
        let flat = written(&files, |out| flatten(&chained, &rewrite(), out));
        assert!(memory(&chain(&[flat])) == memories[2], "flatten, {size}");
        let merged = written(&files, |out| {
            merge(&all_opened(&layers[1..]), &rewrite(), out)
        });
        let merged = chain(&[layers[0].clone(), merged]);
        assert!(memory(&merged) == memories[2], "merge, {size}");
        let first = chain(&layers[..1]);
        let between = written(&files, |out| diff(&first, &chained, &rewrite(), out));
        let there = first.apply(opened(&between)).unwrap();
        assert!(memory(&there) == memories[2], "diff, {size}");
    }
}

#[test]
fn a_page_that_became_zero_does_not_come_back_as_the_parents() {
    let files = Files::new();
    let layers = crate::support::history(&files, 32, &[&[(3, 5), (4, 6)], &[(3, 0)], &[(9, 1)]]);
    let chained = chain(&layers);
    assert!(
        memory(&chained)[3 * 4096..4 * 4096]
            .iter()
            .all(|byte| *byte == 0)
    );
    let merged = written(&files, |out| {
        merge(&all_opened(&layers[1..]), &rewrite(), out)
    });
    let merged = chain(&[layers[0].clone(), merged]);
    assert!(memory(&merged) == memory(&chained));
    let back = written(&files, |out| {
        diff(&chain(&layers[..1]), &chained, &rewrite(), out)
    });
    let view = MemFile::open(back.as_slice(), Limits::MEMORY_FILE).unwrap();
    let zeros = view.extents().unwrap();
    assert!(zeros.iter().any(|extent| extent.is_zero()));
}

#[test]
fn a_damaged_source_is_refused_and_not_hashed_anew() {
    let files = Files::new();
    let layers = crate::support::history(&files, 64, &[&[(3, 5), (40, 6)], &[(41, 7)]]);
    let path = coldframe_storage::ByteSource::path(&*layers[0]).to_path_buf();
    let mut bytes = layers[0].as_slice().to_vec();
    let at = usize::try_from(coldframe_memfile::FULL_DATA_OFFSET).unwrap() + 3 * 4096 + 9;
    bytes[at] ^= 1;
    let damaged = files.create();
    damaged.write_at(FileOffset::ZERO, &bytes).unwrap();
    let damaged = Files::map(damaged);
    assert!(path.exists());
    let chained = chain(&[damaged, layers[1].clone()]);
    let error = flatten(&chained, &rewrite(), &files.create()).unwrap_err();
    assert!(error.is_corrupt(), "{error}");
    let guest = Guest::anonymous(64 * PAGE);
    let options = coldframe_mem::CopyOptions {
        target: coldframe_mem::Target::Zeroed,
        verify: coldframe_mem::Verify::Yes,
    };
    assert!(
        coldframe_mem::restore_copy(&chained, &guest, options)
            .unwrap_err()
            .is_corrupt()
    );
}

#[test]
fn hashes_taken_over_are_those_of_the_bytes() {
    // `written` verifies what it wrote; here whole blocks of every origin are in one file.
    let files = Files::new();
    let all: Vec<(u64, u8)> = (0..64).map(|page| (page, 1 + page as u8)).collect();
    let block: Vec<(u64, u8)> = (16..32).map(|page| (page, 77)).collect();
    let layers = crate::support::history(&files, 64, &[&all, &block, &[(33, 4)]]);
    let chained: Layers = chain(&layers);
    let flat = written(&files, |out| flatten(&chained, &rewrite(), out));
    assert!(memory(&chain(&[flat])) == memory(&chained));
}
