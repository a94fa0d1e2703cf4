//! Any sequence of writes, captured and restored, against pages in a `Vec`.

use coldframe_mem::{
    CopyOptions, MapOptions, MergeBudget, Target, Verify, restore_copy, restore_map,
};
use coldframe_units::PageSize;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::support::{Backing, Files, Guest, PAGE, chain, dirty, page, read, spec};

/// Pages in the model: two regions, the first not a whole block.
const REGIONS: [u64; 2] = [24 * PAGE, 72 * PAGE];
const PAGES: u64 = 96;

/// One step: pages and what is written to them.
type Step = Vec<(u64, u8)>;

fn step() -> impl Strategy<Value = Step> {
    let tag = prop_oneof![2 => Just(0_u8), 5 => 1..=255_u8];
    let one = (0..PAGES, tag.clone()).prop_map(|(page, tag)| vec![(page, tag)]);
    let run = (0..PAGES, 1..24_u64, tag)
        .prop_map(|(start, len, tag)| (start..PAGES.min(start + len)).map(|p| (p, tag)).collect());
    vec(prop_oneof![3 => one, 1 => run], 0..12).prop_map(|writes: Vec<Step>| writes.concat())
}

fn backing() -> impl Strategy<Value = Backing> {
    prop_oneof![
        Just(Backing::Anonymous),
        Just(Backing::Memfd),
        Just(Backing::HiddenMemfd),
        Just(Backing::SharedAnonymous)
    ]
}

fn page_size() -> impl Strategy<Value = PageSize> {
    prop_oneof![Just(PageSize::SIZE_4K), Just(PageSize::SIZE_16K)]
}

fn budget() -> impl Strategy<Value = MergeBudget> {
    prop_oneof![Just(MergeBudget::NONE), Just(MergeBudget::MODEST)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_step_comes_back_by_copy_and_by_map(
        backings in (backing(), backing()),
        sizes in vec(page_size(), 6),
        merge in budget(),
        mappings_max in prop_oneof![Just(16_384_usize), 0..12_usize],
        steps in vec(step(), 1..6),
    ) {
        let guest = Guest::new(&[(REGIONS[0], backings.0), (REGIONS[1], backings.1)]);
        let files = Files::new();
        let mut model = vec![0; usize::try_from(guest.len()).unwrap()];
        let mut layers = Vec::new();
        let mut root = None;
        for (writes, page_size) in steps.iter().zip(sizes) {
            let mut pages = Vec::new();
            for (index, tag) in writes {
                let offset = usize::try_from(index * PAGE).unwrap();
                model[offset..][..page(*tag).len()].copy_from_slice(&page(*tag));
                guest.write(index * PAGE, &page(*tag));
                pages.push(*index);
            }
            let spec = coldframe_mem::CaptureSpec { merge, ..spec(page_size) };
            let (file, made) = match root {
                None => files.full(&guest, &spec),
                Some(parent) => {
                    files.diff(&guest, &dirty(guest.len(), &pages), parent, &spec)
                }
            };
            root = Some(made.root);
            layers.push(file);
            let chain = chain(&layers);
            for (target, verify) in [(Target::Zeroed, Verify::Yes), (Target::Used, Verify::No)] {
                let copy = Guest::new(&[(REGIONS[0], backings.1), (REGIONS[1], backings.0)]);
                if target == Target::Used {
                    copy.write(5 * PAGE, &page(9));
                    copy.write(90 * PAGE, &page(8));
                }
                restore_copy(&chain, &copy, CopyOptions { target, verify }).unwrap();
                prop_assert!(copy.read() == model);
            }
            let mapped = restore_map(&chain, MapOptions { mappings_max }).unwrap();
            prop_assert!(read(&mapped) == model);
        }
    }
}
