//! Any image against a plain map of its blocks.

use std::collections::BTreeMap;

use coldframe_chunkfile::{Entry, INDEX_LIMITS, Index, IndexBuilder, IndexOrigin};
use coldframe_units::{ChunkId, RootHash};
use proptest::prelude::*;

use crate::reencode_index::rebuild;
use crate::sample::{BLOCK, numbered, producer, size};

#[derive(Clone, Copy, Debug)]
enum Run {
    Chunks(u8),
    Zeros,
    Skip,
}

fn run() -> impl Strategy<Value = (Run, u64)> {
    let kind = prop_oneof![
        any::<u8>().prop_map(Run::Chunks),
        Just(Run::Zeros),
        Just(Run::Skip),
    ];
    // Long runs of chunks fill pages.
    (kind, prop_oneof![1_u64..8, 1000_u64..1100])
}

fn build(runs: &[(Run, u64)], has_parent: bool) -> (Vec<u8>, BTreeMap<u64, Entry>, u64) {
    let blocks: u64 = runs.iter().map(|(_, count)| count).sum();
    let root = RootHash::from_bytes([2; 32]);
    let length = size(blocks * BLOCK);
    let origin = match has_parent {
        true => IndexOrigin::Parent { root, size: length },
        false => IndexOrigin::None,
    };
    let mut builder = IndexBuilder::new(length, origin, producer()).unwrap();
    let mut model = BTreeMap::new();
    let mut block = 0;
    for (run, count) in runs {
        let zeros = match run {
            Run::Chunks(_) => false,
            Run::Zeros => true,
            Run::Skip => !has_parent,
        };
        if zeros {
            builder.push_zeros(block, *count).unwrap();
        }
        for at in block..block + count {
            if zeros {
                model.insert(at, Entry::Zero);
            } else if let Run::Chunks(number) = run {
                let id: ChunkId = numbered(*number);
                builder.push_chunk(at, id).unwrap();
                model.insert(at, Entry::Chunk(id));
            }
        }
        block += count;
    }
    (builder.finish().unwrap().into_file(), model, blocks)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    // Spec: CIDX-8, CIDX-13
    // Parity: F70
    #[test]
    fn an_index_is_a_map(runs in prop::collection::vec(run(), 1..12), has_parent: bool) {
        let (file, model, blocks) = build(&runs, has_parent);
        let index = Index::open(&file, INDEX_LIMITS).unwrap();
        prop_assert_eq!(index.block_count(), blocks);
        let mut found = BTreeMap::new();
        for page in index.pages() {
            let start = usize::try_from(page.offset.get()).unwrap();
            let bytes = &file[start..start + usize::try_from(page.len.get()).unwrap()];
            let rows = index.decode_page(&page, bytes).unwrap();
            for block in page.first_block..page.end_block {
                match rows.find(block) {
                    Entry::Inherit => {}
                    entry => { found.insert(block, entry); }
                }
            }
        }
        prop_assert_eq!(&found, &model);
        let some = [0, blocks / 3, blocks / 2, blocks - 1];
        for block in some {
            let expected = model.get(&block).copied().unwrap_or(Entry::Inherit);
            prop_assert_eq!(index.read(&file, block).unwrap(), expected);
        }
        prop_assert_eq!(rebuild(&index, &file).unwrap(), file);
    }
}
