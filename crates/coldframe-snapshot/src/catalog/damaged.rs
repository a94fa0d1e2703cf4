//! Deleting snapshots whose manifest is damaged.
//!
//! Such a snapshot has lost its id and its parent's, so what is built on it is asked from the other
//! side: a diff's memory file names the root of its parent's memory file, and the journal names
//! the ids that it has noted and that no directory has any more. A snapshot that may be a child,
//! and cannot be told to be none, is one.
//!
//! Its name says nothing: of several that are damaged, each may have been renamed to the name of
//! another. It may have any id that is lost, unless its memory file says otherwise.
//!
//! Snapshots are deleted together: what only others of them need goes, and so two of which neither
//! can be told from a child of the other are no dead end. All is checked before the first deletion.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use coldframe_mem::FilePool;
use coldframe_storage::StorageError;
use coldframe_units::{RootHash, SnapshotId};

use super::{
    CATALOG, Catalog, CatalogError, Contents, Item, after_deletion, check_unused, elsewhere,
    has_children, history, hold, is_child, retract, unreadable,
};
use crate::files::{self, MANIFEST, MEMORY};
use crate::verify::is_whole;
use crate::{CHAIN_LEN_MAX, Snapshot, SnapshotError};

/// What is to be deleted together.
#[derive(Default)]
pub(super) struct Group {
    sound: Vec<(SnapshotId, PathBuf)>,
    damaged: Vec<PathBuf>,
}

impl Group {
    pub(super) fn of_one(id: SnapshotId, path: PathBuf) -> Self {
        Self {
            sound: vec![(id, path)],
            damaged: Vec::new(),
        }
    }

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
        for (id, path) in &group.sound {
            self.check_free(*id, path, &group)?;
        }
        for path in &group.damaged {
            self.check_lost(path, &group)?;
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
        let history = history(&self.dir.join(CATALOG));
        let noted = history.and_then(|history| self.reconcile(history));
        match deleted {
            Some(deleted) => noted.map_err(|error| after_deletion(deleted, error)),
            None => noted,
        }
    }

    /// Says that a snapshot that has lost its manifest has no children in `dir`: that is not there,
    /// or cannot be read.
    ///
    /// # Errors
    /// [`CatalogError::List`].
    pub fn forget_lost_children_in(
        &mut self,
        name: &OsStr,
        dir: &Path,
    ) -> Result<(), CatalogError> {
        let roots = roots(&self.dir.join(name));
        let noted = self.contents.lost_children_in.keys();
        let may_be = noted.filter(|id| !self.is_other(roots.as_ref(), **id));
        for id in may_be.copied().collect::<Vec<_>>() {
            match self.forget_children_in(id, dir) {
                // It has children there of another one that is lost, or of this: told when it is
                // deleted.
                Err(CatalogError::HasChildren { .. }) => {}
                forgotten => forgotten?,
            }
        }
        Ok(())
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

    /// Whether nothing but what goes with it needs the copy at `path` of a snapshot with a sound
    /// manifest.
    pub(super) fn check_free(
        &self,
        id: SnapshotId,
        path: &Path,
        group: &Group,
    ) -> Result<(), CatalogError> {
        let item = self.item(id)?;
        check_unused(path, item.pinned, &item.leases)?;
        let Err(needed) = self.check_childless(id, item, path, group) else {
            return Ok(());
        };
        // Children can do with another copy, if every byte of it is right: that is read only now.
        let mut unsound = None;
        for copy in item.copies_beside(path) {
            if group.has(copy.path()) {
                continue;
            }
            if is_whole(copy) {
                return Ok(());
            }
            unsound = Some(copy.path().to_path_buf());
        }
        Err(match unsound {
            None => needed,
            Some(copy) => CatalogError::CopyDamaged {
                path: path.to_path_buf(),
                copy,
                source: Box::new(needed),
            },
        })
    }

    /// Whether nothing that stays is built on a snapshot with a sound manifest, or may be.
    fn check_childless(
        &self,
        id: SnapshotId,
        item: &Item,
        path: &Path,
        group: &Group,
    ) -> Result<(), CatalogError> {
        self.check_links(path)?;
        let own = item.snapshot.manifest().memory.root;
        self.check_strangers(path, Some(own), group)?;
        let staying = self.staying(group);
        let children = staying.filter(|snapshot| is_child(snapshot, id));
        let mut children: Vec<_> = children.map(|child| child.path().to_path_buf()).collect();
        self.check_notes(path, id)?;
        for dir in &item.children_in {
            children.extend(children_known_in(dir, id, path)?);
        }
        if !children.is_empty() {
            return Err(has_children(path, &children));
        }
        match self.orphan_of(id, group) {
            None => Ok(()),
            Some((orphan, missing)) => Err(has_orphan(path, orphan, missing)),
        }
    }

    /// Whether the damaged one at `path` is not the last whole copy of a snapshot that must stay:
    /// it may have the memory of it, and the others be damaged.
    fn check_copied(
        &self,
        path: &Path,
        own: Option<RootHash>,
        (id, item): (SnapshotId, &Item),
        group: &Group,
    ) -> Result<(), CatalogError> {
        let root = item.snapshot.root();
        let is_copy = own == Some(item.snapshot.manifest().memory.root);
        if !is_copy || item.has_whole(root, group) {
            return Ok(());
        }
        check_unused(path, item.pinned, &item.leases)?;
        let mut children = Vec::new();
        for dir in &item.children_in {
            children.extend(children_known_in(dir, id, path)?);
        }
        match children.is_empty() {
            true => Ok(()),
            false => Err(has_children(path, &children)),
        }
    }

    /// Whether every note of a child of `id` in another directory could be read.
    fn check_notes(&self, path: &Path, id: SnapshotId) -> Result<(), CatalogError> {
        match self.contents.unread_notes.get(&id) {
            None => Ok(()),
            Some(note) => Err(CatalogError::NoteUnread {
                path: path.to_path_buf(),
                note: note.clone(),
            }),
        }
    }

    /// A snapshot that stays and is built on this one by others that are not here, as far as the
    /// journal knows, and the id of the first of these: they may have been moved away.
    fn orphan_of(&self, id: SnapshotId, group: &Group) -> Option<(&Snapshot, SnapshotId)> {
        let Contents { items, parents, .. } = &self.contents;
        let mut orphans = self.readable().filter_map(|snapshot| {
            let missing = snapshot.manifest().parent()?.id;
            let mut at = missing;
            for _ in 0..CHAIN_LEN_MAX {
                if items.contains_key(&at) {
                    return None;
                }
                at = *parents.get(&at)?;
                if at == id {
                    return Some((snapshot, missing));
                }
            }
            None
        });
        orphans.find(|(snapshot, _)| !group.has(snapshot.path()))
    }

    /// The same for one that is damaged.
    fn check_lost(&self, path: &Path, group: &Group) -> Result<(), CatalogError> {
        self.check_links(path)?;
        let roots = roots(path);
        let Contents {
            lost,
            lost_children_in,
            unread_notes,
            items,
            ..
        } = &self.contents;
        let lost_notes = unread_notes.keys().filter(|id| !items.contains_key(id));
        let ids: BTreeSet<_> = (lost.keys().chain(lost_children_in.keys()))
            .chain(lost_notes)
            .collect();
        for id in ids {
            if !self.is_other(roots.as_ref(), *id) {
                self.check_as(path, roots.as_ref(), *id)?;
                if let Some((orphan, missing)) = self.orphan_of(*id, group) {
                    return Err(has_orphan(path, orphan, missing));
                }
            }
        }
        let own = roots.map(|roots| roots.own);
        for (id, item) in items {
            self.check_copied(path, own, (*id, item), group)?;
        }
        self.check_strangers(path, own, group)?;
        for snapshot in self.staying(group) {
            let Some(parent) = snapshot.manifest().parent() else {
                continue;
            };
            let apart = check_apart(path, own, snapshot.path(), made_against(snapshot));
            // Or it has its parent, or another copy of it.
            let item = self.contents.items.get(&parent.id);
            if apart.is_err() && !item.is_some_and(|item| item.has_whole(parent.root, group)) {
                apart?;
            }
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

    /// Whether what is known of a lost id lets the damaged one at `path` go, which may have it.
    fn check_as(
        &self,
        path: &Path,
        roots: Option<&Roots>,
        id: SnapshotId,
    ) -> Result<(), CatalogError> {
        if let Some(noted) = self.contents.lost.get(&id) {
            let known_as = self.dir.join(&noted.name);
            check_unused(&known_as, noted.pinned, &noted.leases).map_err(|source| {
                CatalogError::MayBe {
                    path: path.to_path_buf(),
                    id,
                    known_as,
                    source: Box::new(source),
                }
            })?;
        }
        self.check_notes(path, id)?;
        let own = roots.map(|roots| roots.own);
        for dir in self
            .contents
            .lost_children_in
            .get(&id)
            .into_iter()
            .flatten()
        {
            for child in children_known_in(dir, id, path)? {
                let against = Snapshot::open(&child).ok();
                let against = against.as_ref().and_then(made_against);
                check_apart(path, own, &child, against)?;
            }
        }
        Ok(())
    }

    /// Whether the memory file of a damaged snapshot says that it has not this id: the children of
    /// the id are made against another one, or it is itself made against another one than the
    /// parent that the journal names.
    fn is_other(&self, roots: Option<&Roots>, id: SnapshotId) -> bool {
        let Some(roots) = roots else {
            return false;
        };
        let children = self.readable().filter(|snapshot| is_child(snapshot, id));
        let against: Vec<_> = children.filter_map(made_against).collect();
        if !against.is_empty() && !against.contains(&roots.own) {
            return true;
        }
        let noted = self.contents.lost.get(&id);
        let Some(published) = noted.and_then(|noted| noted.published.as_ref()) else {
            return false;
        };
        let parent = published.parent.map(SnapshotId::from_bytes);
        match (parent, roots.parent) {
            (Some(parent), Some(root)) => {
                let parent = self.contents.items.get(&parent);
                parent.is_some_and(|item| item.snapshot.manifest().memory.root != root)
            }
            (None, None) => false,
            (Some(_), None) | (None, Some(_)) => true,
        }
    }

    /// All snapshots with a sound manifest, those at the end of links too.
    pub(super) fn readable(&self) -> impl Iterator<Item = &Snapshot> {
        let items = self.contents.items.values();
        let copies = items.flat_map(|item| std::iter::once(&item.snapshot).chain(&item.copies));
        let links = self.contents.links.iter();
        copies.chain(links.filter_map(|link| link.snapshot.as_ref()))
    }

    /// Those that are not deleted.
    fn staying<'a>(&'a self, group: &'a Group) -> impl Iterator<Item = &'a Snapshot> {
        // At the end of a link, too.
        let is_own = |snapshot: &Snapshot| {
            let real = snapshot.path().canonicalize();
            group.has(snapshot.path()) || real.is_ok_and(|real| group.has_real(&real))
        };
        self.readable().filter(move |snapshot| !is_own(snapshot))
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
    /// Whether a copy with this root stays, and every byte of it is right.
    fn has_whole(&self, root: RootHash, group: &Group) -> bool {
        let mut copies = std::iter::once(&self.snapshot).chain(&self.copies);
        copies.any(|copy| copy.root() == root && !group.has(copy.path()) && is_whole(copy))
    }
}

fn has_orphan(path: &Path, orphan: &Snapshot, missing: SnapshotId) -> CatalogError {
    CatalogError::HasOrphan {
        path: path.to_path_buf(),
        orphan: orphan.path().to_path_buf(),
        missing,
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

/// The children of `id` in a directory that was noted; `path` is what is to be deleted.
fn children_known_in(
    dir: &Path,
    id: SnapshotId,
    path: &Path,
) -> Result<Vec<PathBuf>, CatalogError> {
    let unknown = || CatalogError::ChildrenUnknown {
        path: path.to_path_buf(),
        dir: dir.to_path_buf(),
    };
    elsewhere::children_in(dir, id)?.ok_or_else(unknown)
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

/// The root of the memory file on which a snapshot was made, as its own says, if that is the one
/// that its manifest names.
fn made_against(snapshot: &Snapshot) -> Option<RootHash> {
    let file = snapshot.memory_source(&FilePool::default()).ok()?;
    file.view().ok()?.parent_root()
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
