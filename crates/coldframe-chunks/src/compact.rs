//! Writing packs anew without some of their chunks.

use std::collections::{BTreeMap, BTreeSet};

use coldframe_units::ChunkId;

use crate::backend::{Backend, Key};
use crate::catalog::IdSet;
use crate::chunk::Chunk;
use crate::error::storage;
use crate::store::PackStore;
use crate::{FileId, Push, StoreError};

/// Stores anew, under `push`, those chunks of a pack that are in `wanted`; returns why a chunk, or
/// the pack's table, cannot be read. Then the pack is to stay: it may be the place that recovers.
pub(crate) fn rescue<B: Backend>(
    store: &PackStore<B>,
    push: &Push<B>,
    pack: FileId,
    wanted: &dyn Fn(ChunkId) -> bool,
) -> Result<Vec<StoreError>, StoreError> {
    let table = match store.inner().load_pack(pack) {
        Ok(Some(table)) => table,
        Ok(None) => {
            let key = Key::Pack(pack);
            return Ok(vec![StoreError::ListedNotFound { key }]);
        }
        Err(error) => return Ok(vec![error]),
    };
    let mut lost = Vec::new();
    for chunk in table.in_file_order() {
        if !wanted(chunk.id) || push.has(chunk.id)? {
            continue;
        }
        match store.inner().read_chunk(chunk.id) {
            Ok(bytes) => push.put_chunks(&[Chunk::verify(chunk.id, bytes)?])?,
            Err(error) => lost.push(error),
        }
    }
    Ok(lost)
}

/// These packs, and all that have a chunk in common with them.
fn sharing<B: Backend>(store: &PackStore<B>, packs: &BTreeSet<FileId>) -> BTreeSet<FileId> {
    let catalog = store.inner().catalog();
    let inside = catalog
        .all()
        .filter(|(_, place)| packs.contains(&place.pack));
    let ids: IdSet = inside.map(|(id, _)| id).collect();
    let sharing = catalog.all().filter(|(id, _)| ids.contains(id));
    let sharing = sharing.map(|(_, place)| place.pack);
    sharing.chain(packs.iter().copied()).collect()
}

/// Removes chunks, needed or not: packs that have any are written anew without them.
pub(crate) fn delete<B: Backend>(store: &PackStore<B>, ids: &[ChunkId]) -> Result<u64, StoreError> {
    store.refresh()?;
    let doomed: IdSet = ids.iter().copied().collect();
    let mut packs: BTreeMap<FileId, u64> = BTreeMap::new();
    let mut found = IdSet::default();
    for (id, place) in store.inner().catalog().all() {
        if doomed.contains(&id) {
            *packs.entry(place.pack).or_default() += 1;
            found.insert(id);
        }
    }
    let gone: BTreeSet<FileId> = packs.keys().copied().collect();
    // That a catalog has another copy of what stays is no reason to delete this one: all of it is
    // read and stored anew.
    let push = store.push()?.without(&sharing(store, &gone));
    for pack in &gone {
        let lost = rescue(store, &push, *pack, &|id| !doomed.contains(&id))?;
        // What is damaged is no loss; what could not be read may be sound.
        if let Some(error) = lost.into_iter().find(|error| !error.is_wanting()) {
            return Err(error);
        }
    }
    push.finish()?;
    for pack in &gone {
        store
            .inner()
            .backend
            .remove(&Key::Pack(*pack))
            .map_err(storage)?;
    }
    store.inner().catalog_mut().drop_packs(&gone);
    for id in &found {
        store.inner().forget(*id);
    }
    Ok(found.len() as u64)
}
