//! A plain set of pages: what a capture reads.
//!
//! Invariants: words ascend strictly, none is 0, no bit lies past the last page. So two sets of
//! the same pages are equal word for word, and the size follows the pages and not the RAM.

use alloc::vec::Vec;

use coldframe_units::{ByteLen, PageIndex, PageRun, PageSize, RamOffset};

use crate::DirtyError;
use crate::geometry::Geometry;
use crate::words::{Runs, locate, words_of};

/// A set of pages of a RAM.
///
/// It takes 16 bytes for each 64 neighbouring pages that hold one of the set. Marking in falling
/// order is slow (linear in the set); a [`crate::DirtyBitmap`] is for that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirtyPages {
    geometry: Geometry,
    /// Number of the word, and its bits.
    words: Vec<(usize, u64)>,
}

impl DirtyPages {
    /// The empty set over `ram` bytes, the last page perhaps partial.
    ///
    /// # Errors
    /// [`DirtyError::EmptyRam`], [`DirtyError::TooManyPages`] past [`crate::PAGES_MAX`].
    pub fn new(ram: ByteLen, page_size: PageSize) -> Result<Self, DirtyError> {
        Ok(Self {
            geometry: Geometry::new(ram, page_size)?,
            words: Vec::new(),
        })
    }

    /// The pages of all `runs`, which may come in any order and overlap.
    ///
    /// # Errors
    /// As [`DirtyPages::new`]; [`DirtyError::PageOutsideRam`] if a run ends outside the RAM.
    pub fn from_runs(
        ram: ByteLen,
        page_size: PageSize,
        runs: impl IntoIterator<Item = PageRun>,
    ) -> Result<Self, DirtyError> {
        let mut pages = Self::new(ram, page_size)?;
        for run in runs {
            pages.geometry.check_run(run)?;
            pages.words.extend(words_of(run));
        }
        pages.normalise();
        Ok(pages)
    }

    /// From words that hold to the invariants.
    pub(crate) fn from_words(
        geometry: Geometry,
        words: impl IntoIterator<Item = (usize, u64)>,
    ) -> Self {
        Self {
            geometry,
            words: words.into_iter().collect(),
        }
    }

    /// No page of a RAM.
    pub(crate) const fn none(geometry: Geometry) -> Self {
        Self {
            geometry,
            words: Vec::new(),
        }
    }

    /// How long the RAM is.
    #[must_use]
    pub const fn ram(&self) -> ByteLen {
        self.geometry.ram()
    }

    /// The size of a page.
    #[must_use]
    pub const fn page_size(&self) -> PageSize {
        self.geometry.page_size()
    }

    /// How many pages are in the set.
    #[must_use]
    pub fn count(&self) -> u64 {
        let ones = self.words.iter().map(|(_, bits)| bits.count_ones());
        ones.map(u64::from).sum()
    }

    /// Whether the set has no page.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Whether the page is in the set; false outside the RAM.
    #[must_use]
    pub fn contains(&self, page: PageIndex) -> bool {
        let (word, bit) = locate(page);
        let found = self.words.binary_search_by_key(&word, |(index, _)| *index);
        found.is_ok_and(|at| self.words[at].1 & bit != 0)
    }

    /// The pages as maximal runs, ascending.
    pub fn runs(&self) -> impl Iterator<Item = PageRun> + '_ {
        Runs::new(self.words.iter().copied())
    }

    /// Adds every page that the bytes touch; none if `len` is 0.
    ///
    /// # Errors
    /// [`DirtyError::OutsideRam`] if the range is not all inside the RAM; nothing is added then.
    pub fn mark(&mut self, offset: RamOffset, len: ByteLen) -> Result<(), DirtyError> {
        self.geometry.check_range(offset, len)?;
        if let Some(run) = self.geometry.pages_of(offset, len) {
            self.add(run);
        }
        Ok(())
    }

    /// Adds a run of pages.
    ///
    /// # Errors
    /// [`DirtyError::PageOutsideRam`] if the run ends outside the RAM; nothing is added then.
    pub fn mark_run(&mut self, run: PageRun) -> Result<(), DirtyError> {
        self.geometry.check_run(run)?;
        self.add(run);
        Ok(())
    }

    /// Adds all pages of `other`, which may be of another page size: those that share a byte with
    /// one of its pages.
    ///
    /// # Errors
    /// [`DirtyError::OtherRam`] if the RAMs differ in length.
    pub fn union(&mut self, other: &Self) -> Result<(), DirtyError> {
        self.geometry.check_same_ram(&other.geometry)?;
        if other.page_size() == self.page_size() {
            self.words.extend_from_slice(&other.words);
        } else {
            self.words.extend(other.convert(&self.geometry).words);
        }
        self.normalise();
        Ok(())
    }

    /// Removes the pages of another set; of a set of another page size, each page that shares a
    /// byte with one of it.
    ///
    /// # Errors
    /// [`DirtyError::OtherRam`] if the RAMs differ in length.
    pub fn subtract(&mut self, other: &Self) -> Result<(), DirtyError> {
        self.geometry.check_same_ram(&other.geometry)?;
        let converted;
        let other = if other.page_size() == self.page_size() {
            other
        } else {
            converted = other.convert(&self.geometry);
            &converted
        };
        let mut removed = other.words.iter().peekable();
        self.words.retain_mut(|(index, bits)| {
            while removed.next_if(|(other, _)| *other < *index).is_some() {}
            if let Some((_, gone)) = removed.peek().filter(|(other, _)| *other == *index) {
                *bits &= !gone;
            }
            *bits != 0
        });
        Ok(())
    }

    /// Adds the pages that lie inside the bytes as a whole: none that the bytes only begin or end
    /// in, but for the RAM's last, which may be partial itself.
    ///
    /// # Errors
    /// [`DirtyError::OutsideRam`] if the range is not all inside the RAM; nothing is added then.
    pub fn mark_whole(&mut self, offset: RamOffset, len: ByteLen) -> Result<(), DirtyError> {
        self.geometry.check_range(offset, len)?;
        if let Some(run) = self.geometry.whole_pages_of(offset, len) {
            self.add(run);
        }
        Ok(())
    }

    /// The pages of `other`, which may be of a RAM of another length, as pages of this set's RAM:
    /// those past its end are left out. Pages of another size are cut anew.
    #[must_use]
    pub fn resized_like(&self, other: &Self) -> Self {
        let geometry = self.geometry;
        if other.page_size() != self.page_size() {
            let to = Geometry::within_limits(other.ram(), self.page_size());
            return self.resized_like(&other.convert(&to));
        }
        let words = other.words.iter().map(|(index, bits)| {
            let bits = bits & geometry.mask_of(*index);
            (*index, bits)
        });
        Self::from_words(geometry, words.filter(|(_, bits)| *bits != 0))
    }

    /// The same bytes in pages of another size: each page that shares a byte with one of the set.
    ///
    /// # Errors
    /// [`DirtyError::TooManyPages`] if the RAM has too many pages of that size.
    pub fn rechunk(&self, page_size: PageSize) -> Result<Self, DirtyError> {
        let to = Geometry::new(self.ram(), page_size)?;
        Ok(self.convert(&to))
    }

    /// In the pages of `to`, another cut of the same RAM.
    pub(crate) fn convert(&self, to: &Geometry) -> Self {
        let mut pages = Self::from_words(*to, []);
        for run in self.runs() {
            pages.add(self.geometry.convert(run, to));
        }
        pages
    }

    pub(crate) const fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    pub(crate) fn words(&self) -> &[(usize, u64)] {
        &self.words
    }

    pub(crate) fn clear(&mut self) {
        self.words.clear();
    }

    /// Adds a run that was checked to be inside the RAM; cheap if it is not before the last page.
    fn add(&mut self, run: PageRun) {
        let (first, _) = locate(run.start());
        let mut added = words_of(run);
        match self.words.last_mut() {
            Some((last, _)) if *last > first => {
                self.words.extend(added);
                self.normalise();
            }
            Some((last, bits)) if *last == first => {
                *bits |= added.next().map_or(0, |(_, more)| more);
                self.words.extend(added);
            }
            _ => self.words.extend(added),
        }
    }

    /// Sorts the words and joins those of the same number.
    ///
    /// The sort is the stable one, which takes linear time on a few ascending stretches.
    fn normalise(&mut self) {
        self.words.sort_by_key(|(index, _)| *index);
        self.words.dedup_by(|(index, bits), (kept, kept_bits)| {
            let same = index == kept;
            if same {
                *kept_bits |= *bits;
            }
            same
        });
    }
}
