//! Tags: names for roots, changed by compare-and-swap.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::Path;

use bytes::Bytes;
use coldframe_chunkfile::{Tag, TagFile};
use coldframe_storage::StorageError;

use crate::backend::{Backend, Folder, Key, TagName};
use crate::error::{encode, storage};
use crate::store::{Inner, PackStore, SMALL_FILE_MAX};
use crate::{StoreError, ledger, log_note};

impl<B: Backend> PackStore<B> {
    /// What a tag points to; `None` if there is no such tag.
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

    /// All tags; one that cannot be read does not keep the others from being returned.
    ///
    /// # Errors
    /// [`StoreError::Storage`]: the tags cannot be listed.
    pub fn read_tags(&self) -> Result<BTreeMap<TagName, Result<Tag, StoreError>>, StoreError> {
        read_all(self.inner())
    }

    /// Removes a tag if it points to `expected`. What only it named is left to the collector.
    ///
    /// # Errors
    /// [`StoreError::TagMoved`], [`StoreError::MissingTag`]; [`StoreError::UnfoldedLog`] while the
    /// tag names a log (see [`PackStore::set_log`]); as [`PackStore::tag`].
    pub fn remove_tag(&self, name: &TagName, expected: Tag) -> Result<(), StoreError> {
        if self.tag(name)?.is_none() {
            let name = name.clone();
            return Err(StoreError::MissingTag { name });
        }
        swap(self.inner(), name, Some(expected), None)
    }

    /// Removes a tag whose file is damaged, so that neither what it points to nor a log that it
    /// may name is known; `false` if it is not damaged. What only it needed is left to the
    /// collector.
    ///
    /// # Errors
    /// [`StoreError::MissingTag`]; [`StoreError::DamagedTag`] if it is of a newer version;
    /// [`StoreError::TagMoved`]; [`StoreError::Storage`].
    pub fn remove_damaged_tag(&self, name: &TagName) -> Result<bool, StoreError> {
        match self.tag(name) {
            Err(StoreError::DamagedTag { source, .. }) if !source.is_unsupported_version() => {}
            Ok(None) => {
                let name = name.clone();
                return Err(StoreError::MissingTag { name });
            }
            tag => return tag.map(|_| false),
        }
        let key = Key::Tag(name.clone());
        let bytes = self.backend().read(&key, SMALL_FILE_MAX);
        match bytes.map_err(storage)? {
            // The very bytes that are damaged: a sound tag that is there now stays.
            Some(bytes) if TagFile::decode(&bytes).is_err() => {
                swap_file(self.inner(), name, Some(&bytes), None).map(|()| true)
            }
            _ => Ok(false),
        }
    }
}

pub(crate) fn read<B: Backend>(
    inner: &Inner<B>,
    name: &TagName,
) -> Result<Option<Tag>, StoreError> {
    Ok(read_file(inner, name)?.map(|(file, _)| file.tag))
}

/// A tag, and the bytes that it was read from. Damage is what two reads see.
pub(crate) fn read_file<B: Backend>(
    inner: &Inner<B>,
    name: &TagName,
) -> Result<Option<(TagFile, Bytes)>, StoreError> {
    let key = Key::Tag(name.clone());
    let once = || {
        let file = match inner.backend.read(&key, SMALL_FILE_MAX) {
            Err(StorageError::Exists { path }) => {
                let (name, other) = (name.clone(), path.display().to_string());
                return Err(StoreError::TagFolded { name, other });
            }
            read => read.map_err(storage)?,
        };
        file.map(|file| Ok((decode(name, &file)?, file)))
            .transpose()
    };
    match once() {
        Err(StoreError::DamagedTag { .. }) => once(),
        read => read,
    }
}

fn decode(name: &TagName, file: &[u8]) -> Result<TagFile, StoreError> {
    TagFile::decode(file).map_err(|source| StoreError::DamagedTag {
        name: name.clone(),
        source,
    })
}

/// All tags, for those who delete what no tag needs: also those that only the ledger knows.
pub(crate) fn list<B: Backend>(inner: &Inner<B>) -> Result<BTreeMap<TagName, Tag>, StoreError> {
    let known = ledger::read(&inner.backend)?.names();
    let mut tags = BTreeMap::new();
    for (name, tag) in read_known(inner, known)? {
        tags.insert(name, tag?);
    }
    Ok(tags)
}

/// Every tag, or why it cannot be read. A ledger that cannot be read is no reason to return none.
pub(crate) fn read_all<B: Backend>(
    inner: &Inner<B>,
) -> Result<BTreeMap<TagName, Result<Tag, StoreError>>, StoreError> {
    let known = ledger::read(&inner.backend).map(|read| read.names());
    let known = known.unwrap_or_else(|error| {
        tracing::warn!(%error, "tags that are left out of the listing are not looked for");
        BTreeSet::new()
    });
    read_known(inner, known)
}

/// Every tag that is listed, or known and there, or why it cannot be read. Only one that is not
/// listed any more when it is not found was removed.
fn read_known<B: Backend>(
    inner: &Inner<B>,
    known: BTreeSet<TagName>,
) -> Result<BTreeMap<TagName, Result<Tag, StoreError>>, StoreError> {
    let mut tags = BTreeMap::new();
    let mut not_found = Vec::new();
    let listed = names(inner)?;
    for name in known.union(&listed) {
        let found = match read(inner, name) {
            Err(error) if !listed.contains(name) && is_folded(&error, Some(&listed)) => Ok(None),
            found => found,
        };
        match found.transpose() {
            Some(tag) => {
                if !listed.contains(name) {
                    tracing::warn!(tag = %name, "left out of the listing");
                }
                tags.insert(name.clone(), tag);
            }
            None if listed.contains(name) => not_found.push(name),
            None => {}
        }
    }
    if not_found.is_empty() {
        return Ok(tags);
    }
    let listed = names(inner)?;
    for name in not_found.into_iter().filter(|name| listed.contains(name)) {
        let key = Key::Tag(name.clone());
        let again = read(inner, name).transpose();
        let again = again.unwrap_or(Err(StoreError::ListedNotFound { key }));
        tags.insert(name.clone(), again);
    }
    Ok(tags)
}

/// Whether what was found by a name that is not listed is the file of another tag, one of `others`
/// or any, on a file system that ignores case: of its own name there is none.
fn is_folded(error: &StoreError, others: Option<&BTreeSet<TagName>>) -> bool {
    let StoreError::TagFolded { other, .. } = error else {
        return false;
    };
    let name = Path::new(other).file_name().and_then(OsStr::to_str);
    let name = name.and_then(|name| name.parse::<TagName>().ok());
    name.is_some_and(|name| others.is_none_or(|others| others.contains(&name)))
}

/// The most names that the ledger has: it is read and written whole.
pub(crate) const KNOWN_MAX: usize = 1 << 16;

/// Puts the name of a tag into the ledger, so that a listing that leaves the tag out is noticed.
pub(crate) fn know<B: Backend>(inner: &Inner<B>, name: &TagName) -> Result<(), StoreError> {
    let changed = ledger::update(&inner.backend, inner.producer, |ledger| {
        if ledger.names.len() < KNOWN_MAX {
            ledger.names.insert(name.as_str().to_owned());
        }
    });
    changed.map(drop)
}

/// Has the ledger know those tags that are there, and no others. The collector's, who alone takes
/// names out: a tag that is made meanwhile is put back, by its maker or by this.
pub(crate) fn know_only<B: Backend>(
    inner: &Inner<B>,
    tags: &BTreeSet<TagName>,
) -> Result<(), StoreError> {
    let before = ledger::read(&inner.backend)?.names();
    let gone: Vec<&TagName> = before.difference(tags).collect();
    ledger::update(&inner.backend, inner.producer, |ledger| {
        for name in &gone {
            ledger.names.remove(name.as_str());
        }
        let room = KNOWN_MAX.saturating_sub(ledger.names.len());
        let new = tags.iter().filter(|name| !before.contains(name));
        let new = new.map(|name| name.as_str().to_owned()).take(room);
        ledger.names.extend(new);
    })?;
    for name in gone {
        let is_there = match read(inner, name) {
            Err(error) if is_folded(&error, None) => false,
            found => found?.is_some(),
        };
        if is_there {
            know(inner, name)?;
        }
    }
    Ok(())
}

/// The names of the tags that are listed.
pub(crate) fn names<B: Backend>(inner: &Inner<B>) -> Result<BTreeSet<TagName>, StoreError> {
    let seen = inner.backend.scan(Folder::Tags).map_err(storage)?;
    let names = seen.into_iter().filter_map(|seen| match seen.key {
        Key::Tag(name) => Some(name),
        _ => None,
    });
    Ok(names.collect())
}

/// Changes a tag from `expected` to `new`. The file that is replaced may be of another producer:
/// it is the tags that are compared, then the swap is of the very bytes that were read. A log that
/// the tag names stays named: what would drop it is refused. The name of a tag that is made is in
/// the ledger before.
pub(crate) fn swap<B: Backend>(
    inner: &Inner<B>,
    name: &TagName,
    expected: Option<Tag>,
    new: Option<Tag>,
) -> Result<(), StoreError> {
    let (found, bytes) = read_file(inner, name)?.unzip();
    if found.as_ref().map(|file| file.tag) != expected {
        return Err(StoreError::TagMoved { name: name.clone() });
    }
    let place = found.as_ref().and_then(|file| file.place.clone());
    if let Some(log) = found.as_ref().and_then(log_note::note)
        && new.and_then(|tag| tag.log) != Some(log.id)
    {
        let (name, log) = (name.clone(), Box::new(log));
        return Err(StoreError::UnfoldedLog { name, log });
    }
    let new = new.map(|tag| TagFile { tag, place });
    swap_file(inner, name, bytes.as_deref(), new.as_ref())
}

/// Puts `new` in the place of the very bytes that were read.
pub(crate) fn swap_file<B: Backend>(
    inner: &Inner<B>,
    name: &TagName,
    found: Option<&[u8]>,
    new: Option<&TagFile>,
) -> Result<(), StoreError> {
    let key = Key::Tag(name.clone());
    let new = new.map(|file| file.encode(inner.producer)).transpose();
    let new = new.map_err(encode)?;
    let swapped = inner.backend.replace(&key, found, new.as_deref());
    if swapped.map_err(storage)? {
        tracing::info!(tag = %name, "tag changed");
        Ok(())
    } else {
        Err(StoreError::TagMoved { name: name.clone() })
    }
}
