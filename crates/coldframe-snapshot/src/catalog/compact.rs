//! Compacting a catalog's journal: which of its entries still matter.
//!
//! Invariant: what [`history`](super::history) makes of the entries that are kept is what it made
//! of all: of every id that is known, and of the parents of whatever a snapshot that is known was
//! built on. Other ids that are deleted are forgotten.
//!
//! As long as an entry of the directory cannot be read, or a link leads to a place that is not
//! there, nothing is forgotten: a snapshot may be behind it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use coldframe_journal::kinds::{Deleted, Leased, Pinned, Published, Renamed};
use coldframe_journal::{EntryError, EntryRef, Scope};
use coldframe_units::SnapshotId;

use super::history::each_entry;
use super::{CATALOG, Catalog, CatalogError};

/// A journal of no more entries stays as it is.
const ENTRIES_MIN: u64 = 64;

/// A journal with at most so many times the entries that matter stays as it is.
const FACTOR: u64 = 4;

/// The entries of an id that still matter, by where they stand.
#[derive(Default)]
struct Lines {
    /// The last `Published` or `Deleted`: nothing before it matters but the descent.
    origin: Option<u64>,
    /// Whether there is nothing behind a `Deleted`.
    is_deleted: bool,
    renamed: Option<u64>,
    pinned: Option<u64>,
    /// By holder.
    leases: BTreeMap<String, u64>,
    /// The last `Published` with a parent, and that.
    descent: Option<(u64, SnapshotId)>,
    last: u64,
}

impl Catalog {
    /// Rewrites the journal to what still matters if that is worth it.
    pub(super) fn compact(&mut self) {
        let contents = &self.contents;
        let is_all_known =
            contents.damaged.is_empty() && !contents.links.iter().any(|link| link.is_dangling);
        if self.journal.entries() <= ENTRIES_MIN || !is_all_known {
            return;
        }
        if let Err(error) = self.compact_if_due() {
            tracing::warn!(dir = %self.dir.display(), %error, "catalog not compacted");
        }
    }

    fn compact_if_due(&mut self) -> Result<(), CatalogError> {
        let path = self.dir.join(CATALOG);
        // A link would be replaced, and not what it leads to.
        if fs::symlink_metadata(&path).is_ok_and(|found| found.is_symlink()) {
            return Ok(());
        }
        let (keep, seen) = self.survivors()?;
        // Entries that this version passes over are kept.
        let kept = self.journal.entries() - (seen - keep.len() as u64);
        if self.journal.entries() <= FACTOR.saturating_mul(kept) {
            return Ok(());
        }
        let scope = |entry: &EntryRef<'_>| {
            if keep.contains(&entry.span().start.get()) {
                Scope::Keep
            } else {
                Scope::Drop
            }
        };
        let compaction = self.journal.begin_compaction();
        let rewritten = compaction.and_then(|compaction| compaction.run(scope));
        let adopted = rewritten.and_then(|rewritten| self.journal.adopt(rewritten));
        let failed = |source| CatalogError::Journal { path, source };
        adopted.map(|_| ()).map_err(failed)
    }

    /// Where the entries stand that still matter, and how many were looked at.
    fn survivors(&self) -> Result<(BTreeSet<u64>, u64), CatalogError> {
        let mut all: BTreeMap<SnapshotId, Lines> = BTreeMap::new();
        let mut seen = 0;
        each_entry(&self.dir.join(CATALOG), |entry| {
            seen += 1;
            add(&mut all, entry)
        })?;
        let line = self.line(&all);
        let mut keep = BTreeSet::new();
        for (id, lines) in &all {
            lines.keep(line.contains(id), &mut keep);
        }
        Ok((keep, seen))
    }

    /// All ids on which a snapshot that is known was built, as far as the journal names them, and
    /// those that are known.
    fn line(&self, all: &BTreeMap<SnapshotId, Lines>) -> BTreeSet<SnapshotId> {
        let parents = self.readable().filter_map(|one| one.manifest().parent());
        let known = all.iter().filter(|(_, lines)| !lines.is_deleted);
        let mut todo: Vec<SnapshotId> = parents.map(|parent| parent.id).collect();
        todo.extend(known.map(|(id, _)| *id));
        let mut line = BTreeSet::new();
        while let Some(id) = todo.pop() {
            if line.insert(id) {
                let descent = all.get(&id).and_then(|lines| lines.descent);
                todo.extend(descent.map(|(_, parent)| parent));
            }
        }
        line
    }
}

/// Adds an entry to those of its id, as [`history`](super::history) does.
fn add(all: &mut BTreeMap<SnapshotId, Lines>, entry: &EntryRef<'_>) -> Result<(), EntryError> {
    let at = entry.span().start.get();
    let lines = if entry.is::<Published>() {
        let published: Published = entry.decode()?;
        let lines = of(all, published.snapshot);
        lines.begin(at);
        if let Some(parent) = published.parent {
            lines.descent = Some((at, SnapshotId::from_bytes(parent)));
        }
        lines
    } else if entry.is::<Renamed>() {
        let lines = of(all, entry.archived::<Renamed>()?.snapshot);
        lines.renamed = Some(at);
        lines
    } else if entry.is::<Pinned>() {
        let lines = of(all, entry.archived::<Pinned>()?.snapshot);
        lines.pinned = Some(at);
        lines
    } else if entry.is::<Leased>() {
        let leased: Leased = entry.decode()?;
        let lines = of(all, leased.snapshot);
        if leased.until_unix_ns == 0 {
            lines.leases.remove(&leased.holder);
        } else {
            lines.leases.insert(leased.holder, at);
        }
        lines
    } else if entry.is::<Deleted>() {
        let lines = of(all, entry.archived::<Deleted>()?.snapshot);
        lines.begin(at);
        lines
    } else {
        return Ok(());
    };
    lines.is_deleted = entry.is::<Deleted>();
    lines.last = at;
    Ok(())
}

fn of(all: &mut BTreeMap<SnapshotId, Lines>, id: [u8; 16]) -> &mut Lines {
    all.entry(SnapshotId::from_bytes(id)).or_default()
}

impl Lines {
    /// What was before is over.
    fn begin(&mut self, at: u64) {
        *self = Self {
            origin: Some(at),
            descent: self.descent,
            ..Self::default()
        };
    }

    fn keep(&self, is_in_line: bool, keep: &mut BTreeSet<u64>) {
        let descent = self.descent.map(|(at, _)| at).filter(|_| is_in_line);
        keep.extend(descent);
        if self.is_deleted {
            // The descent alone would say that it is there.
            keep.extend(self.origin.filter(|_| descent.is_some()));
            return;
        }
        keep.extend(self.origin);
        keep.extend(self.renamed);
        keep.extend(self.pinned);
        keep.extend(self.leases.values());
        if self.renamed.or(self.pinned).is_none() && self.leases.is_empty() {
            // Behind a `Deleted` it says that the id is known.
            keep.insert(self.last);
        }
    }
}
