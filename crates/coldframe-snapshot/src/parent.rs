//! What a diff may be taken on: a published snapshot, or a capture that is not published yet.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use coldframe_units::{RamLayout, SnapshotId};

use crate::flight::{Core, Ledger};
use crate::{Frozen, Snapshot, SnapshotError};

/// What a diff may be taken on: a [`Snapshot`], a [`Frozen`] or its [`Unpublished`] handle.
pub trait AsParent: fmt::Debug + sealed::Linked {}

pub(crate) mod sealed {
    use super::ParentLink;

    pub trait Linked {
        fn link(&self) -> ParentLink;
    }
}

/// A parent, by whichever way it was named.
#[derive(Clone, Debug)]
pub enum ParentLink {
    Published(Box<Snapshot>),
    Unpublished(Unpublished),
}

impl ParentLink {
    pub fn id(&self) -> SnapshotId {
        match self {
            Self::Published(snapshot) => snapshot.id(),
            Self::Unpublished(handle) => handle.id(),
        }
    }

    pub fn path(&self) -> &Path {
        match self {
            Self::Published(snapshot) => snapshot.path(),
            Self::Unpublished(handle) => handle.dest(),
        }
    }

    /// Checks that a child may have this memory.
    pub fn check_ram(&self, ram: &RamLayout) -> Result<(), SnapshotError> {
        let found = match self {
            Self::Published(snapshot) => &snapshot.manifest().ram,
            Self::Unpublished(handle) => &handle.core.layout,
        };
        if found == ram {
            return Ok(());
        }
        let path = self.path().to_path_buf();
        Err(SnapshotError::Disagree {
            path,
            what: "RAM layout",
        })
    }
}

/// A handle to a capture that was copied: the next diff names it as its parent while it is being
/// published on another thread.
///
/// As long as one is kept, the snapshot that it becomes is not deleted.
#[derive(Clone, Debug)]
pub struct Unpublished {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) core: Arc<Core>,
}

impl Unpublished {
    /// The id that the snapshot will have.
    #[must_use]
    pub fn id(&self) -> SnapshotId {
        self.core.id
    }

    /// Where it will be.
    #[must_use]
    pub fn dest(&self) -> &Path {
        &self.core.dest
    }

    /// Blocks until the capture was published. It must be on its way on another thread: one that
    /// is neither published nor dropped keeps this waiting for ever.
    ///
    /// # Errors
    /// [`SnapshotError::ParentFailed`] if it failed or was dropped.
    pub fn wait(&self) -> Result<(), SnapshotError> {
        self.outcome(true).map(drop)
    }
}

impl sealed::Linked for Snapshot {
    fn link(&self) -> ParentLink {
        ParentLink::Published(Box::new(self.clone()))
    }
}

impl sealed::Linked for Unpublished {
    fn link(&self) -> ParentLink {
        ParentLink::Unpublished(self.clone())
    }
}

impl sealed::Linked for Frozen {
    fn link(&self) -> ParentLink {
        ParentLink::Unpublished(self.handle())
    }
}

impl<T: sealed::Linked + ?Sized> sealed::Linked for &T {
    fn link(&self) -> ParentLink {
        (**self).link()
    }
}

impl AsParent for Snapshot {}
impl AsParent for Unpublished {}
impl AsParent for Frozen {}
impl<T: AsParent + ?Sized> AsParent for &T {}
