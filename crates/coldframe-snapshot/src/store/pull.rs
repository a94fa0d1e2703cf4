//! Snapshots out of a store, one directory each, parents first.
//!
//! Invariants: a directory gets its name when every byte in it was checked; what was fetched before
//! an error stays under a temporary name, and the next pull goes on from there, believing none of
//! it unchecked.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use coldframe_chunks::{Backend, ChunkStore, PackStore, StoreError};
use coldframe_envelope::{HEADER_LEN, Limits};
use coldframe_memfile::{BlockPlan, BlockRow, MemFile, Piece};
use coldframe_storage::{
    FileStorage, IoContext, Operation, PendingDir, Storage, StorageError, create_dir_all,
};
use coldframe_units::{ByteLen, ChunkId, FileOffset, RootHash};

use super::error::storage;
use super::link::{Link, SKELETON_MAX, STATE_MAX, check_skeleton};
use super::nearby::Nearby;
use super::{Progress, TransferError};
use crate::files::{MANIFEST, MEMORY, STATE};
use crate::{SavedState, Snapshot, snapshots_in};

/// Blocks that are fetched at once; none of them stays in memory.
const BATCH: usize = 1024;

/// One snapshot of a chain that was pulled.
#[derive(Clone, Debug)]
pub struct PulledLink {
    /// The snapshot, under its final name.
    pub snapshot: Snapshot,
    /// Whether it was not there before.
    pub is_new: bool,
}

/// What a pull came to.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// The chain, the full snapshot first; never empty.
    pub links: Vec<PulledLink>,
    /// Blocks of the new snapshots, and what of them was fetched.
    pub progress: Progress,
}

impl Pulled {
    /// The snapshot that was asked for.
    #[must_use]
    pub fn youngest(&self) -> &Snapshot {
        let last = self.links.last().expect("a chain has at least one link");
        &last.snapshot
    }
}

/// Lays the chain of the manifest with this root under `dir`, each snapshot in a directory named by
/// its id. Those that are in `dir` already, under whatever name, stay as they are; blocks that are
/// in snapshots there or in `search` are not fetched.
///
/// # Errors
/// [`TransferError::Block`], [`TransferError::File`], [`TransferError::Manifest`] naming what the
/// store has lost; [`TransferError::Snapshot`] if one that is there is damaged;
/// [`TransferError::Storage`], for example if a name is taken by something else.
pub fn pull<B: Backend>(
    store: &PackStore<B>,
    root: RootHash,
    dir: &Path,
    search: &[PathBuf],
    progress: &mut (dyn FnMut(&Progress) + Send),
) -> Result<Pulled, TransferError> {
    let span = tracing::info_span!("pull", %root, dir = %dir.display());
    let _entered = span.enter();
    // What the root needs is not deleted while this is held. A place that may only be read has no
    // leases; what is lost meanwhile is an error that names it, so going on does no harm.
    let lease = store.backend().lease();
    if let Err(error) = &lease {
        tracing::warn!(%error, "no lease");
    }
    let links = Link::chain(store, root)?;
    create_dir_all(dir).map_err(storage)?;
    // What cannot be read here is fetched again: nothing takes the place of anything.
    let present = snapshots_in(dir).unwrap_or_default();
    let mut puller = Puller {
        store,
        dir,
        nearby: None,
        search,
        done: Progress::default(),
        progress,
    };
    let mut pulled = Vec::new();
    for link in &links {
        pulled.push(match present.readable().find(|s| s.root() == link.root) {
            Some(snapshot) => there(snapshot)?,
            None => puller.fetch(link)?,
        });
    }
    let progress = puller.done;
    tracing::info!(?progress, "pulled");
    Ok(Pulled {
        links: pulled,
        progress,
    })
}

/// A snapshot that is there already; its files are looked at, not read.
fn there(snapshot: &Snapshot) -> Result<PulledLink, TransferError> {
    let files = snapshot
        .memory_source(&coldframe_mem::FilePool::default())
        .and_then(|_| {
            let has_state = snapshot.manifest().state.is_some();
            has_state.then(|| snapshot.state()).transpose()
        });
    files.map_err(TransferError::Snapshot)?;
    Ok(PulledLink {
        snapshot: snapshot.clone(),
        is_new: false,
    })
}

struct Puller<'a, B: Backend> {
    store: &'a PackStore<B>,
    dir: &'a Path,
    /// Made when the first block is wanted.
    nearby: Option<Nearby>,
    search: &'a [PathBuf],
    done: Progress,
    progress: &'a mut (dyn FnMut(&Progress) + Send),
}

/// A block to fill in.
struct Wanted {
    row: BlockRow,
    plan: BlockPlan,
}

impl<B: Backend> Puller<'_, B> {
    fn fetch(&mut self, link: &Link) -> Result<PulledLink, TransferError> {
        let manifest = &link.manifest;
        let root = manifest.memory.root;
        let kept = self.store.kept(root, SKELETON_MAX, check_skeleton);
        let memory = kept.map_err(|source| file_error(link, "memory", source))?;
        let view = MemFile::open_skeleton(&memory, Limits::MEMORY_FILE);
        let view = view.map_err(|source| {
            file_error(link, "memory", StoreError::DamagedRoot { root, source })
        })?;
        link.check_memory(&view)?;
        let state = self.state(link)?;
        let dest = self.dir.join(manifest.id.to_string());
        let (pending, is_resumed) = match PendingDir::resume(&dest) {
            Err(error) if error.is_exists() => return taken(link, &dest, error),
            resumed => resumed.map_err(storage)?,
        };
        let filled = self.fill(link, &view, &memory, &pending, is_resumed);
        let filled = filled.and_then(|()| write_small(&pending, link, state.as_deref()));
        if let Err(error) = filled {
            // A later pull goes on with what was fetched; not where the store lacks what it needs.
            if !error.is_wanting() {
                pending.leave();
            }
            return Err(error);
        }
        match pending.publish() {
            Ok(_) => {
                let snapshot = Snapshot::open(&dest).map_err(TransferError::Snapshot)?;
                if let Some(nearby) = &mut self.nearby {
                    nearby.add(&snapshot);
                }
                let is_new = true;
                Ok(PulledLink { snapshot, is_new })
            }
            Err(error) if error.is_exists() => taken(link, &dest, error),
            Err(error) => Err(storage(error)),
        }
    }

    /// The state file, checked.
    fn state(&self, link: &Link) -> Result<Option<bytes::Bytes>, TransferError> {
        let Some(expected) = link.manifest.state else {
            return Ok(None);
        };
        let kept = self.store.kept(expected.root, STATE_MAX, SavedState::check);
        let bytes = kept.map_err(|source| file_error(link, "state", source))?;
        if bytes.len() as u64 != expected.len.get() {
            return Err(TransferError::Disagree {
                snapshot: link.manifest.id,
                what: "length of the state",
            });
        }
        Ok(Some(bytes))
    }

    /// Fills in the memory file: header and tables, then the pages.
    fn fill(
        &mut self,
        link: &Link,
        view: &MemFile<'_>,
        skeleton: &[u8],
        pending: &PendingDir,
        is_resumed: bool,
    ) -> Result<(), TransferError> {
        let file = pending.reopen(MEMORY).map_err(storage)?;
        let (header, tail) = skeleton.split_at(HEADER_LEN as usize);
        let len = view.file_len();
        // Only bytes of this very file were ever written behind this header.
        let is_begun = is_resumed && is_begun(&file, header, len).map_err(storage)?;
        let begin = || {
            if !is_begun {
                file.set_len(ByteLen::ZERO)?;
                file.set_len(len)?;
                file.write_at(FileOffset::ZERO, header)?;
            }
            file.write_at(view.tail_offset(), tail)
        };
        begin().map_err(storage)?;
        let damaged = |source| {
            let root = link.manifest.memory.root;
            file_error(link, "memory", StoreError::DamagedRoot { root, source })
        };
        let plans = || view.extents().map(|extents| extents.block_plans());
        let total = plans()
            .map_err(damaged)?
            .map(|plan| plan.hashed_len().get());
        self.done.total_bytes += total.sum::<u64>();
        let blocks = view.blocks().map_err(damaged)?;
        let mut batch = Vec::with_capacity(BATCH);
        for (plan, row) in plans().map_err(damaged)?.zip(blocks.iter_verified()) {
            let row = row.map_err(damaged)?;
            if is_begun && is_filled(&file, &plan, &row).map_err(storage)? {
                self.done.count(plan.hashed_len().get(), false);
                continue;
            }
            batch.push(Wanted { row, plan });
            if batch.len() == BATCH {
                self.fill_batch(link, &file, &batch)?;
                batch.clear();
            }
        }
        self.fill_batch(link, &file, &batch)
    }

    fn fill_batch(
        &mut self,
        link: &Link,
        file: &FileStorage,
        batch: &[Wanted],
    ) -> Result<(), TransferError> {
        let mut far: Vec<&Wanted> = Vec::new();
        for wanted in batch {
            match self.nearby().get(wanted.row.stored_id()) {
                Some(bytes) => {
                    write_block(link, file, wanted, &bytes)?;
                    self.done.count(bytes.len() as u64, false);
                }
                None => far.push(wanted),
            }
        }
        let ids: Vec<ChunkId> = far.iter().map(|wanted| wanted.row.stored_id()).collect();
        let state = Mutex::new((Ok(()), &mut self.done, &mut self.progress));
        self.store.visit_many(&ids, &|number, bytes| {
            let written = write_fetched(link, file, far[number], bytes);
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            let (result, done, progress) = &mut *state;
            match written {
                Ok(len) => {
                    done.count(len, true);
                    progress(done);
                    ControlFlow::Continue(())
                }
                Err(error) => {
                    *result = Err(error);
                    ControlFlow::Break(())
                }
            }
        });
        let (result, ..) = state.into_inner().unwrap_or_else(PoisonError::into_inner);
        result?;
        (self.progress)(&self.done);
        Ok(())
    }

    fn nearby(&mut self) -> &Nearby {
        let (dir, search) = (self.dir, self.search);
        self.nearby.get_or_insert_with(|| {
            let mut nearby = Nearby::default();
            let dirs = std::iter::once(dir).chain(search.iter().map(PathBuf::as_path));
            for listing in dirs.filter_map(|dir| snapshots_in(dir).ok()) {
                listing.readable().for_each(|found| nearby.add(found));
            }
            nearby
        })
    }
}

fn file_error(link: &Link, what: &'static str, source: StoreError) -> TransferError {
    TransferError::File {
        snapshot: link.manifest.id,
        what,
        source: Box::new(source),
    }
}

/// The name is taken: by another pull of the same snapshot, or by something else.
fn taken(link: &Link, dest: &Path, error: StorageError) -> Result<PulledLink, TransferError> {
    match Snapshot::open(dest) {
        Ok(snapshot) if snapshot.root() == link.root => there(&snapshot),
        _ => Err(storage(error)),
    }
}

/// Whether an earlier pull of this file got as far as its header.
fn is_begun(file: &FileStorage, header: &[u8], len: ByteLen) -> Result<bool, StorageError> {
    if file.len()? != len {
        return Ok(false);
    }
    let mut found = vec![0; header.len()];
    file.read_at(FileOffset::ZERO, &mut found)?;
    Ok(found == header)
}

/// Whether the block is there already.
fn is_filled(file: &FileStorage, plan: &BlockPlan, row: &BlockRow) -> Result<bool, StorageError> {
    let mut data = vec![0; plan.data_len().get() as usize];
    let mut at = 0;
    for (offset, len) in plan.data() {
        let end = at + len.get() as usize;
        file.read_at(offset, &mut data[at..end])?;
        at = end;
    }
    // Most of what was not filled in is still a hole.
    Ok(data.iter().any(|byte| *byte != 0) && row.matches(plan, &data) == Ok(true))
}

fn write_fetched(
    link: &Link,
    file: &FileStorage,
    wanted: &Wanted,
    bytes: Result<&[u8], StoreError>,
) -> Result<u64, TransferError> {
    let bytes = bytes.map_err(|source| TransferError::Block {
        snapshot: link.manifest.id,
        block: wanted.row.block,
        source: Box::new(source),
    })?;
    write_block(link, file, wanted, bytes)?;
    Ok(bytes.len() as u64)
}

/// Writes a block's data to where the extents say; its zeros are there already.
fn write_block(
    link: &Link,
    file: &FileStorage,
    wanted: &Wanted,
    bytes: &[u8],
) -> Result<(), TransferError> {
    let misfit = TransferError::Misfit {
        snapshot: link.manifest.id,
        block: wanted.row.block,
        chunk: wanted.row.stored_id(),
    };
    if bytes.len() as u64 != wanted.plan.hashed_len().get() {
        return Err(misfit);
    }
    let mut rest = bytes;
    for piece in wanted.plan.pieces() {
        let (Piece::Data { len, .. } | Piece::Zeros { len }) = *piece;
        let (now, later) = rest.split_at(len.get() as usize);
        rest = later;
        match *piece {
            Piece::Data { file_offset, .. } => file.write_at(file_offset, now).map_err(storage)?,
            Piece::Zeros { .. } if now.iter().all(|byte| *byte == 0) => {}
            Piece::Zeros { .. } => return Err(misfit),
        }
    }
    Ok(())
}

/// State and manifest, the manifest last.
fn write_small(
    pending: &PendingDir,
    link: &Link,
    state: Option<&[u8]>,
) -> Result<(), TransferError> {
    let write = |name: &str, bytes: &[u8]| {
        let file = pending.reopen(name)?;
        file.set_len(ByteLen::ZERO)?;
        file.write_at(FileOffset::ZERO, bytes)
    };
    match state {
        Some(bytes) => write(STATE, bytes).map_err(storage)?,
        None => forget(&pending.path().join(STATE)).map_err(storage)?,
    }
    write(MANIFEST, &link.bytes).map_err(storage)
}

/// Removes what an earlier pull may have left.
fn forget(path: &Path) -> Result<(), StorageError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).at(Operation::Remove, path)
        }
        _ => Ok(()),
    }
}
