//! Tags: names for roots, changed by compare and swap.

use std::collections::BTreeMap;

use bytes::Bytes;
use coldframe_chunkfile::Tag;

use crate::StoreError;
use crate::backend::{Backend, Folder, Key, TagName};
use crate::error::{encode, storage};
use crate::store::{Inner, PackStore, SMALL_FILE_MAX};

impl<B: Backend> PackStore<B> {
    /// What a tag stands for; `None` if there is no such tag.
    ///
    /// # Errors
    /// [`StoreError::DamagedTag`], [`StoreError::Storage`].
    pub fn tag(&self, name: &TagName) -> Result<Option<Tag>, StoreError> {
        read(self.inner(), name)
    }

    /// All tags.
    ///
    /// # Errors
    /// As [`PackStore::tag`]: a tag that cannot be read is not left out.
    pub fn tags(&self) -> Result<BTreeMap<TagName, Tag>, StoreError> {
        list(self.inner())
    }

    /// Removes a tag if it stands for `expected`. What only it named is left to the collector.
    ///
    /// # Errors
    /// [`StoreError::TagMoved`], [`StoreError::MissingTag`]; as [`PackStore::tag`].
    pub fn remove_tag(&self, name: &TagName, expected: Tag) -> Result<(), StoreError> {
        if self.tag(name)?.is_none() {
            let name = name.clone();
            return Err(StoreError::MissingTag { name });
        }
        swap(self.inner(), name, Some(expected), None)
    }
}

pub(crate) fn read<B: Backend>(
    inner: &Inner<B>,
    name: &TagName,
) -> Result<Option<Tag>, StoreError> {
    read_file(inner, name).map(|found| found.map(|(tag, _)| tag))
}

/// A tag, and the bytes that it was read from. Damage is what two reads see.
fn read_file<B: Backend>(
    inner: &Inner<B>,
    name: &TagName,
) -> Result<Option<(Tag, Bytes)>, StoreError> {
    let key = Key::Tag(name.clone());
    let once = || {
        let file = inner.backend.read(&key, SMALL_FILE_MAX).map_err(storage)?;
        file.map(|file| Ok((decode(name, &file)?, file)))
            .transpose()
    };
    match once() {
        Err(StoreError::DamagedTag { .. }) => once(),
        read => read,
    }
}

fn decode(name: &TagName, file: &[u8]) -> Result<Tag, StoreError> {
    Tag::decode(file).map_err(|source| StoreError::DamagedTag {
        name: name.clone(),
        source,
    })
}

pub(crate) fn list<B: Backend>(inner: &Inner<B>) -> Result<BTreeMap<TagName, Tag>, StoreError> {
    let mut tags = BTreeMap::new();
    for file in inner.backend.list(Folder::Tags).map_err(storage)? {
        let Key::Tag(name) = file.key else { continue };
        // One that was removed since the listing is none.
        if let Some(tag) = read(inner, &name)? {
            tags.insert(name, tag);
        }
    }
    Ok(tags)
}

/// Changes a tag from `expected` to `new`. The file that is replaced may be of another producer:
/// it is the tags that are compared, then the swap is of the very bytes that were read.
pub(crate) fn swap<B: Backend>(
    inner: &Inner<B>,
    name: &TagName,
    expected: Option<Tag>,
    new: Option<Tag>,
) -> Result<(), StoreError> {
    let key = Key::Tag(name.clone());
    let moved = || StoreError::TagMoved { name: name.clone() };
    let (found, file) = read_file(inner, name)?.unzip();
    if found != expected {
        return Err(moved());
    }
    let bytes = new.map(|tag| tag.encode(inner.producer)).transpose();
    let bytes = bytes.map_err(encode)?;
    let swapped = inner
        .backend
        .replace(&key, file.as_deref(), bytes.as_deref());
    if swapped.map_err(storage)? {
        tracing::info!(tag = %name, "tag changed");
        Ok(())
    } else {
        Err(moved())
    }
}
