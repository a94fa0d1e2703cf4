//! Following references: from a file that is kept to the files and chunks that it needs.

use coldframe_chunkfile::{INDEX_FORMAT, IndexOrigin, PartSource};
use coldframe_envelope::SectionKind;
use coldframe_units::{ChunkId, RootHash};

use crate::StoreError;
use crate::backend::Backend;
use crate::store::PackStore;

/// Bytes in the pages that parts of blocks are made of.
const PART_PAGE: u64 = 4096;

/// Something that a file needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    /// A chunk, and how many bytes of the image it is.
    Chunk(ChunkId, u64),
    /// Another file.
    Root(RootHash),
}

/// What knows the references in files of other formats than the chunk index, such as manifests.
pub trait Tracer<B: Backend>: Sync {
    /// Calls `each` with everything that the file of this root needs; `false` if it knows nothing
    /// of the format.
    ///
    /// # Errors
    /// The file is missing or damaged, or the place failed.
    fn trace(
        &self,
        store: &PackStore<B>,
        format: SectionKind,
        root: RootHash,
        each: &mut dyn FnMut(Reference),
    ) -> Result<bool, StoreError>;
}

/// Calls `each` with everything that the file of this root needs. A format that nobody knows is an
/// error: what it needs must not be taken for garbage.
pub(crate) fn trace<B: Backend>(
    store: &PackStore<B>,
    tracers: &[&dyn Tracer<B>],
    root: RootHash,
    each: &mut dyn FnMut(Reference),
) -> Result<(), StoreError> {
    let format = store.root_header(root)?.format;
    if format == INDEX_FORMAT.id() {
        return trace_index(store, root, each);
    }
    for tracer in tracers {
        if tracer.trace(store, format, root, each)? {
            return Ok(());
        }
    }
    Err(StoreError::UnknownFormat { root, format })
}

fn trace_index<B: Backend>(
    store: &PackStore<B>,
    root: RootHash,
    each: &mut dyn FnMut(Reference),
) -> Result<(), StoreError> {
    let index = store.index(root)?;
    if let IndexOrigin::Parent { root, .. } = index.origin() {
        each(Reference::Root(root));
    }
    for part in index.parts() {
        if let PartSource::Chunk { id, .. } = part.source {
            each(Reference::Chunk(
                id,
                u64::from(part.pages.count_ones()) * PART_PAGE,
            ));
        }
    }
    for page in index.pages() {
        for row in store.index_page(&index, &page)?.rows() {
            if let Some(id) = row.chunk {
                let len = index.block_len(row.block).map_or(0, |len| len.get());
                each(Reference::Chunk(id, len));
            }
        }
    }
    Ok(())
}
