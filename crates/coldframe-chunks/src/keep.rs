//! Files of formats that this crate does not know, kept by their roots: manifests, and memory files
//! without their pages.
//!
//! Invariant: such a file is kept only when all that it was said to need is there to stay, as an
//! index is; whether it was told all is the caller's to know, and its tracer's to follow.

use bytes::Bytes;
use coldframe_envelope::{DecodeError, HEADER_LEN, Header};
use coldframe_units::{ByteLen, RootHash};

use crate::backend::Backend;
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
        let root = header.root();
        self.check_lease()?;
        if self.has_sound_root(root, parts)? {
            return Ok(root);
        }
        self.create_root(root, parts)
    }
}

impl<B: Backend> PackStore<B> {
    /// The bytes that are kept for a root, all of them, at most `limit`; the header that they begin
    /// with is checked against the root, the rest by `check`. Of several copies a sound one is
    /// found.
    ///
    /// # Errors
    /// As [`PackStore::root_range`]; [`StoreError::DamagedRoot`] with what `check` said.
    pub fn kept(
        &self,
        root: RootHash,
        limit: ByteLen,
        check: impl Fn(&[u8]) -> Result<(), DecodeError>,
    ) -> Result<Bytes, StoreError> {
        let damaged = |source| StoreError::DamagedRoot { root, source };
        self.with_copy(root, |key| {
            let bytes = self.backend().read(key, limit).map_err(storage)?;
            let bytes = bytes.ok_or(StoreError::MissingRoot { root })?;
            let head = bytes.len().min(HEADER_LEN as usize);
            let found = Header::peek(&bytes[..head]).map_err(damaged)?.root();
            if found != root {
                return Err(StoreError::WrongRoot { root, found });
            }
            check(&bytes).map_err(damaged)?;
            Ok(bytes)
        })
    }
}
