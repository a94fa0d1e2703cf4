//! Reading: tables of packs, chunks by any of their copies.
//!
//! Invariant: bytes leave it only after their BLAKE3 hash was seen to be the chunk's id, whatever
//! the backend says.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use coldframe_chunkfile::{Compression, PACK_LIMITS, Pack};
use coldframe_storage::StorageError;
use coldframe_units::{ByteLen, ChunkId, FileOffset};

use crate::backend::{Backend, Key};
use crate::catalog::Place;
use crate::chunk::id_of;
use crate::compress::Decompressor;
use crate::error::{ChunkDamage, is_medium_error, storage};
use crate::store::Inner;
use crate::{FileId, StoreError};

/// The longest file that is compared with another: both are in memory then.
const EQUAL_BYTES_MAX: ByteLen = ByteLen::new(256 << 20);

/// A pack, and its table: `None` if the pack is gone.
pub(crate) type LoadedPack = (FileId, Result<Option<Pack>, StoreError>);

/// What reading one copy of a chunk came to.
enum Copy {
    Sound(Bytes),
    Damaged(ChunkDamage),
    /// The pack was deleted meanwhile.
    Gone,
}

impl<B: Backend> Inner<B> {
    /// The table of a pack; `None` if it is gone. As with chunks, damage is what two reads see.
    pub fn load_pack(&self, file: FileId) -> Result<Option<Pack>, StoreError> {
        match self.load_pack_once(file) {
            Err(StoreError::DamagedPack { .. }) => self.load_pack_once(file),
            loaded => loaded,
        }
    }

    fn load_pack_once(&self, file: FileId) -> Result<Option<Pack>, StoreError> {
        let bad = |source| StoreError::DamagedPack { pack: file, source };
        let key = Key::Pack(file);
        let header = match self.read_exact(&key, FileOffset::ZERO, ByteLen::new(160))? {
            Read::Gone => return Ok(None),
            Read::Short(have) => return Err(bad(cut(160, have))),
            Read::Bytes(bytes) => bytes,
        };
        let (at, len) = Pack::table_range(&header, PACK_LIMITS).map_err(bad)?;
        let table = match self.read_exact(&key, at, len)? {
            Read::Gone => return Ok(None),
            Read::Short(have) => return Err(bad(cut(at.get().saturating_add(len.get()), have))),
            Read::Bytes(bytes) => bytes,
        };
        let (at, len) = Pack::tail_range(&header, &table, PACK_LIMITS).map_err(bad)?;
        match self.read_exact(&key, at, len)? {
            Read::Gone => Ok(None),
            Read::Short(have) => Err(bad(cut(at.get().saturating_add(len.get()), have))),
            Read::Bytes(tail) => {
                let pack = Pack::from_parts(&header, &tail, at, PACK_LIMITS);
                pack.map(Some).map_err(bad)
            }
        }
    }

    /// A range, its length held against what was asked: no backend is trusted with that.
    pub fn read_exact(&self, key: &Key, at: FileOffset, len: ByteLen) -> Result<Read, StoreError> {
        match self.backend.read_range(key, at, len) {
            Ok(None) => Ok(Read::Gone),
            Ok(Some(bytes)) if bytes.len() as u64 == len.get() => Ok(Read::Bytes(bytes)),
            Ok(Some(bytes)) => Ok(Read::Short(at.get().saturating_add(bytes.len() as u64))),
            Err(StorageError::UnexpectedEnd { have, .. }) => {
                Ok(Read::Short(at.get().saturating_add(have.get())))
            }
            Err(source) => Err(storage(source)),
        }
    }

    /// A copy that seems damaged is read twice: what happened to the bytes on their way is not
    /// held against those that are stored.
    fn read_copy(&self, id: ChunkId, place: &Place) -> Result<Copy, StoreError> {
        match self.read_copy_once(id, place)? {
            Copy::Damaged(_) => self.read_copy_once(id, place),
            read => Ok(read),
        }
    }

    fn read_copy_once(&self, id: ChunkId, place: &Place) -> Result<Copy, StoreError> {
        let key = Key::Pack(place.pack);
        let len = ByteLen::new(place.stored_len.into());
        let stored = match self.read_exact(&key, place.offset(), len)? {
            Read::Gone => return Ok(Copy::Gone),
            Read::Short(_) => return Ok(Copy::Damaged(ChunkDamage::Cut)),
            Read::Bytes(bytes) => bytes,
        };
        let raw = match place.compression {
            Compression::None => Ok(stored),
            other => {
                let mut raw = vec![0; place.raw_len as usize];
                let done = Decompressor::default().decompress(id, &stored, other, &mut raw)?;
                done.map(|()| Bytes::from(raw))
            }
        };
        Ok(match raw {
            Err(damage) => Copy::Damaged(damage),
            Ok(raw) => match id_of(&raw) {
                found if found == id => Copy::Sound(raw),
                found => Copy::Damaged(ChunkDamage::Hash { found }),
            },
        })
    }

    /// Reads a chunk from any of its places; a damaged one is remembered, so that the chunk is
    /// stored anew when it is put again. That a copy cannot be read is an error only if no other
    /// copy is sound.
    pub fn read_chunk(&self, id: ChunkId) -> Result<Bytes, StoreError> {
        let started = Instant::now();
        let mut damaged = None;
        let mut failed: BTreeMap<FileId, StoreError> = BTreeMap::new();
        for is_last in [false, true] {
            let mut gone = BTreeSet::new();
            let places = self.catalog().places(id);
            for place in &places {
                if failed.contains_key(&place.pack) {
                    continue;
                }
                match self.read_copy(id, place) {
                    Ok(Copy::Sound(bytes)) => return Ok(bytes),
                    Ok(Copy::Gone) => {
                        gone.insert(place.pack);
                    }
                    Ok(Copy::Damaged(damage)) => {
                        let (pack, offset) = (place.pack, place.offset());
                        self.note_damage(id, place, damage);
                        damaged = Some(StoreError::DamagedChunk {
                            id,
                            pack,
                            offset,
                            damage,
                        });
                    }
                    Err(error) => {
                        self.note_failure(id, place, &error);
                        failed.insert(place.pack, error);
                    }
                }
            }
            self.catalog_mut().drop_packs(&gone);
            let looked = Instant::now();
            match is_last {
                true => {}
                // Someone may have stored another copy.
                false if !failed.is_empty() => self.try_refresh_since(started),
                false => self.refresh_since(looked)?,
            }
        }
        let failed = failed.into_values().next();
        Err(failed.or(damaged).unwrap_or_else(|| self.absent(id)))
    }

    /// Whether a chunk has a sound copy outside of these packs: it is read, not believed. With
    /// `all`, every copy is read; damaged ones are remembered. A copy that cannot be read is not
    /// sound.
    pub fn has_sound(&self, id: ChunkId, without: &BTreeSet<FileId>, all: bool) -> bool {
        let mut is_sound = false;
        let places = self.catalog().places(id);
        for place in places.iter().filter(|place| !without.contains(&place.pack)) {
            match self.read_copy(id, place) {
                Ok(Copy::Sound(_)) => is_sound = true,
                Ok(Copy::Damaged(damage)) => self.note_damage(id, place, damage),
                Ok(Copy::Gone) => {}
                Err(error) => self.note_failure(id, place, &error),
            }
            if is_sound && !all {
                break;
            }
        }
        is_sound
    }

    /// A copy on a medium that failed is as lost as a damaged one: the chunk is to be stored anew.
    /// Whatever else failed, such as the way to the place, says nothing of the copy.
    fn note_failure(&self, id: ChunkId, place: &Place, error: &StoreError) {
        let (pack, offset) = (place.pack, place.offset());
        tracing::warn!(chunk = %id, %pack, %offset, %error, "chunk cannot be read");
        if is_medium_error(error) {
            self.catalog_mut().mark_damaged(id, pack);
        }
    }

    /// Whether two files have the same bytes; false if one is not there.
    pub fn is_equal(&self, one: &Key, other: &Key) -> Result<bool, StoreError> {
        let read = |key: &Key| self.backend.read(key, EQUAL_BYTES_MAX).map_err(storage);
        Ok(match (read(one)?, read(other)?) {
            (Some(one), Some(other)) => one == other,
            _ => false,
        })
    }

    fn note_damage(&self, id: ChunkId, place: &Place, damage: ChunkDamage) {
        let (pack, offset) = (place.pack, place.offset());
        tracing::warn!(chunk = %id, %pack, %offset, %damage, "damaged chunk");
        self.catalog_mut().mark_damaged(id, pack);
    }

    pub fn get(&self, id: ChunkId) -> Result<Bytes, StoreError> {
        if let Some(bytes) = self.cache.get(id) {
            return Ok(bytes);
        }
        if let Some(bytes) = self.near.get().and_then(|near| near.get(id).ok()) {
            self.cache.insert(id, &bytes);
            return Ok(bytes);
        }
        let bytes = self.read_chunk(id)?;
        self.cache.insert(id, &bytes);
        self.keep_near(id, || bytes.clone());
        Ok(bytes)
    }

    pub fn forget(&self, id: ChunkId) {
        self.cache.remove(id);
        if let Some(near) = self.near.get()
            && let Err(error) = near.delete(&[id])
        {
            tracing::warn!(chunk = %id, %error, "chunk not removed from the cache");
        }
    }

    /// The tables of packs, read by several threads.
    pub fn load_packs(&self, files: &[FileId]) -> Vec<LoadedPack> {
        let load = |file: &FileId| (*file, self.load_pack(*file));
        let readers = self.backend.reads_at_once().min(files.len()).max(1);
        if readers == 1 {
            return files.iter().map(load).collect();
        }
        std::thread::scope(|scope| {
            let parts = files.chunks(files.len().div_ceil(readers)).map(|part| {
                let load = &load;
                scope.spawn(move || part.iter().map(load).collect::<Vec<_>>())
            });
            let parts: Vec<_> = parts.collect();
            let parts = parts.into_iter().map(|part| part.join());
            let loaded = parts.map(|part| part.expect("reading a table does not panic"));
            loaded.flatten().collect()
        })
    }

    /// Chunks by several threads, neighbours at once.
    pub fn get_many(&self, ids: &[ChunkId]) -> Vec<Result<Bytes, StoreError>> {
        if let [id] = ids {
            return vec![self.get(*id)];
        }
        let mut found: Vec<Option<Result<Bytes, StoreError>>> =
            ids.iter().map(|id| self.cache.get(*id).map(Ok)).collect();
        let is_open = |number: &usize| found[*number].is_none();
        let open: Vec<usize> = (0..ids.len()).filter(is_open).collect();
        let wanted: Vec<ChunkId> = open.iter().map(|number| ids[*number]).collect();
        let read = Mutex::new(&mut found);
        self.visit(&wanted, &|number, bytes| {
            let bytes = bytes.map(Bytes::copy_from_slice);
            if let Ok(bytes) = &bytes {
                self.cache.insert(wanted[number], bytes);
            }
            let mut found = read.lock().unwrap_or_else(PoisonError::into_inner);
            found[open[number]] = Some(bytes);
            ControlFlow::Continue(())
        });
        let found = found.into_iter();
        found
            .map(|found| found.expect("every chunk is shown"))
            .collect()
    }
}

/// What reading a range came to.
pub(crate) enum Read {
    Bytes(Bytes),
    /// The file ends at this offset.
    Short(u64),
    /// There is no such file.
    Gone,
}

pub(crate) fn cut(need: u64, have: u64) -> coldframe_envelope::DecodeError {
    let kind = coldframe_envelope::DecodeErrorKind::Truncated { need, have };
    coldframe_envelope::DecodeError::new(kind, have)
}
