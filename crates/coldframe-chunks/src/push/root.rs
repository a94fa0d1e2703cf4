//! Files that are kept whole by their root, and that all they name is there to stay.

use std::collections::BTreeSet;

use coldframe_chunkfile::{INDEX_FORMAT, INDEX_LIMITS, Index, IndexOrigin, PartSource};
use coldframe_envelope::{Container, Header, Limits};
use coldframe_storage::StorageError;
use coldframe_units::{ByteLen, ChunkId, RootHash};

use super::Push;
use crate::backend::{Backend, Folder, Key};
use crate::error::storage;
use crate::publisher::{NAMES_MAX, all_taken};
use crate::{FileId, Reference, StoreError, known};

impl<B: Backend> Push<B> {
    /// Keeps a whole file by its root, once all chunks of the push are durable; `parts` are its
    /// bytes, one behind the other.
    ///
    /// # Errors
    /// [`StoreError::BadFile`] if header, table or a section does not hold;
    /// [`StoreError::MissingChunk`], [`StoreError::MissingRoot`] if an index names what is not
    /// there, or is about to be deleted; as [`Push::flush`].
    pub fn put_root(&self, parts: &[&[u8]]) -> Result<RootHash, StoreError> {
        let joined: Vec<u8>;
        let file = match parts {
            [file] => file,
            parts => {
                joined = parts.concat();
                &joined[..]
            }
        };
        let root = check_file(file)?;
        self.flush()?;
        self.check_lease()?;
        if self.has_sound_root(root, parts)? {
            return Ok(root);
        }
        self.check_references(file)?;
        self.create_root(root, parts)
    }

    /// Keeps an index that follows one which a tag names: of the chunks that it names only `new`
    /// must be there, and its parent may be lost. What else it names the index before it needs
    /// too, so the collector leaves it; and what is lost there is carried on by its id, so that
    /// it is an error on reading and not on writing.
    ///
    /// # Errors
    /// [`StoreError::BadFile`]; [`StoreError::MissingChunk`] for one of `new`;
    /// [`StoreError::MissingRoot`] if the parent is about to be deleted: no tag needs it any more;
    /// as [`Push::flush`].
    pub fn put_successor(&self, file: &[u8], new: &[ChunkId]) -> Result<RootHash, StoreError> {
        let root = check_file(file)?;
        let bad = |source| StoreError::BadFile { source };
        let index = Index::open(file, INDEX_LIMITS).map_err(bad)?;
        self.flush()?;
        self.check_lease()?;
        if self.has_sound_root(root, &[file])? {
            return Ok(root);
        }
        index.verify_rows(file).map_err(bad)?;
        if let IndexOrigin::Parent { root, .. } = index.origin() {
            let is_known = self.inner.catalog().roots.contains_key(&root);
            if is_known && !self.has_root(root) {
                return Err(StoreError::MissingRoot { root });
            }
        }
        for id in new {
            self.check_need(Reference::Chunk(*id, 0))?;
        }
        self.create_root(root, &[file])
    }

    /// Whether a file is there to stay with these very bytes: one that is damaged is written anew.
    pub(crate) fn has_sound_root(
        &self,
        root: RootHash,
        parts: &[&[u8]],
    ) -> Result<bool, StoreError> {
        let len = parts.iter().map(|part| part.len() as u64).sum();
        let copies: Vec<FileId> = {
            let catalog = self.inner.catalog();
            let copies = catalog.roots.get(&root).into_iter().flatten().copied();
            let is_kept = |file: &FileId| !self.condemned.roots.contains(&(root, *file));
            copies.filter(is_kept).collect()
        };
        for file in copies {
            let key = Key::Root(root, file);
            let bytes = match self.inner.backend.read(&key, ByteLen::new(len)) {
                Ok(Some(bytes)) if bytes.len() as u64 == len => bytes,
                // Another length is no sound copy.
                Ok(_) | Err(StorageError::OutOfBounds { .. }) => continue,
                Err(source) => return Err(storage(source)),
            };
            let mut rest = &bytes[..];
            let is_equal = parts.iter().all(|part| {
                let (now, later) = rest.split_at(part.len());
                rest = later;
                now == *part
            });
            if is_equal {
                self.promise().files.insert((root, file));
                return Ok(true);
            }
            tracing::warn!(%root, %file, "damaged file");
        }
        Ok(false)
    }

    /// Writes a new file under its root.
    pub(crate) fn create_root(
        &self,
        root: RootHash,
        parts: &[&[u8]],
    ) -> Result<RootHash, StoreError> {
        for _ in 0..NAMES_MAX {
            let file = crate::publisher::random_id(&self.inner.backend)?;
            let key = Key::Root(root, file);
            if self.inner.backend.create(&key, parts).map_err(storage)? {
                self.inner.catalog_mut().add_root(root, file);
                self.promise().files.insert((root, file));
                return Ok(root);
            }
        }
        Err(storage(all_taken(&self.inner.backend, Folder::Roots)))
    }

    /// Whether a file is there by its root, and will be until this push ends.
    #[must_use]
    pub fn has_root(&self, root: RootHash) -> bool {
        drop(self.promise());
        let catalog = self.inner.catalog();
        let copies = catalog.roots.get(&root);
        copies.is_some_and(|files| {
            let mut files = files.iter();
            files.any(|file| !self.condemned.roots.contains(&(root, *file)))
        })
    }

    /// As [`Push::has_root`], also for a file that a listing leaves out.
    pub(crate) fn finds_root(&self, root: RootHash) -> Result<bool, StoreError> {
        Ok(self.has_root(root) || known::find(&self.inner, root)? && self.has_root(root))
    }

    /// Puts the names of the files of this push, of a root's copies, and of the tags that are about
    /// to be made into the ledger, at once. Done when the files are durable and before a tag needs
    /// them: one that does not exist any more, though the ledger has it, is lost.
    pub(crate) fn know_all(&self, root: Option<RootHash>) -> Result<(), StoreError> {
        let mut copies = BTreeSet::new();
        if let Some(root) = root {
            let catalog = self.inner.catalog();
            let files = catalog.roots.get(&root).into_iter().flatten();
            copies.extend(files.map(|file| (root, *file)));
        }
        let (files, tags, ledger) = {
            let mut state = self.state();
            copies.extend(&state.files);
            copies.retain(|file| {
                let is_there = state.ledger.ledger.files.contains(&(file.0, file.1.get()));
                !is_there && !self.condemned.roots.contains(file) && !self.known.contains(file)
            });
            if copies.is_empty() && state.announced.is_empty() {
                state.files.clear();
                return Ok(());
            }
            // Before, so that whatever comes of it can be taken back.
            state.told.extend(&copies);
            let ledger = std::mem::take(&mut state.ledger);
            (copies, state.announced.clone(), ledger)
        };
        let known = known::know(&self.inner, ledger, &files, &tags)?;
        let mut state = self.state();
        state.ledger = known;
        state.files.clear();
        state.announced.clear();
        Ok(())
    }

    /// An index is kept only when all that it names is there to stay; other formats are checked by
    /// those who know them.
    fn check_references(&self, file: &[u8]) -> Result<(), StoreError> {
        let bad = |source| StoreError::BadFile { source };
        let header = Header::peek(file).map_err(bad)?;
        if header.format != INDEX_FORMAT.id() {
            return Ok(());
        }
        let index = Index::open(file, INDEX_LIMITS).map_err(bad)?;
        index.verify_rows(file).map_err(bad)?;
        if let IndexOrigin::Parent { root, .. } = index.origin() {
            self.check_need(Reference::Root(root))?;
        }
        for part in index.parts() {
            if let PartSource::Chunk { id, .. } = part.source {
                self.check_need(Reference::Chunk(id, 0))?;
            }
        }
        for page in index.pages() {
            let start = page.offset.get() as usize;
            let bytes = &file[start..start + page.len.get() as usize];
            for row in index.decode_page(&page, bytes).map_err(bad)?.rows() {
                if let Some(id) = row.chunk {
                    self.check_need(Reference::Chunk(id, 0))?;
                }
            }
        }
        Ok(())
    }

    /// Whether something that a file names is there to stay.
    pub(crate) fn check_need(&self, need: Reference) -> Result<(), StoreError> {
        match need {
            Reference::Chunk(id, _) if !self.is_kept(id) => Err(StoreError::MissingChunk { id }),
            Reference::Root(root) if !self.finds_root(root)? => {
                Err(StoreError::MissingRoot { root })
            }
            _ => Ok(()),
        }
    }
}

/// Limits for files that are kept whole.
const ROOT_LIMITS: Limits = Limits {
    sections_max: 4096,
    section_bytes_max: INDEX_LIMITS.section_bytes_max,
    file_bytes_max: INDEX_LIMITS.file_bytes_max,
};

/// The root of a file whose header, table and small sections hold; sections that the format hashes
/// itself are checked by its own readers.
fn check_file(file: &[u8]) -> Result<RootHash, StoreError> {
    let bad = |source| StoreError::BadFile { source };
    let container = Container::peek(file, ROOT_LIMITS).map_err(bad)?;
    for section in container.table().sections() {
        section.body(file, ROOT_LIMITS).map_err(bad)?;
    }
    Ok(container.root())
}
