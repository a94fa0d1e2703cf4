//! Storing things: chunks, then the files that name them, then the tag that names those.
//!
//! Invariants: a push holds a lease, so what it found to be there stays there until it ends; what
//! the collector had condemned before is written anew. A file is kept only after every chunk of the
//! push is durable, a tag only after the file.

mod root;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coldframe_chunkfile::{PackBuilder, Tag};
use coldframe_units::{ChunkId, FileOffset};

use crate::backend::{Backend, Lease, TagName};
use crate::catalog::IdSet;
use crate::chunk::{Chunk, PutCount, check_len};
use crate::error::{build, storage};
use crate::known::RootFile;
use crate::ledger::Condemned;
use crate::prepare::{Batch, Input, Preparer};
use crate::publisher::{PIECE_BYTES, Publisher};
use crate::store::Inner;
use crate::{FileId, StoreError};

/// A chunk to store, as it is in the caller's memory.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    /// Its bytes.
    pub bytes: &'a [u8],
    /// The id that they are said to have: an error if they have another.
    pub expected: Option<ChunkId>,
}

/// Something that is being stored.
///
/// Chunks are gathered into packs that threads of its own write and publish one after the other;
/// one sync makes a whole pack durable. Dropped without [`Push::finish`] it leaves chunks that
/// nobody names, for the collector.
#[derive(Debug)]
pub struct Push<B: Backend> {
    inner: Arc<Inner<B>>,
    lease: Box<dyn Lease>,
    condemned: Condemned,
    /// The files that the ledger had when the push began.
    known: BTreeSet<RootFile>,
    /// The newest round of the collector then.
    round: Option<u64>,
    preparer: Preparer,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The last bytes of the pack that is being filled: they are not handed on yet.
    piece: Vec<u8>,
    builder: PackBuilder,
    /// Where the chunks of a pack begin.
    body_start: u64,
    /// Chunks that this push has taken and that may not be published yet.
    taken: IdSet,
    publisher: Publisher,
    /// Files by their root that the push has made or found, and not yet put into the ledger.
    files: BTreeSet<RootFile>,
    /// Those that it has put there.
    told: BTreeSet<RootFile>,
    /// Tags that are about to be made, and whose names are not put into the ledger yet.
    announced: BTreeSet<TagName>,
    /// The ledger as this push has read or written it last.
    ledger: crate::ledger::Read,
    /// How often something was taken, or said to be there, that the lease has to outlast.
    promises: u64,
    /// So many of them when the lease was confirmed last.
    confirmed: Option<u64>,
    count: PutCount,
    failed: bool,
}

impl<B: Backend> Push<B> {
    pub(crate) fn begin(inner: Arc<Inner<B>>) -> Result<Self, StoreError> {
        // The order matters. The lease comes first: whatever is condemned after it waits for it.
        // Then the ledger, then the packs: one that is not in the ledger any more is not listed.
        let lease = inner.backend.lease().map_err(storage)?;
        let ledger = crate::ledger::read(&inner.backend)?;
        inner.refresh()?;
        for (id, pack) in &ledger.ledger.damaged {
            inner.catalog_mut().mark_damaged(*id, FileId::new(*pack));
        }
        let condemned = ledger.condemned();
        let publisher = Publisher::start(Arc::clone(&inner));
        let builder = PackBuilder::new(inner.producer);
        let options = inner.options;
        Ok(Self {
            inner,
            lease,
            condemned,
            known: ledger.files(),
            round: ledger.round(),
            preparer: Preparer::new(options.compression, options.threads),
            state: Mutex::new(State {
                piece: Vec::new(),
                body_start: builder.end().get(),
                builder,
                taken: IdSet::default(),
                publisher,
                files: BTreeSet::new(),
                told: BTreeSet::new(),
                announced: BTreeSet::new(),
                ledger,
                promises: 0,
                confirmed: None,
                count: PutCount::default(),
                failed: false,
            }),
        })
    }

    /// Whether a chunk is there, and will be until this push ends.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`].
    pub fn has(&self, id: ChunkId) -> Result<bool, StoreError> {
        self.check_lease()?;
        let state = self.promise();
        Ok(state.taken.contains(&id) || self.is_kept(id))
    }

    /// Stores chunks, hashed and compressed by several threads; returns their ids, in order. Not
    /// durable before [`Push::flush`] or [`Push::finish`].
    ///
    /// # Errors
    /// [`StoreError::WrongBytes`], [`StoreError::ChunkLen`]: none of them was taken;
    /// [`StoreError::LeaseLost`], [`StoreError::Storage`], [`StoreError::PushFailed`].
    pub fn put_blocks(&self, blocks: &[Block<'_>]) -> Result<Vec<ChunkId>, StoreError> {
        for block in blocks {
            check_len(block.bytes.len())?;
        }
        let inputs = blocks.iter().map(|block| Input {
            bytes: block.bytes,
            id: block.expected,
            is_hashed: false,
        });
        let ids = self.put_inputs(&inputs.collect::<Vec<_>>())?;
        Ok(ids.into_iter().flatten().collect())
    }

    /// Stores blocks of these lengths that `read` fills, each by whichever thread is free; returns
    /// their ids, in order, `None` for those that are all zero, which are not stored. Not durable
    /// before [`Push::flush`] or [`Push::finish`].
    ///
    /// This is the fastest way in for what is not in memory: several blocks are read at the same
    /// time, and each is hashed and compressed while the processor still has it in its cache.
    ///
    /// ```
    /// use coldframe_chunks::{LocalStore, StoreError};
    ///
    /// # let dir = coldframe_testkit::scratch::on_disk();
    /// # let store = LocalStore::create(dir.path())?;
    /// let disk = [[1; 4096], [0; 4096], [2; 4096]]; // or a file, by `read_exact_at`
    /// let push = store.push()?;
    /// let ids = push.put_read(&[4096; 3], |number, block| {
    ///     block.copy_from_slice(&disk[number]);
    ///     Ok::<(), StoreError>(())
    /// })?;
    /// push.finish()?;
    /// assert!(ids[0].is_some() && ids[1].is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The first of `read`'s own: then none of the blocks was taken; [`StoreError::ChunkLen`],
    /// [`StoreError::MissingChunk`] if one that was there is lost meanwhile,
    /// [`StoreError::LeaseLost`], [`StoreError::Storage`], [`StoreError::PushFailed`].
    pub fn put_read<E: From<StoreError> + Send>(
        &self,
        lens: &[usize],
        read: impl Fn(usize, &mut [u8]) -> Result<(), E> + Sync,
    ) -> Result<Vec<Option<ChunkId>>, E> {
        lens.iter().try_for_each(|len| check_len(*len))?;
        let batch = self.preparer.read(lens, read, &|id| self.is_there(id))?;
        Ok(self.put(batch)?)
    }

    /// Stores chunks that are hashed already; see [`Push::put_blocks`].
    ///
    /// # Errors
    /// As [`Push::put_blocks`].
    pub fn put_chunks(&self, chunks: &[Chunk]) -> Result<(), StoreError> {
        let inputs = chunks.iter().map(|chunk| Input {
            bytes: chunk.bytes(),
            id: Some(chunk.id()),
            is_hashed: true,
        });
        self.put_inputs(&inputs.collect::<Vec<_>>()).map(drop)
    }

    /// As `self`, with more packs taken for absent.
    pub(crate) fn without(mut self, packs: &BTreeSet<FileId>) -> Self {
        self.condemned.packs.extend(packs);
        self
    }

    /// Makes all chunks durable that were put.
    ///
    /// # Errors
    /// [`StoreError::Storage`], [`StoreError::PushFailed`]: then none of the chunks since the last
    /// flush may be relied upon.
    pub fn flush(&self) -> Result<(), StoreError> {
        let mut state = self.state();
        self.close_pack(&mut state)?;
        let flushed = state.publisher.flush();
        state.failed |= flushed.is_err();
        flushed
    }

    /// Says that this tag will be made: its name goes into the ledger with whatever this push puts
    /// there next, instead of by a swap of its own.
    pub fn announce(&self, name: &TagName) {
        self.state().announced.insert(name.clone());
    }

    /// Compare-and-swaps tag `name` from `expected` to `new`; `None`: the tag must not exist.
    ///
    /// # Errors
    /// [`StoreError::TagMoved`] if it points to something else; [`StoreError::MissingRoot`] if
    /// `new` names a file that is not there or is about to be deleted: it must be pushed again,
    /// with all that it names; as [`Push::flush`]. [`StoreError::LeaseLost`]: the tag is pointed
    /// back to `expected`, unless that was deleted meanwhile; then it points to `new`.
    pub fn tag(&self, name: &TagName, expected: Option<Tag>, new: Tag) -> Result<(), StoreError> {
        self.flush()?;
        if !self.finds_root(new.root)? {
            return Err(StoreError::MissingRoot { root: new.root });
        }
        self.check_lease()?;
        let is_known = self.state().ledger.ledger.names.contains(name.as_str());
        if expected.is_none() && !is_known {
            self.announce(name);
        }
        self.know_all(Some(new.root))?;
        if let Err(lost) = self.check_lease() {
            self.forget_gone();
            return Err(lost);
        }
        crate::tags::swap(&self.inner, name, expected, Some(new))?;
        // Only now it is known that no collector took the lease for void before it could see the
        // tag: nothing that it needs was deleted.
        let confirmed = self.confirm_lease(expected.is_none().then_some(name));
        if confirmed.is_err()
            && let Err(error) = self.take_back(name, expected, new)
        {
            tracing::warn!(tag = %name, %error, "tag of a lost push left behind");
        }
        confirmed
    }

    /// Points a tag back to `expected`, unless a collector has condemned or deleted that: it may
    /// have seen the tag point to `new`, and then `new` is what it has kept.
    fn take_back(&self, name: &TagName, expected: Option<Tag>, new: Tag) -> Result<(), StoreError> {
        let Some(old) = expected else {
            return crate::tags::swap(&self.inner, name, Some(new), None);
        };
        // Under a lease of its own: what is condemned from now on waits for it, and the mark that
        // follows sees where the tag points to then.
        let push = Self::begin(Arc::clone(&self.inner))?;
        if !push.finds_root(old.root)? {
            return Err(StoreError::MissingRoot { root: old.root });
        }
        push.check_lease()?;
        crate::tags::swap(&self.inner, name, Some(new), expected)?;
        push.confirm_lease(None)
    }

    /// What was put so far.
    #[must_use]
    pub fn count(&self) -> PutCount {
        self.state().count
    }

    /// Makes all durable, and ends the lease.
    ///
    /// # Errors
    /// As [`Push::flush`].
    pub fn finish(self) -> Result<PutCount, StoreError> {
        self.flush()?;
        self.know_all(None)?;
        // What was taken before the last tag was confirmed with that.
        let is_confirmed = {
            let state = self.state();
            state.confirmed == Some(state.promises)
        };
        if !is_confirmed {
            self.confirm_lease(None)?;
        }
        Ok(self.count())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn check_lease(&self) -> Result<(), StoreError> {
        if self.lease.is_held() {
            Ok(())
        } else {
            Err(StoreError::LeaseLost)
        }
    }

    /// The state, of a push that is about to rely upon more than was confirmed.
    fn promise(&self) -> MutexGuard<'_, State> {
        let mut state = self.state();
        state.promises += 1;
        state
    }

    /// Sees that the lease has held until now, and that the name of a tag that was made is in the
    /// ledger.
    fn confirm_lease(&self, made: Option<&TagName>) -> Result<(), StoreError> {
        let promises = self.state().promises;
        // A listing may have left the lease out: the collector says which ones it has seen.
        let is_held = self.lease.confirm().map_err(storage)?;
        let ledger = crate::ledger::read(&self.inner.backend)?;
        // A collector that did not find the tag a moment ago may have taken the name out.
        if let Some(name) = made
            && !ledger.ledger.names.contains(name.as_str())
            && let Err(error) = crate::tags::know(&self.inner, name)
        {
            tracing::warn!(tag = %name, %error, "not in the ledger");
        }
        let is_overlooked = ledger.has_overlooked(self.lease.id().get(), self.round);
        let mut state = self.state();
        state.ledger = ledger;
        if is_held && !is_overlooked {
            state.confirmed = Some(promises);
            return Ok(());
        }
        drop(state);
        self.forget_gone();
        Err(StoreError::LeaseLost)
    }

    /// The lease is lost: what the ledger was told under it may have been deleted before.
    fn forget_gone(&self) {
        let told = self.state().told.clone();
        if let Err(error) = crate::known::forget_gone(&self.inner, &told) {
            tracing::warn!(%error, "files of a lost push stay in the ledger");
        }
    }

    fn is_kept(&self, id: ChunkId) -> bool {
        let packs: &BTreeSet<FileId> = &self.condemned.packs;
        self.inner.catalog().kept(id, packs).is_some()
    }

    fn is_there(&self, id: ChunkId) -> bool {
        self.is_kept(id) || self.state().taken.contains(&id)
    }

    fn put_inputs(&self, inputs: &[Input<'_>]) -> Result<Vec<Option<ChunkId>>, StoreError> {
        self.put(self.preparer.prepare(inputs, &|id| self.is_there(id))?)
    }

    /// Hands on what was prepared.
    fn put(&self, batch: Batch<'_>) -> Result<Vec<Option<ChunkId>>, StoreError> {
        self.take(&batch)?;
        let ids = batch.chunks.iter();
        let ids = ids
            .map(|chunk| chunk.as_ref().map(|chunk| chunk.id))
            .collect();
        self.preparer.give_back(batch);
        Ok(ids)
    }

    fn take(&self, batch: &Batch<'_>) -> Result<(), StoreError> {
        self.check_lease()?;
        let mut state = self.promise();
        if state.failed {
            return Err(StoreError::PushFailed);
        }
        for chunk in batch.chunks.iter().flatten() {
            if state.taken.contains(&chunk.id) || self.is_kept(chunk.id) {
                state.count.deduplicated += 1;
                continue;
            }
            // It was there a moment ago; just now someone has seen that it is damaged.
            let lost = StoreError::MissingChunk { id: chunk.id };
            let stored = batch.stored(chunk).ok_or(lost)?;
            let (raw_len, stored_len) = (len32(chunk.raw_len), len32(stored.len()));
            let end = state.builder.end().get() - state.body_start;
            let is_full = end + u64::from(stored_len) > self.inner.options.pack_bytes.into();
            if is_full && !state.builder.is_empty() {
                self.close_pack(&mut state)?;
            }
            let pushed = state
                .builder
                .push(chunk.id, chunk.compression, raw_len, stored_len);
            pushed.map_err(build)?;
            state.piece.extend_from_slice(stored);
            if state.piece.len() >= PIECE_BYTES {
                self.close_piece(&mut state)?;
            }
            state.taken.insert(chunk.id);
            state.count.written += 1;
            state.count.raw_bytes += u64::from(raw_len);
            state.count.stored_bytes += u64::from(stored_len);
        }
        Ok(())
    }

    /// Hands what was gathered of the pack to the publisher.
    fn close_piece(&self, state: &mut State) -> Result<(), StoreError> {
        let piece = std::mem::take(&mut state.piece);
        let start = state.builder.end().get() - piece.len() as u64;
        let sent = state.publisher.write(FileOffset::new(start), piece);
        state.failed |= sent.is_err();
        state.piece = sent?;
        Ok(())
    }

    /// Hands the end of the pack that is being filled to the publisher.
    fn close_pack(&self, state: &mut State) -> Result<(), StoreError> {
        if state.failed {
            return Err(StoreError::PushFailed);
        }
        if state.builder.is_empty() {
            return Ok(());
        }
        if !state.piece.is_empty() {
            self.close_piece(state)?;
        }
        let builder = PackBuilder::new(self.inner.producer);
        let builder = std::mem::replace(&mut state.builder, builder);
        let tables = builder.finish().map_err(build)?;
        let sent = state.publisher.publish(tables);
        state.failed |= sent.is_err();
        sent
    }
}

fn len32(len: usize) -> u32 {
    u32::try_from(len).expect("a chunk is at most 2 MiB long")
}
