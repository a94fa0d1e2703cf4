//! Which bytes are hashed for a block: the one definition that capture and verification share.
//!
//! A block that lies wholly in the file is hashed as the guest sees it, zeros included, so its
//! hash is its chunk id. Of any other block the pages of data are hashed, one after the other.

use alloc::vec::Vec;

use coldframe_units::{BLOCK_BYTES, ByteLen, FileOffset, RamOffset};

use crate::extent::Geometry;
use crate::{BuildError, Content, Extent};

/// One stretch of the bytes that are hashed for a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes of the file.
    Data {
        /// Where they lie.
        file_offset: FileOffset,
        /// How many.
        len: ByteLen,
    },
    /// Zeros that are not read from the file.
    Zeros {
        /// How many.
        len: ByteLen,
    },
}

/// What is hashed for one block: at least one piece of data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockPlan {
    block: u64,
    whole: bool,
    pieces: Vec<Piece>,
}

impl BlockPlan {
    /// The block's number in RAM offset space, counted in 64 KiB from 0.
    #[must_use]
    pub const fn block(&self) -> u64 {
        self.block
    }

    /// Where the block begins in RAM.
    #[must_use]
    pub const fn ram_offset(&self) -> RamOffset {
        RamOffset::new(self.block.saturating_mul(BLOCK_BYTES))
    }

    /// Whether every page of the block is in the file, as data or zero.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.whole
    }

    /// The stretches to hash, in order.
    #[must_use]
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Where the block's data lies in the file, in order.
    pub fn data(&self) -> impl Iterator<Item = (FileOffset, ByteLen)> + '_ {
        self.pieces.iter().filter_map(|piece| match *piece {
            Piece::Data { file_offset, len } => Some((file_offset, len)),
            Piece::Zeros { .. } => None,
        })
    }

    /// Bytes of data in the block; at most 64 KiB.
    #[must_use]
    pub fn data_len(&self) -> ByteLen {
        let sum = self
            .data()
            .fold(0, |sum: u64, (_, len)| sum.saturating_add(len.get()));
        ByteLen::new(sum)
    }

    /// Bytes that are hashed: those of the block's chunk; at most 64 KiB.
    #[must_use]
    pub fn hashed_len(&self) -> ByteLen {
        let sum = self.pieces.iter().fold(0, |sum: u64, piece| {
            let (Piece::Data { len, .. } | Piece::Zeros { len }) = piece;
            sum.saturating_add(len.get())
        });
        ByteLen::new(sum)
    }

    /// The block's hash; `data` is what lies at [`BlockPlan::data`], one after the other.
    ///
    /// # Errors
    /// [`BuildError::DataLen`] if `data` is not [`BlockPlan::data_len`] bytes.
    pub fn hash(&self, data: &[u8]) -> Result<[u8; 32], BuildError> {
        let mut hasher = blake3::Hasher::new();
        let found = ByteLen::new(u64::try_from(data.len()).unwrap_or(u64::MAX));
        let expected = self.data_len();
        let wrong_len = BuildError::DataLen { expected, found };
        let mut rest = data;
        for piece in &self.pieces {
            match *piece {
                Piece::Data { len, .. } => {
                    let len = usize::try_from(len.get()).map_err(|_| wrong_len)?;
                    let (head, tail) = rest.split_at_checked(len).ok_or(wrong_len)?;
                    hasher.update(head);
                    rest = tail;
                }
                Piece::Zeros { len } => hash_zeros(&mut hasher, len.get()),
            }
        }
        if rest.is_empty() {
            Ok(*hasher.finalize().as_bytes())
        } else {
            Err(wrong_len)
        }
    }

    /// Adds what is in the block of `span`.
    fn push(&mut self, span: &Span) {
        let len = ByteLen::new(span.len());
        self.pieces.push(match span.file {
            Some(file) => Piece::Data {
                file_offset: FileOffset::new(file),
                len,
            },
            None => Piece::Zeros { len },
        });
    }

    /// Says whether the block is whole; of one that is not only data is hashed.
    fn close(&mut self, whole: bool) {
        self.whole = whole;
        if !whole {
            self.pieces
                .retain(|piece| matches!(piece, Piece::Data { .. }));
        }
        self.pieces
            .dedup_by(|next, previous| previous.absorb(*next));
    }
}

impl Piece {
    /// Grows to hold `next` too if that follows in the file; says whether it did.
    fn absorb(&mut self, next: Self) -> bool {
        let Self::Data { file_offset, len } = self else {
            return false;
        };
        match next {
            Self::Data {
                file_offset: start,
                len: more,
            } if file_offset.checked_add(*len) == Some(start) => {
                *len = ByteLen::new(len.get().saturating_add(more.get()));
                true
            }
            _ => false,
        }
    }
}

fn hash_zeros(hasher: &mut blake3::Hasher, len: u64) {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut left = usize::try_from(len).unwrap_or(usize::MAX);
    while left > 0 {
        let now = ZEROS.get(..left).unwrap_or(&ZEROS);
        hasher.update(now);
        left = left.saturating_sub(now.len());
    }
}

/// Bytes of RAM with one content; never empty.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: u64,
    end: u64,
    /// Where the first byte lies in the file; `None` if the bytes are zero.
    file: Option<u64>,
}

impl Span {
    fn of(extent: Extent, geometry: Geometry) -> Self {
        Self {
            start: geometry.bytes(extent.run.start().get()),
            end: geometry.bytes(extent.run.end().get()),
            file: match extent.content {
                Content::Data { file_offset } => Some(file_offset.get()),
                Content::Zero => None,
            },
        }
    }

    const fn len(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// The part up to `at`, and the part from there on if there is one.
    fn split(self, at: u64) -> (Self, Option<Self>) {
        let end = self.end.min(at);
        let head = Self { end, ..self };
        (head, self.skip_to(at))
    }

    /// The part from `at` on; `None` if there is none.
    fn skip_to(self, at: u64) -> Option<Self> {
        let start = self.start.max(at);
        let skipped = start.saturating_sub(self.start);
        let file = self.file.map(|file| file.saturating_add(skipped));
        (start < self.end).then_some(Self {
            start,
            file,
            ..self
        })
    }
}

/// The plans of all blocks that hold data, from extents in rising page.
#[derive(Clone, Debug)]
pub struct BlockPlans<I> {
    extents: I,
    geometry: Geometry,
    /// Bytes of RAM before this are passed over.
    from: u64,
    /// What is left of the extent that was last taken.
    pending: Option<Span>,
}

impl<I: Iterator<Item = Extent>> BlockPlans<I> {
    /// Those from RAM offset `from` on, which begins a block.
    pub(crate) const fn new(extents: I, geometry: Geometry, from: u64) -> Self {
        Self {
            extents,
            geometry,
            from,
            pending: None,
        }
    }

    fn next_span(&mut self) -> Option<Span> {
        let pending = self.pending.take().and_then(|span| span.skip_to(self.from));
        if pending.is_some() {
            return pending;
        }
        let (geometry, from) = (self.geometry, self.from);
        self.extents
            .find_map(|extent| Span::of(extent, geometry).skip_to(from))
    }
}

impl<I: Iterator<Item = Extent>> Iterator for BlockPlans<I> {
    type Item = BlockPlan;

    fn next(&mut self) -> Option<BlockPlan> {
        loop {
            let mut span = self.next_span()?;
            if span.file.is_none() {
                // Blocks of nothing but zeros have no hash: pass over all but the last.
                let last = block_of(span.end.saturating_sub(1)).saturating_mul(BLOCK_BYTES);
                span = span.skip_to(last)?;
            }
            let mut plan = BlockPlan {
                block: block_of(span.start),
                whole: false,
                pieces: Vec::new(),
            };
            let start = plan.ram_offset().get();
            let end = start.saturating_add(BLOCK_BYTES).min(self.geometry.ram_len);
            let mut covered: u64 = 0;
            while span.start < end {
                let (here, rest) = span.split(end);
                covered = covered.saturating_add(here.len());
                plan.push(&here);
                self.pending = rest;
                match self.next_span() {
                    Some(next) => span = next,
                    None => break,
                }
                self.pending = Some(span);
            }
            plan.close(covered == end.saturating_sub(start));
            if plan.data().next().is_some() {
                return Some(plan);
            }
        }
    }
}

const fn block_of(ram_offset: u64) -> u64 {
    ram_offset / BLOCK_BYTES
}
