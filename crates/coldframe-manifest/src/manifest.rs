//! What a manifest says, and the rules that hold between its parts.
//!
//! Invariant of a [`Manifest`] that was decoded: [`Manifest::check`] holds. One that was put
//! together by hand is checked by [`Manifest::encode`].

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use coldframe_envelope::{EncodeError, Producer};
use coldframe_units::{Arch, ByteLen, PageSize, RamLayout, RootHash, SnapshotId};

use crate::host::HostSummary;
use crate::layout::{
    DISK_COUNT_MAX, DISK_NAME_BYTES_MAX, LABEL_COUNT_MAX, LABEL_KEY_BYTES_MAX,
    LABEL_VALUE_BYTES_MAX, PARENT_NAME_BYTES_MAX, REGION_COUNT_MAX,
};

/// One snapshot: who it is, what it stands on, and the roots of its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Who wrote it.
    pub producer: Producer,
    /// The guest's architecture; `None` if nobody said (an import of bare memory).
    pub arch: Option<Arch>,
    /// The identity of the snapshot; never all zero.
    pub id: SnapshotId,
    /// Whether it stands alone.
    pub kind: SnapshotKind,
    /// The name of the parent's directory when this was made: where the parent is looked for
    /// first. It may have been renamed since. 1 to 255 bytes, of a diff only.
    pub parent_name: Option<Vec<u8>>,
    /// When it was made.
    pub created: Timestamp,
    /// Where RAM lies in the guest.
    pub ram: RamLayout,
    /// The page size of the memory file.
    pub page_size: PageSize,
    /// The memory file.
    pub memory: FileRef,
    /// The state file; `None` if only memory was imported.
    pub state: Option<FileRef>,
    /// The host that it was made on; `None` if unknown.
    pub host: Option<HostSummary>,
    /// The guest's disks, in the VMM's order.
    pub disks: Vec<Disk>,
    /// Free text by key, for people and schedulers.
    pub labels: BTreeMap<String, String>,
}

/// Whether a snapshot stands alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotKind {
    /// It holds all of RAM, code 1.
    Full,
    /// It holds what changed since its parent, code 2.
    Diff {
        /// What it was made against.
        parent: Parent,
    },
}

/// The snapshot that a diff was made against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// Its identity: how it is found.
    pub id: SnapshotId,
    /// The root of its manifest: how it is checked.
    pub root: RootHash,
}

/// A point in time (UTC).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub seconds: u64,
    /// Nanoseconds of the second, below 1,000,000,000.
    pub nanos: u32,
}

/// One file of the snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileRef {
    /// How long it is.
    pub len: ByteLen,
    /// Its root.
    pub root: RootHash,
}

/// One disk of the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Its name, unique in the snapshot: 1 to 255 bytes, no control character, no `/`.
    pub name: String,
    /// The root of its chunk index.
    pub index: RootHash,
}

/// A rule that a manifest breaks.
pub(crate) enum Flaw {
    Invalid(&'static str),
    Limit {
        what: &'static str,
        limit: u64,
        found: u64,
    },
}

impl From<Flaw> for EncodeError {
    fn from(flaw: Flaw) -> Self {
        match flaw {
            Flaw::Invalid(field) => Self::Invalid { field },
            Flaw::Limit { what, limit, found } => Self::LimitExceeded { what, limit, found },
        }
    }
}

impl Manifest {
    /// What the snapshot was made against; `None` if it stands alone.
    #[must_use]
    pub const fn parent(&self) -> Option<Parent> {
        match self.kind {
            SnapshotKind::Full => None,
            SnapshotKind::Diff { parent } => Some(parent),
        }
    }

    /// Checks every rule that holds between the parts.
    ///
    /// # Errors
    /// [`EncodeError`] naming the field.
    pub fn check(&self) -> Result<(), EncodeError> {
        check_identity(self.id, self.kind, self.created)?;
        check_parent_name(self.kind, self.parent_name.as_deref())?;
        check_ram(&self.ram, self.page_size)?;
        check_disks(&self.disks)?;
        check_labels(&self.labels)?;
        Ok(())
    }
}

fn check_count(what: &'static str, found: usize, limit: u64) -> Result<(), Flaw> {
    let found = u64::try_from(found).unwrap_or(u64::MAX);
    if found > limit {
        return Err(Flaw::Limit { what, limit, found });
    }
    Ok(())
}

pub(crate) fn check_identity(
    id: SnapshotId,
    kind: SnapshotKind,
    created: Timestamp,
) -> Result<(), Flaw> {
    if *id.as_bytes() == [0; 16] {
        return Err(Flaw::Invalid("id"));
    }
    if created.nanos >= 1_000_000_000 {
        return Err(Flaw::Invalid("created_nanos"));
    }
    if let SnapshotKind::Diff { parent } = kind {
        if *parent.id.as_bytes() == [0; 16] || parent.id == id {
            return Err(Flaw::Invalid("parent_id"));
        }
        if *parent.root.as_bytes() == [0; 32] {
            return Err(Flaw::Invalid("parent_root"));
        }
    }
    Ok(())
}

pub(crate) fn check_parent_name(kind: SnapshotKind, name: Option<&[u8]>) -> Result<(), Flaw> {
    let Some(name) = name else {
        return Ok(());
    };
    let len_is_right = (1..=PARENT_NAME_BYTES_MAX).contains(&name.len());
    let is_one_name = !name.iter().any(|byte| matches!(byte, 0 | b'/'));
    let is_special = [&b"."[..], b".."].contains(&name);
    if kind == SnapshotKind::Full || !len_is_right || !is_one_name || is_special {
        return Err(Flaw::Invalid("parent_name"));
    }
    Ok(())
}

pub(crate) fn check_ram(ram: &RamLayout, page_size: PageSize) -> Result<(), Flaw> {
    check_count("ram region count", ram.regions().len(), REGION_COUNT_MAX)?;
    if page_size > PageSize::SIZE_2M {
        return Err(Flaw::Invalid("page_size_log2"));
    }
    match ram.check_pages(page_size) {
        Ok(()) => Ok(()),
        Err(_) => Err(Flaw::Invalid("ram regions")),
    }
}

pub(crate) fn check_disks(disks: &[Disk]) -> Result<(), Flaw> {
    check_count("disk count", disks.len(), DISK_COUNT_MAX)?;
    let mut names = BTreeSet::new();
    for disk in disks {
        let len_is_right = (1..=DISK_NAME_BYTES_MAX).contains(&disk.name.len());
        let clean = !disk.name.contains(|c: char| c.is_control() || c == '/');
        if !len_is_right || !clean || !names.insert(disk.name.as_str()) {
            return Err(Flaw::Invalid("disk name"));
        }
    }
    Ok(())
}

pub(crate) fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), Flaw> {
    check_count("label count", labels.len(), LABEL_COUNT_MAX)?;
    for (key, value) in labels {
        check_count("label key length", key.len(), LABEL_KEY_BYTES_MAX)?;
        check_count("label value length", value.len(), LABEL_VALUE_BYTES_MAX)?;
        let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'=';
        if key.is_empty() || !key.bytes().all(plain) {
            return Err(Flaw::Invalid("label key"));
        }
        if value.chars().any(char::is_control) {
            return Err(Flaw::Invalid("label value"));
        }
    }
    Ok(())
}
