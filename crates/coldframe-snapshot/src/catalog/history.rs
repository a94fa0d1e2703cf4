//! What a catalog's journal says.

use std::collections::BTreeMap;
use std::path::Path;

use coldframe_journal::kinds::{CoreEntries, Deleted, Leased, Pinned, Published, Renamed};
use coldframe_journal::{EntryError, EntryRef, JournalReader, Next};
use coldframe_units::SnapshotId;

use super::{CatalogError, check_journal, is_there};

/// What the journal says of a snapshot.
#[derive(Clone, Debug, Default)]
pub(super) struct Noted {
    pub name: String,
    pub published: Option<Published>,
    pub pinned: bool,
    pub leases: BTreeMap<String, u64>,
}

/// What the journal says.
#[derive(Debug, Default)]
pub(super) struct History {
    pub noted: BTreeMap<SnapshotId, Noted>,
    /// The parents of diffs, also of those that are deleted.
    pub parents: BTreeMap<SnapshotId, SnapshotId>,
}

/// What the journal says, up to a torn tail; nothing if there is no journal.
pub(super) fn history(path: &Path) -> Result<History, CatalogError> {
    let mut all = History::default();
    if is_there(path)? {
        each_entry(path, |entry| note(&mut all, entry))?;
    }
    Ok(all)
}

/// Hands out each entry of the journal, up to a torn tail.
pub(super) fn each_entry(
    path: &Path,
    mut take: impl FnMut(&EntryRef<'_>) -> Result<(), EntryError>,
) -> Result<(), CatalogError> {
    let failed = |source| CatalogError::Journal {
        path: path.to_path_buf(),
        source,
    };
    check_journal(path)?;
    let mut journal = JournalReader::<CoreEntries>::open(path).map_err(failed)?;
    let end = loop {
        match journal.read().map_err(failed)? {
            Next::End(end) => break end,
            Next::Entry(entry) => take(&entry).map_err(|source| CatalogError::Entry {
                path: path.to_path_buf(),
                source,
            })?,
        }
    };
    if end.is_clean() || end.is_torn() {
        return Ok(());
    }
    Err(CatalogError::Damaged {
        path: path.to_path_buf(),
        end,
    })
}

fn note(history: &mut History, entry: &EntryRef<'_>) -> Result<(), EntryError> {
    let id = SnapshotId::from_bytes;
    let all = &mut history.noted;
    if entry.is::<Published>() {
        let published: Published = entry.decode()?;
        if let Some(parent) = published.parent {
            history.parents.insert(id(published.snapshot), id(parent));
        }
        all.insert(
            id(published.snapshot),
            Noted {
                name: published.name.clone(),
                published: Some(published),
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

pub(super) fn note_lease(leases: &mut BTreeMap<String, u64>, holder: String, until_unix_ns: u64) {
    if until_unix_ns == 0 {
        leases.remove(&holder);
    } else {
        leases.insert(holder, until_unix_ns);
    }
}
