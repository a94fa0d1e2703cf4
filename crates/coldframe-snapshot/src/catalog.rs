//! The catalog of a directory of snapshots: what was published, renamed, pinned, leased, deleted.
//!
//! Invariant: the directories are the truth about which snapshots there are and what they are
//! called; the journal adds what a directory cannot say (pins, leases) and keeps the history. A
//! catalog that is lost, or lags behind a crash, is brought in line when it is opened.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use coldframe_storage::{IoContext, Operation, StorageError};
use coldframe_units::SnapshotId;
use coldframe_wal::journal::kinds::{CoreEntries, Deleted, Leased, Pinned, Published, Renamed};
use coldframe_wal::journal::{
    Entry, EntryError, EntryRef, JournalError, JournalOptions, JournalReader, JournalWriter, Next,
};

use crate::{Snapshot, snapshots_in};

mod error;

pub use error::CatalogError;

/// The journal's name in the directory.
pub const CATALOG: &str = "catalog";

/// A snapshot and what the catalog knows of it.
#[derive(Clone, Debug)]
pub struct Item {
    /// The snapshot, with its manifest.
    pub snapshot: Snapshot,
    /// Its directory's name.
    pub name: String,
    /// Whether it must stay.
    pub pinned: bool,
    /// Until when someone uses it, by holder, in nanoseconds since 1970 (UTC).
    pub leases: BTreeMap<String, u64>,
}

/// What the journal says of a snapshot.
#[derive(Clone, Debug, Default)]
struct Noted {
    name: String,
    pinned: bool,
    leases: BTreeMap<String, u64>,
}

/// A directory of snapshots, to be changed: there is one at a time.
pub struct Catalog {
    dir: PathBuf,
    journal: JournalWriter<CoreEntries>,
    items: BTreeMap<SnapshotId, Item>,
}

/// The snapshots of a directory with what its catalog says of them; writes nothing.
///
/// # Errors
/// [`CatalogError::Journal`], [`CatalogError::Damaged`].
pub fn read(dir: &Path) -> Result<BTreeMap<SnapshotId, Item>, CatalogError> {
    let noted = noted(&dir.join(CATALOG))?;
    Ok(items(dir, noted))
}

impl Catalog {
    /// Opens the catalog of `dir`, makes one if there is none, and brings it in line with the
    /// directories.
    ///
    /// # Errors
    /// [`CatalogError::Journal`], also if another process has it; [`CatalogError::Damaged`].
    pub fn open(dir: &Path) -> Result<Self, CatalogError> {
        let path = dir.join(CATALOG);
        let failed = |source| CatalogError::Journal {
            path: path.clone(),
            source,
        };
        let options = JournalOptions::new().map_err(failed)?;
        let journal = if path.exists() {
            match JournalWriter::open(&path, options) {
                Ok((journal, _)) => journal,
                Err(JournalError::Refused { end }) => {
                    return Err(CatalogError::Damaged { path, end });
                }
                Err(source) => return Err(failed(source)),
            }
        } else {
            JournalWriter::create(&path, options).map_err(failed)?
        };
        let noted = noted(&path)?;
        let mut catalog = Self {
            dir: dir.to_path_buf(),
            journal,
            items: BTreeMap::new(),
        };
        catalog.reconcile(noted)?;
        Ok(catalog)
    }

    /// Puts a damaged catalog aside, as `catalog.damaged`, and begins a new one from the
    /// directories. Pins and leases are lost.
    ///
    /// # Errors
    /// [`CatalogError::Storage`], for one if there is a `catalog.damaged` already; else as
    /// [`Catalog::open`].
    pub fn rebuild(dir: &Path) -> Result<Self, CatalogError> {
        let path = dir.join(CATALOG);
        if path.exists() {
            let aside = dir.join("catalog.damaged");
            if aside.exists() {
                return Err(CatalogError::Storage(StorageError::Exists { path: aside }));
            }
            fs::rename(&path, &aside)
                .at(Operation::Rename, &path)
                .map_err(CatalogError::Storage)?;
        }
        Self::open(dir)
    }

    /// Every snapshot, by id.
    #[must_use]
    pub const fn items(&self) -> &BTreeMap<SnapshotId, Item> {
        &self.items
    }

    /// Says that a snapshot must stay, or need no longer.
    ///
    /// # Errors
    /// [`CatalogError::Unknown`], [`CatalogError::Journal`].
    pub fn pin(&mut self, id: SnapshotId, pinned: bool) -> Result<(), CatalogError> {
        self.item(id)?;
        self.append(&Pinned {
            snapshot: *id.as_bytes(),
            pinned,
        })?;
        if let Some(item) = self.items.get_mut(&id) {
            item.pinned = pinned;
        }
        Ok(())
    }

    /// Says that `holder` uses a snapshot until a moment (nanoseconds since 1970); 0 gives it back.
    ///
    /// # Errors
    /// [`CatalogError::Unknown`], [`CatalogError::Journal`].
    pub fn lease(
        &mut self,
        id: SnapshotId,
        holder: &str,
        until_unix_ns: u64,
    ) -> Result<(), CatalogError> {
        self.item(id)?;
        let holder = holder.to_string();
        let leased = Leased {
            snapshot: *id.as_bytes(),
            until_unix_ns,
            holder,
        };
        self.append(&leased)?;
        if let Some(item) = self.items.get_mut(&id) {
            note_lease(&mut item.leases, leased.holder, until_unix_ns);
        }
        Ok(())
    }

    /// The snapshots that are built right on this one.
    #[must_use]
    pub fn children(&self, id: SnapshotId) -> Vec<&Item> {
        children(&self.items, id)
    }

    /// Deletes a snapshot: its name is gone at once, and only if nothing needs it.
    ///
    /// # Errors
    /// [`CatalogError::Unknown`], [`CatalogError::HasChildren`], [`CatalogError::Pinned`],
    /// [`CatalogError::Leased`] before anything has changed; [`CatalogError::Storage`],
    /// [`CatalogError::Journal`].
    pub fn delete(&mut self, id: SnapshotId) -> Result<(), CatalogError> {
        let item = self.item(id)?;
        let path = item.snapshot.path().to_path_buf();
        let names: Vec<_> = self
            .children(id)
            .iter()
            .map(|child| child.name.clone())
            .collect();
        if !names.is_empty() {
            return Err(CatalogError::HasChildren {
                path,
                children: names.join(", "),
            });
        }
        if item.pinned {
            return Err(CatalogError::Pinned { path });
        }
        let now = now_ns();
        if let Some((holder, _)) = item.leases.iter().find(|(_, until)| **until > now) {
            return Err(CatalogError::Leased {
                path,
                holder: holder.clone(),
            });
        }
        coldframe_storage::retract_sealed(&path, crate::files::MANIFEST)
            .map_err(CatalogError::Storage)?;
        self.items.remove(&id);
        self.append(&Deleted {
            snapshot: *id.as_bytes(),
        })
    }

    fn item(&self, id: SnapshotId) -> Result<&Item, CatalogError> {
        let unknown = || CatalogError::Unknown {
            dir: self.dir.clone(),
            id,
        };
        self.items.get(&id).ok_or_else(unknown)
    }

    /// Writes down what the directories say and the journal does not.
    fn reconcile(&mut self, noted: BTreeMap<SnapshotId, Noted>) -> Result<(), CatalogError> {
        let before: BTreeMap<SnapshotId, String> = noted
            .iter()
            .map(|(id, noted)| (*id, noted.name.clone()))
            .collect();
        self.items = items(&self.dir, noted);
        let found: Vec<Item> = self.items.values().cloned().collect();
        for item in found {
            let snapshot = *item.snapshot.id().as_bytes();
            match before.get(&item.snapshot.id()) {
                Some(name) if *name == item.name => {}
                Some(_) => self.append(&Renamed {
                    snapshot,
                    name: item.name,
                })?,
                None => {
                    let manifest = item.snapshot.manifest();
                    let created = manifest.created;
                    let parent = manifest.parent().map(|parent| *parent.id.as_bytes());
                    self.append(&Published {
                        snapshot,
                        parent,
                        root: *item.snapshot.root().as_bytes(),
                        unix_ns: created.seconds * 1_000_000_000 + u64::from(created.nanos),
                        name: item.name,
                    })?;
                }
            }
        }
        let gone = before
            .keys()
            .filter(|id| !self.items.contains_key(id))
            .copied();
        for id in gone.collect::<Vec<_>>() {
            self.append(&Deleted {
                snapshot: *id.as_bytes(),
            })?;
        }
        Ok(())
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

/// The snapshots of a list that are built right on this one.
#[must_use]
pub fn children(items: &BTreeMap<SnapshotId, Item>, id: SnapshotId) -> Vec<&Item> {
    let parent = |item: &&Item| item.snapshot.manifest().parent().map(|parent| parent.id);
    items
        .values()
        .filter(|item| parent(item) == Some(id))
        .collect()
}

/// What is in the directory, with what the journal says of it.
fn items(dir: &Path, mut noted: BTreeMap<SnapshotId, Noted>) -> BTreeMap<SnapshotId, Item> {
    let item = |snapshot: Snapshot| {
        let name = snapshot
            .path()
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let Noted { pinned, leases, .. } = noted.remove(&snapshot.id()).unwrap_or_default();
        (
            snapshot.id(),
            Item {
                snapshot,
                name,
                pinned,
                leases,
            },
        )
    };
    snapshots_in(dir).into_iter().map(item).collect()
}

/// What the journal says, up to a torn tail; nothing if there is no journal.
fn noted(path: &Path) -> Result<BTreeMap<SnapshotId, Noted>, CatalogError> {
    let failed = |source| CatalogError::Journal {
        path: path.to_path_buf(),
        source,
    };
    let mut all = BTreeMap::new();
    if !fs::exists(path).unwrap_or(true) {
        return Ok(all);
    }
    let mut journal = JournalReader::<CoreEntries>::open(path).map_err(failed)?;
    let end = loop {
        match journal.read().map_err(failed)? {
            Next::End(end) => break end,
            Next::Entry(entry) => note(&mut all, &entry).map_err(|source| CatalogError::Entry {
                path: path.to_path_buf(),
                source,
            })?,
        }
    };
    if end.is_clean() || end.is_torn() {
        return Ok(all);
    }
    Err(CatalogError::Damaged {
        path: path.to_path_buf(),
        end,
    })
}

fn note(all: &mut BTreeMap<SnapshotId, Noted>, entry: &EntryRef<'_>) -> Result<(), EntryError> {
    let id = SnapshotId::from_bytes;
    if entry.is::<Published>() {
        let Published { snapshot, name, .. } = entry.decode()?;
        all.insert(
            id(snapshot),
            Noted {
                name,
                ..Noted::default()
            },
        );
    } else if entry.is::<Renamed>() {
        let Renamed { snapshot, name } = entry.decode()?;
        all.entry(id(snapshot)).or_default().name = name;
    } else if entry.is::<Pinned>() {
        let Pinned { snapshot, pinned } = entry.decode()?;
        all.entry(id(snapshot)).or_default().pinned = pinned;
    } else if entry.is::<Leased>() {
        let Leased {
            snapshot,
            until_unix_ns,
            holder,
        } = entry.decode()?;
        note_lease(
            &mut all.entry(id(snapshot)).or_default().leases,
            holder,
            until_unix_ns,
        );
    } else if entry.is::<Deleted>() {
        let Deleted { snapshot } = entry.decode()?;
        all.remove(&id(snapshot));
    }
    Ok(())
}

fn note_lease(leases: &mut BTreeMap<String, u64>, holder: String, until_unix_ns: u64) {
    if until_unix_ns == 0 {
        leases.remove(&holder);
    } else {
        leases.insert(holder, until_unix_ns);
    }
}

fn now_ns() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
