//! The catalog of a directory of snapshots: what was published, renamed, pinned, leased, deleted.
//!
//! Invariant: the directories are the truth about which snapshots there are and what they are
//! called; the journal adds what a directory cannot say (pins, leases) and keeps the history. A
//! catalog that is lost, or lags behind a crash, is brought in line when it is opened.
//!
//! A failure to look is not an absence: while an entry of the directory cannot be read, nothing is
//! deleted and no deletion is noted, for it may be any snapshot, and built on any other.
//!
//! Pins and leases belong to the id, and so hold for every copy of a snapshot; a deletion is of one
//! name. A child in another directory leaves a note in its parent's, which counts as long as that
//! directory has a child of it, or cannot be read.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use coldframe_journal::kinds::{CoreEntries, Deleted, Leased, Pinned, Published, Renamed};
use coldframe_journal::{Entry, JournalError, JournalOptions, JournalWriter};
use coldframe_storage::{IoContext, Operation, StorageError, rename_new};
use coldframe_units::SnapshotId;

use crate::files::{self, CATALOG_ASIDE, MANIFEST, MEMORY, STATE};
use crate::{Damaged, Link, Listing, Snapshot, SnapshotError, snapshots_in};

mod compact;
mod damaged;
mod elsewhere;
mod error;
mod history;

pub use crate::files::CATALOG;
use damaged::Group;
use elsewhere::Notes;
pub use error::CatalogError;
use history::{History, Noted, history, note_lease};

/// A snapshot and what the catalog knows of it.
#[derive(Clone, Debug)]
pub struct Item {
    /// The snapshot, with its manifest; of several copies the first by name.
    pub snapshot: Snapshot,
    /// Its directory's name.
    pub name: String,
    /// The other directories with a snapshot of this id.
    pub copies: Vec<Snapshot>,
    /// Whether it must stay.
    pub pinned: bool,
    /// Until when someone uses it, by holder, in nanoseconds since 1970 (UTC).
    pub leases: BTreeMap<String, u64>,
    /// The other directories in which it has, or had, children.
    pub children_in: BTreeSet<PathBuf>,
}

/// What is in a directory of snapshots.
#[derive(Debug, Default)]
pub struct Contents {
    /// The snapshots, by id.
    pub items: BTreeMap<SnapshotId, Item>,
    /// Symbolic links.
    pub links: Vec<Link>,
    /// What may be a snapshot and cannot be read.
    pub damaged: Vec<Damaged>,
    /// What killed processes left, or living ones are making.
    pub leftovers: Vec<PathBuf>,
    /// The other directories with children of snapshots that are not here any more.
    pub lost_children_in: BTreeMap<SnapshotId, BTreeSet<PathBuf>>,
    /// Why pins, leases or children in other directories are not known, if they are not.
    pub journal: Option<CatalogError>,
    /// What the journal says of snapshots that are not here any more.
    lost: BTreeMap<SnapshotId, Noted>,
    /// The parents of diffs, as the journal has them, also of those that are deleted.
    parents: BTreeMap<SnapshotId, SnapshotId>,
    /// Notes of children in other directories that cannot be read, by their parents.
    unread_notes: BTreeMap<SnapshotId, PathBuf>,
}

/// A directory of snapshots, to be changed: there is one at a time.
pub struct Catalog {
    dir: PathBuf,
    journal: JournalWriter<CoreEntries>,
    contents: Contents,
}

/// What is in a directory, with what its catalog says of it; writes nothing. A catalog that cannot
/// be read is told in [`Contents::journal`].
///
/// # Errors
/// [`CatalogError::List`].
pub fn read(dir: &Path) -> Result<Contents, CatalogError> {
    let (history, journal) = match history(&dir.join(CATALOG)) {
        Ok(history) => (history, None),
        Err(error) => (History::default(), Some(error)),
    };
    let listing = list(dir, &history)?;
    let (notes, failed) = match notes_in(dir) {
        Ok(notes) => (notes, None),
        Err(error) => (Notes::default(), Some(error)),
    };
    let journal = journal.or(failed);
    if let Some(error) = &journal {
        tracing::warn!(dir = %dir.display(), %error, "not all that keeps snapshots is known");
    }
    Ok(Contents {
        journal,
        ..contents(listing, history, notes)
    })
}

impl Contents {
    /// Whether a path is that of a snapshot in any state, or of a link.
    #[must_use]
    pub fn has(&self, path: &Path) -> bool {
        let mut items = self.items.values().flat_map(Item::paths);
        items.any(|found| found == path)
            || self.damaged.iter().any(|entry| entry.path == path)
            || self.links.iter().any(|link| link.path == path)
    }
}

impl Catalog {
    /// Opens the catalog of `dir`, makes one if there is none, and brings it in line with the
    /// directories. A journal most of which does not matter any more is compacted; where that
    /// fails it is as it was, and a warning says so.
    ///
    /// # Errors
    /// [`CatalogError::Journal`], also if another process has it; [`CatalogError::Damaged`];
    /// [`CatalogError::List`].
    pub fn open(dir: &Path) -> Result<Self, CatalogError> {
        let path = dir.join(CATALOG);
        let failed = |source| CatalogError::Journal {
            path: path.clone(),
            source,
        };
        let options = JournalOptions::new().map_err(failed)?;
        let journal = if is_there(&path)? {
            check_journal(&path)?;
            match JournalWriter::open(&path, options) {
                Ok((journal, _)) => journal,
                Err(JournalError::Refused { end }) => {
                    return Err(CatalogError::Damaged { path, end });
                }
                Err(source) => return Err(failed(source)),
            }
        } else {
            // Where the directory cannot be read, none is left behind.
            list(dir, &History::default())?;
            notes_in(dir)?;
            JournalWriter::create(&path, options).map_err(failed)?
        };
        let history = history(&path)?;
        let mut catalog = Self {
            dir: dir.to_path_buf(),
            journal,
            contents: Contents::default(),
        };
        catalog.reconcile(history)?;
        catalog.compact();
        Ok(catalog)
    }

    /// Puts a damaged catalog aside, as `catalog.damaged`, and begins a new one from the
    /// directories. Pins and leases are lost.
    ///
    /// # Errors
    /// [`CatalogError::Storage`], for example if there is a `catalog.damaged` already; else as
    /// [`Catalog::open`].
    pub fn rebuild(dir: &Path) -> Result<Self, CatalogError> {
        let path = dir.join(CATALOG);
        if is_there(&path)? {
            let aside = dir.join(CATALOG_ASIDE);
            rename_new(&path, &aside).map_err(CatalogError::Storage)?;
        }
        Self::open(dir)
    }

    /// Every snapshot, by id.
    #[must_use]
    pub const fn items(&self) -> &BTreeMap<SnapshotId, Item> {
        &self.contents.items
    }

    /// All that is in the directory.
    #[must_use]
    pub const fn contents(&self) -> &Contents {
        &self.contents
    }

    /// Says that a snapshot must stay, or need no longer: the latter also of one that the journal
    /// has and no directory.
    ///
    /// # Errors
    /// [`CatalogError::Unknown`], [`CatalogError::Journal`].
    pub fn pin(&mut self, id: SnapshotId, pinned: bool) -> Result<(), CatalogError> {
        if pinned || !self.contents.lost.contains_key(&id) {
            self.item(id)?;
        }
        self.append(&Pinned {
            snapshot: *id.as_bytes(),
            pinned,
        })?;
        if let Some(item) = self.contents.items.get_mut(&id) {
            item.pinned = pinned;
        } else if let Some(noted) = self.contents.lost.get_mut(&id) {
            noted.pinned = pinned;
        }
        Ok(())
    }

    /// Says that `holder` uses a snapshot until a moment (nanoseconds since 1970); 0 gives it back,
    /// also of one that the journal has and no directory.
    ///
    /// # Errors
    /// [`CatalogError::Unknown`], [`CatalogError::Journal`].
    pub fn lease(
        &mut self,
        id: SnapshotId,
        holder: &str,
        until_unix_ns: u64,
    ) -> Result<(), CatalogError> {
        if until_unix_ns != 0 || !self.contents.lost.contains_key(&id) {
            self.item(id)?;
        }
        self.append(&Leased {
            snapshot: *id.as_bytes(),
            until_unix_ns,
            holder: holder.to_owned(),
        })?;
        let item = self
            .contents
            .items
            .get_mut(&id)
            .map(|item| &mut item.leases);
        let lost = self
            .contents
            .lost
            .get_mut(&id)
            .map(|noted| &mut noted.leases);
        if let Some(leases) = item.or(lost) {
            note_lease(leases, holder.to_owned(), until_unix_ns);
        }
        Ok(())
    }

    /// Says that a snapshot has no children in another directory any more: for one that is gone
    /// for good, see [`CatalogError::ChildrenUnknown`].
    ///
    /// # Errors
    /// [`CatalogError::HasChildren`] if they are there; [`CatalogError::List`].
    pub fn forget_children_in(&mut self, id: SnapshotId, dir: &Path) -> Result<(), CatalogError> {
        let children = elsewhere::children_in(dir, id).ok().flatten();
        if let Some(children) = children.filter(|children| !children.is_empty()) {
            let path = self.contents.items.get(&id);
            let path = path.map_or(&*self.dir, |item| item.snapshot.path());
            return Err(has_children(path, &children));
        }
        elsewhere::forget(&self.dir, id, Some(dir))
            .map_err(|source| unreadable_notes(&self.dir, source))?;
        self.refresh()
    }

    /// The snapshots that are built right on this one.
    #[must_use]
    pub fn children(&self, id: SnapshotId) -> Vec<&Item> {
        children(&self.contents.items, id)
    }

    /// Deletes a snapshot that has one name, as [`Catalog::delete_named`].
    ///
    /// # Errors
    /// [`CatalogError::Unknown`]; [`CatalogError::Ambiguous`] if several directories have it; else
    /// as [`Catalog::delete_named`].
    pub fn delete(&mut self, id: SnapshotId) -> Result<(), CatalogError> {
        let item = self.item(id)?;
        let name = item.snapshot.path().file_name().unwrap_or_default();
        if !item.copies.is_empty() {
            let names = item.paths().map(|path| path.display().to_string());
            let names = names.collect::<Vec<_>>().join(", ");
            return Err(CatalogError::Ambiguous { id, names });
        }
        let name = name.to_owned();
        self.delete_named(&name)
    }

    /// Deletes the snapshot of this name, and no other: the name is gone at once, and only if
    /// nothing needs it. A symbolic link is not followed.
    ///
    /// # Errors
    /// Before anything has changed: [`CatalogError::NoSnapshot`], [`CatalogError::IsLink`];
    /// [`CatalogError::Unread`] if it cannot be read itself (see [`Catalog::delete_damaged`]);
    /// [`CatalogError::Unreadable`] if an entry that may be built on it cannot be read;
    /// [`CatalogError::InUse`] if a capture holds it as its parent; [`CatalogError::HasChildren`],
    /// [`CatalogError::ChildrenUnknown`], unless there is another sound copy;
    /// [`CatalogError::Pinned`], [`CatalogError::Leased`].
    /// Else [`CatalogError::Storage`], [`CatalogError::Journal`].
    pub fn delete_named(&mut self, name: &OsStr) -> Result<(), CatalogError> {
        let path = self.dir.join(name);
        // From here on nobody begins to build on it; whoever did is in what is listed next.
        let held = hold(&path);
        self.refresh()?;
        let id = self.named(name)?;
        let held = held?;
        if let Some(entry) = self.contents.damaged.first() {
            return Err(unreadable(entry));
        }
        self.check_free(id, &path, &Group::of_one(id, path.clone()))?;
        retract(&path)?;
        drop(held);
        self.note_deleted(id)
            .map_err(|error| after_deletion(&path, error))
    }

    /// Notes that a name of a snapshot is gone.
    fn note_deleted(&mut self, id: SnapshotId) -> Result<(), CatalogError> {
        self.refresh()?;
        if self.contents.items.contains_key(&id) {
            return Ok(());
        }
        self.forget_notes(id);
        self.append(&Deleted {
            snapshot: *id.as_bytes(),
        })
    }

    /// Whether no symbolic link leads to a place that is not there: a child may be at it.
    fn check_links(&self, path: &Path) -> Result<(), CatalogError> {
        match self.contents.links.iter().find(|link| link.is_dangling) {
            Some(link) => Err(CatalogError::LinkUnknown {
                path: path.to_path_buf(),
                link: link.path.clone(),
                target: link.target.clone(),
            }),
            None => Ok(()),
        }
    }

    /// The id of the snapshot of this name.
    fn named(&self, name: &OsStr) -> Result<SnapshotId, CatalogError> {
        let path = self.dir.join(name);
        let Contents {
            items,
            links,
            damaged,
            ..
        } = &self.contents;
        if let Some(link) = links.iter().find(|link| link.path == path) {
            let target = link.target.clone();
            return Err(CatalogError::IsLink { path, target });
        }
        if damaged.iter().any(|entry| entry.path == path) {
            let source = Snapshot::open(&path).err().map(Box::new);
            return Err(CatalogError::Unread { path, source });
        }
        let found = items
            .iter()
            .find(|(_, item)| item.paths().any(|found| found == path));
        found
            .map(|(id, _)| *id)
            .ok_or(CatalogError::NoSnapshot { path })
    }

    /// Looks at the directory again.
    fn refresh(&mut self) -> Result<(), CatalogError> {
        let history = history(&self.dir.join(CATALOG))?;
        self.look(history)
    }

    fn look(&mut self, history: History) -> Result<(), CatalogError> {
        let notes = notes_in(&self.dir)?;
        self.contents = contents(list(&self.dir, &history)?, history, notes);
        Ok(())
    }

    /// Removes the notes of a snapshot that is gone. One that stays does no harm: ids never repeat.
    fn forget_notes(&self, id: SnapshotId) {
        if let Err(error) = elsewhere::forget(&self.dir, id, None) {
            tracing::warn!(dir = %self.dir.display(), %error, "notes of children not removed");
        }
    }

    fn item(&self, id: SnapshotId) -> Result<&Item, CatalogError> {
        let unknown = || CatalogError::Unknown {
            dir: self.dir.clone(),
            id,
        };
        self.contents.items.get(&id).ok_or_else(unknown)
    }

    /// Writes down what the directories say and the journal does not.
    fn reconcile(&mut self, history: History) -> Result<(), CatalogError> {
        let before: BTreeMap<SnapshotId, String> = (history.noted.iter())
            .map(|(id, noted)| (*id, noted.name.clone()))
            .collect();
        self.look(history)?;
        let found: Vec<Item> = self.contents.items.values().cloned().collect();
        for item in found {
            let snapshot = *item.snapshot.id().as_bytes();
            match before.get(&item.snapshot.id()) {
                Some(name) if item.paths().any(|path| name_of(path) == *name) => {}
                Some(_) => self.append(&Renamed {
                    snapshot,
                    name: item.name,
                })?,
                None => {
                    let manifest = item.snapshot.manifest();
                    let created = manifest.created;
                    let seconds = created.seconds.saturating_mul(1_000_000_000);
                    let parent = manifest.parent().map(|parent| *parent.id.as_bytes());
                    self.append(&Published {
                        snapshot,
                        parent,
                        root: *item.snapshot.root().as_bytes(),
                        unix_ns: seconds.saturating_add(u64::from(created.nanos)),
                        name: item.name,
                    })?;
                }
            }
        }
        // What cannot be read may be any of them, under another name.
        if !self.contents.damaged.is_empty() {
            return Ok(());
        }
        for (id, name) in before {
            if !self.contents.items.contains_key(&id) && self.is_gone(&name)? {
                self.append(&Deleted {
                    snapshot: *id.as_bytes(),
                })?;
            }
        }
        Ok(())
    }

    /// Whether nothing has this name, or another snapshot.
    fn is_gone(&self, name: &str) -> Result<bool, CatalogError> {
        let mut paths = self.contents.items.values().flat_map(Item::paths);
        let path = self.dir.join(name);
        if !is_there(&path)? {
            return Ok(true);
        }
        // By another spelling, too, where case is ignored.
        let found = files::identity(&path);
        let is_it = |other: &Path| found.is_some() && files::identity(other) == found;
        Ok(paths.any(|other| name_of(other) == name || is_it(other)))
    }

    /// Appends an event; it is durable when this returns.
    fn append<T: Entry>(&mut self, event: &T) -> Result<(), CatalogError> {
        let appended = self
            .journal
            .append(event)
            .and_then(|_| self.journal.flush());
        appended.map_err(|source| CatalogError::Journal {
            path: self.dir.join(CATALOG),
            source,
        })
    }
}

impl Item {
    /// The directories that have it, in order of name.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(&self.snapshot)
            .chain(&self.copies)
            .map(Snapshot::path)
    }

    /// The other copies of the one at `path`, with files of their own: whether they are whole is
    /// for the caller to check. One directory by two names is one copy.
    fn copies_beside(&self, path: &Path) -> impl Iterator<Item = &Snapshot> {
        let copies = || std::iter::once(&self.snapshot).chain(&self.copies);
        let root = copies()
            .find(|copy| copy.path() == path)
            .map(Snapshot::root);
        let own = files::identity(path);
        copies().filter(move |copy| {
            own.is_some()
                && files::identity(copy.path()).is_some_and(|other| Some(other) != own)
                && Some(copy.root()) == root
                && !has_linked_files(copy)
        })
    }
}

/// Whether the files of a snapshot are links: they may lead to those of another copy.
fn has_linked_files(snapshot: &Snapshot) -> bool {
    [MANIFEST, MEMORY, STATE].iter().any(|name| {
        let found = fs::symlink_metadata(snapshot.path().join(name));
        found.is_ok_and(|found| found.is_symlink())
    })
}

/// Takes a snapshot's name away, and then its files.
fn retract(path: &Path) -> Result<(), CatalogError> {
    let retracted = coldframe_storage::retract_sealed(path, MANIFEST);
    retracted.map_err(|error| match error {
        StorageError::SyncDirectory { .. } | StorageError::Remove { .. }
            if fs::symlink_metadata(path).is_err() =>
        {
            after_deletion(path, CatalogError::Storage(error))
        }
        error => CatalogError::Storage(error),
    })
}

fn has_children(path: &Path, children: &[PathBuf]) -> CatalogError {
    let names = children.iter().map(|child| child.display().to_string());
    CatalogError::HasChildren {
        path: path.to_path_buf(),
        children: names.collect::<Vec<_>>().join(", "),
    }
}

fn after_deletion(path: &Path, source: CatalogError) -> CatalogError {
    CatalogError::AfterDeletion {
        path: path.to_path_buf(),
        source: Box::new(source),
    }
}

/// Whether nobody uses a snapshot.
fn check_unused(
    path: &Path,
    pinned: bool,
    leases: &BTreeMap<String, u64>,
) -> Result<(), CatalogError> {
    let path = path.to_path_buf();
    if pinned {
        return Err(CatalogError::Pinned { path });
    }
    let now = now_ns();
    match leases.iter().find(|(_, until)| **until > now) {
        Some((holder, _)) => {
            let holder = holder.clone();
            Err(CatalogError::Leased { path, holder })
        }
        None => Ok(()),
    }
}

/// The notes of children in other directories.
fn notes_in(dir: &Path) -> Result<Notes, CatalogError> {
    elsewhere::notes_in(dir).map_err(|source| unreadable_notes(dir, source))
}

fn unreadable_notes(dir: &Path, source: SnapshotError) -> CatalogError {
    CatalogError::List {
        dir: dir.to_path_buf(),
        source: Box::new(source),
    }
}

/// The snapshots of a list that are built right on this one.
#[must_use]
pub fn children(items: &BTreeMap<SnapshotId, Item>, id: SnapshotId) -> Vec<&Item> {
    let items = items.values();
    items.filter(|item| is_child(&item.snapshot, id)).collect()
}

fn is_child(snapshot: &Snapshot, id: SnapshotId) -> bool {
    let parent = snapshot.manifest().parent();
    parent.is_some_and(|parent| parent.id == id)
}

/// The entries of a directory, and of what the journal names those that the host's listing has left
/// out: they are found by their names.
fn list(dir: &Path, history: &History) -> Result<Listing, CatalogError> {
    let listed = snapshots_in(dir);
    let mut listing = listed.map_err(|source| CatalogError::List {
        dir: dir.to_path_buf(),
        source: Box::new(source),
    })?;
    for Noted { name, .. } in history.noted.values() {
        let name = OsStr::new(name);
        // A journal may be made up: it names nothing outside of the directory.
        if Path::new(name).file_name() == Some(name) {
            listing.look_for(dir, name);
        }
    }
    Ok(listing)
}

/// What is in the directory, with what the journal says of it.
fn contents(listing: Listing, history: History, notes: Notes) -> Contents {
    let Listing {
        snapshots,
        links,
        damaged,
        leftovers,
    } = listing;
    let History { mut noted, parents } = history;
    let Notes {
        dirs: mut children_in,
        unread: unread_notes,
    } = notes;
    let mut items: BTreeMap<SnapshotId, Item> = BTreeMap::new();
    for snapshot in snapshots {
        let id = snapshot.id();
        if let Some(item) = items.get_mut(&id) {
            item.copies.push(snapshot);
            continue;
        }
        let name = name_of(snapshot.path());
        let Noted { pinned, leases, .. } = noted.remove(&id).unwrap_or_default();
        let item = Item {
            snapshot,
            name,
            copies: Vec::new(),
            pinned,
            leases,
            children_in: children_in.remove(&id).unwrap_or_default(),
        };
        items.insert(id, item);
    }
    Contents {
        items,
        links,
        damaged,
        leftovers,
        lost_children_in: children_in,
        journal: None,
        lost: noted,
        parents,
        unread_notes,
    }
}

/// The name of a directory, as the journal has it.
fn name_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// Whether there is something of this name; a link counts by itself.
fn is_there(path: &Path) -> Result<bool, CatalogError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error)
            .at(Operation::Open, path)
            .map_err(CatalogError::Storage),
    }
}

/// Whether the catalog is a file: what else there is may keep an open waiting for ever.
fn check_journal(path: &Path) -> Result<(), CatalogError> {
    files::check_regular(path).map_err(|source| CatalogError::List {
        dir: path.to_path_buf(),
        source: Box::new(source),
    })
}

fn unreadable(entry: &Damaged) -> CatalogError {
    CatalogError::Unreadable {
        path: entry.path.clone(),
        // Looked at again: it may say more, and an error cannot be cloned.
        source: Snapshot::open(&entry.path).err().map(Box::new),
    }
}

/// The lock of a snapshot that is to be deleted.
struct Held(File);

impl Drop for Held {
    fn drop(&mut self) {
        // A child process that another thread is about to start shares the open file for a moment.
        let _ = self.0.unlock();
    }
}

/// Holds a snapshot against all that would build on it; `None` if it has no manifest to hold, which
/// is told by what is listed.
fn hold(path: &Path) -> Result<Option<Held>, CatalogError> {
    let manifest = path.join(MANIFEST);
    let is_plain = |path: &Path| fs::symlink_metadata(path).is_ok_and(|found| !found.is_symlink());
    let is_file = fs::metadata(&manifest).is_ok_and(|found| found.is_file());
    if !is_plain(path) || !is_file {
        return Ok(None);
    }
    // NFS gives an exclusive lock only to those who may write.
    let opened = File::options().read(true).write(true).open(&manifest);
    let opened = opened.or_else(|_| File::open(&manifest));
    let Ok(file) = opened else { return Ok(None) };
    match file.try_lock() {
        Ok(()) => Ok(Some(Held(file))),
        Err(TryLockError::WouldBlock) => Err(CatalogError::InUse {
            path: path.to_path_buf(),
        }),
        Err(TryLockError::Error(error)) => {
            tracing::warn!(path = %path.display(), %error, "snapshot not locked");
            Ok(None)
        }
    }
}

fn now_ns() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
