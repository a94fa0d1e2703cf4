//! Golden files of every version: written once, read for ever.
//!
//! A golden is a file without its pages, since those of a Full begin at 2 MiB: the header's 160
//! bytes, then all that stands behind the data. The pages are in `sample.rs`, one byte value each.

use coldframe_envelope::Version;
use coldframe_memfile::{Content, Kind, MemFile};
use coldframe_testkit::golden::{assert_golden, golden};
use coldframe_units::{Arch, ByteLen, FileOffset, GuestAddr, PageSize};

use crate::dump::dump;
use crate::reencode;
use crate::sample::{ABSENT, all, diff, full, full_absent};
use crate::support::{PARENT, Pages, compact, producer, run};

fn path(name: &str, ending: &str) -> String {
    format!("tests/golden/v1/{name}.{ending}")
}

// Spec: MEM-21, MEM-3, MEM-4
#[test]
fn todays_encoder_writes_the_goldens_of_version_1() {
    for (name, file, _) in all() {
        let bytes = compact(&file);
        assert!(bytes.len() < 4096);
        assert_golden(path(name, "bin"), &bytes);
        let text = dump(&format!("{name}.bin"), &bytes);
        assert!(text.is_ascii());
        assert_golden(path(name, "txt"), text.as_bytes());
    }
}

#[track_caller]
fn check_blocks(view: &MemFile<'_>, pages: &Pages) {
    let blocks = view.blocks().unwrap();
    for plan in view.extents().unwrap().block_plans() {
        let row = blocks.get(plan.block()).unwrap().unwrap();
        assert_eq!(row.matches(&plan, &pages.block(&plan)), Ok(true));
    }
}

fn extents(view: &MemFile<'_>) -> Vec<(u64, u64, Option<u64>)> {
    let extents = view.extents().unwrap();
    let extents = extents.iter().map(|extent| {
        let place = match extent.content {
            Content::Data { file_offset } => Some(file_offset.get()),
            Content::Zero => None,
        };
        (extent.run.start().get(), extent.run.count(), place)
    });
    extents.collect()
}

// Spec: MEM-1, MEM-5, MEM-10
#[test]
fn golden_full_has_its_known_value() {
    let bytes = golden(path("full", "bin"));
    let view = reencode::open(&bytes).unwrap();
    view.verify_tables().unwrap();
    assert_eq!((view.kind(), view.arch()), (Kind::Full, Arch::X86_64));
    assert_eq!(view.page_size(), PageSize::SIZE_4K);
    assert_eq!(view.producer(), producer());
    assert_eq!(view.parent_root(), None);
    let regions = view.layout().regions();
    let ends = regions.iter().map(|r| (r.addr(), r.end()));
    let at = GuestAddr::new;
    assert!(ends.eq([(at(0), at(0x1_0000)), (at(0x1_1000), at(0x1_5000))]));
    assert_eq!(view.data_offset(), FileOffset::new(2 << 20));
    assert_eq!(view.data_len(), ByteLen::new(20 * 4096));
    let data = |page: u64| Some((2 << 20) + page * 4096);
    let expected = [
        (0, 3, data(0)),
        (3, 7, None),
        (10, 6, data(10)),
        (16, 2, None),
        (18, 2, data(18)),
    ];
    assert_eq!(extents(&view), expected);
    check_blocks(&view, &full().1);
}

// Spec: MEM-6, MEM-8, MEM-11
#[test]
fn golden_diff_has_its_known_value() {
    let bytes = golden(path("diff", "bin"));
    let view = reencode::open(&bytes).unwrap();
    view.verify_tables().unwrap();
    assert_eq!((view.kind(), view.arch()), (Kind::Diff, Arch::X86_64));
    assert_eq!(view.parent_root(), Some(PARENT));
    assert_eq!(view.data_offset(), FileOffset::new(4096));
    assert_eq!(view.data_len(), ByteLen::new(7 * 4096));
    let expected = [
        (1, 1, Some(0x1000)),
        (2, 1, None),
        (3, 2, Some(0x2000)),
        (16, 4, Some(0x4000)),
        (20, 20, None),
    ];
    assert_eq!(extents(&view), expected);
    check_blocks(&view, &diff().1);
    let blocks = view.blocks().unwrap();
    let rows = blocks.iter_verified().map(|row| row.unwrap());
    let rows: Vec<_> = rows.map(|row| (row.block, row.whole)).collect();
    assert_eq!(rows, [(0, false), (1, true)]);
}

// Spec: MEM-1
#[test]
fn golden_empty_diff_has_its_known_value() {
    let bytes = golden(path("diff_empty", "bin"));
    let view = reencode::open(&bytes).unwrap();
    view.verify_tables().unwrap();
    assert_eq!((view.kind(), view.arch()), (Kind::Diff, Arch::Aarch64));
    assert_eq!(view.page_size(), PageSize::SIZE_16K);
    assert_eq!(view.data_len(), ByteLen::ZERO);
    assert!(view.extents().unwrap().is_empty());
    assert!(view.blocks().unwrap().is_empty());
    assert_eq!(view.blocks().unwrap().get(0), Ok(None));
    assert_eq!(view.extents().unwrap().block_plan(0), None);
    assert_eq!(
        view.extents().unwrap().iter_from(run(0, 1).end()).count(),
        0
    );
}

// Spec: MEM-1, MEM-27
#[test]
fn golden_full_with_absent_parts_has_its_known_value() {
    let bytes = golden(path("full_absent", "bin"));
    let view = reencode::open(&bytes).unwrap();
    view.verify_tables().unwrap();
    assert_eq!(view.header().version, Version { major: 1, minor: 1 });
    assert_eq!(view.absent(), ABSENT);
    assert_eq!(view.unknown_sections().count(), 0);
    let plain = golden(path("full", "bin"));
    let plain = reencode::open(&plain).unwrap();
    assert_eq!(plain.header().version, Version { major: 1, minor: 0 });
    assert!(plain.absent().is_empty());
    assert_eq!(extents(&view), extents(&plain), "their bytes are zero");
    assert_ne!(view.root(), plain.root(), "and yet it is another file");
    check_blocks(&view, &full_absent().1);
}
