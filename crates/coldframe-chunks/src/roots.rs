//! Files that are kept whole, by their root: indexes, manifests.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;
use coldframe_chunkfile::{INDEX_LIMITS, Index, IndexPage, PageRef};
use coldframe_envelope::{DecodeError, HEADER_LEN, Header};
use coldframe_units::{ByteLen, FileOffset, RootHash};

use crate::backend::{Backend, Folder, Key};
use crate::error::storage;
use crate::read::{Read, cut};
use crate::store::PackStore;
use crate::{FileId, StoreError, known};

impl<B: Backend> PackStore<B> {
    /// The roots of all files that are kept.
    ///
    /// # Errors
    /// [`StoreError::Storage`].
    pub fn roots(&self) -> Result<Vec<RootHash>, StoreError> {
        let mut roots = Vec::new();
        for file in self.backend().list(Folder::Roots).map_err(storage)? {
            if let Key::Root(root, _) = file.key {
                roots.push(root);
            }
        }
        roots.sort_unstable();
        roots.dedup();
        Ok(roots)
    }

    /// Whether a file is there, by its root.
    ///
    /// # Errors
    /// [`StoreError::Storage`].
    pub fn has_root(&self, root: RootHash) -> Result<bool, StoreError> {
        if !self.copies(root).is_empty() {
            return Ok(true);
        }
        self.refresh()?;
        Ok(!self.copies(root).is_empty() || known::find(self.inner(), root)?)
    }

    /// A range of a file. The file's header is checked against the root, the range is not: it is
    /// for readers of the format to check it against the tables that the header commits to.
    ///
    /// # Errors
    /// [`StoreError::MissingRoot`], [`StoreError::DamagedRoot`], [`StoreError::WrongRoot`],
    /// [`StoreError::Storage`].
    pub fn root_range(
        &self,
        root: RootHash,
        offset: FileOffset,
        len: ByteLen,
    ) -> Result<Bytes, StoreError> {
        self.with_copy(root, |key| {
            self.header(root, key)?;
            self.range(root, key, offset, len)
        })
    }

    /// A whole file, at most `limit` long; its header is checked against the root.
    ///
    /// # Errors
    /// As [`PackStore::root_range`].
    pub fn root(&self, root: RootHash, limit: ByteLen) -> Result<Bytes, StoreError> {
        self.with_copy(root, |key| {
            let header = self.header(root, key)?;
            let len = ByteLen::new(header.file_len).min(limit);
            self.range(root, key, FileOffset::ZERO, len)
        })
    }

    /// The header of a file.
    ///
    /// # Errors
    /// As [`PackStore::root_range`].
    pub fn root_header(&self, root: RootHash) -> Result<Header, StoreError> {
        self.with_copy(root, |key| self.header(root, key))
    }

    /// An index, without its rows.
    ///
    /// # Errors
    /// As [`PackStore::root_range`].
    pub fn index(&self, root: RootHash) -> Result<Index, StoreError> {
        let bad = |source| StoreError::DamagedRoot { root, source };
        self.with_copy(root, |key| {
            self.header(root, key)?;
            let header = self.range(root, key, FileOffset::ZERO, ByteLen::new(HEADER_LEN))?;
            let (at, len) = Index::table_range(&header, INDEX_LIMITS).map_err(bad)?;
            let table = self.range(root, key, at, len)?;
            let (at, len) = Index::tail_range(&header, &table, INDEX_LIMITS).map_err(bad)?;
            let tail = self.range(root, key, at, len)?;
            Index::from_parts(&header, &tail, at, INDEX_LIMITS).map_err(bad)
        })
    }

    /// A page of an index's rows, checked.
    ///
    /// # Errors
    /// As [`PackStore::root_range`].
    pub fn index_page(&self, index: &Index, page: &PageRef) -> Result<IndexPage, StoreError> {
        let root = index.root();
        self.with_copy(root, |key| {
            let bytes = self.range(root, key, page.offset, page.len)?;
            let rows = index.decode_page(page, &bytes);
            rows.map_err(|source| StoreError::DamagedRoot { root, source })
        })
    }

    /// Tries each copy of a file until one is sound, looking for new copies once. That a copy
    /// cannot be read is the error only if none is sound.
    pub(crate) fn with_copy<T>(
        &self,
        root: RootHash,
        read: impl Fn(&Key) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let started = Instant::now();
        let (mut damaged, mut failed) = (None, BTreeMap::new());
        let mut not_found = None;
        for look in 0..3 {
            not_found = None;
            for file in self.copies(root) {
                if failed.contains_key(&file) {
                    continue;
                }
                let key = Key::Root(root, file);
                match read(&key) {
                    Ok(done) => return Ok(done),
                    Err(StoreError::MissingRoot { .. }) => not_found = Some(key),
                    Err(error) if error.is_wanting() => damaged = Some(error),
                    Err(error) => {
                        tracing::warn!(%key, %error, "copy cannot be read");
                        failed.insert(file, error);
                    }
                }
            }
            let looked = Instant::now();
            match look {
                0 if !failed.is_empty() => self.inner().try_refresh_since(started),
                0 => self.inner().refresh_since(looked)?,
                // A listing may leave it out: then the ledger has its name.
                1 if damaged.is_none() && failed.is_empty() && not_found.is_none() => {
                    known::find(self.inner(), root)?;
                }
                _ => break,
            }
        }
        // What was listed a moment ago is not taken for absent.
        let listed = not_found.map(|key| StoreError::ListedNotFound { key });
        let error = failed.into_values().next().or(damaged).or(listed);
        Err(error.unwrap_or(StoreError::MissingRoot { root }))
    }

    fn copies(&self, root: RootHash) -> Vec<FileId> {
        let catalog = self.inner().catalog();
        let files = catalog.roots.get(&root).into_iter().flatten();
        files.copied().collect()
    }

    fn header(&self, root: RootHash, key: &Key) -> Result<Header, StoreError> {
        let bytes = self.range(root, key, FileOffset::ZERO, ByteLen::new(HEADER_LEN))?;
        let bad = |source: DecodeError| StoreError::DamagedRoot { root, source };
        let header = Header::peek(&bytes).map_err(bad)?;
        let found = header.root();
        if found == root {
            Ok(header)
        } else {
            Err(StoreError::WrongRoot { root, found })
        }
    }

    fn range(
        &self,
        root: RootHash,
        key: &Key,
        offset: FileOffset,
        len: ByteLen,
    ) -> Result<Bytes, StoreError> {
        match self.inner().read_exact(key, offset, len)? {
            Read::Bytes(bytes) => Ok(bytes),
            Read::Gone => Err(StoreError::MissingRoot { root }),
            Read::Short(have) => {
                let source = cut(offset.get().saturating_add(len.get()), have);
                Err(StoreError::DamagedRoot { root, source })
            }
        }
    }
}
