//! The files that the goldens hold, made anew.

use coldframe_memfile::{AbsentPart, Encoded, Kind, MemFileBuilder};
use coldframe_units::{Arch, ByteLen, PageSize, RamOffset};

use crate::support::{PARENT, Page, Pages, build, builder, fill, layout, producer};

fn pages(runs: &[(usize, Page)]) -> Vec<Page> {
    let runs = runs.iter();
    runs.flat_map(|(count, page)| std::iter::repeat_n(*page, *count))
        .collect()
}

/// Two regions of 16 and 4 pages of 4 KiB: the last block is short.
pub fn full_pages() -> Vec<Page> {
    pages(&[
        (3, Page::Data(0x11)),
        (7, Page::Zero),
        (6, Page::Data(0x22)),
        (2, Page::Zero),
        (2, Page::Data(0x33)),
    ])
}

pub fn full() -> (Encoded, Pages) {
    let size = PageSize::SIZE_4K;
    build(Kind::Full, size, &layout(size, &[16, 4]), &full_pages())
}

/// The pages that are zero in [`full_pages`] and not plugged in: all but the first, and the last.
pub const ABSENT: [AbsentPart; 2] = [absent(4, 6), absent(17, 1)];

pub const fn absent(page: u64, pages: u64) -> AbsentPart {
    AbsentPart {
        start: RamOffset::new(page * 4096),
        len: ByteLen::new(pages * 4096),
    }
}

/// As [`full`], with memory that is not plugged in.
pub fn full_absent() -> (Encoded, Pages) {
    let size = PageSize::SIZE_4K;
    let ram = layout(size, &[16, 4]);
    let empty = builder(Kind::Full, size, &ram).with_absent(ABSENT).unwrap();
    fill(empty, size, &full_pages())
}

/// Block 0 in part, block 1 whole with zeros, block 2 without data, block 3 not at all.
pub fn diff_pages() -> Vec<Page> {
    pages(&[
        (1, Page::Absent),
        (1, Page::Data(0x44)),
        (1, Page::Zero),
        (2, Page::Data(0x55)),
        (11, Page::Absent),
        (4, Page::Data(0x66)),
        (12, Page::Zero),
        (8, Page::Zero),
        (24, Page::Absent),
    ])
}

pub fn diff() -> (Encoded, Pages) {
    let size = PageSize::SIZE_4K;
    build(Kind::Diff, size, &layout(size, &[40, 24]), &diff_pages())
}

/// An aarch64 guest of 16 KiB pages in which nothing changed.
pub fn empty() -> (Encoded, Pages) {
    let size = PageSize::SIZE_16K;
    let ram = layout(size, &[8]);
    let builder = MemFileBuilder::diff(Arch::Aarch64, size, &ram, producer(), PARENT).unwrap();
    (builder.finish([]).unwrap(), Pages::default())
}

/// All of them, by the name of their golden.
pub fn all() -> [(&'static str, Encoded, Pages); 4] {
    let named = |name, (file, pages)| (name, file, pages);
    [
        named("full", full()),
        named("diff", diff()),
        named("diff_empty", empty()),
        named("full_absent", full_absent()),
    ]
}
