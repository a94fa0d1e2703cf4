//! A chain: one Full file and the Diffs made on it, in order, seen as one memory.
//!
//! Invariant: a [`Layers`] that exists has a Full file at its bottom; each other file is a Diff
//! that names the one below it by root; all have the same RAM layout and architecture.

use coldframe_envelope::DecodeError;
use coldframe_memfile::{AbsentPart, Content, Kind};
use coldframe_units::{
    Arch, ByteLen, FileOffset, GuestAddr, GuestRegion, PageSize, RamLayout, RamOffset, RootHash,
};

use crate::chain::sweep::{Piece, sweep};
use crate::ram::span;
use crate::verify::Damage;
use crate::{MemError, MemoryFile, verify_deep};

pub(crate) mod reader;
pub(crate) mod sweep;

/// Memory files that together hold every page of a guest.
#[derive(Clone, Debug)]
pub struct Layers {
    layers: Vec<Layer>,
}

/// A run of bytes with one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it begins in RAM.
    pub start: RamOffset,
    /// How long it is; never 0.
    pub len: ByteLen,
    /// The number of the file that it is in, counted from the Full file, which is 0.
    pub layer: usize,
    /// Where its bytes are in that file, or that they are zero.
    pub content: Content,
}

impl Layers {
    /// From one Full file and any number of Diffs, each on the one before it.
    ///
    /// # Errors
    /// [`MemError::EmptyChain`], [`MemError::WrongKind`], [`MemError::OtherMachine`],
    /// [`MemError::Decode`] (for a wrong parent too, see [`MemError::is_wrong_parent`]).
    pub fn open(files: Vec<MemoryFile>) -> Result<Self, MemError> {
        let mut files = files.into_iter();
        let base = Layer::open(files.next().ok_or(MemError::EmptyChain)?)?;
        base.check_kind(Kind::Full)?;
        let chain = Self { layers: vec![base] };
        files.try_fold(chain, Self::apply)
    }

    /// The chain with one more Diff on top: the memory after it.
    ///
    /// # Errors
    /// As [`Layers::open`].
    pub fn apply(mut self, diff: MemoryFile) -> Result<Self, MemError> {
        let diff = Layer::open(diff)?;
        diff.check_follows(self.top())?;
        self.layers.push(diff);
        Ok(self)
    }

    /// Where RAM lies in the guest.
    #[must_use]
    pub fn layout(&self) -> &RamLayout {
        &self.top().layout
    }

    /// The guest's architecture.
    #[must_use]
    pub fn arch(&self) -> Arch {
        self.top().arch
    }

    /// The memory that was not plugged in when the youngest file was made, in rising address: what
    /// [`crate::Described::new`] takes. Its bytes are zero.
    #[must_use]
    pub fn absent(&self) -> Vec<GuestRegion> {
        let Layer { layout, absent, .. } = self.top();
        let parts = absent.iter().flat_map(|part| {
            let part = span(part.start, part.len);
            layout.with_offsets().filter_map(move |(offset, region)| {
                let start = part.start.max(offset.get());
                let end = part.end.min(offset.get() + region.len().get());
                let addr = region.addr().get() + start.saturating_sub(offset.get());
                let len = ByteLen::new(end.saturating_sub(start));
                GuestRegion::new(GuestAddr::new(addr), len).ok()
            })
        });
        parts.collect()
    }

    /// The root of the youngest file.
    #[must_use]
    pub fn root(&self) -> RootHash {
        self.top().root
    }

    /// How many files there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.layers.len()
    }

    /// Always false: there is a Full file.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// The smallest page size of the files.
    #[must_use]
    pub fn page_size(&self) -> PageSize {
        finest(&self.layers)
    }

    /// Where each byte of RAM comes from: the youngest file that has it. Segments are ascending,
    /// leave nothing out, and are as long as they can be.
    ///
    /// # Errors
    /// [`MemError::Decode`]: the extents of a file are damaged.
    pub fn resolve(&self) -> Result<Vec<Segment>, MemError> {
        let pieces = resolve(&self.layers)?;
        Ok(pieces.into_iter().map(Segment::from).collect())
    }

    /// Checks every byte of every file, on the descriptors that the chain has open: what is
    /// mapped or copied afterwards comes from the files that were checked. The damages of a file,
    /// in rising offset, come with the number of the file, counted from the Full file.
    #[must_use]
    pub fn verify(&self) -> Vec<(usize, Damage)> {
        let layers = self.layers.iter().enumerate();
        let damages = layers.flat_map(|(index, layer)| {
            let damages = verify_deep(&layer.file).into_iter();
            damages.map(move |damage| (index, damage))
        });
        damages.collect()
    }

    pub(crate) fn layers(&self) -> &[Layer] {
        &self.layers
    }

    fn top(&self) -> &Layer {
        self.layers.last().expect("a chain has a Full file")
    }
}

impl From<Piece> for Segment {
    fn from(piece: Piece) -> Self {
        Self {
            start: RamOffset::new(piece.range.start),
            len: ByteLen::new(piece.range.end - piece.range.start),
            layer: piece.layer,
            content: match piece.file {
                Some(offset) => Content::Data {
                    file_offset: FileOffset::new(offset),
                },
                None => Content::Zero,
            },
        }
    }
}

/// One file of a chain.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    pub file: MemoryFile,
    pub kind: Kind,
    pub arch: Arch,
    pub page_size: PageSize,
    pub layout: RamLayout,
    pub root: RootHash,
    pub parent: Option<RootHash>,
    pub absent: Vec<AbsentPart>,
    pub data_offset: u64,
}

impl Layer {
    pub fn open(file: MemoryFile) -> Result<Self, MemError> {
        let view = file.view()?;
        Ok(Self {
            kind: view.kind(),
            arch: view.arch(),
            page_size: view.page_size(),
            layout: view.layout().clone(),
            root: view.root(),
            parent: view.parent_root(),
            absent: view.absent().to_vec(),
            data_offset: view.data_offset().get(),
            file,
        })
    }

    /// The extents as pieces of RAM.
    pub fn pieces(&self, layer: usize) -> Result<impl Iterator<Item = Piece> + '_, MemError> {
        let page_size = self.page_size;
        Ok(self.file.extents()?.iter().map(move |extent| {
            let start = extent.run.start().get() << page_size.log2();
            Piece {
                range: start..start + (extent.run.count() << page_size.log2()),
                layer,
                file: match extent.content {
                    Content::Data { file_offset } => Some(file_offset.get()),
                    Content::Zero => None,
                },
            }
        }))
    }

    pub fn refused(&self, source: DecodeError) -> MemError {
        self.file.refused(source)
    }

    pub fn check_kind(&self, expected: Kind) -> Result<(), MemError> {
        let name = |kind| match kind {
            Kind::Full => "full",
            Kind::Diff => "diff",
        };
        if self.kind == expected {
            return Ok(());
        }
        Err(MemError::WrongKind {
            path: self.file.path().to_path_buf(),
            expected: name(expected),
            found: name(self.kind),
        })
    }

    /// Checks that this is a Diff made on `parent`.
    pub fn check_follows(&self, parent: &Self) -> Result<(), MemError> {
        self.check_kind(Kind::Diff)?;
        self.check_machine(parent)?;
        let view = self.file.view()?;
        view.check_parent(parent.root)
            .map_err(|source| self.refused(source))
    }

    /// Checks that both are of the same RAM layout and architecture.
    pub fn check_machine(&self, other: &Self) -> Result<(), MemError> {
        let what = if self.layout != other.layout {
            "RAM layout"
        } else if self.arch != other.arch {
            "architecture"
        } else {
            return Ok(());
        };
        Err(MemError::OtherMachine {
            path: self.file.path().to_path_buf(),
            what,
        })
    }
}

/// The smallest page size of files; there is at least one.
pub(crate) fn finest(layers: &[Layer]) -> PageSize {
    let sizes = layers.iter().map(|layer| layer.page_size);
    sizes.min().expect("there is at least one file")
}

/// Where the bytes come from that one of `layers` has; what none of them has is left out.
pub(crate) fn resolve(layers: &[Layer]) -> Result<Vec<Piece>, MemError> {
    let sources: Result<Vec<_>, _> = layers
        .iter()
        .enumerate()
        .map(|(index, layer)| layer.pieces(index))
        .collect();
    Ok(sweep(sources?))
}
