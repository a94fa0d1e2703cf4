//! Any order of operations, against one `bool` for each page.

use coldframe_dirty::{DirtyBitmap, DirtyPages, DirtyToken};
use coldframe_units::{ByteLen, PageRun, PageSize, RamOffset};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::page;

const LOG2: [u8; 4] = [12, 13, 16, 21];

#[derive(Clone, Debug)]
enum Op {
    Mark { offset: u64, len: u64 },
    MarkPage(u64),
    MarkWords { first: u64, words: Vec<u64> },
    Union { log2: u8, runs: Vec<(u64, u64)> },
    Take,
    Commit(usize),
    Rollback(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let word =
        prop_oneof![3 => Just(0_u64), 1 => any::<u64>(), 1 => (0..64).prop_map(|bit| 1_u64 << bit)];
    let runs = vec((any::<u64>(), 1..80_u64), 0..4);
    prop_oneof![
        4 => (any::<u64>(), any::<u64>(), 0..5_u32).prop_map(|(offset, len, scale)| Op::Mark {
            offset,
            len: len >> (12 * scale),
        }),
        4 => any::<u64>().prop_map(Op::MarkPage),
        2 => (any::<u64>(), vec(word, 0..6)).prop_map(|(first, words)| Op::MarkWords {
            first,
            words,
        }),
        2 => (0..LOG2.len(), runs).prop_map(|(at, runs)| Op::Union { log2: LOG2[at], runs }),
        2 => Just(Op::Take),
        1 => any::<usize>().prop_map(Op::Commit),
        1 => any::<usize>().prop_map(Op::Rollback),
    ]
}

/// The pages of a model of one page size in pages of another.
fn rechunk(model: &[bool], from: PageSize, to: PageSize, ram: u64) -> Vec<bool> {
    let mut out = vec![false; usize::try_from(to.pages_for(ByteLen::new(ram))).unwrap()];
    for (index, _) in model.iter().enumerate().filter(|(_, dirty)| **dirty) {
        let start = index as u64 * from.bytes();
        let end = (start + from.bytes()).min(ram);
        for piece in start / to.bytes()..end.div_ceil(to.bytes()) {
            out[usize::try_from(piece).unwrap()] = true;
        }
    }
    out
}

fn or(model: &mut [bool], other: &[bool]) {
    for (bit, more) in model.iter_mut().zip(other) {
        *bit |= more;
    }
}

/// The slow, obvious maximal runs.
fn runs(model: &[bool]) -> Vec<PageRun> {
    let mut runs: Vec<(u64, u64)> = vec![];
    for (index, _) in model.iter().enumerate().filter(|(_, dirty)| **dirty) {
        match runs.last_mut() {
            Some((start, count)) if *start + *count == index as u64 => *count += 1,
            _ => runs.push((index as u64, 1)),
        }
    }
    let runs = runs.into_iter();
    runs.map(|(start, count)| PageRun::new(page(start), count).unwrap())
        .collect()
}

fn check(pages: &DirtyPages, model: &[bool]) {
    assert_eq!(pages.runs().collect::<Vec<_>>(), runs(model));
    let count = model.iter().filter(|dirty| **dirty).count();
    assert_eq!(pages.count(), count as u64);
    for (index, dirty) in model.iter().enumerate() {
        assert_eq!(pages.contains(page(index as u64)), *dirty);
    }
}

struct Pair {
    ram: u64,
    bitmap: DirtyBitmap,
    model: Vec<bool>,
    tokens: Vec<(DirtyToken, Vec<bool>)>,
}

impl Pair {
    fn apply(&mut self, op: Op) {
        let pages = self.model.len() as u64;
        match op {
            Op::Mark { offset, len } => {
                let offset = offset % (self.ram + 1);
                let len = len % (self.ram + 1 - offset);
                let result = self.bitmap.mark(RamOffset::new(offset), ByteLen::new(len));
                result.unwrap();
                let size = self.bitmap.page_size().bytes();
                for (index, dirty) in self.model.iter_mut().enumerate() {
                    let start = index as u64 * size;
                    *dirty |= offset.max(start) < (offset + len).min(start + size);
                }
            }
            Op::MarkPage(index) => {
                let index = index % pages;
                let was = &mut self.model[usize::try_from(index).unwrap()];
                assert_eq!(self.bitmap.mark_page(page(index)), Ok(!*was));
                *was = true;
            }
            Op::MarkWords { first, words } => self.mark_words(first % pages, &words),
            Op::Union { log2, runs } => self.union(PageSize::from_log2(log2).unwrap(), &runs),
            Op::Take => {
                let model = std::mem::replace(&mut self.model, vec![false; pages as usize]);
                self.tokens.push((self.bitmap.take(), model));
            }
            Op::Commit(at) if !self.tokens.is_empty() => {
                self.tokens.remove(at % self.tokens.len()).0.commit();
            }
            Op::Rollback(at) if !self.tokens.is_empty() => {
                let (token, model) = self.tokens.remove(at % self.tokens.len());
                check(token.pages(), &model);
                token.rollback();
                or(&mut self.model, &model);
            }
            Op::Commit(_) | Op::Rollback(_) => {}
        }
    }

    fn mark_words(&mut self, first: u64, words: &[u64]) {
        let set: Vec<_> = (0..words.len() * 64)
            .filter(|bit| words[bit / 64] & (1 << (bit % 64)) != 0)
            .map(|bit| usize::try_from(first).unwrap() + bit)
            .collect();
        let fits = set.iter().all(|index| *index < self.model.len());
        let result = self.bitmap.mark_words(page(first), words);
        assert_eq!(result.is_ok(), fits);
        for index in set.into_iter().filter(|_| fits) {
            self.model[index] = true;
        }
    }

    fn union(&mut self, size: PageSize, runs: &[(u64, u64)]) {
        let ram = ByteLen::new(self.ram);
        let pages = size.pages_for(ram);
        let mut model = vec![false; usize::try_from(pages).unwrap()];
        let runs = runs.iter().map(|(start, count)| {
            let start = start % pages;
            let count = (*count).min(pages - start);
            model[start as usize..(start + count) as usize].fill(true);
            PageRun::new(page(start), count).unwrap()
        });
        let other = DirtyPages::from_runs(ram, size, runs).unwrap();
        self.bitmap.union(&other).unwrap();
        let converted = rechunk(&model, size, self.bitmap.page_size(), self.ram);
        or(&mut self.model, &converted);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    // Parity: F14
    #[test]
    fn any_order_of_operations_equals_the_model(
        ram in 1..4_000_000_u64,
        size in 0..LOG2.len(),
        ops in vec(op(), 0..60),
    ) {
        let size = PageSize::from_log2(LOG2[size]).unwrap();
        let bitmap = DirtyBitmap::new(ByteLen::new(ram), size).unwrap();
        let model = vec![false; usize::try_from(bitmap.pages()).unwrap()];
        let mut pair = Pair { ram, bitmap, model, tokens: vec![] };
        for op in ops {
            pair.apply(op);
            check(&pair.bitmap.peek(), &pair.model);
            prop_assert_eq!(pair.bitmap.runs().collect::<Vec<_>>(), runs(&pair.model));
        }
        for (token, model) in pair.tokens.drain(..) {
            drop(token);
            or(&mut pair.model, &model);
        }
        check(&pair.bitmap.peek(), &pair.model);
        prop_assert_eq!(pair.bitmap.count(), pair.bitmap.peek().count());
    }

    #[test]
    fn rechunk_in_both_directions_equals_the_model(
        ram in 1..40_000_000_u64,
        from in 0..LOG2.len(),
        to in 0..LOG2.len(),
        marks in vec((any::<u64>(), 1..200_u64), 0..20),
    ) {
        let (from, to) = (LOG2[from], LOG2[to]);
        let (from, to) = (PageSize::from_log2(from).unwrap(), PageSize::from_log2(to).unwrap());
        let mut pages = DirtyPages::new(ByteLen::new(ram), from).unwrap();
        let count = from.pages_for(ByteLen::new(ram));
        let mut model = vec![false; usize::try_from(count).unwrap()];
        for (start, len) in marks {
            let start = start % count;
            let len = len.min(count - start);
            pages.mark_run(PageRun::new(page(start), len).unwrap()).unwrap();
            model[start as usize..(start + len) as usize].fill(true);
        }
        check(&pages, &model);
        check(&pages.rechunk(to).unwrap(), &rechunk(&model, from, to, ram));
    }
}
