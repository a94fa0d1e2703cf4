//! Which packs and files there are, and which pack has which chunk: in memory, rebuilt from the
//! packs' own tables when a store is opened.
//!
//! A chunk may be in several packs (a copy that heals a damaged one, two pushes at once): all its
//! places are kept, so that a damaged one is not the end.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use coldframe_chunkfile::{Compression, Pack, PackedChunk};
use coldframe_units::{ByteLen, ChunkId, FileOffset, RootHash};

use crate::backend::Key;
use crate::chunk::ChunkStat;
use crate::{FileId, StoreError};

/// Ids are hashes: eight bytes of one spread as well as any hash of them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = self.0.rotate_left(23) ^ u64::from_le_bytes(word);
        }
    }
}

pub(crate) type IdMap<T> = HashMap<ChunkId, T, BuildHasherDefault<IdHasher>>;
pub(crate) type IdSet = HashSet<ChunkId, BuildHasherDefault<IdHasher>>;

/// Where a copy of a chunk lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub pack: FileId,
    /// Packs are at most 4 GiB long.
    offset: u32,
    pub stored_len: u32,
    pub raw_len: u32,
    pub compression: Compression,
    pub is_damaged: bool,
}

impl Place {
    fn new(pack: FileId, chunk: &PackedChunk) -> Self {
        Self {
            pack,
            offset: u32::try_from(chunk.offset.get()).unwrap_or(u32::MAX),
            stored_len: chunk.stored_len,
            raw_len: chunk.raw_len,
            compression: chunk.compression,
            is_damaged: false,
        }
    }

    pub fn offset(&self) -> FileOffset {
        FileOffset::new(self.offset.into())
    }

    pub fn stat(&self) -> ChunkStat {
        ChunkStat {
            raw_len: ByteLen::new(self.raw_len.into()),
            stored_len: ByteLen::new(self.stored_len.into()),
            compression: self.compression,
        }
    }
}

/// What is known of a store's files.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    /// The first place of each chunk.
    first: IdMap<Place>,
    /// Further places.
    more: IdMap<Vec<Place>>,
    pub packs: BTreeSet<FileId>,
    /// Packs whose table could not be read when it was last tried, and why.
    pub bad_packs: BTreeMap<FileId, Arc<StoreError>>,
    pub roots: BTreeMap<RootHash, BTreeSet<FileId>>,
}

impl Catalog {
    /// All places of a chunk, the undamaged first.
    pub fn places(&self, id: ChunkId) -> Vec<Place> {
        let more = self.more.get(&id).map_or(&[][..], Vec::as_slice);
        let mut places: Vec<Place> = self
            .first
            .get(&id)
            .into_iter()
            .chain(more)
            .copied()
            .collect();
        places.sort_by_key(|place| place.is_damaged);
        places
    }

    /// A place of a chunk outside of these packs that is not known to be damaged.
    pub fn kept(&self, id: ChunkId, without: &BTreeSet<FileId>) -> Option<&Place> {
        let more = self.more.get(&id).map_or(&[][..], Vec::as_slice);
        let mut places = self.first.get(&id).into_iter().chain(more);
        places.find(|place| !place.is_damaged && !without.contains(&place.pack))
    }

    pub fn add_pack(&mut self, file: FileId, pack: &Pack) {
        self.bad_packs.remove(&file);
        if !self.packs.insert(file) {
            return;
        }
        for chunk in pack.chunks() {
            let place = Place::new(file, chunk);
            match self.first.entry(chunk.id) {
                std::collections::hash_map::Entry::Vacant(entry) => {
                    entry.insert(place);
                }
                std::collections::hash_map::Entry::Occupied(_) => {
                    self.more.entry(chunk.id).or_default().push(place);
                }
            }
        }
    }

    /// A pack that may have any chunk, since reading its table failed; damage is not such.
    pub fn unread_pack(&self) -> Option<(FileId, Arc<StoreError>)> {
        let mut bad = self.bad_packs.iter();
        let unread = bad.find(|(_, error)| !matches!(***error, StoreError::DamagedPack { .. }));
        unread.map(|(pack, error)| (*pack, Arc::clone(error)))
    }

    /// Forgets packs, and the places in them.
    pub fn drop_packs(&mut self, gone: &BTreeSet<FileId>) {
        if gone.is_empty() {
            return;
        }
        self.packs.retain(|pack| !gone.contains(pack));
        self.bad_packs.retain(|pack, _| !gone.contains(pack));
        self.more.retain(|_, places| {
            places.retain(|place| !gone.contains(&place.pack));
            !places.is_empty()
        });
        let more = &mut self.more;
        self.first.retain(|id, place| {
            if !gone.contains(&place.pack) {
                return true;
            }
            let next = more.get_mut(id).and_then(Vec::pop);
            if let Some(next) = next {
                *place = next;
            }
            next.is_some()
        });
    }

    /// Takes the files that were `known` before a listing, and are not in it, for gone; those that
    /// were added since stay.
    pub fn set_roots(
        &mut self,
        known: &BTreeMap<RootHash, BTreeSet<FileId>>,
        listed: impl Iterator<Item = Key>,
    ) {
        for (root, files) in known {
            if let Some(copies) = self.roots.get_mut(root) {
                copies.retain(|copy| !files.contains(copy));
            }
        }
        for key in listed {
            if let Key::Root(root, file) = key {
                self.roots.entry(root).or_default().insert(file);
            }
        }
        self.roots.retain(|_, copies| !copies.is_empty());
    }

    /// Adds a file by its root: one that was made, or that exists though it is not listed.
    pub fn add_root(&mut self, root: RootHash, file: FileId) {
        self.roots.entry(root).or_default().insert(file);
    }

    pub fn mark_damaged(&mut self, id: ChunkId, pack: FileId) {
        let more = self
            .more
            .get_mut(&id)
            .map_or(&mut [][..], Vec::as_mut_slice);
        for place in self.first.get_mut(&id).into_iter().chain(more) {
            place.is_damaged |= place.pack == pack;
        }
    }

    /// Takes no copy for damaged any more: all are about to be read.
    pub fn forget_damage(&mut self) {
        let more = self.more.values_mut().flatten();
        for place in self.first.values_mut().chain(more) {
            place.is_damaged = false;
        }
    }

    /// The damaged copies, as the ledger has them.
    pub fn damaged(&self) -> BTreeSet<(ChunkId, u64)> {
        let damaged = self.all().filter(|(_, place)| place.is_damaged);
        damaged.map(|(id, place)| (id, place.pack.get())).collect()
    }

    pub fn ids(&self) -> Vec<ChunkId> {
        self.first.keys().copied().collect()
    }

    /// Every place of every chunk.
    pub fn all(&self) -> impl Iterator<Item = (ChunkId, &Place)> {
        let first = self.first.iter().map(|(id, place)| (*id, place));
        let more = self.more.iter();
        first.chain(more.flat_map(|(id, places)| places.iter().map(|place| (*id, place))))
    }
}
