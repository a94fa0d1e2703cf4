//! What is in a directory of snapshots, without trusting it.
//!
//! Invariant: an entry is left out only if it is certain that it is no snapshot: a file, or a
//! directory that has none of a snapshot's files. What cannot be looked at, or is damaged, is an
//! entry of its own: it may be a snapshot, and be built on any other.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use coldframe_envelope::MAGIC;
use coldframe_storage::{IoContext, Operation};

#[cfg(feature = "catalog")]
use crate::files::identity;
use crate::files::{LOST_AND_FOUND, MANIFEST, MEMORY, STATE};
use crate::{Snapshot, SnapshotError};

/// `ELOOP`: a symbolic link that leads round. See errno(3).
const LOOP: i32 = if cfg!(target_os = "linux") { 40 } else { 62 };

/// The entries of a directory that have to do with snapshots, each in order of name.
#[derive(Debug, Default)]
pub struct Listing {
    /// Directories with a sound manifest.
    pub snapshots: Vec<Snapshot>,
    /// Symbolic links, wherever they lead.
    pub links: Vec<Link>,
    /// What may be a snapshot and cannot be read, or is none any more.
    pub damaged: Vec<Damaged>,
    /// What killed processes left, or living ones are making.
    pub leftovers: Vec<PathBuf>,
}

/// A symbolic link.
#[derive(Debug)]
pub struct Link {
    /// The link itself.
    pub path: PathBuf,
    /// What it holds, as it is written there.
    pub target: PathBuf,
    /// The snapshot at its end; `None` if there is nothing, or nothing of ours.
    pub snapshot: Option<Snapshot>,
    /// Whether not even the directory of its target is there, or that is empty: it may lead to a
    /// file system that is not mounted.
    pub is_dangling: bool,
}

/// An entry that cannot be read.
#[derive(Debug)]
pub struct Damaged {
    /// The entry.
    pub path: PathBuf,
    /// Why.
    pub error: SnapshotError,
}

/// Lists what is right under `directory`.
///
/// # Errors
/// [`SnapshotError::Storage`] if the directory cannot be listed to its end; what is wrong with an
/// entry is told in [`Listing::damaged`].
pub fn snapshots_in(directory: &Path) -> Result<Listing, SnapshotError> {
    let mut listing = Listing::default();
    let mut names = names_in(directory)?;
    names.sort();
    // A host may list an entry twice while others come and go.
    names.dedup();
    for name in names {
        listing.add(directory, &name);
    }
    Ok(listing)
}

fn names_in(directory: &Path) -> Result<Vec<OsString>, SnapshotError> {
    let list = || {
        fs::read_dir(directory)?
            .map(|entry| Ok(entry?.file_name()))
            .collect()
    };
    let names: io::Result<Vec<OsString>> = list();
    names
        .at(Operation::Open, directory)
        .map_err(SnapshotError::Storage)
}

impl Listing {
    /// The snapshots, and those at the end of links.
    pub fn readable(&self) -> impl Iterator<Item = &Snapshot> {
        let linked = self.links.iter();
        let linked = linked.filter_map(|link| link.snapshot.as_ref());
        self.snapshots.iter().chain(linked)
    }

    /// Looks for an entry by its name, if it is not among these: a file system that ignores case
    /// finds them by other names, too.
    #[cfg(feature = "catalog")]
    pub(crate) fn look_for(&mut self, directory: &Path, name: &OsStr) {
        let path = directory.join(name);
        if self.paths().any(|known| known == path) {
            return;
        }
        let found = identity(&path);
        if found.is_some() && self.paths().any(|known| identity(known) == found) {
            return;
        }
        self.add(directory, name);
        // An empty directory may be where its file system is not mounted.
        let is_empty = fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_none());
        if is_empty && !self.paths().any(|known| known == path) {
            let error = not_found(&path.join(MANIFEST));
            self.damaged.push(Damaged { path, error });
        }
    }

    #[cfg(feature = "catalog")]
    fn paths(&self) -> impl Iterator<Item = &Path> {
        (self.snapshots.iter().map(Snapshot::path))
            .chain(self.links.iter().map(|link| link.path.as_path()))
            .chain(self.damaged.iter().map(|entry| entry.path.as_path()))
    }

    fn add(&mut self, directory: &Path, name: &OsStr) {
        let path = directory.join(name);
        if coldframe_storage::is_temporary(name) {
            self.leftovers.push(path);
            return;
        }
        let looked = match look(&path) {
            // It went away since it was listed, unless it is listed again.
            Ok(Entry::Gone) => match is_listed(directory, name) {
                Ok(false) => return,
                Ok(true) => Err(not_found(&path)),
                Err(error) => Err(error),
            },
            looked => looked,
        };
        match looked {
            Ok(Entry::Snapshot(snapshot)) => self.snapshots.push(*snapshot),
            Ok(Entry::Link(link)) => self.links.push(*link),
            Ok(Entry::Other | Entry::Gone) => {}
            Err(_) if name == LOST_AND_FOUND => {}
            Err(error) => self.damaged.push(Damaged { path, error }),
        }
    }
}

enum Entry {
    Snapshot(Box<Snapshot>),
    Link(Box<Link>),
    Other,
    Gone,
}

fn look(path: &Path) -> Result<Entry, SnapshotError> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Entry::Gone),
        metadata => metadata
            .at(Operation::Open, path)
            .map_err(SnapshotError::Storage)?,
    };
    if metadata.is_symlink() {
        return follow(path);
    }
    if !metadata.is_dir() {
        return Ok(Entry::Other);
    }
    open_dir(path)
}

/// A directory.
fn open_dir(path: &Path) -> Result<Entry, SnapshotError> {
    let error = match Snapshot::open(path) {
        Ok(snapshot) => return Ok(Entry::Snapshot(Box::new(snapshot))),
        Err(error) => error,
    };
    if !matches!(&error, SnapshotError::Storage(storage) if storage.is_not_found()) {
        return Err(error);
    }
    // Without a manifest it is no snapshot, unless it has lost it.
    match fs::read_dir(path) {
        Err(gone) if gone.kind() == io::ErrorKind::NotFound => Ok(Entry::Gone),
        Err(failed) => Err(failed)
            .at(Operation::Open, path)
            .map_err(SnapshotError::Storage),
        Ok(entries) => {
            for entry in entries {
                let entry = entry
                    .at(Operation::Open, path)
                    .map_err(SnapshotError::Storage)?;
                let is_of = |name: &str| entry.file_name() == name;
                let is_ours = is_of(MANIFEST) || is_of(MEMORY);
                if is_ours || is_of(STATE) && is_state(&path.join(STATE))? {
                    return Err(error);
                }
            }
            Ok(Entry::Other)
        }
    }
}

/// Whether a file named as a machine's state is one: Firecracker's is named so too.
fn is_state(path: &Path) -> Result<bool, SnapshotError> {
    let read = || {
        let mut magic = Vec::new();
        // What is no file is no state, and may keep an open waiting.
        if fs::metadata(path)?.is_file() {
            let file = File::open(path)?;
            file.take(MAGIC.len() as u64).read_to_end(&mut magic)?;
        }
        Ok(magic == MAGIC)
    };
    let is_ours: io::Result<bool> = read();
    is_ours
        .at(Operation::Open, path)
        .map_err(SnapshotError::Storage)
}

/// A symbolic link: what cannot be followed for another reason than that it leads nowhere may lead
/// to a snapshot.
fn follow(path: &Path) -> Result<Entry, SnapshotError> {
    let target = fs::read_link(path)
        .at(Operation::Open, path)
        .map_err(SnapshotError::Storage)?;
    let leads_nowhere = |error: &io::Error| {
        let is_absent = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory];
        is_absent.contains(&error.kind()) || error.raw_os_error() == Some(LOOP)
    };
    let mut is_dangling = false;
    let snapshot = match fs::metadata(path) {
        Err(error) if leads_nowhere(&error) => {
            is_dangling = is_place_gone(path, &target);
            None
        }
        metadata => {
            let metadata = metadata
                .at(Operation::Open, path)
                .map_err(SnapshotError::Storage)?;
            match metadata.is_dir().then(|| open_dir(path)).transpose()? {
                Some(Entry::Snapshot(snapshot)) => Some(*snapshot),
                _ => None,
            }
        }
    };
    let path = path.to_path_buf();
    Ok(Entry::Link(Box::new(Link {
        path,
        target,
        snapshot,
        is_dangling,
    })))
}

/// Whether the directory of a link's target is not there, or empty as a mount point is: then the
/// target may be on a file system that is not mounted.
fn is_place_gone(link: &Path, target: &Path) -> bool {
    let target = link.parent().unwrap_or(link).join(target);
    match target.parent().map(fs::read_dir) {
        Some(Ok(mut entries)) => entries.next().is_none(),
        _ => true,
    }
}

fn is_listed(directory: &Path, name: &OsStr) -> Result<bool, SnapshotError> {
    Ok(names_in(directory)?.iter().any(|listed| listed == name))
}

fn not_found(path: &Path) -> SnapshotError {
    let error = io::Error::from(io::ErrorKind::NotFound);
    let failed = Err::<(), _>(error).at(Operation::Open, path);
    SnapshotError::Storage(failed.expect_err("it is an error"))
}
