//! Snapshots into a store: a chain's chunks first, then the files that name them, then the tag.

use coldframe_chunkfile::{Tag, TagKind};
use coldframe_chunks::{Backend, Block, PackStore, PutCount, Reference, StoreError, TagName};
use coldframe_envelope::DecodeError;
use coldframe_mem::{FilePool, MemError, MemoryFile};
use coldframe_memfile::{BlockPlan, Piece};
use coldframe_storage::StorageError;
use coldframe_units::{ChunkId, RootHash};

use super::error::{storage, store as failed};
use super::{Progress, TransferError};
use crate::files::{self, MANIFEST, MEMORY};
use crate::{Chain, Snapshot, SnapshotError};

/// Blocks that are read, hashed and compressed at once: 4 MiB.
const BATCH: usize = 64;

/// Where a tag that is there already may be moved to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// To a snapshot that is built on the one it points to.
    Forward,
    /// To any: what only the tag named is garbage then.
    Anywhere,
}

/// What a push came to.
#[derive(Clone, Copy, Debug)]
pub struct Pushed {
    /// The root of the youngest snapshot's manifest: what the tag points to.
    pub root: RootHash,
    /// Snapshots in the chain.
    pub snapshots: u64,
    /// Blocks, and what of them was sent.
    pub progress: Progress,
    /// What became of the chunks that were sent.
    pub put: PutCount,
    /// What the tag pointed to before, if it was there.
    pub before: Option<RootHash>,
}

/// Keeps a whole chain in a store, and points `tag` to its youngest snapshot. Blocks that the
/// store has are not even read; interrupted, it goes on from the packs that were written.
///
/// # Errors
/// [`TransferError::TagTaken`], [`TransferError::MissingDisk`] before anything is sent;
/// [`TransferError::DamagedBlock`]; [`TransferError::Snapshot`], [`TransferError::Store`].
pub fn push<B: Backend>(
    chain: &Chain,
    store: &PackStore<B>,
    tag: &TagName,
    moving: Move,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Pushed, TransferError> {
    let span = tracing::info_span!("push", %tag, snapshots = chain.links().len());
    let _entered = span.enter();
    let sender = Sender {
        push: store.push().map_err(failed)?,
    };
    let root = chain.youngest().root();
    let new = Tag::snapshot(root);
    let before = store.tag(tag).map_err(failed)?;
    check_move(chain, tag, before, moving)?;
    sender.check_disks(chain)?;
    let mut done = Progress::default();
    for link in chain.links() {
        done.total_bytes += survey(link)?;
    }
    progress(&done);
    for link in chain.links() {
        sender.send_blocks(link, &mut done, progress)?;
    }
    for link in chain.links() {
        sender.keep_files(link)?;
    }
    if before != Some(new) {
        sender.push.tag(tag, before, new).map_err(failed)?;
    }
    let put = sender.push.finish().map_err(failed)?;
    tracing::info!(?done, ?put, "pushed");
    Ok(Pushed {
        root,
        snapshots: chain.links().len() as u64,
        progress: done,
        put,
        before: before.map(|tag| tag.root),
    })
}

fn check_move(
    chain: &Chain,
    name: &TagName,
    before: Option<Tag>,
    moving: Move,
) -> Result<(), TransferError> {
    let Some(Tag { kind, root, .. }) = before else {
        return Ok(());
    };
    let name = name.clone();
    if kind != TagKind::Snapshot {
        return Err(TransferError::NotASnapshot { name });
    }
    let is_ancestor = chain.links().iter().any(|link| link.root() == root);
    if is_ancestor || moving == Move::Anywhere {
        return Ok(());
    }
    Err(TransferError::TagTaken { name, root })
}

/// The bytes of all blocks of a snapshot that have data; all its tables are checked.
fn survey(link: &Snapshot) -> Result<u64, TransferError> {
    let file = memory_of(link)?;
    file.verify_tables().map_err(unread)?;
    let plans = file.extents().map_err(unread)?.block_plans();
    Ok(plans.map(|plan| plan.hashed_len().get()).sum())
}

/// The memory file, for reading: a mapping would end in SIGBUS where the disk fails.
fn memory_of(link: &Snapshot) -> Result<MemoryFile, TransferError> {
    let file = link.memory_source(&FilePool::default());
    file.map_err(TransferError::Snapshot)
}

fn unread(error: MemError) -> TransferError {
    TransferError::Snapshot(files::of_memory(error))
}

fn refused(link: &Snapshot, source: DecodeError) -> TransferError {
    let path = link.path().join(MEMORY);
    TransferError::Snapshot(SnapshotError::Decode { path, source })
}

struct Sender<B: Backend> {
    push: coldframe_chunks::Push<B>,
}

/// A block to send.
struct Wanted {
    id: ChunkId,
    plan: BlockPlan,
}

impl<B: Backend> Sender<B> {
    fn check_disks(&self, chain: &Chain) -> Result<(), TransferError> {
        for manifest in chain.links().iter().map(Snapshot::manifest) {
            let mut disks = manifest.disks.iter();
            if let Some(disk) = disks.find(|disk| !self.push.has_root(disk.index)) {
                return Err(TransferError::MissingDisk {
                    snapshot: manifest.id,
                    disk: disk.name.clone(),
                    source: Box::new(StoreError::MissingRoot { root: disk.index }),
                });
            }
        }
        Ok(())
    }

    /// Sends the blocks that the store does not have.
    fn send_blocks(
        &self,
        link: &Snapshot,
        done: &mut Progress,
        progress: &mut dyn FnMut(&Progress),
    ) -> Result<(), TransferError> {
        let file = memory_of(link)?;
        let refused = |source| refused(link, source);
        let blocks = file.blocks().map_err(unread)?;
        let plans = file.extents().map_err(unread)?.block_plans();
        let (mut batch, mut room) = (Vec::with_capacity(BATCH), Vec::new());
        for (number, (plan, row)) in plans.zip(blocks.iter_verified()).enumerate() {
            let id = row.map_err(refused)?.stored_id();
            if self.push.has(id).map_err(failed)? {
                done.count(plan.hashed_len().get(), false);
            } else {
                batch.push(Wanted { id, plan });
            }
            if batch.len() == BATCH {
                self.send(&batch, &file, &mut room, done)?;
                batch.clear();
            }
            if number.is_multiple_of(BATCH) {
                progress(done);
            }
        }
        self.send(&batch, &file, &mut room, done)?;
        progress(done);
        Ok(())
    }

    fn send(
        &self,
        batch: &[Wanted],
        file: &MemoryFile,
        room: &mut Vec<u8>,
        done: &mut Progress,
    ) -> Result<(), TransferError> {
        let len = |wanted: &Wanted| wanted.plan.hashed_len().get() as usize;
        room.resize(batch.iter().map(len).sum(), 0);
        let mut rest = &mut room[..];
        for wanted in batch {
            let (block, later) = rest.split_at_mut(len(wanted));
            read_block(file, &wanted.plan, block).map_err(storage)?;
            rest = later;
        }
        let mut rest = &room[..];
        let blocks = batch.iter().map(|wanted| {
            let (bytes, later) = rest.split_at(len(wanted));
            rest = later;
            Block {
                bytes,
                expected: Some(wanted.id),
            }
        });
        let sent = self.push.put_blocks(&blocks.collect::<Vec<_>>());
        sent.map_err(|error| match error {
            StoreError::WrongBytes { id, .. } => TransferError::DamagedBlock {
                path: file.path().to_path_buf(),
                block: batch
                    .iter()
                    .find(|wanted| wanted.id == id)
                    .map_or(0, |wanted| wanted.plan.block()),
                expected: id,
            },
            other => failed(other),
        })?;
        for wanted in batch {
            done.count(wanted.plan.hashed_len().get(), true);
        }
        Ok(())
    }

    /// Keeps state, memory without pages, and manifest; all chunks are sent.
    fn keep_files(&self, link: &Snapshot) -> Result<(), TransferError> {
        let manifest = link.manifest();
        if manifest.state.is_some() {
            let state = link.state().map_err(TransferError::Snapshot)?;
            self.push.put_root(&[state.bytes()]).map_err(failed)?;
        }
        let file = memory_of(link)?;
        let refused = |source| refused(link, source);
        let blocks = file.blocks().map_err(unread)?;
        let plans = file.extents().map_err(unread)?.block_plans();
        let needs = plans.zip(blocks.iter_verified()).map(|(plan, row)| {
            row.map(|row| Reference::Chunk(row.stored_id(), plan.hashed_len().get()))
        });
        let needs: Vec<Reference> = needs.collect::<Result<_, _>>().map_err(refused)?;
        let (_, tail) = file.tail().map_err(unread)?;
        let parts = [file.header(), &tail];
        self.push.keep(&parts, needs).map_err(failed)?;
        let path = link.path().join(MANIFEST);
        let bytes = files::read_small(&path).map_err(TransferError::Snapshot)?;
        let files = [Some(manifest.memory), manifest.state];
        let files = files.into_iter().flatten().map(|file| file.root);
        let parent = manifest.parent().map(|parent| parent.root);
        let disks = manifest.disks.iter().map(|disk| disk.index);
        let needs = files.chain(parent).chain(disks).map(Reference::Root);
        let found = self.push.keep(&[&bytes], needs).map_err(failed)?;
        if found == link.root() {
            return Ok(());
        }
        let expected = link.root();
        Err(TransferError::Snapshot(SnapshotError::FileRoot {
            path,
            expected,
            found,
        }))
    }
}

/// The bytes that are hashed for a block.
fn read_block(file: &MemoryFile, plan: &BlockPlan, bytes: &mut [u8]) -> Result<(), StorageError> {
    let mut rest = bytes;
    for piece in plan.pieces() {
        let (Piece::Data { len, .. } | Piece::Zeros { len }) = *piece;
        let (now, later) = rest.split_at_mut(len.get() as usize);
        rest = later;
        match *piece {
            Piece::Zeros { .. } => now.fill(0),
            Piece::Data { file_offset, .. } => file.read_at(file_offset, now)?,
        }
    }
    Ok(())
}
