//! A snapshot with all that it is built on, each parent found by id and checked by root.
//!
//! Parents are looked for beside the child, then in the search paths, in that order. A directory
//! that is no sound snapshot is passed over: it cannot be the parent, whose root is known.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use coldframe_manifest::Parent;
use coldframe_mem::FilePool;

use crate::{Snapshot, SnapshotError, files};

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
            let next = finder.find(link.path(), parent)?;
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

    /// The memory of the youngest snapshot: each memory file opened, checked against its manifest
    /// and against the file that it was made against. Of the descriptors of a long chain some are
    /// closed, and opened again when needed.
    ///
    /// # Errors
    /// As [`Snapshot::memory_source`]; [`SnapshotError::Memory`].
    pub fn memory(&self) -> Result<coldframe_mem::Chain, SnapshotError> {
        let pool = FilePool::default();
        let files = self.links.iter().map(|link| link.memory_source(&pool));
        let files = files.collect::<Result<Vec<_>, _>>()?;
        coldframe_mem::Chain::open(files).map_err(SnapshotError::Memory)
    }
}

/// Looks parents up; each directory is listed once.
struct Finder<'a> {
    search: &'a [PathBuf],
    shelves: HashMap<PathBuf, Vec<Snapshot>>,
}

impl Finder<'_> {
    /// The snapshot of this id and root, beside `child` or in a search path.
    fn find(&mut self, child: &Path, parent: Parent) -> Result<Snapshot, SnapshotError> {
        let mut impostor = None;
        let beside = files::beside(child);
        for directory in std::iter::once(&beside).chain(self.search) {
            let shelf = self
                .shelves
                .entry(directory.clone())
                .or_insert_with(|| snapshots_in(directory));
            for candidate in shelf.iter().filter(|candidate| candidate.id() == parent.id) {
                if candidate.root() == parent.root {
                    return Ok(candidate.clone());
                }
                impostor.get_or_insert_with(|| candidate.clone());
            }
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
}

/// Every sound snapshot right under `directory`, in order of name; none if it cannot be listed.
/// What has no final name yet is none, whatever is in it already.
pub fn snapshots_in(directory: &Path) -> Vec<Snapshot> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let entries = entries.filter(|entry| !coldframe_storage::is_temporary(&entry.file_name()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
        .into_iter()
        .filter_map(|path| Snapshot::open(path).ok())
        .collect()
}
