//! What a chain accepts and how it resolves.

use coldframe_mem::{Layers, MapOptions, MemError, MergeBudget, merge, restore_map};
use coldframe_memfile::Content;
use coldframe_units::PageSize;

use crate::support::{
    Files, Guest, PAGE, all_opened, chain, dirty, history, opened, page, rewrite, spec,
};

#[test]
fn a_chain_of_nothing_is_refused() {
    assert!(matches!(Layers::open(vec![]), Err(MemError::EmptyChain)));
    let merged = merge(&[], &rewrite(), &Files::new().create());
    assert!(matches!(merged, Err(MemError::EmptyChain)));
}

#[test]
fn kinds_in_the_wrong_place_are_refused() {
    let files = Files::new();
    let layers = history(&files, 16, &[&[(1, 1)], &[(2, 2)]]);
    let diff_first = Layers::open(vec![opened(&layers[1])]);
    assert!(matches!(
        diff_first,
        Err(MemError::WrongKind { found: "diff", .. })
    ));
    let two_full = Layers::open(vec![opened(&layers[0]), opened(&layers[0])]);
    assert!(matches!(
        two_full,
        Err(MemError::WrongKind { found: "full", .. })
    ));
    let merged = merge(&all_opened(&layers), &rewrite(), &files.create());
    assert!(matches!(
        merged,
        Err(MemError::WrongKind { found: "full", .. })
    ));
}

// Parity: F12
#[test]
fn a_diff_on_another_parent_is_refused_by_root() {
    let files = Files::new();
    let layers = history(&files, 16, &[&[(1, 1)], &[(2, 2)], &[(3, 3)]]);
    let error = Layers::open(vec![opened(&layers[0]), opened(&layers[2])]).unwrap_err();
    assert!(error.is_wrong_parent(), "{error}");
    let swapped = [opened(&layers[2]), opened(&layers[1])];
    let error = merge(&swapped, &rewrite(), &files.create()).unwrap_err();
    assert!(error.is_wrong_parent(), "{error}");
}

#[test]
fn a_diff_of_another_layout_is_refused() {
    let files = Files::new();
    let (base, made) = files.full(&Guest::anonymous(16 * PAGE), &spec(PageSize::SIZE_4K));
    let larger = Guest::anonymous(32 * PAGE);
    let pages = dirty(larger.len(), &[1]);
    let (diff, _) = files.diff(&larger, &pages, made.root, &spec(PageSize::SIZE_4K));
    let error = Layers::open(vec![opened(&base), opened(&diff)]).unwrap_err();
    let what = "RAM layout";
    assert!(matches!(error, MemError::OtherMachine { what: found, .. } if found == what));
}

#[test]
fn the_youngest_file_that_has_a_page_wins() {
    let files = Files::new();
    let layers = history(
        &files,
        16,
        &[
            &[(1, 1), (2, 1), (3, 1)],
            &[(2, 2), (3, 0)],
            &[(3, 3), (9, 3)],
        ],
    );
    let segments = chain(&layers).resolve().unwrap();
    let seen: Vec<_> = segments
        .iter()
        .map(|segment| {
            let zero = segment.content == Content::Zero;
            (
                segment.start.get() / PAGE,
                segment.len.get() / PAGE,
                segment.layer,
                zero,
            )
        })
        .collect();
    let expected = [
        (0, 1, 0, true),
        (1, 1, 0, false),
        (2, 1, 1, false),
        (3, 1, 2, false),
        (4, 5, 0, true),
        (9, 1, 2, false),
        (10, 6, 0, true),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn mappings_stay_within_their_budget() {
    let files = Files::new();
    let guest = Guest::anonymous(512 * PAGE);
    let (base, made) = files.full(&guest, &spec(PageSize::SIZE_4K));
    let pages: Vec<u64> = (0..256).map(|index| index * 2).collect();
    for index in &pages {
        guest.write(index * PAGE, &page(7));
    }
    let spec = coldframe_mem::CaptureSpec {
        merge: MergeBudget::NONE,
        ..spec(PageSize::SIZE_4K)
    };
    let (diff, _) = files.diff(&guest, &dirty(guest.len(), &pages), made.root, &spec);
    let chained = chain(&[base, diff]);
    for mappings_max in [0, 1, 16, 100, 10_000] {
        let ram = restore_map(&chained, MapOptions { mappings_max }).unwrap();
        let start = ram.host().addr();
        let end = start + 512 * 4096;
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let ours = maps.lines().filter(|line| {
            let addr = line.split('-').next().unwrap();
            (start..end).contains(&usize::from_str_radix(addr, 16).unwrap())
        });
        let count = ours.count();
        assert!(count <= mappings_max.max(1), "{count} of {mappings_max}");
        assert!(crate::support::read(&ram) == guest.read());
    }
}
