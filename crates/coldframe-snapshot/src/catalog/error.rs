//! What can go wrong with a catalog.

use std::path::PathBuf;

use coldframe_journal::{End, EntryError, JournalError};
use coldframe_storage::StorageError;
use coldframe_units::SnapshotId;

use crate::SnapshotError;

/// Why a catalog cannot be read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// The journal could not be read or written.
    #[error("the catalog {} failed", path.display())]
    Journal {
        /// The journal.
        path: PathBuf,
        /// Why.
        #[source]
        source: JournalError,
    },
    /// The journal is damaged; [`rebuild`](super::Catalog::rebuild) begins a new one.
    #[error("the catalog {} is damaged: {end}; move it away to begin a new one, without its pins, \
         leases and notes of children in other directories", path.display())]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// What stands in the way.
        end: End,
    },
    /// An entry of the journal is no sound value.
    #[error("the catalog {} holds an entry that cannot be read", path.display())]
    Entry {
        /// The journal.
        path: PathBuf,
        /// Why.
        #[source]
        source: EntryError,
    },
    /// A directory could not be renamed or removed.
    #[error("storage failed")]
    Storage(#[source] StorageError),
    /// A directory of snapshots could not be listed, or the catalog is no file.
    #[error("{} cannot be read", dir.display())]
    List {
        /// The directory, or the catalog.
        dir: PathBuf,
        /// Why.
        #[source]
        source: Box<SnapshotError>,
    },
    /// Nothing is deleted: an entry that may be built on it cannot be read.
    #[error("{} cannot be read, and may need it: restore it or move it away first",
        path.display())]
    Unreadable {
        /// The entry.
        path: PathBuf,
        /// Why; `None` if it can be read again.
        #[source]
        source: Option<Box<SnapshotError>>,
    },
    /// What was to be deleted cannot be read; see
    /// [`delete_damaged`](super::Catalog::delete_damaged).
    #[error("{} cannot be read", path.display())]
    Unread {
        /// The entry.
        path: PathBuf,
        /// Why; `None` if it can be read again.
        #[source]
        source: Option<Box<SnapshotError>>,
    },
    /// A damaged snapshot cannot be deleted: another may be built on it.
    #[error("{} may be the parent of {}: the memory file of one of them cannot be read; delete \
         both together, or restore one", path.display(), child.display())]
    ChildUnknown {
        /// The snapshot.
        path: PathBuf,
        /// What may be its child.
        child: PathBuf,
    },
    /// A damaged snapshot cannot be deleted: nothing tells it from one that must stay.
    #[error("{} may be snapshot {id}, which was {}", path.display(), known_as.display())]
    MayBe {
        /// The damaged snapshot.
        path: PathBuf,
        /// The id that the catalog has, and no directory.
        id: SnapshotId,
        /// What it was called.
        known_as: PathBuf,
        /// Why that one must stay.
        #[source]
        source: Box<CatalogError>,
    },
    /// The name is a symbolic link, which is not followed to delete something.
    #[error("{} is a symbolic link to {}: name that, or remove the link by hand",
        path.display(), target.display())]
    IsLink {
        /// The link.
        path: PathBuf,
        /// What it holds.
        target: PathBuf,
    },
    /// There is no snapshot of this name.
    #[error("{} is no snapshot", path.display())]
    NoSnapshot {
        /// The path.
        path: PathBuf,
    },
    /// Several directories have the snapshot.
    #[error("several directories have snapshot {id} ({names}): delete it by name")]
    Ambiguous {
        /// The id.
        id: SnapshotId,
        /// Their paths.
        names: String,
    },
    /// A snapshot cannot be deleted: someone is building another on it now.
    #[error("{} is in use: a snapshot is being built on it", path.display())]
    InUse {
        /// The snapshot.
        path: PathBuf,
    },
    /// No snapshot of this id is in the directory.
    #[error("no snapshot {id} in {}", dir.display())]
    Unknown {
        /// The directory.
        dir: PathBuf,
        /// The id.
        id: SnapshotId,
    },
    /// A snapshot cannot be deleted: others are built on it.
    #[error("{} has children ({children}): merge them first", path.display())]
    HasChildren {
        /// The snapshot.
        path: PathBuf,
        /// Their paths.
        children: String,
    },
    /// A snapshot cannot be deleted: it has, or had, a child in a directory that is not known.
    #[error("{} has a child elsewhere, and the note that says where cannot be read: remove {} if \
         there is no such child", path.display(), note.display())]
    NoteUnread {
        /// The snapshot.
        path: PathBuf,
        /// The note.
        note: PathBuf,
    },
    /// A snapshot cannot be deleted: another is built on it by one that is not here.
    #[error("{} is needed by {}, whose parent {missing} is not here: bring that back, or delete \
         {} first", path.display(), orphan.display(), orphan.display())]
    HasOrphan {
        /// The snapshot.
        path: PathBuf,
        /// What is built on it.
        orphan: PathBuf,
        /// The parent of that.
        missing: SnapshotId,
    },
    /// A snapshot cannot be deleted: others need it, and the other copy of it is damaged.
    #[error("{} cannot take its place: it is damaged", copy.display())]
    CopyDamaged {
        /// The snapshot.
        path: PathBuf,
        /// The other copy.
        copy: PathBuf,
        /// Why one is needed.
        #[source]
        source: Box<CatalogError>,
    },
    /// A snapshot cannot be deleted: children were made in a directory that cannot be found.
    #[error("{} has children in {}, which is not there or has no snapshots: mount or restore it, \
         or forget them", path.display(), dir.display())]
    ChildrenUnknown {
        /// The snapshot.
        path: PathBuf,
        /// Where they were made.
        dir: PathBuf,
    },
    /// A snapshot cannot be deleted: a symbolic link leads to a place that is not there, where a
    /// child may be.
    #[error("{} may have a child at the end of the link {}: {} is not there; mount or restore it, \
         or remove the link", path.display(), link.display(), target.display())]
    LinkUnknown {
        /// The snapshot.
        path: PathBuf,
        /// The link.
        link: PathBuf,
        /// What it holds.
        target: PathBuf,
    },
    /// A snapshot was deleted, and then something failed: its name is gone.
    #[error("{} is deleted, but not all that follows is done", path.display())]
    AfterDeletion {
        /// The snapshot.
        path: PathBuf,
        /// What failed.
        #[source]
        source: Box<CatalogError>,
    },
    /// A snapshot cannot be deleted: someone said that it must stay.
    #[error("{} is pinned", path.display())]
    Pinned {
        /// The snapshot.
        path: PathBuf,
    },
    /// A snapshot cannot be deleted: it is in use.
    #[error("{} is leased by {holder}", path.display())]
    Leased {
        /// The snapshot.
        path: PathBuf,
        /// By whom.
        holder: String,
    },
}
