//! Files of formats that this crate does not know, kept by their roots: manifests, and memory files
//! without their pages.
//!
//! Invariant: such a file is kept only when all that it was said to need is there to stay, as an
//! index is; whether it was told all is the caller's to know, and its tracer's to follow.

use bytes::Bytes;
use coldframe_envelope::{HEADER_LEN, Header};
use coldframe_units::{ByteLen, RootHash};

use crate::backend::{Backend, Key};
use crate::error::storage;
use crate::store::PackStore;
use crate::{Push, Reference, StoreError};

impl<B: Backend> Push<B> {
    /// Keeps bytes that begin with a file's header, under the root of that header, once all chunks
    /// of the push are durable. They need not be the whole file; but for the header, it is for the
    /// caller to know that they hold. `needs` is what they name.
    ///
    /// # Errors
    /// [`StoreError::BadFile`] if there is no sound header; [`StoreError::MissingChunk`],
    /// [`StoreError::MissingRoot`] if something that is needed is not there, or is about to be
    /// deleted; as [`Push::flush`].
    pub fn keep(
        &self,
        parts: &[&[u8]],
        needs: impl IntoIterator<Item = Reference>,
    ) -> Result<RootHash, StoreError> {
        let first = parts.first().copied().unwrap_or_default();
        let header = Header::peek(first).map_err(|source| StoreError::BadFile { source })?;
        self.flush()?;
        for need in needs {
            self.check_need(need)?;
        }
        self.create_root(header.root(), parts)
    }
}

impl<B: Backend> PackStore<B> {
    /// The bytes that are kept for a root, all of them, at most `limit`; the header that they begin
    /// with is checked against the root, the rest is for readers of the format.
    ///
    /// # Errors
    /// As [`PackStore::root_range`].
    pub fn kept(&self, root: RootHash, limit: ByteLen) -> Result<Bytes, StoreError> {
        self.with_copy(root, |key| self.kept_copy(root, key, limit))
    }

    fn kept_copy(&self, root: RootHash, key: &Key, limit: ByteLen) -> Result<Bytes, StoreError> {
        let bytes = self.backend().read(key, limit).map_err(storage)?;
        let bytes = bytes.ok_or(StoreError::MissingRoot { root })?;
        let head = bytes.len().min(HEADER_LEN as usize);
        let header = Header::peek(&bytes[..head])
            .map_err(|source| StoreError::DamagedRoot { root, source })?;
        match header.root() {
            found if found == root => Ok(bytes),
            found => Err(StoreError::WrongRoot { root, found }),
        }
    }
}
