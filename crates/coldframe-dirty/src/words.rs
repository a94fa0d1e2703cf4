//! Bits in words: page `i` is bit `i % 64` of word `i / 64`, as in KVM's dirty log.

use coldframe_units::{PageIndex, PageRun};

/// The number of the word that holds `page`, and the page's bit in it.
#[inline]
pub(crate) const fn locate(page: PageIndex) -> (usize, u64) {
    // Targets are 64-bit: nothing is cut off.
    ((page.get() / 64) as usize, 1 << (page.get() % 64))
}

/// How many words hold `pages` bits.
pub(crate) const fn words_for(pages: u64) -> usize {
    pages.div_ceil(64) as usize
}

/// The words that `run` has bits in, ascending, each with those bits.
#[inline]
pub(crate) fn words_of(run: PageRun) -> impl Iterator<Item = (usize, u64)> {
    let last_page = PageIndex::new(run.end().get() - 1);
    let (first, low) = locate(run.start());
    let (last, high) = locate(last_page);
    (first..last + 1).map(move |word| {
        let from = if word == first { low } else { 1 };
        let to = if word == last { high } else { 1 << 63 };
        (word, between(from, to))
    })
}

/// All bits from `low` up to and with `high`, each of them given as a single bit.
#[inline]
pub(crate) const fn between(low: u64, high: u64) -> u64 {
    (high | (high - 1)) & !(low - 1)
}

/// Maximal runs of set bits in ascending words.
pub(crate) struct Runs<I> {
    words: I,
    /// The first page of the word that is being read, and the bits of it still to be told.
    base: u64,
    bits: u64,
    /// A run that may go on: first page, page after the last.
    open: Option<(u64, u64)>,
}

impl<I: Iterator<Item = (usize, u64)>> Runs<I> {
    pub(crate) fn new(words: impl IntoIterator<IntoIter = I>) -> Self {
        Self {
            words: words.into_iter(),
            base: 0,
            bits: 0,
            open: None,
        }
    }

    /// Takes the lowest run of bits out of the word that is being read.
    fn lowest(&mut self) -> (u64, u64) {
        let skip = self.bits.trailing_zeros();
        let count = (self.bits >> skip).trailing_ones();
        self.bits &= !((u64::MAX >> (64 - count)) << skip);
        let start = self.base + u64::from(skip);
        (start, start + u64::from(count))
    }
}

impl<I: Iterator<Item = (usize, u64)>> Iterator for Runs<I> {
    type Item = PageRun;

    fn next(&mut self) -> Option<PageRun> {
        loop {
            let closed = if self.bits != 0 {
                let (start, end) = self.lowest();
                match self.open {
                    Some((first, until)) if until == start => {
                        self.open = Some((first, end));
                        None
                    }
                    _ => self.open.replace((start, end)),
                }
            } else if let Some((word, bits)) = self.words.next() {
                (self.base, self.bits) = (word as u64 * 64, bits);
                None
            } else {
                let (start, end) = self.open.take()?;
                return PageRun::new(PageIndex::new(start), end - start);
            };
            if let Some((start, end)) = closed {
                return PageRun::new(PageIndex::new(start), end - start);
            }
        }
    }
}
