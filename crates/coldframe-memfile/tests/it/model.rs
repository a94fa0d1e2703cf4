//! Random page maps, built and opened again, against the plain list of pages.

use coldframe_envelope::Limits;
use coldframe_memfile::{Content, Kind, MemFile};
use coldframe_units::{BLOCK_BYTES, PageIndex, PageSize, RamLayout};
use proptest::prelude::*;

use crate::reencode::rebuild;
use crate::support::{PARENT, Page, Pages, build, compact, layout, open, whole};

/// What the file says of a page, with its first byte if it is data.
fn seen(view: &MemFile<'_>, pages: &Pages, page: u64) -> Page {
    let page = PageIndex::new(page);
    let Some(extent) = view.extents().unwrap().find(page) else {
        return Page::Absent;
    };
    assert!(extent.run.start() <= page && page < extent.run.end());
    match extent.content {
        Content::Zero => Page::Zero,
        Content::Data { .. } => {
            let at = extent.file_offset_of(page, view.page_size()).unwrap();
            let one = coldframe_units::ByteLen::new(1);
            Page::Data(pages.read(at, one)[0])
        }
    }
}

/// The logical bytes of a block that the slow way says, the pages present, and whether all are.
fn slow_block(page_size: PageSize, model: &[Page], block: u64) -> (Vec<u8>, Vec<u8>, bool) {
    let ram_len = model.len() as u64 * page_size.bytes();
    let (mut logical, mut data, mut whole) = (Vec::new(), Vec::new(), true);
    // Page sizes and blocks are both multiples of 4 KiB.
    let mut at = block * BLOCK_BYTES;
    while at < ram_len.min((block + 1) * BLOCK_BYTES) {
        match model[usize::try_from(at / page_size.bytes()).unwrap()] {
            Page::Absent => whole = false,
            Page::Zero => logical.extend([0; 4096]),
            Page::Data(byte) => {
                logical.extend([byte; 4096]);
                data.extend([byte; 4096]);
            }
        }
        at += 4096;
    }
    (logical, data, whole)
}

fn check_blocks(view: &MemFile<'_>, model: &[Page]) {
    let page_size = view.page_size();
    let blocks = view.blocks().unwrap();
    let extents = view.extents().unwrap();
    let total = (model.len() as u64 * page_size.bytes()).div_ceil(BLOCK_BYTES);
    let mut rows = 0;
    for block in 0..total + 2 {
        let row = blocks.get(block).unwrap();
        let (logical, data, whole) = slow_block(page_size, model, block);
        assert_eq!(row.is_some(), !data.is_empty(), "block {block}");
        assert_eq!(extents.block_plan(block).is_some(), row.is_some());
        let Some(row) = row else { continue };
        rows += 1;
        let hashed = if whole { &logical } else { &data };
        assert_eq!(row.whole, whole, "block {block}");
        assert_eq!(row.hash, *blake3::hash(hashed).as_bytes(), "block {block}");
        assert_eq!(row.chunk_id().is_some(), whole);
        let plan = extents.block_plan(block).unwrap();
        assert_eq!((plan.block(), plan.is_whole()), (block, whole));
        assert!(row.matches(&plan, &data).unwrap());
    }
    assert_eq!(rows, blocks.len());
}

#[track_caller]
fn check(kind: Kind, page_size: PageSize, ram: &RamLayout, model: &[Page]) {
    let (file, pages) = build(kind, page_size, ram, model);
    let view = open(&file);
    view.verify_tables().unwrap();
    assert_eq!((view.kind(), view.page_size()), (kind, page_size));
    assert_eq!((view.layout(), view.root()), (ram, file.root));
    assert_eq!(view.parent_root(), (kind == Kind::Diff).then_some(PARENT));
    for (index, page) in (0..).zip(model) {
        assert_eq!(seen(&view, &pages, index), *page, "page {index}");
    }
    let past = PageIndex::new(model.len() as u64);
    assert_eq!(view.extents().unwrap().find(past), None);
    check_blocks(&view, model);
    // Spec: MEM-21
    assert_eq!(rebuild(&view).unwrap(), file);
    assert!(crate::reencode::check_raw(&compact(&file)));
    let bytes = whole(&file, &pages);
    let mapped = MemFile::open(&bytes, Limits::MEMORY_FILE).unwrap();
    assert_eq!(mapped.root(), file.root);
    for (at, len) in mapped.gaps(&mapped.extents().unwrap()) {
        assert!(pages.read(at, len).iter().all(|byte| *byte == 0));
    }
}

fn page_map(kind: Kind, pages: usize) -> impl Strategy<Value = Vec<Page>> {
    let piece = (0..3_u8, 1..12_usize, any::<u8>());
    proptest::collection::vec(piece, 1..=pages).prop_map(move |pieces| {
        let mut map: Vec<Page> = pieces
            .into_iter()
            .flat_map(|(what, count, byte)| {
                let page = match (what, kind) {
                    (0, Kind::Diff) => Page::Absent,
                    (0 | 1, _) => Page::Zero,
                    _ => Page::Data(byte | 1),
                };
                std::iter::repeat_n(page, count)
            })
            .collect();
        map.truncate(pages);
        map.resize(
            pages,
            if kind == Kind::Full {
                Page::Zero
            } else {
                Page::Absent
            },
        );
        map
    })
}

fn case() -> impl Strategy<Value = (Kind, PageSize, Vec<u64>, Vec<Page>)> {
    let sizes = [
        (PageSize::SIZE_4K, 80_u64),
        (PageSize::SIZE_16K, 24),
        (PageSize::SIZE_64K, 8),
        (PageSize::SIZE_2M, 3),
    ];
    let kinds = prop_oneof![Just(Kind::Full), Just(Kind::Diff)];
    (kinds, proptest::sample::select(sizes.to_vec())).prop_flat_map(|(kind, (page_size, most))| {
        proptest::collection::vec(1..=most, 1..4).prop_flat_map(move |regions| {
            let pages = usize::try_from(regions.iter().sum::<u64>()).unwrap();
            let (map, size) = (page_map(kind, pages), Just(page_size));
            (Just(kind), size, Just(regions), map)
        })
    })
}

fn config() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        cases: 96,
        ..Default::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_file_says_of_every_page_what_was_pushed((kind, size, regions, map) in case()) {
        check(kind, size, &layout(size, &regions), &map);
    }
}
