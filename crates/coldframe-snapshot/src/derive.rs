//! Snapshots made of snapshots: a diff between two, a chain folded into one.
//!
//! The machine's state, the disks and the labels are those of the youngest snapshot that went in.

use std::path::Path;

use coldframe_envelope::Producer;
use coldframe_manifest::FileRef;
use coldframe_mem::{FilePool, MemError, MemRoot, MemoryFile, Rewrite, Verify};
use coldframe_storage::FileStorage;
use coldframe_units::{PageSize, SnapshotId};

use crate::files::MEMORY;
use crate::publication::{self, Base, Description, StateBytes};
use crate::{Chain, Snapshot, SnapshotError};

/// Makes a diff snapshot whose parent is the youngest of `a` and which leads to the memory and the
/// state of the youngest of `b`. Both must be of the same memory layout.
///
/// # Errors
/// [`SnapshotError::Memory`], [`SnapshotError::Storage`] and those of opening either.
pub fn diff(
    a: &Chain,
    b: &Chain,
    dest: &Path,
    producer: Producer,
) -> Result<Snapshot, SnapshotError> {
    let (from, to) = (a.memory()?, b.memory()?);
    let page_size = from.page_size().min(to.page_size());
    let write =
        |rewrite: &Rewrite, memory: &FileStorage| coldframe_mem::diff(&from, &to, rewrite, memory);
    publish(
        b.youngest(),
        Some(a.youngest()),
        page_size,
        dest,
        producer,
        write,
    )
}

/// Folds a chain into one snapshot: into a full one, or into a diff whose parent is the link of
/// the id `down_to`.
///
/// # Errors
/// [`SnapshotError::NotInChain`]; else as [`diff`].
pub fn merge(
    chain: &Chain,
    down_to: Option<SnapshotId>,
    dest: &Path,
    producer: Producer,
) -> Result<Snapshot, SnapshotError> {
    let youngest = chain.youngest();
    let memory = chain.memory()?;
    let page_size = memory.page_size();
    let Some(id) = down_to else {
        let write =
            |rewrite: &Rewrite, file: &FileStorage| coldframe_mem::flatten(&memory, rewrite, file);
        return publish(youngest, None, page_size, dest, producer, write);
    };
    let ancestor = chain.links().iter().position(|link| link.id() == id);
    let (ancestor, younger) = ancestor
        .and_then(|index| Some((chain.links().get(index)?, chain.links().get(index + 1..)?)))
        .filter(|(_, younger)| !younger.is_empty())
        .ok_or_else(|| SnapshotError::NotInChain {
            path: youngest.path().to_path_buf(),
            id,
        })?;
    let pool = FilePool::default();
    let files = younger.iter().map(|link| link.memory_source(&pool));
    let files: Vec<MemoryFile> = files.collect::<Result<_, _>>()?;
    let page_sizes = younger.iter().map(|link| link.manifest().page_size);
    let page_size = page_sizes.min().unwrap_or(page_size);
    let write = |rewrite: &Rewrite, file: &FileStorage| coldframe_mem::merge(&files, rewrite, file);
    publish(youngest, Some(ancestor), page_size, dest, producer, write)
}

/// Publishes a snapshot that is `like` an older one but for its memory, which `write` writes.
fn publish(
    like: &Snapshot,
    parent: Option<&Snapshot>,
    page_size: PageSize,
    dest: &Path,
    producer: Producer,
    write: impl FnOnce(&Rewrite, &FileStorage) -> Result<MemRoot, MemError>,
) -> Result<Snapshot, SnapshotError> {
    let manifest = like.manifest();
    let lease = parent.map(|parent| publication::hold(parent, dest, producer));
    let lease = lease.transpose()?;
    let pending = publication::pending(dest)?;
    let memory = pending.file(MEMORY).map_err(SnapshotError::Storage)?;
    let rewrite = Rewrite {
        producer,
        verify: Verify::Yes,
    };
    let MemRoot { root, file_len, .. } = write(&rewrite, &memory).map_err(SnapshotError::Memory)?;
    drop(memory);
    let state = match manifest.state {
        None => None,
        Some(reference) => Some(StateBytes {
            bytes: like.state()?.bytes().to_vec(),
            root: reference.root,
            host: manifest.host,
        }),
    };
    let description = Description {
        producer,
        arch: manifest.arch,
        base: parent.map(Base::of),
        ram: manifest.ram.clone(),
        page_size,
        disks: manifest.disks.clone(),
        labels: manifest.labels.clone(),
    };
    let memory = FileRef {
        len: file_len,
        root,
    };
    publication::publish(
        pending,
        publication::new_id()?,
        description,
        memory,
        state,
        lease.as_ref(),
    )
}
