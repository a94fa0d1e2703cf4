//! Raw dumps in, raw dumps out.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use coldframe_snapshot::export::{Holes, raw};
use coldframe_snapshot::import::{DiffHoles, Dump, Source, import};
use coldframe_snapshot::{Snapshot, SnapshotError};
use coldframe_storage::{Overwrite, PendingFile};
use coldframe_testkit::rng::Rng;
use coldframe_units::{Arch, PageSize, RamLayout};

use crate::support::{Home, assert_sound, open_chain, producer};

fn take(
    file: &Path,
    dest: &Path,
    page_size: PageSize,
    parent: Option<&Snapshot>,
) -> Result<Snapshot, SnapshotError> {
    let dump = Dump::open(file).unwrap();
    let source = Source {
        dump: &dump,
        arch: Arch::X86_64,
        ram: RamLayout::contiguous(dump.len()).unwrap(),
        page_size,
        parent,
        holes: DiffHoles::Proven,
        state: None,
    };
    import(source, dest, producer(), &mut |_| ())
}

fn give(snapshot: &Path, dest: &Path, holes: Holes) -> Vec<u8> {
    let file = PendingFile::create(dest, Overwrite::Refuse).unwrap();
    let chain = open_chain(snapshot).unwrap();
    let mut told = 0;
    raw(&chain, &file, holes, &mut |bytes| told += bytes).unwrap();
    file.publish().unwrap();
    let bytes = fs::read(dest).unwrap();
    assert_eq!(told, bytes.len() as u64);
    bytes
}

#[test]
fn a_dump_comes_out_as_it_went_in() {
    let home = Home::new();
    let mut bytes = Rng::new(1).bytes(3 << 20);
    bytes[0x4_0000..0xa_0000].fill(0);
    let dump = home.at("dump");
    fs::write(&dump, &bytes).unwrap();
    for page_size in [PageSize::SIZE_4K, PageSize::SIZE_64K] {
        let name = format!("s-{page_size}").replace(' ', "");
        let snapshot = take(&dump, &home.at(&name), page_size, None).unwrap();
        assert_sound(snapshot.path());
        for (holes, ending) in [(Holes::None, "dense"), (Holes::ForZeros, "sparse")] {
            let dest = home.at(&format!("{name}-{ending}"));
            assert!(give(snapshot.path(), &dest, holes) == bytes);
        }
    }
}

#[test]
fn a_hole_is_clean_and_an_allocated_zero_page_is_zero() {
    let home = Home::new();
    let page = |byte: u8| [byte; 4096];
    let base = home.at("base.mem");
    fs::write(&base, [page(1), page(2), page(3), page(4)].concat()).unwrap();
    let full = take(&base, &home.at("full"), PageSize::SIZE_4K, None).unwrap();

    let sparse = home.at("sparse.mem");
    let file = File::create(&sparse).unwrap();
    file.set_len(4 * 4096).unwrap();
    file.write_all_at(&page(9), 4096).unwrap();
    file.write_all_at(&page(0), 2 * 4096).unwrap();
    file.sync_all().unwrap();
    let diff = take(&sparse, &home.at("diff"), PageSize::SIZE_4K, Some(&full)).unwrap();
    assert_eq!(diff.manifest().parent().unwrap().id, full.id());
    let out = give(diff.path(), &home.at("out"), Holes::None);
    assert!(out == [page(1), page(9), page(0), page(4)].concat());
    assert_sound(diff.path());
}

#[test]
fn a_hole_that_ends_inside_a_page_is_refused_in_a_diff() {
    let home = Home::new();
    let base = home.at("base.mem");
    fs::write(&base, vec![1; 1 << 20]).unwrap();
    let full = take(&base, &home.at("full"), PageSize::SIZE_64K, None).unwrap();
    let sparse = home.at("sparse.mem");
    let file = File::create(&sparse).unwrap();
    file.set_len(1 << 20).unwrap();
    file.write_all_at(&[7; 4096], 0x2_1000).unwrap();
    file.sync_all().unwrap();
    let error = take(&sparse, &home.at("diff"), PageSize::SIZE_64K, Some(&full)).unwrap_err();
    assert!(matches!(error, SnapshotError::Memory(_)), "{error}");
    assert!(!home.names().contains(&"diff".into()));
}

#[test]
fn a_dump_of_another_length_than_its_parent_is_refused() {
    let home = Home::new();
    let dump = home.at("dump");
    fs::write(&dump, [1; 8192]).unwrap();
    let full = take(&dump, &home.at("full"), PageSize::SIZE_4K, None).unwrap();
    fs::write(&dump, [1; 12288]).unwrap();
    let error = take(&dump, &home.at("diff"), PageSize::SIZE_4K, Some(&full)).unwrap_err();
    assert!(matches!(error, SnapshotError::Disagree { .. }), "{error}");
}

#[test]
fn a_dump_of_broken_pages_is_refused_and_leaves_nothing() {
    let home = Home::new();
    let dump = home.at("dump");
    fs::write(&dump, [1; 5000]).unwrap();
    assert!(take(&dump, &home.at("full"), PageSize::SIZE_4K, None).is_err());
    assert_eq!(home.names(), ["dump"]);
}
