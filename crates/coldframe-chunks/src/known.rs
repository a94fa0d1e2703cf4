//! Files by their root that the ledger names: a second record of which exist.
//!
//! Invariant: a file that the ledger names is absent only if the place says so when asked for it by
//! its name; that a listing leaves it out says nothing. Its name is put into the ledger after the
//! file is durable and before a tag needs it, and taken out by the collector alone.

use std::collections::{BTreeMap, BTreeSet};

use coldframe_units::RootHash;

use crate::backend::{Backend, Folder, Key, Seen, TagName};
use crate::error::storage;
use crate::store::Inner;
use crate::{FileId, StoreError, ledger, tags};

/// The most files that the ledger names: it is read and written whole.
pub(crate) const FILES_MAX: usize = 1 << 17;

/// A file by its root.
pub(crate) type RootFile = (RootHash, FileId);

/// What became of the files that the ledger names.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Not listed, and there all the same.
    pub unlisted: BTreeSet<RootFile>,
    /// Gone, and by no decision of a collector. Another copy may be there.
    pub lost: BTreeSet<RootFile>,
    /// Neither found nor said to be absent, and why.
    pub unread: BTreeMap<RootFile, StoreError>,
}

/// Puts files by their root, and names of tags that are about to be made, into the ledger, as it
/// was read before; returns it as it is then.
pub(crate) fn know<B: Backend>(
    inner: &Inner<B>,
    read: ledger::Read,
    files: &BTreeSet<RootFile>,
    tags: &BTreeSet<TagName>,
) -> Result<ledger::Read, StoreError> {
    ledger::update_from(read, &inner.backend, inner.producer, |ledger| {
        for (root, file) in files {
            if ledger.files.len() < FILES_MAX {
                ledger.files.insert((*root, file.get()));
            }
        }
        for name in tags {
            if ledger.names.len() < tags::KNOWN_MAX {
                ledger.names.insert(name.as_str().to_owned());
            }
        }
    })
}

/// Has the ledger know the files that were `listed`, and not those that were given up.
pub(crate) fn know_listed<B: Backend>(
    inner: &Inner<B>,
    listed: &BTreeSet<RootFile>,
    given_up: &BTreeSet<RootFile>,
) -> Result<(), StoreError> {
    ledger::update(&inner.backend, inner.producer, |ledger| {
        for (root, file) in given_up {
            ledger.files.remove(&(*root, file.get()));
        }
        for (root, file) in listed {
            if ledger.files.len() < FILES_MAX {
                ledger.files.insert((*root, file.get()));
            }
        }
    })
    .map(drop)
}

/// Takes out of the ledger those of `files` that do not exist: for a writer that had lost the lease
/// by which they stay when it put them in. A collector may have deleted them before.
pub(crate) fn forget_gone<B: Backend>(
    inner: &Inner<B>,
    files: &BTreeSet<RootFile>,
) -> Result<(), StoreError> {
    let mut gone = BTreeSet::new();
    for file in ledger::read(&inner.backend)?.files() {
        if files.contains(&file) && !is_there(inner, file)? {
            gone.insert((file.0, file.1.get()));
        }
    }
    let changed = ledger::update(&inner.backend, inner.producer, |ledger| {
        ledger.files.retain(|file| !gone.contains(file));
    });
    changed.map(drop)
}

/// The files by their root that are listed.
pub(crate) fn listed<B: Backend>(inner: &Inner<B>) -> Result<Vec<(RootFile, Seen)>, StoreError> {
    let seen = inner.backend.scan(Folder::Roots).map_err(storage)?;
    let files = seen.into_iter().filter_map(|seen| match seen.key {
        Key::Root(root, file) => Some(((root, file), seen)),
        _ => None,
    });
    Ok(files.collect())
}

/// Looks by its name for each file that the ledger has and that is not among the `listed`. Those
/// that are found are in the catalog from then on. One that is condemned is expected to go.
pub(crate) fn look<B: Backend>(
    inner: &Inner<B>,
    read: &ledger::Read,
    listed: &BTreeSet<RootFile>,
) -> Known {
    let condemned = read.condemned().roots;
    let mut known = Known::default();
    for file in read.files() {
        if listed.contains(&file) || condemned.contains(&file) {
            continue;
        }
        match is_there(inner, file) {
            Ok(true) => {
                let key = Key::Root(file.0, file.1);
                tracing::warn!(%key, "left out of the listing");
                known.unlisted.insert(file);
            }
            Ok(false) => drop(known.lost.insert(file)),
            Err(error) => drop(known.unread.insert(file, error)),
        }
    }
    let mut catalog = inner.catalog_mut();
    for (root, file) in &known.unlisted {
        catalog.add_root(*root, *file);
    }
    known
}

/// Looks for copies of a file of which none is listed; whether there is one.
pub(crate) fn find<B: Backend>(inner: &Inner<B>, root: RootHash) -> Result<bool, StoreError> {
    let mut is_found = false;
    for file in ledger::read(&inner.backend)?.files() {
        if file.0 == root && is_there(inner, file)? {
            inner.catalog_mut().add_root(file.0, file.1);
            is_found = true;
        }
    }
    Ok(is_found)
}

/// Whether a file exists, asked for by its name. A damaged one does.
pub(crate) fn is_there<B: Backend>(
    inner: &Inner<B>,
    (root, file): RootFile,
) -> Result<bool, StoreError> {
    let found = inner.backend.exists(&Key::Root(root, file));
    found.map_err(storage)
}
