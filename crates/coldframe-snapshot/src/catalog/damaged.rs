//! Deleting snapshots whose manifest is damaged.
//!
//! Such a snapshot has lost its id and its parent's, so what is built on it is asked from the other
//! side: a diff's memory file names the root of its parent's memory file, and the journal names
//! the ids that it has noted and that no directory has any more. A snapshot that may be a child,
//! and cannot be told to be none, is one.
//!
//! Snapshots are deleted together: what only others of them need goes, and so two of which neither
//! can be told from a child of the other are no dead end. All is checked before the first deletion.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use coldframe_mem::FilePool;
use coldframe_storage::StorageError;
use coldframe_units::{RootHash, SnapshotId};

use super::{
    CATALOG, Catalog, CatalogError, Item, Noted, after_deletion, check_unused, elsewhere, hold,
    is_child, noted, retract, unreadable,
};
use crate::files::{self, MANIFEST, MEMORY};
use crate::{Damaged, Snapshot, SnapshotError};

/// What is to be deleted together.
#[derive(Default)]
struct Group {
    sound: Vec<(SnapshotId, PathBuf)>,
    damaged: Vec<PathBuf>,
}

impl Group {
    fn has(&self, path: &Path) -> bool {
        let sound = self.sound.iter().map(|(_, path)| path);
        sound.chain(&self.damaged).any(|own| own == path)
    }

    /// The same for a path without links.
    fn has_real(&self, real: &Path) -> bool {
        let sound = self.sound.iter().map(|(_, path)| path);
        let mut own = sound.chain(&self.damaged);
        own.any(|own| own.canonicalize().is_ok_and(|own| own == real))
    }
}

/// The root of a memory file, and that of the one that it was made against; `None` if they cannot
/// be read.
struct Roots {
    own: RootHash,
    parent: Option<RootHash>,
}

impl Catalog {
    /// Deletes the snapshots of these names, in any state, unless one that stays is built on one
    /// of them, or may be: all or none. A symbolic link is not followed.
    ///
    /// # Errors
    /// Before anything has changed: as [`Catalog::delete_named`]; [`CatalogError::Unread`] for one
    /// that cannot be read, or not by this version, without being damaged;
    /// [`CatalogError::ChildUnknown`]. Else [`CatalogError::Storage`], [`CatalogError::Journal`].
    pub fn delete_damaged(&mut self, names: &[&OsStr]) -> Result<(), CatalogError> {
        let names: BTreeSet<&OsStr> = names.iter().copied().collect();
        let held = names.iter().map(|name| hold(&self.dir.join(name)));
        let held: Vec<_> = held.collect();
        self.refresh()?;
        let mut group = Group::default();
        for name in names {
            self.sort(name, &mut group)?;
        }
        let held = held.into_iter().collect::<Result<Vec<_>, _>>()?;
        let known = self.noted()?;
        for (id, path) in &group.sound {
            self.check_alone(*id, path, &group)?;
        }
        for path in &group.damaged {
            self.check_lost(path, &group, &known)?;
        }
        let mut deleted: Option<&Path> = None;
        for path in self.in_order(&group) {
            retract(path).map_err(|error| match deleted {
                Some(deleted) if !matches!(error, CatalogError::AfterDeletion { .. }) => {
                    after_deletion(deleted, error)
                }
                _ => error,
            })?;
            deleted = Some(path);
        }
        drop(held);
        let noted = self.noted().and_then(|noted| self.reconcile(noted));
        match deleted {
            Some(deleted) => noted.map_err(|error| after_deletion(deleted, error)),
            None => noted,
        }
    }

    /// Says that a snapshot, or one that has lost its manifest, has no children in `dir`.
    ///
    /// # Errors
    /// [`CatalogError::Journal`], [`CatalogError::List`].
    pub fn forget_lost_children_in(
        &mut self,
        name: &OsStr,
        dir: &Path,
    ) -> Result<(), CatalogError> {
        let path = self.dir.join(name);
        let noted = self.noted()?;
        let lost = self.lost_children(&path, &noted).map(|(id, _)| *id);
        for id in lost.collect::<Vec<_>>() {
            self.forget_children_in(id, dir)?;
        }
        Ok(())
    }

    fn noted(&self) -> Result<BTreeMap<SnapshotId, Noted>, CatalogError> {
        noted(&self.dir.join(CATALOG))
    }

    /// Puts what has this name where it belongs.
    fn sort(&self, name: &OsStr, group: &mut Group) -> Result<(), CatalogError> {
        let path = self.dir.join(name);
        if group.has(&path) {
            return Ok(());
        }
        let mut entries = self.contents.damaged.iter();
        let Some(entry) = entries.find(|entry| entry.path == path) else {
            group.sound.push((self.named(name)?, path));
            return Ok(());
        };
        if !is_lost(&path, &entry.error) {
            let source = Snapshot::open(&path).err().map(Box::new);
            return Err(CatalogError::Unread { path, source });
        }
        group.damaged.push(path);
        Ok(())
    }

    /// Whether nothing but what goes with it needs a snapshot with a sound manifest.
    fn check_alone(&self, id: SnapshotId, path: &Path, group: &Group) -> Result<(), CatalogError> {
        let item = self.item(id)?;
        check_unused(path, item.pinned, &item.leases)?;
        if item.has_sound_copy_beside(path, |other| group.has(other)) {
            return Ok(());
        }
        self.check_links(path)?;
        let own = item.snapshot.manifest().memory.root;
        self.check_strangers(path, Some(own), group)?;
        let staying = self.staying(group);
        let children = staying.filter(|snapshot| is_child(snapshot, id));
        let names = children.map(|child| child.path().display().to_string());
        check_none(path, names.collect(), &item.children_in, id)
    }

    /// The same for one that is damaged.
    fn check_lost(
        &self,
        path: &Path,
        group: &Group,
        noted: &BTreeMap<SnapshotId, Noted>,
    ) -> Result<(), CatalogError> {
        self.check_links(path)?;
        for (_, noted) in self.lost(path, noted) {
            check_unused(path, noted.pinned, &noted.leases)?;
        }
        for (id, dirs) in self.lost_children(path, noted) {
            check_none(path, Vec::new(), dirs, *id)?;
        }
        let own = roots(path).map(|roots| roots.own);
        self.check_strangers(path, own, group)?;
        for snapshot in self.staying(group) {
            let Some(parent) = snapshot.manifest().parent() else {
                continue;
            };
            // It has its parent, or another copy of it.
            let item = self.contents.items.get(&parent.id);
            if item.is_some_and(|item| item.has_sound(parent.root, group)) {
                continue;
            }
            let made_against = roots(snapshot.path()).and_then(|roots| roots.parent);
            check_apart(path, own, snapshot.path(), made_against)?;
        }
        Ok(())
    }

    /// Whether no other entry that cannot be read may be built on the one at `path`, whose memory
    /// file has the root `own`.
    fn check_strangers(
        &self,
        path: &Path,
        own: Option<RootHash>,
        group: &Group,
    ) -> Result<(), CatalogError> {
        let strangers = self.contents.damaged.iter();
        for stranger in strangers.filter(|entry| !group.has(&entry.path)) {
            match roots(&stranger.path) {
                Some(Roots { parent: None, .. }) => {}
                Some(Roots { parent, .. }) => check_apart(path, own, &stranger.path, parent)?,
                None => return Err(unreadable(stranger)),
            }
        }
        Ok(())
    }

    /// The ids that the journal has noted, that no directory has, and that may be that of the
    /// damaged one at `path`: not those of another damaged one, by its name.
    fn lost<'a>(
        &'a self,
        path: &'a Path,
        noted: &'a BTreeMap<SnapshotId, Noted>,
    ) -> impl Iterator<Item = (&'a SnapshotId, &'a Noted)> {
        let damaged = &self.contents.damaged;
        noted.iter().filter(move |(id, noted)| {
            let named = self.dir.join(&noted.name);
            let is_others = |entry: &Damaged| entry.path == named && entry.path != path;
            !self.contents.items.contains_key(id) && !damaged.iter().any(is_others)
        })
    }

    /// The notes of children whose parent no directory has, and that may be the damaged one at
    /// `path`: not those of another damaged one, by its name.
    fn lost_children<'a>(
        &'a self,
        path: &'a Path,
        noted: &'a BTreeMap<SnapshotId, Noted>,
    ) -> impl Iterator<Item = (&'a SnapshotId, &'a BTreeSet<PathBuf>)> {
        let notes = self.contents.lost_children_in.iter();
        notes.filter(move |(id, _)| {
            !noted.contains_key(id) || self.lost(path, noted).any(|(lost, _)| lost == *id)
        })
    }

    /// The snapshots that are not deleted, those at the end of links too.
    fn staying<'a>(&'a self, group: &'a Group) -> impl Iterator<Item = &'a Snapshot> {
        let items = self.contents.items.values();
        let copies = items.flat_map(|item| std::iter::once(&item.snapshot).chain(&item.copies));
        let links = self.contents.links.iter();
        let linked = links.filter_map(|link| link.snapshot.as_ref());
        // At the end of a link, too.
        let is_own = |snapshot: &Snapshot| {
            let real = snapshot.path().canonicalize();
            group.has(snapshot.path()) || real.is_ok_and(|real| group.has_real(&real))
        };
        copies
            .chain(linked)
            .filter(move |snapshot| !is_own(snapshot))
    }

    /// Children before their parents, what is damaged last.
    fn in_order<'a>(&self, group: &'a Group) -> Vec<&'a PathBuf> {
        let mut left: Vec<_> = group.sound.iter().collect();
        let mut order = Vec::new();
        while !left.is_empty() {
            let is_last = |(id, _): &&(SnapshotId, PathBuf)| {
                let mut others = left
                    .iter()
                    .filter_map(|(id, _)| self.contents.items.get(id));
                !others.any(|item| is_child(&item.snapshot, *id))
            };
            let next = left.iter().position(is_last);
            order.push(&left.swap_remove(next.unwrap_or_default()).1);
        }
        order.extend(&group.damaged);
        order
    }
}

impl Item {
    /// Whether a copy with this root stays, and its memory file is the one that it names.
    fn has_sound(&self, root: RootHash, group: &Group) -> bool {
        let mut copies = std::iter::once(&self.snapshot).chain(&self.copies);
        copies.any(|copy| {
            copy.root() == root && !group.has(copy.path()) && copy.memory_file().is_ok()
        })
    }
}

/// Whether two memory files are those of a parent and a child: a root that is not known may be any.
fn check_apart(
    path: &Path,
    own: Option<RootHash>,
    child: &Path,
    made_against: Option<RootHash>,
) -> Result<(), CatalogError> {
    let path = path.to_path_buf();
    match (own, made_against) {
        (Some(own), Some(parent)) if own != parent => Ok(()),
        (Some(_), Some(_)) => Err(CatalogError::HasChildren {
            path,
            children: child.display().to_string(),
        }),
        _ => Err(CatalogError::ChildUnknown {
            path,
            child: child.to_path_buf(),
        }),
    }
}

/// Whether there are no children, here and in the directories that were noted.
fn check_none(
    path: &Path,
    mut names: Vec<String>,
    other_dirs: &BTreeSet<PathBuf>,
    id: SnapshotId,
) -> Result<(), CatalogError> {
    let path = path.to_path_buf();
    for dir in other_dirs {
        let children = elsewhere::children_in(dir, id)?;
        names.extend(children.ok_or(CatalogError::ChildrenUnknown {
            path: path.clone(),
            dir: dir.clone(),
        })?);
    }
    if names.is_empty() {
        return Ok(());
    }
    let children = names.join(", ");
    Err(CatalogError::HasChildren { path, children })
}

/// Whether the manifest is damaged for good, or gone; what could not be read may be sound.
fn is_lost(snapshot: &Path, error: &SnapshotError) -> bool {
    match error {
        SnapshotError::Storage(StorageError::NotRegular { .. }) | SnapshotError::TooLong { .. } => {
            true
        }
        // A link to what is not there may lead to a file system that is not mounted.
        SnapshotError::Storage(storage) => {
            let manifest = std::fs::symlink_metadata(snapshot.join(MANIFEST));
            storage.is_not_found()
                && manifest.is_err_and(|error| error.kind() == ErrorKind::NotFound)
        }
        error => error.is_corrupt(),
    }
}

/// What the memory file of a snapshot says of itself.
fn roots(snapshot: &Path) -> Option<Roots> {
    let file = files::open_memory(&snapshot.join(MEMORY), &FilePool::default()).ok()?;
    let view = file.view().ok()?;
    Some(Roots {
        own: view.root(),
        parent: view.parent_root(),
    })
}
