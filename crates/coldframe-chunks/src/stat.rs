//! How much a store holds, for whom, and what keeping it once saves.

use std::collections::{BTreeMap, BTreeSet};

use crate::backend::{Backend, Folder, TagName};
use crate::catalog::IdMap;
use crate::error::storage;
use crate::store::PackStore;
use crate::trace::Tracer;
use crate::verify::Finding;
use crate::walk::Walker;
use crate::{StoreError, ledger, tags};

/// What one tag needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TagStat {
    /// Bytes of all blocks that are chunks, each as often as it occurs; zeros are not counted.
    pub logical_bytes: u64,
    /// Bytes of the different chunks.
    pub unique_bytes: u64,
    /// Bytes of the chunks that no other tag needs.
    pub exclusive_bytes: u64,
    /// Chunks that are not in the store, or of which no copy is sound as far as the ledger says.
    pub missing_chunks: u64,
    /// Files that cannot be read to their end: what they name is not counted.
    pub unread_files: u64,
    /// Blocks with pages that are lost for good.
    pub lost_blocks: u64,
}

/// What a store holds.
#[derive(Debug, Default)]
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
    /// Tags, files and packs that cannot be read, and are not counted, or not whole; chunks that
    /// the ledger says are damaged.
    pub findings: Vec<Finding>,
}

impl StoreStat {
    /// Bytes of all blocks of all tags.
    #[must_use]
    pub fn logical_bytes(&self) -> u64 {
        self.tags.values().map(|tag| tag.logical_bytes).sum()
    }
}

impl<B: Backend> PackStore<B> {
    /// Counts what the store holds; `tracers` know the formats beside the chunk index. What cannot
    /// be read is left out and named by [`StoreStat::findings`].
    ///
    /// # Errors
    /// [`StoreError::Storage`]: a folder cannot be listed.
    pub fn stat_all(&self, tracers: &[&dyn Tracer<B>]) -> Result<StoreStat, StoreError> {
        self.refresh()?;
        let mut stat = StoreStat::default();
        for file in self.backend().scan(Folder::Packs).map_err(storage)? {
            stat.packs += 1;
            stat.pack_bytes += file.facts.map_or(0, |file| file.len.get());
        }
        for file in self.backend().scan(Folder::Roots).map_err(storage)? {
            stat.roots += 1;
            stat.root_bytes += file.facts.map_or(0, |file| file.len.get());
        }
        match ledger::read(self.backend()) {
            Ok(read) => self.findings_of_ledger(&read.ledger, &mut stat.findings),
            Err(error) => stat.findings.push(Finding::Ledger { error }),
        }
        let mut lens: IdMap<u32> = IdMap::default();
        for (id, place) in self.inner().catalog().all() {
            lens.insert(id, place.raw_len);
            stat.stored_bytes += u64::from(place.stored_len);
        }
        stat.chunks = lens.len() as u64;
        stat.raw_bytes = lens.values().map(|len| u64::from(*len)).sum();
        self.stat_tags(tracers, &lens, &mut stat)?;
        self.findings_of_packs(&mut stat.findings);
        Ok(stat)
    }

    fn stat_tags(
        &self,
        tracers: &[&dyn Tracer<B>],
        lens: &IdMap<u32>,
        stat: &mut StoreStat,
    ) -> Result<(), StoreError> {
        let mut walker = Walker::new(self, tracers);
        let none = BTreeSet::new();
        let mut uses: Vec<Use> = Vec::new();
        let mut tags: Vec<(TagName, TagStat)> = Vec::new();
        for (name, tag) in tags::read_all(self.inner())? {
            let tag = match tag {
                Ok(tag) => tag,
                Err(error) => {
                    stat.findings.push(Finding::Tag { name, error });
                    continue;
                }
            };
            let (mut counted, number) = (TagStat::default(), tags.len() as u32);
            let mut lost = BTreeSet::new();
            let unread = walker.walk(tag.root, &mut |chunk, id, len| {
                counted.logical_bytes += len;
                if chunk >= uses.len() {
                    uses.resize(chunk + 1, Use::NONE);
                }
                if uses[chunk].is_new(number) {
                    counted.unique_bytes += lens.get(&id).map_or(0, |len| u64::from(*len));
                    if self.inner().catalog().kept(id, &none).is_none() {
                        lost.insert(id);
                    }
                }
            });
            counted.unread_files = unread;
            if unread == 0 {
                self.keep_what_is_read(tag, &mut lost);
            }
            counted.lost_blocks = walker.lost_pages(tag, &mut stat.findings);
            counted.missing_chunks = lost.len() as u64;
            tags.push((name, counted));
        }
        for (id, used) in walker.ids().iter().zip(uses) {
            let len = lens.get(id).map_or(0, |len| u64::from(*len));
            match tags.get_mut(used.first as usize) {
                Some((_, tag)) if !used.is_shared => tag.exclusive_bytes += len,
                _ => stat.shared_bytes += len,
            }
        }
        stat.tags = tags.into_iter().collect();
        for (root, error) in walker.unread {
            stat.findings.push(Finding::Root { root, error });
        }
        Ok(())
    }
}

/// Which tags need a chunk.
#[derive(Clone, Copy)]
struct Use {
    first: u32,
    last: u32,
    is_shared: bool,
}

impl Use {
    const NONE: Self = Self {
        first: u32::MAX,
        last: u32::MAX,
        is_shared: false,
    };

    /// Counts a tag; whether it is the first time for this one.
    fn is_new(&mut self, tag: u32) -> bool {
        if self.first == u32::MAX {
            self.first = tag;
        }
        self.is_shared |= self.first != tag;
        std::mem::replace(&mut self.last, tag) != tag
    }
}
