//! Captures in flight: copied, and neither published nor dropped.
//!
//! Each capture that was copied has a sequence number, and owns the pages that changed between the
//! copy before it and its own. Invariants:
//!
//! - A Diff is admitted only if its pages are all that changed since its parent was copied: the
//!   parent is the newest capture in flight and no published capture is newer, or it is the
//!   baseline and no capture in flight is newer than it.
//! - The baseline is the published capture of the highest sequence number. A capture that is
//!   published late does not become it.
//! - A capture that fails gives its pages back to the bitmap at once, and so does, with it, each
//!   later one that named it as its parent: without it that one can never be published. Pages may
//!   so be in a later Diff for nothing, but none is ever left out.
//! - A page in `discarded` was given back by the guest and not written since (as far as harvested):
//!   it is zero, whichever capture asks. Of these, `owed` are those that the next Diff must name.
//!
//! Locks: the books are the only one; the bitmap has none.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use coldframe_dirty::{DirtyBitmap, DirtyPages};
use coldframe_manifest::Parent;
use coldframe_units::{RamLayout, RootHash, SnapshotId};

use crate::SnapshotError;
use crate::lease::Lease;
use crate::parent::{ParentLink, Unpublished};

/// The captures of one tracker.
#[derive(Debug)]
pub(crate) struct Ledger {
    books: Mutex<Books>,
    /// A capture begins to be published, was published, or failed.
    changed: Condvar,
}

#[derive(Debug)]
struct Books {
    bitmap: DirtyBitmap,
    baseline: Option<SnapshotId>,
    /// Of the baseline; what was there from the beginning has 0.
    baseline_seq: u64,
    last_seq: u64,
    /// Oldest first.
    flights: Vec<Flight>,
    discarded: Arc<DirtyPages>,
    owed: DirtyPages,
}

#[derive(Debug)]
struct Flight {
    core: Arc<Core>,
    /// The sequence number of a parent that was not published when this was copied.
    parent: Option<u64>,
    changed: Arc<DirtyPages>,
}

/// A capture that was copied, as all that have to do with it see it.
#[derive(Debug)]
pub(crate) struct Core {
    seq: u64,
    pub id: SnapshotId,
    pub dest: PathBuf,
    pub layout: RamLayout,
    /// Set under the lock of the books, as `fate`.
    is_publishing: AtomicBool,
    fate: OnceLock<Fate>,
}

/// How a capture ended.
#[derive(Debug)]
enum Fate {
    Published(Named),
    Failed,
}

/// A published capture, as a child needs it.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    /// The id, and the root of the manifest.
    pub parent: Parent,
    /// The root of the memory file.
    pub memory: RootHash,
    /// It is not deleted while this lives.
    pub lease: Option<Arc<Lease>>,
}

/// What a capture copies.
#[derive(Debug)]
pub(crate) struct Taken {
    /// What changed since the copy before.
    pub changed: Arc<DirtyPages>,
    /// What reads as zero, whatever it holds.
    pub discarded: Arc<DirtyPages>,
}

impl Ledger {
    pub fn new(bitmap: DirtyBitmap, baseline: Option<SnapshotId>) -> Arc<Self> {
        let none = no_pages(&bitmap);
        Arc::new(Self {
            books: Mutex::new(Books {
                bitmap,
                baseline,
                baseline_seq: 0,
                last_seq: 0,
                flights: Vec::new(),
                discarded: Arc::new(none.clone()),
                owed: none,
            }),
            changed: Condvar::new(),
        })
    }

    /// What a panicking thread leaves is as good as what was before: each change is one step.
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn baseline(&self) -> Option<SnapshotId> {
        self.books().baseline
    }

    pub fn in_flight(&self) -> Vec<SnapshotId> {
        let books = self.books();
        books.flights.iter().map(|flight| flight.core.id).collect()
    }

    /// Pages that are zero from now on, until they are written again. All that was written to
    /// them before is in the bitmap.
    pub fn discard(&self, pages: &DirtyPages) {
        let mut books = self.books();
        books.bitmap.forget(pages);
        let pages = books.fit(pages);
        // The RAM may have another length than when the others were discarded.
        let joined = union(&pages, &books.discarded);
        books.discarded = Arc::new(joined);
        books.owed = union(&pages, &books.owed);
    }

    /// Whether a Diff on `parent` that is copied now has all that changed since.
    pub fn check_parent(
        self: &Arc<Self>,
        parent: Option<&ParentLink>,
    ) -> Result<(), SnapshotError> {
        self.parent_seq(&self.books(), parent).map(drop)
    }

    /// Takes what changed for a capture. All writes are in the bitmap already.
    pub fn take(
        self: &Arc<Self>,
        id: SnapshotId,
        dest: &Path,
        parent: Option<&ParentLink>,
        layout: &RamLayout,
    ) -> Result<(InFlight, Taken), SnapshotError> {
        let mut books = self.books();
        let parent = self.parent_seq(&books, parent)?;
        let written = books.bitmap.take().into_pages();
        let mut discarded = written.resized_like(&books.discarded);
        remove(&mut discarded, &written);
        let owed = written.resized_like(&books.owed);
        let changed = Arc::new(union(&written, &owed));
        books.owed = no_pages(&books.bitmap);
        books.discarded = Arc::new(discarded);
        books.last_seq += 1;
        let core = Arc::new(Core {
            seq: books.last_seq,
            id,
            dest: dest.to_path_buf(),
            layout: layout.clone(),
            is_publishing: AtomicBool::new(false),
            fate: OnceLock::new(),
        });
        books.flights.push(Flight {
            core: core.clone(),
            parent,
            changed: changed.clone(),
        });
        let taken = Taken {
            changed,
            discarded: books.discarded.clone(),
        };
        let ledger = self.clone();
        Ok((InFlight { ledger, core }, taken))
    }

    /// The sequence number of a parent in flight; an error if a Diff on `parent` would lack pages.
    fn parent_seq(
        self: &Arc<Self>,
        books: &Books,
        parent: Option<&ParentLink>,
    ) -> Result<Option<u64>, SnapshotError> {
        let Some(parent) = parent else {
            return Ok(None);
        };
        let not_baseline = || SnapshotError::Baseline {
            path: parent.path().to_path_buf(),
            baseline: books.baseline,
        };
        let newest = books.flights.last();
        let in_flight = |newest: &Flight| SnapshotError::InFlight {
            path: parent.path().to_path_buf(),
            newer: newest.core.dest.clone(),
        };
        if let ParentLink::Unpublished(Unpublished { ledger, core }) = parent {
            if !Arc::ptr_eq(ledger, self) {
                return Err(not_baseline());
            }
            match core.fate.get() {
                Some(Fate::Failed) => return Err(core.failed_parent()),
                // From here on as any published snapshot.
                Some(Fate::Published(_)) => {}
                None => {
                    return match newest {
                        _ if books.baseline_seq > core.seq => Err(not_baseline()),
                        Some(newest) if newest.core.seq > core.seq => Err(in_flight(newest)),
                        _ => Ok(Some(core.seq)),
                    };
                }
            }
        }
        if books.baseline != Some(parent.id()) {
            return Err(not_baseline());
        }
        match newest.filter(|newest| newest.core.seq > books.baseline_seq) {
            Some(newest) => Err(in_flight(newest)),
            None => Ok(None),
        }
    }

    /// A capture will not be published: its pages go back, and those of its children.
    fn fail(&self, seq: u64) {
        let mut books = self.books();
        let mut failed = vec![seq];
        // Children are younger: one pass from the oldest on finds all of them.
        let (gone, left) = std::mem::take(&mut books.flights)
            .into_iter()
            .partition(|flight| {
                let fails = flight.core.seq == seq
                    || flight.parent.is_some_and(|parent| failed.contains(&parent));
                if fails {
                    failed.push(flight.core.seq);
                }
                fails
            });
        books.flights = left;
        for flight in Vec::<Flight>::into_iter(gone) {
            books.give_back(&flight.changed);
            let _ = flight.core.fate.set(Fate::Failed);
        }
        drop(books);
        self.changed.notify_all();
    }
}

impl Books {
    /// The same pages of the RAM as the bitmap has it now.
    fn fit(&self, pages: &DirtyPages) -> DirtyPages {
        no_pages(&self.bitmap).resized_like(pages)
    }

    /// Pages of a capture that is not: what was discarded since stays so.
    fn give_back(&mut self, changed: &DirtyPages) {
        let changed = self.fit(changed);
        let mut written = changed.clone();
        remove(&mut written, &self.fit(&self.discarded));
        self.bitmap.put_back(&written);
        let mut owed = changed;
        remove(&mut owed, &written);
        self.owed = union(&self.fit(&self.owed), &owed);
    }
}

/// A capture between copy and publication; dropped before, it fails.
#[derive(Debug)]
pub(crate) struct InFlight {
    ledger: Arc<Ledger>,
    core: Arc<Core>,
}

impl InFlight {
    /// What others may hold of it.
    pub fn handle(&self) -> Unpublished {
        Unpublished {
            ledger: self.ledger.clone(),
            core: self.core.clone(),
        }
    }

    /// Says that it is being published: the publication of a child waits for it from now on.
    ///
    /// # Errors
    /// [`SnapshotError::ParentFailed`] if its parent has failed meanwhile.
    pub fn begin_publishing(&self) -> Result<(), SnapshotError> {
        let books = self.ledger.books();
        if self.core.fate.get().is_some() {
            return Err(self.core.failed_parent());
        }
        self.core.is_publishing.store(true, Ordering::Relaxed);
        drop(books);
        self.ledger.changed.notify_all();
        Ok(())
    }

    /// It is published: the baseline, unless a newer one is, and what its children are built on.
    pub fn published(self, named: Named) {
        let mut books = self.ledger.books();
        books
            .flights
            .retain(|flight| flight.core.seq != self.core.seq);
        if self.core.seq > books.baseline_seq {
            books.baseline = Some(self.core.id);
            books.baseline_seq = self.core.seq;
        }
        let _ = self.core.fate.set(Fate::Published(named));
        drop(books);
        self.ledger.changed.notify_all();
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.core.fate.get().is_none() {
            self.ledger.fail(self.core.seq);
        }
    }
}

impl Core {
    fn failed_parent(&self) -> SnapshotError {
        let path = self.dest.clone();
        SnapshotError::ParentFailed { path }
    }
}

impl Unpublished {
    /// What it was published as, if it is, or is being published now.
    pub(crate) fn named(&self) -> Result<Named, SnapshotError> {
        self.outcome(false)
    }

    /// Whether a child may be published, if it waits for this.
    pub(crate) fn check(&self) -> Result<(), SnapshotError> {
        let _books = self.ledger.books();
        match self.core.fate.get() {
            Some(Fate::Published(_)) => Ok(()),
            Some(Fate::Failed) => Err(self.core.failed_parent()),
            None if self.core.is_publishing.load(Ordering::Relaxed) => Ok(()),
            None => {
                let path = self.core.dest.clone();
                Err(SnapshotError::ParentUnpublished { path })
            }
        }
    }

    pub(crate) fn outcome(&self, waits_for_begin: bool) -> Result<Named, SnapshotError> {
        let mut books = self.ledger.books();
        loop {
            match self.core.fate.get() {
                Some(Fate::Published(named)) => return Ok(named.clone()),
                Some(Fate::Failed) => return Err(self.core.failed_parent()),
                None if waits_for_begin || self.core.is_publishing.load(Ordering::Relaxed) => {}
                None => {
                    let path = self.core.dest.clone();
                    return Err(SnapshotError::ParentUnpublished { path });
                }
            }
            let woken = self.ledger.changed.wait(books);
            books = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn no_pages(bitmap: &DirtyBitmap) -> DirtyPages {
    DirtyPages::new(bitmap.ram(), bitmap.page_size())
        .expect("a bitmap has a RAM that can be tracked")
}

/// All pages of two sets of one RAM.
fn union(one: &DirtyPages, other: &DirtyPages) -> DirtyPages {
    let mut joined = one.clone();
    joined
        .union(&one.resized_like(other))
        .expect("sets of one RAM");
    joined
}

/// Takes pages out of a set.
fn remove(from: &mut DirtyPages, pages: &DirtyPages) {
    let pages = from.resized_like(pages);
    from.subtract(&pages).expect("sets of one RAM");
}
