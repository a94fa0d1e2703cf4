//! Finding a snapshot in a store: by a tag, or by its id under any tag.

use std::collections::BTreeSet;

use coldframe_chunkfile::{Tag, TagKind};
use coldframe_chunks::{Backend, PackStore, StoreError, TagName};
use coldframe_manifest::Manifest;
use coldframe_units::{ByteLen, RootHash, SnapshotId};

use super::TransferError;
use super::error::store as failed;
use super::link::Link;

/// What a tag points to.
#[derive(Clone, Debug)]
pub enum Tagged {
    /// A snapshot, with its manifest.
    Snapshot(Box<Manifest>),
    /// A disk of so many bytes.
    Disk {
        /// Its size.
        size: ByteLen,
    },
}

/// What a tag points to, looked up.
///
/// # Errors
/// [`StoreError`]: what it names is missing or damaged, or the place failed.
pub fn tagged<B: Backend>(store: &PackStore<B>, tag: Tag) -> Result<Tagged, StoreError> {
    match tag.kind {
        TagKind::Snapshot => {
            let manifest = Link::read(store, tag.root)?.manifest;
            Ok(Tagged::Snapshot(Box::new(manifest)))
        }
        TagKind::Index => {
            let size = store.index(tag.root)?.size();
            Ok(Tagged::Disk { size })
        }
    }
}

/// The root of the manifest that `name` means: of a tag, or of the snapshot of this id that a
/// tag points to or is built on.
///
/// # Errors
/// [`TransferError::Unknown`], [`TransferError::NotASnapshot`]; [`TransferError::Store`];
/// [`TransferError::Manifest`] if the id was not found and a manifest could not be read.
pub fn find<B: Backend>(store: &PackStore<B>, name: &str) -> Result<RootHash, TransferError> {
    if let Ok(tag_name) = name.parse::<TagName>()
        && let Some(tag) = store.tag(&tag_name).map_err(failed)?
    {
        return match tag.kind {
            TagKind::Snapshot => Ok(tag.root),
            TagKind::Index => Err(TransferError::NotASnapshot { name: tag_name }),
        };
    }
    let unknown = || TransferError::Unknown {
        name: name.to_owned(),
    };
    let id: SnapshotId = name.parse().map_err(|_| unknown())?;
    let tags = store.tags().map_err(failed)?;
    let mut lost = None;
    let mut seen = BTreeSet::new();
    for tag in tags.values().filter(|tag| tag.kind == TagKind::Snapshot) {
        let mut next = Some(tag.root);
        while let Some(root) = next.filter(|root| seen.insert(*root)) {
            next = match Link::read(store, root) {
                Ok(link) if link.manifest.id == id => return Ok(root),
                Ok(link) => link.manifest.parent().map(|parent| parent.root),
                Err(source) => {
                    let source = Box::new(source);
                    lost.get_or_insert(TransferError::Manifest { root, source });
                    None
                }
            };
        }
    }
    Err(lost.unwrap_or_else(unknown))
}
