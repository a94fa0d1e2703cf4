//! How much a store holds, for whom, and what keeping it once saves.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use coldframe_units::RootHash;

use crate::backend::{Backend, Folder, TagName};
use crate::catalog::{IdMap, IdSet};
use crate::error::storage;
use crate::store::PackStore;
use crate::trace::{Reference, Tracer, trace};
use crate::{StoreError, tags};

/// What one tag needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TagStat {
    /// Bytes of all blocks that are chunks, each as often as it occurs; zeros are not counted.
    pub logical_bytes: u64,
    /// Bytes of the different chunks.
    pub unique_bytes: u64,
    /// Bytes of the chunks that no other tag needs.
    pub exclusive_bytes: u64,
    /// Chunks that are not in the store.
    pub missing_chunks: u64,
}

/// What a store holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreStat {
    /// Different chunks.
    pub chunks: u64,
    /// Their bytes, before compression.
    pub raw_bytes: u64,
    /// The bytes that they take, further copies included.
    pub stored_bytes: u64,
    /// Packs, and the bytes of their files.
    pub packs: u64,
    /// The bytes of all files of packs.
    pub pack_bytes: u64,
    /// Files that are kept by their root.
    pub roots: u64,
    /// The bytes of those files.
    pub root_bytes: u64,
    /// Bytes of the different chunks that more than one tag needs.
    pub shared_bytes: u64,
    /// By tag.
    pub tags: BTreeMap<TagName, TagStat>,
}

impl StoreStat {
    /// Bytes of all blocks of all tags.
    #[must_use]
    pub fn logical_bytes(&self) -> u64 {
        self.tags.values().map(|tag| tag.logical_bytes).sum()
    }
}

impl<B: Backend> PackStore<B> {
    /// Counts what the store holds; `tracers` know the formats beside the chunk index.
    ///
    /// # Errors
    /// The first tag or file that cannot be read; [`StoreError::Storage`].
    pub fn stat_all(&self, tracers: &[&dyn Tracer<B>]) -> Result<StoreStat, StoreError> {
        self.refresh()?;
        let mut stat = StoreStat::default();
        for file in self.backend().list(Folder::Packs).map_err(storage)? {
            stat.packs += 1;
            stat.pack_bytes += file.len.get();
        }
        for file in self.backend().list(Folder::Roots).map_err(storage)? {
            stat.roots += 1;
            stat.root_bytes += file.len.get();
        }
        let mut lens: IdMap<u64> = IdMap::default();
        for (id, place) in self.inner().catalog().all() {
            lens.insert(id, place.raw_len.into());
            stat.stored_bytes += u64::from(place.stored_len);
        }
        stat.chunks = lens.len() as u64;
        stat.raw_bytes = lens.values().sum();
        let mut users: IdMap<u32> = IdMap::default();
        let mut needs = Vec::new();
        for (name, tag) in tags::list(self.inner())? {
            let (chunks, logical_bytes) = self.closure(tag.root, tracers)?;
            for id in &chunks {
                *users.entry(*id).or_default() += 1;
            }
            needs.push((name, chunks, logical_bytes));
        }
        let shared = users.iter().filter(|(_, count)| **count > 1);
        stat.shared_bytes = shared.filter_map(|(id, _)| lens.get(id)).sum();
        for (name, chunks, logical_bytes) in needs {
            let mut tag = TagStat {
                logical_bytes,
                ..TagStat::default()
            };
            for id in &chunks {
                let Some(len) = lens.get(id) else {
                    tag.missing_chunks += 1;
                    continue;
                };
                tag.unique_bytes += len;
                if users.get(id) == Some(&1) {
                    tag.exclusive_bytes += len;
                }
            }
            stat.tags.insert(name, tag);
        }
        Ok(stat)
    }

    /// The chunks that a file needs, by whatever way, and the bytes of all blocks that are chunks.
    pub(crate) fn closure(
        &self,
        root: RootHash,
        tracers: &[&dyn Tracer<B>],
    ) -> Result<(IdSet, u64), StoreError> {
        let mut chunks = IdSet::default();
        let mut bytes = 0;
        let mut seen = BTreeSet::new();
        let mut queue = vec![root];
        while let Some(root) = queue.pop() {
            if !seen.insert(root) {
                continue;
            }
            trace(self, tracers, root, &mut |reference| match reference {
                Reference::Chunk(id, len) => {
                    chunks.insert(id);
                    bytes += len;
                }
                Reference::Root(root) => queue.push(root),
            })?;
        }
        Ok((chunks, bytes))
    }
}
