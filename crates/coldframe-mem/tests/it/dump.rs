//! Diff dumps as file systems and copiers leave them: an import gives the guest's memory, or is
//! refused; never anything else.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use coldframe_mem::{DiffHoles, Dump, DumpParent, HoleDoubt, MemError, import_raw};
use coldframe_testkit::require::skipped;
use coldframe_testkit::rng::Rng;
use coldframe_testkit::scratch;
use coldframe_units::{ByteLen, PageSize, RamLayout};
use nix::unistd::{Whence, lseek};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::support::{Files, PAGE, chain, memory, spec};

/// Two huge pages and a bit.
const PAGES: u64 = 1024 + 5;
const HUGE: u64 = 512;

/// What was written to a page, by number: 0 for a page that became zero.
type Changes = BTreeMap<u64, u8>;

/// Who made the file.
#[derive(Clone, Debug)]
enum Maker {
    /// The VMM, where each page is allocated by itself.
    Exact,
    /// The VMM, where so many pages are allocated at a time.
    Filling(u64),
    /// The VMM on tmpfs: huge pages as long as there are some.
    Mixed([bool; 3]),
    /// A copier that leaves no hole.
    Dense,
    /// The same, with a few holes made later.
    Punched(Vec<u64>),
    /// A copier that makes holes of zeros, so many pages at a time (`cp --sparse=always`,
    /// `dd conv=sparse`).
    Digging(u64),
}

impl Maker {
    /// Which pages are allocated.
    fn allocated(&self, changes: &Changes) -> Vec<u64> {
        let around =
            |unit: u64, page: u64| page / unit * unit..PAGES.min(page / unit * unit + unit);
        let all = 0..PAGES;
        let changed = || changes.keys().copied();
        let mut pages: Vec<u64> = match self {
            Self::Exact => changed().collect(),
            Self::Filling(unit) => changed().flat_map(|page| around(*unit, page)).collect(),
            Self::Mixed(huge) => changed()
                .flat_map(|page| match huge[(page / HUGE) as usize] {
                    true => around(HUGE, page),
                    false => around(1, page),
                })
                .collect(),
            Self::Dense => all.collect(),
            // A page that changed keeps its bytes.
            Self::Punched(holes) => all
                .filter(|page| changes.contains_key(page) || !holes.contains(page))
                .collect(),
            Self::Digging(unit) => changed()
                .filter(|page| changes[page] != 0)
                .flat_map(|page| around(*unit, page))
                .collect(),
        };
        pages.sort_unstable();
        pages.dedup();
        pages
    }

    /// What the file can still say of the changes: zeros that were dug out are gone.
    fn left(&self, changes: &Changes) -> Changes {
        let mut changes = changes.clone();
        if matches!(self, Self::Digging(_)) {
            let allocated = self.allocated(&changes);
            changes.retain(|page, _| allocated.binary_search(page).is_ok());
        }
        changes
    }
}

fn bytes_of(tag: u8) -> Vec<u8> {
    vec![tag; PAGE as usize]
}

fn make(path: &Path, maker: &Maker, changes: &Changes) {
    let file = File::create(path).unwrap();
    file.set_len(PAGES * PAGE).unwrap();
    for page in maker.allocated(changes) {
        let tag = changes.get(&page).copied().unwrap_or_default();
        file.write_all_at(&bytes_of(tag), page * PAGE).unwrap();
    }
    file.sync_all().unwrap();
}

/// Whether the file system here makes a hole of each page that is not written, and says so.
fn is_fine(dir: &Path) -> bool {
    let file = File::create(dir.join("probe")).unwrap();
    file.set_len(16 * PAGE).unwrap();
    file.write_all_at(&bytes_of(1), 3 * PAGE).unwrap();
    file.sync_all().unwrap();
    let at = |offset: i64, whence| lseek(&file, offset, whence).ok();
    let found = (at(0, Whence::SeekData), at(3 * 4096, Whence::SeekHole));
    let is_fine = found == (Some(3 * 4096), Some(4 * 4096));
    if !is_fine {
        skipped(
            "sparse files",
            "the holes of this file system are not pages",
        );
    }
    is_fine
}

struct Bench {
    dir: tempfile::TempDir,
    files: Files,
    layout: RamLayout,
    parent: Vec<u8>,
}

impl Bench {
    fn new() -> Self {
        let mut parent = Rng::new(7).bytes((PAGES * PAGE) as usize);
        // Some of the parent's memory is zero.
        parent[(40 * PAGE) as usize..(80 * PAGE) as usize].fill(0);
        Self {
            dir: scratch::on_disk(),
            files: Files::new(),
            layout: RamLayout::contiguous(ByteLen::new(PAGES * PAGE)).unwrap(),
            parent,
        }
    }

    /// The memory of the diff on its parent.
    fn import(
        &self,
        maker: &Maker,
        changes: &Changes,
        holes: DiffHoles,
    ) -> Result<Vec<u8>, MemError> {
        let at = |name: &str| self.dir.path().join(name);
        std::fs::write(at("parent"), &self.parent).unwrap();
        make(&at("dump"), maker, changes);
        let import = |name: &str, parent| {
            let file = self.files.create();
            let dump = Dump::open(&at(name))?;
            let spec = spec(PageSize::SIZE_4K);
            let made = import_raw(&dump, &self.layout, parent, &spec, &file, &mut |_| {})?;
            let made = made.finish(&file)?;
            Ok::<_, MemError>((Files::map(file), made.root))
        };
        let (full, root) = import("parent", None)?;
        let (diff, _) = import("dump", Some(DumpParent { root, holes }))?;
        Ok(memory(&chain(&[full, diff])))
    }

    /// The parent's memory with these changes.
    fn changed(&self, changes: &Changes) -> Vec<u8> {
        let mut bytes = self.parent.clone();
        for (page, tag) in changes {
            bytes[(page * PAGE) as usize..][..PAGE as usize].fill(*tag);
        }
        bytes
    }
}

fn changes() -> impl Strategy<Value = Changes> {
    let tag = prop_oneof![1 => Just(0_u8), 4 => 1..=255_u8];
    let run = (0..PAGES, 1..40_u64, tag)
        .prop_map(|(start, len, tag)| (start..PAGES.min(start + len)).map(|p| (p, tag)).collect());
    vec(run, 1..8).prop_map(|runs: Vec<Vec<(u64, u8)>>| runs.concat().into_iter().collect())
}

fn maker() -> impl Strategy<Value = Maker> {
    let units = [2_u64, 4, 16, 32, 256, HUGE];
    prop_oneof![
        Just(Maker::Exact),
        proptest::sample::select(units.to_vec()).prop_map(Maker::Filling),
        any::<[bool; 3]>().prop_map(Maker::Mixed),
        Just(Maker::Dense),
        vec(0..PAGES, 1..4).prop_map(Maker::Punched),
        proptest::sample::select(vec![1_u64, 2, 16, 256]).prop_map(Maker::Digging),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 96,
        failure_persistence: None,
        ..Default::default()
    })]

    #[test]
    fn a_dump_gives_the_memory_of_its_guest_or_is_refused(
        maker in maker(),
        changes in changes(),
    ) {
        let bench = Bench::new();
        let left = maker.left(&changes);
        let truth = bench.changed(&left);
        match bench.import(&maker, &changes, DiffHoles::Proven) {
            Ok(memory) => prop_assert!(memory == truth),
            Err(MemError::UntrustedHoles { .. }) => {
                // Never without a zero page, where there is a hole.
                let zero = left.values().any(|tag| *tag == 0);
                let filled = maker.allocated(&changes).len() > left.len();
                let is_dense = maker.allocated(&changes).len() as u64 == PAGES;
                prop_assert!(zero || filled || is_dense || !is_fine(bench.dir.path()));
            }
            Err(error) => return Err(TestCaseError::fail(format!("{error:?}"))),
        }
        // What the caller says is taken: that all that is allocated changed, or that no zero did.
        if matches!(maker, Maker::Exact) && is_fine(bench.dir.path()) {
            prop_assert!(bench.import(&maker, &changes, DiffHoles::Assumed).unwrap() == truth);
        }
        if !changes.values().any(|tag| *tag == 0) {
            prop_assert!(bench.import(&maker, &changes, DiffHoles::ZerosClean).unwrap() == truth);
        }
    }
}

#[track_caller]
fn refused(maker: &Maker, changes: &Changes, doubt: HoleDoubt, page: u64) {
    match Bench::new().import(maker, changes, DiffHoles::Proven) {
        Err(MemError::UntrustedHoles {
            doubt: found,
            offset,
            ..
        }) => assert_eq!((found, offset.get()), (doubt, page * PAGE)),
        other => panic!("{:?}", other.map(|memory| memory.len())),
    }
}

#[test]
fn one_fine_edge_makes_no_coarse_part_credible() {
    if !is_fine(scratch::on_disk().path()) {
        return;
    }
    let stretch = HoleDoubt::Stretch { unit: 64 << 10 };
    // What qemu-img writes into a new file.
    refused(
        &Maker::Exact,
        &Changes::from([(0, 0), (9, 1)]),
        HoleDoubt::FirstPage,
        0,
    );
    // A huge page around page 3, then single pages.
    let changes = Changes::from([(0, 7), (3, 1), (600, 1), (777, 2)]);
    let mixed = Maker::Mixed([true, false, false]);
    refused(&mixed, &changes, stretch, 1);
    // A dense copy with one page punched out; the last unit is a short one.
    refused(&Maker::Punched(vec![700]), &changes, stretch, 1);
    let mut all: Changes = (0..PAGES).map(|page| (page, 9)).collect();
    all.retain(|page, _| *page != 5 && *page != PAGES - 1);
    refused(&Maker::Punched(vec![5]), &all, stretch, PAGES - 1);
}

#[test]
fn zeros_with_a_hole_close_by_are_taken() {
    if !is_fine(scratch::on_disk().path()) {
        return;
    }
    let bench = Bench::new();
    // 15 of the 16 pages of an aligned 64 KiB, all zero but one.
    let mut changes: Changes = (160..175).map(|page| (page, 0)).collect();
    changes.extend([(164, 1), (901, 1), (PAGES - 1, 0)]);
    let memory = bench.import(&Maker::Exact, &changes, DiffHoles::Proven);
    assert!(memory.unwrap() == bench.changed(&changes));
    changes.insert(175, 1);
    let stretch = HoleDoubt::Stretch { unit: 64 << 10 };
    refused(&Maker::Exact, &changes, stretch, 160);
    let memory = bench.import(&Maker::Exact, &changes, DiffHoles::Assumed);
    assert!(memory.unwrap() == bench.changed(&changes));
}

/// Parts that begin and end anywhere, many and small: the file was written page by page.
#[test]
fn zeros_in_a_file_written_page_by_page_need_a_hole_in_the_huge_page() {
    if !is_fine(scratch::on_disk().path()) {
        return;
    }
    let bench = Bench::new();
    let runs = (0..9).map(|run| 3 + run * 57);
    let mut changes: Changes = runs
        .flat_map(|page| (page..page + 5).map(|p| (p, 1)))
        .collect();
    // A whole aligned 64 KiB, and more.
    changes.extend((600..650).map(|page| (page, 0)));
    let memory = bench.import(&Maker::Exact, &changes, DiffHoles::Proven);
    assert!(memory.unwrap() == bench.changed(&changes));
    // The huge page may have been filled up on tmpfs.
    let mixed = Maker::Mixed([false, true, false]);
    let huge = HoleDoubt::Stretch { unit: 2 << 20 };
    refused(&mixed, &changes, huge, 512);
    // So few edges show nothing.
    changes.retain(|page, _| *page >= 600 || *page < 10);
    let stretch = HoleDoubt::Stretch { unit: 64 << 10 };
    refused(&Maker::Exact, &changes, stretch, 608);
}
