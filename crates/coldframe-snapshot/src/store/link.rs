//! One snapshot in a store: its manifest, and the checks that tie its other files to it.

use coldframe_chunks::{Backend, PackStore, StoreError};
use coldframe_envelope::{DecodeError, Limits};
use coldframe_manifest::Manifest;
use coldframe_memfile::{Kind, MemFile};
use coldframe_units::{ByteLen, RootHash};

use super::TransferError;
use crate::CHAIN_LEN_MAX;

/// The longest manifest.
pub(crate) const MANIFEST_MAX: ByteLen = ByteLen::new(1 << 20);

/// The longest state file.
pub(crate) const STATE_MAX: ByteLen = ByteLen::new(Limits::SMALL_FILE.file_bytes_max);

/// The longest skeleton: its tables may have as many bytes as any memory file's.
pub(crate) const SKELETON_MAX: ByteLen = ByteLen::new(Limits::MEMORY_FILE.section_bytes_max);

/// Checks a skeleton, down to its last table.
pub(crate) fn check_skeleton(bytes: &[u8]) -> Result<(), DecodeError> {
    MemFile::open_skeleton(bytes, Limits::MEMORY_FILE)?.verify_tables()
}

/// A manifest that was read from a store and checked.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub root: RootHash,
    pub manifest: Manifest,
    pub bytes: bytes::Bytes,
}

impl Link {
    /// The manifest of this root.
    pub fn read<B: Backend>(store: &PackStore<B>, root: RootHash) -> Result<Self, StoreError> {
        let check = |bytes: &[u8]| Manifest::decode(bytes).map(drop);
        let bytes = store.kept(root, MANIFEST_MAX, check)?;
        let (manifest, _) =
            Manifest::decode(&bytes).map_err(|source| StoreError::DamagedRoot { root, source })?;
        Ok(Self {
            root,
            manifest,
            bytes,
        })
    }

    /// The manifests from this root down to a full one; the full one first.
    pub fn chain<B: Backend>(
        store: &PackStore<B>,
        root: RootHash,
    ) -> Result<Vec<Self>, TransferError> {
        let mut links: Vec<Self> = Vec::new();
        let mut next = Some((root, None));
        while let Some((root_now, id)) = next {
            if links.len() >= CHAIN_LEN_MAX {
                let limit = CHAIN_LEN_MAX;
                return Err(TransferError::ChainTooLong { root, limit });
            }
            let link = Self::read(store, root_now).map_err(|source| TransferError::Manifest {
                root: root_now,
                source: Box::new(source),
            })?;
            if id.is_some_and(|id| id != link.manifest.id) {
                let snapshot = link.manifest.id;
                let what = "id";
                return Err(TransferError::Disagree { snapshot, what });
            }
            next = link
                .manifest
                .parent()
                .map(|parent| (parent.root, Some(parent.id)));
            links.push(link);
        }
        links.reverse();
        Ok(links)
    }

    /// Whether a memory file, or its skeleton, is the one that the manifest describes.
    pub fn check_memory(&self, view: &MemFile<'_>) -> Result<(), TransferError> {
        let Manifest {
            id: snapshot,
            memory,
            ..
        } = &self.manifest;
        let is_diff = self.manifest.parent().is_some();
        let rules = [
            (view.root() == memory.root, "root of the memory"),
            (view.file_len() == memory.len, "length of the memory"),
            ((view.kind() == Kind::Diff) == is_diff, "kind of the memory"),
            (*view.layout() == self.manifest.ram, "RAM layout"),
            (view.page_size() == self.manifest.page_size, "page size"),
        ];
        match rules.into_iter().find(|(holds, _)| !holds) {
            None => Ok(()),
            Some((_, what)) => Err(TransferError::Disagree {
                snapshot: *snapshot,
                what,
            }),
        }
    }
}
