//! The extent table, read where it lies.
//!
//! Invariant: an [`Extents`] that exists was checked whole: hash, order, range, merging, and where
//! the data of each extent lies.

use coldframe_envelope::{DecodeError, DecodeErrorKind};
use coldframe_units::{BLOCK_BYTES, ByteLen, FileOffset, PageIndex, RamOffset};

use crate::extent::Geometry;
use crate::layout::ExtentBytes;
use crate::{BlockPlan, BlockPlans, Content, Extent, Kind};

/// The checked extents of a file, in rising page.
#[derive(Clone, Copy, Debug)]
pub struct Extents<'a> {
    rows: &'a [ExtentBytes],
    geometry: Geometry,
}

impl<'a> Extents<'a> {
    /// Checks rows that lie at `offset` of the file; `data_len` is that of the data section.
    pub(crate) fn decode(
        rows: &'a [ExtentBytes],
        offset: u64,
        geometry: Geometry,
        data_len: u64,
    ) -> Result<Self, DecodeError> {
        let mut rules = Rules::new(geometry);
        let mut at = offset;
        for row in rows {
            let extent = Extent::decode(row, at)?;
            rules
                .next(extent)
                .map_err(|field| DecodeError::new(DecodeErrorKind::Invalid { field }, at))?;
            at = at.saturating_add(24);
        }
        rules
            .end(data_len)
            .map_err(|field| DecodeError::new(DecodeErrorKind::Invalid { field }, at))?;
        Ok(Self { rows, geometry })
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none: a Diff in which nothing changed.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The extent that holds `page`; `None` in a Diff if the page is the parent's.
    #[must_use]
    pub fn find(&self, page: PageIndex) -> Option<Extent> {
        self.iter_from(page)
            .next()
            .filter(|extent| extent.run.start() <= page)
    }

    /// All of them, in rising page.
    pub fn iter(&self) -> impl Iterator<Item = Extent> + use<'a> {
        decoded(self.rows)
    }

    /// Those that end after `page`, in rising page; the first may begin before it.
    pub fn iter_from(&self, page: PageIndex) -> impl Iterator<Item = Extent> + use<'a> {
        let before = self.rows.partition_point(|row| {
            let count = u64::from(row.page_count.get());
            row.ram_page.get().saturating_add(count) <= page.get()
        });
        decoded(self.rows.get(before..).unwrap_or_default())
    }

    /// For each block that has a hash: which bytes are hashed.
    pub fn block_plans(&self) -> impl Iterator<Item = BlockPlan> + use<'a> {
        BlockPlans::new(self.iter(), self.geometry, 0)
    }

    /// Which bytes are hashed for this block; `None` if it has no data here, and so no hash.
    #[must_use]
    pub fn block_plan(&self, block: u64) -> Option<BlockPlan> {
        let start = block.checked_mul(BLOCK_BYTES)?;
        let page = self.geometry.page_size.page_of(RamOffset::new(start));
        BlockPlans::new(self.iter_from(page), self.geometry, start)
            .next()
            .filter(|plan| plan.block() == block)
    }

    /// The stretches of a Full file's data section that must read as zeros, since their extents
    /// are zero; none in a Diff. No hash covers them.
    pub fn holes(&self) -> impl Iterator<Item = (FileOffset, ByteLen)> + use<'a> {
        let geometry = self.geometry;
        self.iter()
            .filter(move |extent| extent.is_zero() && geometry.kind == Kind::Full)
            .map(move |extent| {
                let len = ByteLen::new(geometry.bytes(extent.run.count()));
                (geometry.file_offset(extent.run.start(), 0), len)
            })
    }
}

/// Every row was decoded once by [`Extents::decode`], so none is left out here.
fn decoded(rows: &[ExtentBytes]) -> impl Iterator<Item = Extent> + use<'_> {
    rows.iter().filter_map(|row| Extent::decode(row, 0).ok())
}

/// The rules that hold between extents, one extent at a time.
struct Rules {
    geometry: Geometry,
    previous: Option<Extent>,
    next_page: u64,
    packed: u64,
}

impl Rules {
    const fn new(geometry: Geometry) -> Self {
        Self {
            geometry,
            previous: None,
            next_page: 0,
            packed: 0,
        }
    }

    /// Takes the next extent in; the error is the field that is wrong.
    fn next(&mut self, extent: Extent) -> Result<(), &'static str> {
        let start = extent.run.start();
        let out_of_order = start.get() < self.next_page;
        let gap = self.geometry.kind == Kind::Full && start.get() != self.next_page;
        if out_of_order || gap {
            return Err("ram_page");
        }
        if extent.run.end().get() > self.geometry.pages() {
            return Err("page_count");
        }
        if self
            .previous
            .is_some_and(|previous| previous.is_mergeable(&extent))
        {
            return Err("extent that continues the one before");
        }
        if let Content::Data { file_offset } = extent.content {
            if file_offset != self.geometry.file_offset(start, self.packed) {
                return Err("file_offset");
            }
            self.packed = self.packed.saturating_add(extent.run.count());
        }
        self.next_page = extent.run.end().get();
        self.previous = Some(extent);
        Ok(())
    }

    fn end(&self, data_len: u64) -> Result<(), &'static str> {
        if self.geometry.kind == Kind::Full && self.next_page != self.geometry.pages() {
            return Err("extents, which do not reach the end of RAM");
        }
        if self.geometry.data_len(self.packed) != data_len {
            return Err("length of the data section");
        }
        Ok(())
    }
}
