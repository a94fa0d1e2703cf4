//! Shared by the tests: layouts, files out of page maps, whole files as bytes.

use coldframe_envelope::{Limits, Producer};
use coldframe_memfile::{BlockPlan, Encoded, Kind, MemFile, MemFileBuilder};
use coldframe_units::{
    Arch, ByteLen, FileOffset, GuestAddr, GuestRegion, PageIndex, PageRun, PageSize, RamLayout,
    RootHash,
};

pub const PARENT: RootHash = RootHash::from_bytes([0x5a; 32]);

/// What a page is in the model; in a Diff it may also be absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    Absent,
    Zero,
    /// Data filled with this byte.
    Data(u8),
}

pub fn run(start: u64, count: u64) -> PageRun {
    PageRun::new(PageIndex::new(start), count).unwrap()
}

pub fn producer() -> Producer {
    Producer::new("golden", "0.1.0").unwrap()
}

/// Regions of so many pages each, with a hole of one page between neighbours.
pub fn layout(page_size: PageSize, pages: &[u64]) -> RamLayout {
    let bytes = page_size.bytes();
    let mut next = 0;
    let regions = pages.iter().map(|pages| {
        let addr = GuestAddr::new(next * bytes);
        next += pages + 1;
        GuestRegion::new(addr, ByteLen::new(pages * bytes)).unwrap()
    });
    RamLayout::new(regions.collect()).unwrap()
}

pub fn builder(kind: Kind, page_size: PageSize, layout: &RamLayout) -> MemFileBuilder {
    let arch = Arch::X86_64;
    match kind {
        Kind::Full => MemFileBuilder::full(arch, page_size, layout, producer()),
        Kind::Diff => MemFileBuilder::diff(arch, page_size, layout, producer(), PARENT),
    }
    .unwrap()
}

/// A file whose pages are wherever the builder said: kept as stretches, so a Full costs no 2 MiB.
#[derive(Clone, Debug, Default)]
pub struct Pages(Vec<(u64, Vec<u8>)>);

impl Pages {
    pub fn write(&mut self, at: FileOffset, bytes: Vec<u8>) {
        self.0.push((at.get(), bytes));
    }

    pub fn read(&self, at: FileOffset, len: ByteLen) -> Vec<u8> {
        let (at, end) = (at.get(), at.get() + len.get());
        let mut out = vec![0; usize::try_from(len.get()).unwrap()];
        for (start, bytes) in &self.0 {
            let stop = start + bytes.len() as u64;
            let (from, to) = (at.max(*start), end.min(stop));
            if from < to {
                let source = &bytes[(from - start) as usize..(to - start) as usize];
                out[(from - at) as usize..(to - at) as usize].copy_from_slice(source);
            }
        }
        out
    }

    pub fn block(&self, plan: &BlockPlan) -> Vec<u8> {
        plan.data()
            .flat_map(|(at, len)| self.read(at, len))
            .collect()
    }
}

/// Pushes the model page by page and seals it with true hashes.
pub fn build(
    kind: Kind,
    page_size: PageSize,
    layout: &RamLayout,
    pages: &[Page],
) -> (Encoded, Pages) {
    fill(builder(kind, page_size, layout), page_size, pages)
}

/// As [`build`], into a file that was begun.
pub fn fill(mut builder: MemFileBuilder, page_size: PageSize, pages: &[Page]) -> (Encoded, Pages) {
    let mut written = Pages::default();
    for (index, page) in (0..).zip(pages) {
        match page {
            Page::Absent => {}
            Page::Zero => builder.push_zero(run(index, 1)).unwrap(),
            Page::Data(byte) => {
                let at = builder.push_data(run(index, 1)).unwrap();
                written.write(at, vec![*byte; usize::try_from(page_size.bytes()).unwrap()]);
            }
        }
    }
    let hashes: Vec<_> = builder
        .blocks_to_hash()
        .map(|plan| plan.hash(&written.block(&plan)).unwrap())
        .collect();
    (builder.finish(hashes).unwrap(), written)
}

pub fn open(file: &Encoded) -> MemFile<'_> {
    let (header, tail) = (&file.header, &file.tail);
    MemFile::from_parts(header, tail, file.tail_offset, Limits::MEMORY_FILE).unwrap()
}

/// Header and tail, one behind the other: the file without its pages, as goldens are kept.
pub fn compact(file: &Encoded) -> Vec<u8> {
    [&file.header[..], &file.tail].concat()
}

/// The whole file, holes and all.
pub fn whole(file: &Encoded, pages: &Pages) -> Vec<u8> {
    let mut bytes = pages.read(FileOffset::ZERO, ByteLen::new(file.tail_offset.get()));
    bytes[..160].copy_from_slice(&file.header);
    bytes.extend_from_slice(&file.tail);
    bytes
}
