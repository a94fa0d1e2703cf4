//! The shared bitmap that guest and device writes mark.
//!
//! Invariants: a page that was marked stays in the bitmap or in a live token until a token that
//! holds it is committed, or the caller that discarded it takes it out; bits past the last page are
//! never told of; a leaf whose words are not all 0 is marked in `touched`.
//!
//! The RAM may grow and shrink within the capacity that the words were reserved for. A mark that
//! races with a shrink may set a bit past the new end: readers mask by the RAM of their moment, and
//! a RAM that grows has all its new pages marked anyway.
//!
//! # Memory ordering
//! The contract is **write, then mark** on one side and **take, then copy** on the other.
//!
//! - A mark is one `fetch_or(Release)`, a take one `swap(0, Acquire)`, on the same word. Either
//!   the mark comes first in the word's modification order: the swap reads it, or a later mark in
//!   the release sequence that it heads, and the copy sees the bytes written before the mark. Or
//!   the swap comes first: the bit is set after it and waits for the next take. No third case.
//! - So a mark never looks whether the bit is already set to save itself the `fetch_or`. The write
//!   to guest memory may still be in a store buffer when such a look finds the bit set; a take
//!   then clears the bit, the copy reads the old bytes, and the new ones are in no snapshot. To
//!   forbid it takes a full fence, which costs what the `fetch_or` costs.
//! - A take reads a word with a relaxed load first and swaps only if it is not 0. A mark that the
//!   load misses is not ordered before the take, and waits for the next one.
//! - A rollback is a mark by the taker: its `Release`, after its own `Acquire`, hands on what it
//!   saw to the next taker.
//! - `touched` has a bit for each leaf (512 words) that was ever marked, so that a scan reads no
//!   memory that was never written. It is set before the first mark of a leaf and never cleared;
//!   because it only grows it may be read and set relaxed: a thread ordered after a mark is also
//!   ordered after the marker's set, or after its look that found the bit set, and by coherence
//!   finds it.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use coldframe_units::{ByteLen, PageIndex, PageRun, PageSize, RamOffset};

use crate::geometry::Geometry;
use crate::sync::{Arc, AtomicU64, Ordering, zeroed};
use crate::words::{Runs, between, locate, words_for, words_of};
use crate::{DirtyError, DirtyPages, DirtyToken};

/// Words in a leaf: 4 KiB of them, a page of the host.
const LEAF_WORDS: usize = 512;

/// One bit for each page of guest RAM, marked by any thread without a lock.
///
/// A clone is another handle to the same bits. A mark must come **after** the write that it tells
/// of (write faults, which come before the write, are for [`crate::AdaptiveBitmap`]).
#[derive(Clone)]
pub struct DirtyBitmap {
    inner: Arc<Inner>,
}

struct Inner {
    page_size: PageSize,
    /// Bytes of RAM now, and the most that there may be.
    ram: AtomicU64,
    capacity: ByteLen,
    /// Bit for each leaf of `words` that may be other than 0.
    touched: Box<[AtomicU64]>,
    words: Box<[AtomicU64]>,
}

impl DirtyBitmap {
    /// A clean bitmap over `ram` bytes, the last page perhaps partial.
    ///
    /// It takes one bit of address space for each page, and memory only where pages are marked.
    ///
    /// # Errors
    /// [`DirtyError::EmptyRam`], [`DirtyError::TooManyPages`] past [`crate::PAGES_MAX`],
    /// [`DirtyError::Allocate`].
    pub fn new(ram: ByteLen, page_size: PageSize) -> Result<Self, DirtyError> {
        Self::with_capacity(ram, ram, page_size)
    }

    /// The same over a RAM that may grow to `capacity` bytes: memory that is plugged in later.
    ///
    /// # Errors
    /// As [`DirtyBitmap::new`]; [`DirtyError::OverCapacity`] if `ram` is more than `capacity`.
    pub fn with_capacity(
        ram: ByteLen,
        capacity: ByteLen,
        page_size: PageSize,
    ) -> Result<Self, DirtyError> {
        Geometry::new(ram, page_size)?;
        if ram > capacity {
            return Err(DirtyError::OverCapacity { ram, capacity });
        }
        let words = zeroed(words_for(Geometry::new(capacity, page_size)?.pages()))?;
        let touched = zeroed(words.len().div_ceil(LEAF_WORDS).div_ceil(64))?;
        Ok(Self {
            inner: Arc::new(Inner {
                page_size,
                ram: AtomicU64::new(ram.get()),
                capacity,
                touched,
                words,
            }),
        })
    }

    /// The RAM has another length from now on, at its end: a region was plugged in behind all
    /// others, or the last one was unplugged. What is new is marked: no snapshot has it.
    ///
    /// A region before others cannot come or go: the pages behind it would change their numbers,
    /// and devices mark by them. That takes a new bitmap.
    ///
    /// # Errors
    /// [`DirtyError::EmptyRam`], [`DirtyError::OverCapacity`]; nothing has changed then.
    pub fn resize(&self, ram: ByteLen) -> Result<(), DirtyError> {
        let capacity = self.capacity();
        let after = Geometry::new(ram, self.page_size())?;
        if ram > capacity {
            return Err(DirtyError::OverCapacity { ram, capacity });
        }
        let before = self.geometry();
        if before.ram() < ram {
            // The last page of before may have been partial: what joins it is new.
            let first = before.ram().get() / self.page_size().bytes();
            let count = after.pages().saturating_sub(first);
            if let Some(run) = PageRun::new(PageIndex::new(first), count) {
                self.inner.or_run(run);
            }
        }
        self.inner.ram.store(ram.get(), Ordering::Release);
        Ok(())
    }

    /// The most that the RAM may grow to.
    #[must_use]
    pub fn capacity(&self) -> ByteLen {
        self.inner.capacity
    }

    /// How much RAM is tracked.
    #[must_use]
    pub fn ram(&self) -> ByteLen {
        self.geometry().ram()
    }

    /// The size of the page of each bit.
    #[must_use]
    pub fn page_size(&self) -> PageSize {
        self.inner.page_size
    }

    /// How many pages the RAM has, a partial last one included.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.geometry().pages()
    }

    /// Marks every page that the bytes touch; none if `len` is 0.
    ///
    /// # Errors
    /// [`DirtyError::OutsideRam`] if the range is not all inside the RAM; nothing is marked then.
    #[inline]
    pub fn mark(&self, offset: RamOffset, len: ByteLen) -> Result<(), DirtyError> {
        self.geometry().check_range(offset, len)?;
        self.mark_inside(offset, len);
        Ok(())
    }

    /// Marks one page; true if it was clean, which of several threads exactly one is told.
    ///
    /// # Errors
    /// [`DirtyError::PageOutsideRam`].
    #[inline]
    pub fn mark_page(&self, page: PageIndex) -> Result<bool, DirtyError> {
        self.geometry().check_page(page)?;
        let (word, bit) = locate(page);
        Ok(self.inner.or_word(word, bit) & bit == 0)
    }

    /// Marks the pages of a dirty log as KVM hands it out: bit `i % 64` of word `i / 64` is page
    /// `first_page + i`.
    ///
    /// The log of a memory slot is as long as the next 64 pages; KVM leaves the bits past the
    /// slot's end 0. Source: Documentation/virt/kvm/api.rst, 4.8 `KVM_GET_DIRTY_LOG`.
    ///
    /// # Errors
    /// [`DirtyError::PageOutsideRam`] if a bit that is set lies past the end of RAM; nothing is
    /// marked then.
    pub fn mark_words(&self, first_page: PageIndex, words: &[u64]) -> Result<(), DirtyError> {
        let Some(last) = words.iter().rposition(|bits| *bits != 0) else {
            return Ok(());
        };
        let last_bit = last as u64 * 64 + u64::from(words[last].ilog2());
        let last_page = PageIndex::new(first_page.get().saturating_add(last_bit));
        self.geometry().check_page(last_page)?;

        let (first_word, _) = locate(first_page);
        let shift = first_page.get() % 64;
        let mut carry = 0;
        for (index, bits) in words[..=last].iter().enumerate() {
            let bits = u128::from(*bits) << shift | carry;
            self.inner.or_nonzero(first_word + index, bits as u64);
            carry = bits >> 64;
        }
        self.inner.or_nonzero(first_word + last + 1, carry as u64);
        Ok(())
    }

    /// Marks all pages of `pages`, which may be of another page size.
    ///
    /// A page is marked if it shares a byte with one of `pages`. For the pages of another bitmap,
    /// see [`DirtyBitmap::peek`].
    ///
    /// # Errors
    /// [`DirtyError::OtherRam`] if the RAMs differ in length.
    pub fn union(&self, pages: &DirtyPages) -> Result<(), DirtyError> {
        self.geometry().check_same_ram(pages.geometry())?;
        if pages.page_size() == self.page_size() {
            self.put_back(pages);
        } else {
            self.put_back(&pages.convert(&self.geometry()));
        }
        Ok(())
    }

    /// Whether the page is marked; false outside the RAM.
    #[must_use]
    pub fn is_dirty(&self, page: PageIndex) -> bool {
        let (word, bit) = locate(page);
        let bit = bit & self.geometry().mask_of(word);
        let bits = self.inner.words.get(word);
        bits.is_some_and(|bits| bits.load(Ordering::Acquire) & bit != 0)
    }

    /// How many pages are marked.
    #[must_use]
    pub fn count(&self) -> u64 {
        let words = self.marked_words(self.geometry());
        words.map(|(_, bits)| u64::from(bits.count_ones())).sum()
    }

    /// The marked pages as maximal runs, ascending.
    ///
    /// A live view: each word of 64 pages is read when the iterator comes to it.
    pub fn runs(&self) -> impl Iterator<Item = PageRun> + '_ {
        Runs::new(self.marked_words(self.geometry()))
    }

    /// A copy of what is marked, taking nothing away.
    #[must_use]
    pub fn peek(&self) -> DirtyPages {
        let geometry = self.geometry();
        let words = self.marked_words(geometry);
        DirtyPages::from_words(geometry, words.filter(|(_, bits)| *bits != 0))
    }

    /// Takes all marks away into a token; pages written after their mark was taken need a new one.
    ///
    /// Its cost in memory is 16 bytes for each 64 pages that hold a marked one: a clean bitmap
    /// allocates nothing. Tokens of several takes may live at once.
    pub fn take(&self) -> DirtyToken {
        let geometry = self.geometry();
        let mut taken = Vec::new();
        for (index, word) in self.inner.touched_words() {
            if word.load(Ordering::Relaxed) == 0 {
                continue;
            }
            // Another taker may have been first: then it is 0 by now.
            let bits = word.swap(0, Ordering::Acquire) & geometry.mask_of(index);
            if bits != 0 {
                taken.push((index, bits));
            }
        }
        let pages = DirtyPages::from_words(geometry, taken);
        DirtyToken::new(self.clone(), pages)
    }

    /// Takes marks away for good: what was written to these pages is not needed any more, as they
    /// were discarded. Pages of another RAM or page size are not touched.
    ///
    /// A write that comes after it is marked as ever.
    pub fn forget(&self, pages: &DirtyPages) {
        if pages.page_size() != self.page_size() {
            return;
        }
        for (index, bits) in pages.words() {
            if let Some(word) = self.inner.words.get(*index) {
                word.fetch_and(!bits, Ordering::Acquire);
            }
        }
    }

    /// Marks pages that were taken out of this bitmap, whatever the length of its RAM was then:
    /// those past its end now are no pages any more. Others than this bitmap's own are for
    /// [`DirtyBitmap::union`].
    pub fn put_back(&self, pages: &DirtyPages) {
        let geometry = self.geometry();
        for (index, bits) in pages.words() {
            let bits = bits & geometry.mask_of(*index);
            self.inner.or_nonzero(*index, bits);
        }
    }

    /// Marks the pages of bytes that were checked to be inside the RAM.
    #[inline]
    pub(crate) fn mark_inside(&self, offset: RamOffset, len: ByteLen) {
        if let Some(run) = self.geometry().pages_of(offset, len) {
            self.inner.or_run(run);
        }
    }

    /// Marks a run that was checked to be inside the RAM.
    pub(crate) fn mark_checked(&self, run: PageRun) {
        self.inner.or_run(run);
    }

    /// The RAM as it is now.
    #[inline]
    pub(crate) fn geometry(&self) -> Geometry {
        let ram = ByteLen::new(self.inner.ram.load(Ordering::Acquire));
        Geometry::within_limits(ram, self.inner.page_size)
    }

    fn marked_words(&self, geometry: Geometry) -> impl Iterator<Item = (usize, u64)> + '_ {
        let words = self.inner.touched_words();
        words.map(move |(index, bits)| {
            let bits = bits.load(Ordering::Acquire);
            (index, bits & geometry.mask_of(index))
        })
    }
}

impl fmt::Debug for DirtyBitmap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirtyBitmap")
            .field("ram", &self.ram())
            .field("page_size", &self.page_size())
            .finish_non_exhaustive()
    }
}

impl Inner {
    /// Sets bits of a word and returns what was set before.
    #[inline]
    fn or_word(&self, index: usize, bits: u64) -> u64 {
        let leaf = index / LEAF_WORDS;
        let (summary, bit) = (&self.touched[leaf / 64], 1 << (leaf % 64));
        if summary.load(Ordering::Relaxed) & bit == 0 {
            summary.fetch_or(bit, Ordering::Relaxed);
        }
        self.words[index].fetch_or(bits, Ordering::Release)
    }

    fn or_nonzero(&self, index: usize, bits: u64) {
        if bits != 0 {
            self.or_word(index, bits);
        }
    }

    #[inline]
    fn or_run(&self, run: PageRun) {
        let (first, low) = locate(run.start());
        let (last, high) = locate(PageIndex::new(run.end().get() - 1));
        if first == last {
            // What nearly every write of a device comes to.
            self.or_word(first, between(low, high));
        } else {
            self.or_long_run(run);
        }
    }

    #[inline(never)]
    fn or_long_run(&self, run: PageRun) {
        for (index, bits) in words_of(run) {
            self.or_word(index, bits);
        }
    }

    /// The words of all leaves that were ever marked, ascending.
    fn touched_words(&self) -> impl Iterator<Item = (usize, &AtomicU64)> {
        let leaves = self.words.chunks(LEAF_WORDS).enumerate();
        let touched = leaves.filter(|(leaf, _)| {
            let summary = self.touched[leaf / 64].load(Ordering::Relaxed);
            summary & (1 << (leaf % 64)) != 0
        });
        touched.flat_map(|(leaf, words)| (leaf * LEAF_WORDS..).zip(words))
    }
}
