//! Bringing changes into the store, step by step; each leaves a state that opening understands.
//!
//! 1. The active layer freezes; new writes go on above it.
//! 2. Chunks and the index become durable in the store. Nobody names them yet.
//! 3. A record in the log names the index and the last record that is in it; it is durable.
//! 4. The tag moves. From here on the index is what the log is on top of.
//! 5. Records up to that one are given up.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use coldframe_chunkfile::{Index, IndexOrigin, Tag};
use coldframe_chunks::{
    ANCESTORS_MAX, Backend, PackStore, Push, PutCount, StoreError, TagName, Unreadable,
};
use coldframe_storage::{Overwrite, Storage};
use coldframe_units::{ByteLen, RootHash};

use crate::device::Folded;
use crate::device::inner::{FoldState, Inner, Proposed};
use crate::device::lower::{Frozen, Lower};
use crate::device::rows::{NotMerged, Rows, next_base_block};
use crate::error::{log, store};
use crate::overlay::{Blocks, Runs};
use crate::record::Record;
use crate::{BlockError, DiskImage};

/// How often a fold begins anew because the tag had moved to an index proposed before.
const TRIES: u32 = 3;

/// A tag that is to point to what is brought in, and what it points to now.
type Goal<'a> = Option<(&'a TagName, Option<Tag>)>;

impl<B: Backend, S: Storage> Inner<B, S> {
    pub(super) fn folding(&self) -> MutexGuard<'_, FoldState> {
        self.folding.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn fold_count(&self) -> u64 {
        self.folds.load(Ordering::Acquire)
    }

    /// Ends a fold between two steps if the device is being dropped.
    pub(super) fn check_stop(&self) -> Result<(), BlockError> {
        match self.is_stopping.load(Ordering::Acquire) {
            true => Err(BlockError::Stopped),
            false => Ok(()),
        }
    }

    pub fn fold(&self) -> Result<Folded, BlockError> {
        self.fold_all(&mut self.folding(), None)
    }

    /// Folds unless someone has since the count was taken.
    pub(super) fn fold_since(&self, folds: u64) -> Result<(), BlockError> {
        let mut state = self.folding();
        if self.fold_count() != folds {
            return Ok(());
        }
        self.fold_all(&mut state, None).map(drop)
    }

    pub fn checkpoint(&self, name: &TagName, overwrite: Overwrite) -> Result<Folded, BlockError> {
        let mut state = self.folding();
        if *name == self.head {
            return self.fold_all(&mut state, None);
        }
        let found = self.store.tag(name).map_err(store)?;
        if found.is_some() && overwrite == Overwrite::Refuse {
            return Err(BlockError::Exists { name: name.clone() });
        }
        self.fold_all(&mut state, Some((name, found)))
    }

    /// Brings all changes into the store, and creates the tag.
    pub fn publish_new(&self) -> Result<Folded, BlockError> {
        let mut state = self.folding();
        state.is_created = false;
        let folded = self.fold_all(&mut state, None)?;
        if !state.is_created {
            // There were no changes.
            let push = self.store.push().map_err(store)?;
            self.move_head(&push, &state, state.root)?;
            push.finish().map_err(store)?;
        }
        Ok(folded)
    }

    fn fold_all(&self, state: &mut FoldState, goal: Goal<'_>) -> Result<Folded, BlockError> {
        let mut tries = 0;
        loop {
            self.check_stop()?;
            self.settle(state)?;
            let frozen = self.freeze();
            match self.fold_layer(state, &frozen, goal) {
                // An answer that was lost may stand for a change that came later: to an index that
                // was proposed before.
                Err(BlockError::HeadMoved { .. }) if tries < TRIES && self.settle(state)? => {
                    tries += 1;
                }
                done => return done,
            }
        }
    }

    /// Looks which of the proposed indexes the tag points to: the answer that said so was lost.
    /// That index is the image from now on.
    fn settle(&self, state: &mut FoldState) -> Result<bool, BlockError> {
        if state.pending.is_empty() {
            return Ok(false);
        }
        let found = head_now(&self.store, &self.head)?;
        let tag_of = |root| Tag { root, ..state.tag };
        let is_found = |proposed: &&Proposed| found == Some(tag_of(proposed.root));
        let Some(proposed) = state.pending.iter().find(is_found).copied() else {
            return Ok(false);
        };
        let lower = self.lower();
        let next = Arc::new(lower.image.successor(proposed.root)?);
        // Durable, before records are given up for it.
        let push = self.store.push().map_err(store)?;
        self.move_head(&push, state, proposed.root)?;
        push.finish().map_err(store)?;
        // A layer that has more than the index stays: its changes are put on top of it again.
        let is_in_it = |frozen: &&Arc<Frozen>| frozen.through != proposed.through;
        let frozen = lower.frozen.as_ref().filter(is_in_it).cloned();
        self.moved(state, proposed, next, frozen)?;
        Ok(true)
    }

    /// The tag points to `proposed` from now on, durably; `frozen` is not in it, or not all.
    fn moved(
        &self,
        state: &mut FoldState,
        proposed: Proposed,
        image: Arc<DiskImage<B>>,
        frozen: Option<Arc<Frozen>>,
    ) -> Result<(), BlockError> {
        state.root = proposed.root;
        state.tag.root = proposed.root;
        state.is_created = true;
        state.pending.clear();
        let is_all = frozen.is_none();
        if is_all {
            state.through = proposed.through;
            self.frozen_held.store(0, Ordering::Relaxed);
        }
        self.set_lower(Lower { frozen, image });
        self.folds.fetch_add(1, Ordering::Release);
        match is_all {
            true => self.log.checkpoint(proposed.through).map(drop).map_err(log),
            false => Ok(()),
        }
    }

    /// Freezes the active layer, together with one that is left from a fold that failed: so what
    /// was written since heals what the fold failed for.
    fn freeze(&self) -> Arc<Frozen> {
        let left = self.lower().frozen.clone();
        let copy = left
            .as_ref()
            .map(|left| (left.blocks.clone(), left.zeros.clone()));
        let _writers: Vec<_> = self.shards.iter().map(|shard| shard.writer()).collect();
        let mut pages: Vec<_> = self.shards.iter().map(|shard| shard.pages_mut()).collect();
        let mut zeros = self.zeros_mut();
        let size = self.size();
        let is_new = zeros.len() > 0 || pages.iter().any(|pages| pages.len() > 0);
        if let Some(left) = left.filter(|left| !is_new && left.size == size) {
            return left;
        }
        self.active_held.store(0, Ordering::Relaxed);
        let newer = pages.iter_mut().map(|pages| std::mem::take(&mut **pages));
        let (blocks, zeros) = merge(copy, newer.collect(), std::mem::take(&mut *zeros));
        let held = blocks.iter().map(Blocks::held).sum::<u64>() + zeros.held();
        let through = self.log.last_sequence();
        let frozen = Arc::new(Frozen {
            blocks,
            zeros,
            size,
            through,
            held,
        });
        let image = Arc::clone(&self.lower().image);
        self.frozen_held.store(held, Ordering::Relaxed);
        self.set_lower(Lower {
            frozen: Some(Arc::clone(&frozen)),
            image,
        });
        frozen
    }

    fn fold_layer(
        &self,
        state: &mut FoldState,
        frozen: &Arc<Frozen>,
        goal: Goal<'_>,
    ) -> Result<Folded, BlockError> {
        let span = tracing::debug_span!("fold", head = %self.head, dirty_bytes = frozen.held);
        let _entered = span.enter();
        let image = Arc::clone(&self.lower().image);
        let ingested = self.ingested_blocks(frozen.size, &image);
        if frozen.is_empty() && frozen.size == image.size().get() && ingested.is_empty() {
            return self.fold_nothing(state, image, goal);
        }
        let push = self.store.push().map_err(store)?;
        let is_whole = self.is_chain_full(state, &image);
        let rows = self.rows(frozen, &image, ingested, is_whole, &push)?;
        let base_from = match next_base_block(frozen, &image, &rows, state.base_from) {
            Ok(next) => next,
            // It may be there that the flat image is needed.
            Err(error) => {
                tracing::warn!(%error, "flat image taken for needed");
                Some(state.base_from)
            }
        };
        let needs_base = base_from.is_some();
        self.check_stop()?;
        let (root, index_bytes) =
            self.put_index(state, frozen, &image, &rows, needs_base, &push)?;
        // Opened before anything names it: what cannot be read is not what the tag points to.
        let mut next = image.successor(root)?;
        let proposed = self.name_in_log(state, frozen, root, &push)?;
        if proposed.root != root {
            next = image.successor(proposed.root)?;
        }
        if let Some((name, None)) = goal {
            push.announce(name);
        }
        self.move_head(&push, state, proposed.root)?;
        state.base_from = base_from.unwrap_or(u64::MAX);
        self.moved(state, proposed, Arc::new(next), None)?;
        self.ingested.forget(rows.ingested.iter().copied());
        self.set_goal(&push, goal, proposed.root)?;
        let chunks = push.finish().map_err(store)?;
        let blocks = rows.block_count();
        tracing::debug!(
            blocks,
            index_bytes,
            chunks = chunks.written,
            "changes are in the store"
        );
        Ok(Folded {
            root: proposed.root,
            blocks,
            index_bytes,
            chunks,
        })
    }

    fn fold_nothing(
        &self,
        state: &FoldState,
        image: Arc<DiskImage<B>>,
        goal: Goal<'_>,
    ) -> Result<Folded, BlockError> {
        self.set_lower(Lower {
            frozen: None,
            image,
        });
        self.frozen_held.store(0, Ordering::Relaxed);
        self.log.checkpoint(state.through).map_err(log)?;
        if goal.is_some() {
            let push = self.store.push().map_err(store)?;
            self.set_goal(&push, goal, state.root)?;
            push.finish().map_err(store)?;
        }
        Ok(Folded {
            root: state.root,
            blocks: 0,
            index_bytes: 0,
            chunks: PutCount::default(),
        })
    }

    /// How many of the nearest indexes can be merged into the next one, as far as is known.
    fn mergeable(state: &FoldState, image: &DiskImage<B>) -> usize {
        let pinned = state.pinned.and_then(|root| image.link_of(root));
        pinned.unwrap_or(image.link_count())
    }

    /// Whether the next index has to be written whole. Where an ancestor cannot be merged, those
    /// are counted that can: trying costs as much as the disk is large.
    fn is_chain_full(&self, state: &FoldState, image: &DiskImage<B>) -> bool {
        let links = Self::mergeable(state, image);
        links > self.options.ancestors_max || image.link_count() >= ANCESTORS_MAX && links > 0
    }

    /// Keeps a delta; or a whole index where the chain is long enough, or where that is the first
    /// one that needs no flat image. An ancestor with rows that cannot be read stays in the chain:
    /// those before it are merged.
    fn put_index(
        &self,
        state: &mut FoldState,
        frozen: &Frozen,
        image: &DiskImage<B>,
        rows: &Rows,
        needs_base: bool,
        push: &Push<B>,
    ) -> Result<(RootHash, u64), BlockError> {
        let is_first_without = image.needs_base() && !needs_base && state.pinned.is_none();
        let all = image.link_count();
        let is_whole = self.is_chain_full(state, image) || is_first_without;
        let mut links = if is_whole { all } else { 0 };
        let origin = match needs_base {
            true => image.base_origin(),
            false => IndexOrigin::None,
        };
        let index = loop {
            let merged = self.index(frozen, image, rows, links, origin);
            // Without any index to merge, none is read.
            links = match merged {
                Ok(index) => break index,
                Err(NotMerged::Unreadable(unreadable)) if links > 0 => {
                    let Unreadable { link, source } = *unreadable;
                    tracing::warn!(%source, link, "ancestor not merged into the index");
                    link.min(links - 1)
                }
                Err(NotMerged::Refused(source)) if links == all => {
                    tracing::warn!(error = %source, "index not written whole");
                    links - 1
                }
                Err(NotMerged::Refused(source)) => return Err(BlockError::Index { source }),
                Err(NotMerged::Unreadable(unreadable)) => return Err(store(unreadable.source)),
            };
        };
        let len = index.file_len.get();
        let root = push.put_successor(&index.into_file(), &rows.new);
        let root = root.map_err(store)?;
        if is_whole {
            state.pinned = image.link(links).map(Index::root);
        }
        Ok((root, len))
    }

    /// Says in the log which index is proposed. A log without any room proposes again what it
    /// names already for this very layer.
    fn name_in_log(
        &self,
        state: &mut FoldState,
        frozen: &Frozen,
        root: RootHash,
        push: &Push<B>,
    ) -> Result<Proposed, BlockError> {
        let through = frozen.through;
        let mut proposed = Proposed { root, through };
        if !state.pending.contains(&proposed) {
            let mut payload = Vec::new();
            let record = Record::Base {
                root,
                through,
                size: ByteLen::new(frozen.size),
                head: self.head.as_str(),
                identity: Some(self.identity),
            };
            record.encode(&mut payload);
            match self.append_reserved(&payload) {
                Ok(()) => state.pending.push(proposed),
                Err(BlockError::LogFull) => {
                    let is_same =
                        |named: &&Proposed| named.through == through && push.has_root(named.root);
                    let named = state.pending.iter().rev().find(is_same);
                    proposed = *named.ok_or(BlockError::LogFull)?;
                }
                Err(error) => return Err(error),
            }
        }
        self.flush()?;
        Ok(proposed)
    }

    /// Moves the tag. It may point to `root` already; then that is made durable.
    fn move_head(
        &self,
        push: &Push<B>,
        state: &FoldState,
        root: RootHash,
    ) -> Result<(), BlockError> {
        let old = state.is_created.then_some(state.tag);
        let new = Tag { root, ..state.tag };
        let found = head_now(&self.store, &self.head)?;
        if found != old && found != Some(new) {
            let name = self.head.clone();
            return Err(BlockError::HeadMoved { name });
        }
        push.tag(&self.head, found, new)
            .map_err(|error| match error {
                StoreError::TagMoved { name } => BlockError::HeadMoved { name },
                error => store(error),
            })
    }

    /// A checkpoint is a disk of its own, which may be served too.
    fn set_goal(&self, push: &Push<B>, goal: Goal<'_>, root: RootHash) -> Result<(), BlockError> {
        let Some((name, found)) = goal else {
            return Ok(());
        };
        let tag = Tag::disk(root, self.store.new_disk_id().map_err(store)?);
        push.tag(name, found, tag).map_err(|error| match error {
            StoreError::TagMoved { name } => BlockError::Exists { name },
            error => store(error),
        })
    }
}

/// A layer over another one that is left; the newer one wins.
fn merge(
    left: Option<(Vec<Blocks>, Runs)>,
    newer: Vec<Blocks>,
    newer_zeros: Runs,
) -> (Vec<Blocks>, Runs) {
    let Some((mut blocks, mut zeros)) = left else {
        return (newer, newer_zeros);
    };
    for (first, end) in newer_zeros.iter() {
        blocks
            .iter_mut()
            .for_each(|blocks| blocks.remove(first, end));
        zeros.insert(first, end);
    }
    for (blocks, newer) in blocks.iter_mut().zip(newer) {
        blocks.cover(newer);
    }
    (blocks, zeros)
}

fn head_now<B: Backend>(from: &PackStore<B>, head: &TagName) -> Result<Option<Tag>, BlockError> {
    from.tag(head).map_err(store)
}
