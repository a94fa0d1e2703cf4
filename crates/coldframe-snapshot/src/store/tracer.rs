//! What a snapshot's files in a store need: for the collector, for verification and statistics.

use coldframe_chunks::{Backend, PackStore, Reference, StoreError, Tracer};
use coldframe_envelope::{DecodeError, Limits, SectionKind};
use coldframe_memfile::MemFile;
use coldframe_units::RootHash;

use super::link::{Link, SKELETON_MAX, STATE_MAX, check_skeleton};
use crate::SavedState;

/// Follows manifests to parents, files and disks, and memory files to their chunks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SnapshotTracer;

impl<B: Backend> Tracer<B> for SnapshotTracer {
    fn trace(
        &self,
        store: &PackStore<B>,
        format: SectionKind,
        root: RootHash,
        each: &mut dyn FnMut(Reference),
    ) -> Result<bool, StoreError> {
        if format == coldframe_manifest::FORMAT.id() {
            trace_manifest(store, root, each)?;
        } else if format == coldframe_memfile::FORMAT.id() {
            let skeleton = store.kept(root, SKELETON_MAX, check_skeleton)?;
            needs(&skeleton, each).map_err(|source| StoreError::DamagedRoot { root, source })?;
        } else if format == coldframe_statefile::FORMAT.id() {
            // It needs nothing, but must hold.
            store.kept(root, STATE_MAX, SavedState::check)?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }
}

fn trace_manifest<B: Backend>(
    store: &PackStore<B>,
    root: RootHash,
    each: &mut dyn FnMut(Reference),
) -> Result<(), StoreError> {
    let manifest = Link::read(store, root)?.manifest;
    let parent = manifest.parent().map(|parent| parent.root);
    let state = manifest.state.map(|state| state.root);
    let disks = manifest.disks.iter().map(|disk| disk.index);
    let files = [Some(manifest.memory.root), state, parent];
    files
        .into_iter()
        .flatten()
        .chain(disks)
        .for_each(|root| each(Reference::Root(root)));
    Ok(())
}

/// The chunks of a skeleton whose tables were checked.
fn needs(skeleton: &[u8], each: &mut dyn FnMut(Reference)) -> Result<(), DecodeError> {
    let view = MemFile::open_skeleton(skeleton, Limits::MEMORY_FILE)?;
    let blocks = view.blocks()?;
    // The tables agree: there is a row for each plan.
    for (plan, row) in view.extents()?.block_plans().zip(blocks.iter_verified()) {
        each(Reference::Chunk(row?.stored_id(), plan.hashed_len().get()));
    }
    Ok(())
}
