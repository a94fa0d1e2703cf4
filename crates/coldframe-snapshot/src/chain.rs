//! A snapshot with all that it is built on, each parent found by id and checked by root.
//!
//! Parents are looked for beside the child, then in the search paths, in that order: first under
//! the name that the child knows, which costs the same however many snapshots lie there, then by
//! listing all. A directory that is no sound snapshot is passed over: others may have the parent.
//! So is a copy of the parent without its memory file, as long as there is another.
//! If none has, and something could not be read, then that is the error: it may be the parent.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use coldframe_envelope::Producer;
use coldframe_manifest::Parent;
use coldframe_mem::FilePool;

use crate::{Listing, Snapshot, SnapshotError, files, publication, snapshots_in};

/// The most snapshots in one chain.
pub const CHAIN_LEN_MAX: usize = 4096;

/// A snapshot and its parents: the full one first, the snapshot itself last.
#[derive(Clone, Debug)]
pub struct Chain {
    links: Vec<Snapshot>,
}

impl Chain {
    /// Follows the parents of `snapshot` down to a full one.
    ///
    /// # Errors
    /// [`SnapshotError::MissingParent`], [`SnapshotError::ParentRoot`],
    /// [`SnapshotError::ParentUnreadable`] if what could not be read may be the parent;
    /// [`SnapshotError::Storage`] if a directory cannot be listed;
    /// [`SnapshotError::ChainTooLong`].
    pub fn of(snapshot: Snapshot, search: &[PathBuf]) -> Result<Self, SnapshotError> {
        let mut finder = Finder {
            search,
            shelves: HashMap::new(),
        };
        let youngest = snapshot.path().to_path_buf();
        let mut links = Vec::new();
        let mut link = snapshot;
        while let Some(parent) = link.manifest().parent() {
            if links.len() + 1 >= CHAIN_LEN_MAX {
                let limit = CHAIN_LEN_MAX;
                return Err(SnapshotError::ChainTooLong {
                    path: youngest,
                    limit,
                });
            }
            let next = match finder.by_name(&link, parent) {
                Some(next) => next,
                None => finder.find(link.path(), parent)?,
            };
            links.push(std::mem::replace(&mut link, next));
        }
        links.push(link);
        links.reverse();
        Ok(Self { links })
    }

    /// Every link: the full snapshot first, the youngest last; never empty.
    #[must_use]
    pub fn links(&self) -> &[Snapshot] {
        &self.links
    }

    /// The snapshot that the chain was opened for.
    #[must_use]
    pub fn youngest(&self) -> &Snapshot {
        self.links.last().expect("a chain has at least one link")
    }

    /// Notes each link that is in another directory than its parent in that of the parent, as is
    /// done when such a snapshot is made: it may have been moved there. A directory in which this
    /// user may not write stays as it is.
    ///
    /// # Errors
    /// [`SnapshotError::NoteChild`].
    pub fn note_elsewhere(&self, producer: Producer) -> Result<(), SnapshotError> {
        for (parent, child) in self.links.iter().zip(self.links.iter().skip(1)) {
            publication::note_elsewhere(parent.path(), parent.id(), child.path(), producer)?;
        }
        Ok(())
    }

    /// The memory of the youngest snapshot: each memory file opened, checked against its manifest
    /// and against the file that it was made against. Of the descriptors of a long chain some are
    /// closed, and opened again when needed.
    ///
    /// # Errors
    /// As [`Snapshot::memory_source`]; [`SnapshotError::Memory`].
    pub fn memory(&self) -> Result<coldframe_mem::Layers, SnapshotError> {
        let pool = FilePool::default();
        let files = self.links.iter().map(|link| link.memory_source(&pool));
        let files = files.collect::<Result<Vec<_>, _>>()?;
        coldframe_mem::Layers::open(files).map_err(SnapshotError::Memory)
    }
}

/// Whether the memory file is there, and the one that the manifest names: another copy may serve
/// where it is not.
fn opens(snapshot: &Snapshot) -> bool {
    snapshot.memory_source(&FilePool::default()).is_ok()
}

/// Looks parents up; each directory is listed once.
struct Finder<'a> {
    search: &'a [PathBuf],
    shelves: HashMap<PathBuf, Listing>,
}

impl Finder<'_> {
    /// The parent, if it is where it was when `child` was made, or under that name in a search
    /// path. Whatever else is there, or cannot be read, is for [`Finder::find`].
    fn by_name(&self, child: &Snapshot, parent: Parent) -> Option<Snapshot> {
        let name = child.manifest().parent_name.as_deref()?;
        let beside = files::beside(child.path());
        std::iter::once(&beside)
            .chain(self.search)
            .filter_map(|directory| Snapshot::open(directory.join(OsStr::from_bytes(name))).ok())
            .find(|found| found.id() == parent.id && found.root() == parent.root && opens(found))
    }

    /// The snapshot of this id and root, beside `child` or in a search path.
    fn find(&mut self, child: &Path, parent: Parent) -> Result<Snapshot, SnapshotError> {
        let mut impostor = None;
        let mut no_memory = None;
        let mut unreadable = None;
        let mut unlisted = None;
        let beside = files::beside(child);
        for directory in std::iter::once(&beside).chain(self.search) {
            let shelf = match self.shelf(directory) {
                Ok(shelf) => shelf,
                // The next directory may have it.
                Err(error) => {
                    unlisted.get_or_insert(error);
                    continue;
                }
            };
            let mut candidates = shelf.readable();
            while let Some(candidate) = candidates.find(|found| found.id() == parent.id) {
                if candidate.root() == parent.root {
                    if opens(candidate) {
                        return Ok(candidate.clone());
                    }
                    no_memory.get_or_insert_with(|| candidate.clone());
                    continue;
                }
                impostor.get_or_insert_with(|| candidate.clone());
            }
            if let Some(damaged) = shelf.damaged.first() {
                unreadable.get_or_insert_with(|| damaged.path.clone());
            }
        }
        // It is the parent: what is wrong with it is told when it is read.
        if let Some(candidate) = no_memory {
            return Ok(candidate);
        }
        if let Some(error) = unlisted {
            return Err(error);
        }
        if let Some(path) = unreadable {
            let error = Snapshot::open(&path).err();
            return Err(SnapshotError::ParentUnreadable {
                child: child.to_path_buf(),
                id: parent.id,
                path,
                source: error.map(Box::new),
            });
        }
        Err(match impostor {
            Some(impostor) => SnapshotError::ParentRoot {
                path: impostor.path().to_path_buf(),
                expected: parent.root,
                found: impostor.root(),
            },
            None => SnapshotError::MissingParent {
                child: child.to_path_buf(),
                id: parent.id,
            },
        })
    }

    /// What is in a directory; nothing if there is no such directory.
    fn shelf(&mut self, directory: &Path) -> Result<&Listing, SnapshotError> {
        match self.shelves.entry(directory.to_path_buf()) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => match snapshots_in(directory) {
                Ok(listing) => Ok(entry.insert(listing)),
                Err(SnapshotError::Storage(error)) if error.is_not_found() => {
                    Ok(entry.insert(Listing::default()))
                }
                Err(error) => Err(error),
            },
        }
    }
}
