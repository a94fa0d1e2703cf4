//! The last steps of every snapshot, however it was made: state, manifest, one rename.
//!
//! Invariant: the manifest is written when memory and state are whole; the directory gets its
//! name when all three are durable.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use coldframe_envelope::Producer;
use coldframe_manifest::{
    Disk, FileRef, HostSummary, Manifest, PARENT_NAME_BYTES_MAX, Parent, SnapshotKind, Timestamp,
};
use coldframe_storage::{PendingDir, Storage, fill_random};
use coldframe_units::{Arch, ByteLen, FileOffset, PageSize, RamLayout, RootHash, SnapshotId};

use crate::files::{MANIFEST, STATE};
use crate::lease::Lease;
use crate::{Snapshot, SnapshotError, children, files};

/// A state file's bytes, with the root and the host summary that go into the manifest.
pub(crate) struct StateBytes {
    pub bytes: Vec<u8>,
    pub root: RootHash,
    pub host: Option<HostSummary>,
}

/// What the manifest of a snapshot will say, but for its files.
pub(crate) struct Description {
    pub producer: Producer,
    pub arch: Option<Arch>,
    pub base: Option<Base>,
    pub ram: RamLayout,
    pub page_size: PageSize,
    pub disks: Vec<Disk>,
    pub labels: BTreeMap<String, String>,
}

/// What a diff was made against; a full snapshot has none.
pub(crate) struct Base {
    parent: Parent,
    name: Option<Vec<u8>>,
}

impl Base {
    pub fn of(snapshot: &Snapshot) -> Self {
        Self::at(name_of(snapshot), snapshot.path())
    }

    /// The snapshot in the directory `path`, which is looked for under its name.
    pub fn at(parent: Parent, path: &Path) -> Self {
        let path = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        let name = path.file_name().map(|name| name.as_bytes().to_vec());
        let name = name.filter(|name| name.len() <= PARENT_NAME_BYTES_MAX);
        Self { parent, name }
    }
}

/// A snapshot id that was never used.
pub(crate) fn new_id() -> Result<SnapshotId, SnapshotError> {
    let mut bytes = [0; 16];
    fill_random(&mut bytes).map_err(SnapshotError::Random)?;
    Ok(SnapshotId::from_bytes(bytes))
}

/// How a child names a snapshot.
pub(crate) fn name_of(snapshot: &Snapshot) -> Parent {
    Parent {
        id: snapshot.id(),
        root: snapshot.root(),
    }
}

/// Holds a parent for as long as a child at `dest` is being made. One in another directory is told
/// of the child's there.
pub(crate) fn hold(
    parent: &Snapshot,
    dest: &Path,
    producer: Producer,
) -> Result<Lease, SnapshotError> {
    let lease = Lease::take(parent)?;
    note_elsewhere(parent.path(), parent.id(), dest, producer)?;
    Ok(lease)
}

/// Notes a child at `dest` in its parent's directory, if that is another.
pub(crate) fn note_elsewhere(
    parent: &Path,
    id: SnapshotId,
    dest: &Path,
    producer: Producer,
) -> Result<(), SnapshotError> {
    let dest = std::path::absolute(dest).unwrap_or_else(|_| dest.to_path_buf());
    let child_dir = dest.parent().unwrap_or(&dest);
    let child_dir = child_dir
        .canonicalize()
        .unwrap_or_else(|_| child_dir.to_path_buf());
    let parent_dir = files::beside(parent);
    if parent_dir == child_dir {
        return Ok(());
    }
    children::note(&parent_dir, id, &child_dir, producer).map_err(|source| {
        SnapshotError::NoteChild {
            dir: parent_dir,
            source: Box::new(source),
        }
    })
}

/// Writes state and manifest beside the memory file that is in `pending` already, and publishes.
/// `parent` is held until then.
pub(crate) fn publish(
    pending: PendingDir,
    id: SnapshotId,
    description: Description,
    memory: FileRef,
    state: Option<StateBytes>,
    parent: Option<&Lease>,
) -> Result<Snapshot, SnapshotError> {
    publish_held(pending, id, description, memory, state, parent).map(|(snapshot, _)| snapshot)
}

/// As [`publish`]; the snapshot is held before it has its name. `None` where that cannot be.
pub(crate) fn publish_held(
    pending: PendingDir,
    id: SnapshotId,
    description: Description,
    memory: FileRef,
    state: Option<StateBytes>,
    parent: Option<&Lease>,
) -> Result<(Snapshot, Option<Lease>), SnapshotError> {
    let state_ref = state.as_ref().map(|state| FileRef {
        len: ByteLen::new(state.bytes.len() as u64),
        root: state.root,
    });
    if let Some(state) = &state {
        write(&pending, STATE, &state.bytes)?;
    }
    let (kind, parent_name) = match description.base {
        None => (SnapshotKind::Full, None),
        Some(Base { parent, name }) => (SnapshotKind::Diff { parent }, name),
    };
    let manifest = Manifest {
        producer: description.producer,
        arch: description.arch,
        id,
        kind,
        parent_name,
        created: now(),
        ram: description.ram,
        page_size: description.page_size,
        memory,
        state: state_ref,
        host: state.and_then(|state| state.host),
        disks: description.disks,
        labels: description.labels,
    };
    let (bytes, root) = manifest.encode().map_err(|source| SnapshotError::Encode {
        file: MANIFEST,
        source,
    })?;
    write(&pending, MANIFEST, &bytes)?;
    let own = Lease::of(pending.path(), Parent { id, root });
    if let Some(parent) = parent {
        parent.check()?;
    }
    // As it will be read, not as it was meant.
    let decoded = Manifest::decode(&bytes).map_err(|source| SnapshotError::Decode {
        path: pending.path().join(MANIFEST),
        source,
    });
    let (manifest, root) = decoded?;
    let path = pending.publish().map_err(SnapshotError::Storage)?;
    Ok((Snapshot::new(path, manifest, root), own.ok()))
}

fn write(pending: &PendingDir, name: &str, bytes: &[u8]) -> Result<(), SnapshotError> {
    let file = pending.file(name).map_err(SnapshotError::Storage)?;
    file.write_at(FileOffset::ZERO, bytes)
        .map_err(SnapshotError::Storage)
}

/// A directory to be published at `dest`.
///
/// A name that has a meaning among snapshots is refused: the catalog, its notes, temporary names.
pub(crate) fn pending(dest: &Path) -> Result<PendingDir, SnapshotError> {
    if files::is_reserved(dest.file_name().unwrap_or_default()) {
        let path = dest.to_path_buf();
        return Err(SnapshotError::ReservedName { path });
    }
    PendingDir::create(dest).map_err(SnapshotError::Storage)
}

fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp {
        seconds: since.as_secs(),
        nanos: since.subsec_nanos(),
    }
}
