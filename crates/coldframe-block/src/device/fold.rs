//! Bringing changes into the store, step by step; each leaves a state that opening understands.
//!
//! 1. The active layer freezes; new writes go on above it.
//! 2. Chunks and the index become durable in the store. Nobody names them yet.
//! 3. A record in the log names the index and the last record that is in it; it is durable.
//! 4. The tag moves. From here on the index is what the log is on top of.
//! 5. Records up to that one are given up.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use coldframe_chunkfile::{IndexOrigin, Tag};
use coldframe_chunks::{Backend, PackStore, Push, PutCount, StoreError, TagName};
use coldframe_storage::{Overwrite, Storage};
use coldframe_units::{ByteLen, RootHash};

use crate::device::Folded;
use crate::device::inner::{FoldState, Inner, tag_of};
use crate::device::lower::{Frozen, Lower};
use crate::device::pages::read_page;
use crate::device::rows::{Rows, next_base_block};
use crate::device::write::Pass;
use crate::error::{log, store};
use crate::overlay::{PAGE, PAGES_PER_BLOCK, PageState};
use crate::record::{PAGE_BYTES, Record};
use crate::{BlockError, DiskImage};

/// A tag that is to stand for what is brought in, and what it stands for now.
type Goal<'a> = Option<(&'a TagName, Option<Tag>)>;

impl<B: Backend, S: Storage> Inner<B, S> {
    pub(super) fn folding(&self) -> MutexGuard<'_, FoldState> {
        self.folding.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn fold_count(&self) -> u64 {
        self.folds.load(Ordering::Acquire)
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

    fn fold_all(&self, state: &mut FoldState, goal: Goal<'_>) -> Result<Folded, BlockError> {
        if let Some(left) = self.lower().frozen.clone() {
            // From an attempt that failed; what was written since comes next.
            self.fold_layer(state, &left, None)?;
        }
        let frozen = self.freeze();
        self.fold_layer(state, &frozen, goal)
    }

    fn freeze(&self) -> Arc<Frozen> {
        let _writers: Vec<_> = self.shards.iter().map(|shard| shard.writer()).collect();
        let mut pages: Vec<_> = self.shards.iter().map(|shard| shard.pages_mut()).collect();
        let mut zeros = self.zeros_mut();
        let held = self.active_held.swap(0, Ordering::Relaxed);
        let frozen = Arc::new(Frozen {
            blocks: pages
                .iter_mut()
                .map(|pages| std::mem::take(&mut **pages))
                .collect(),
            zeros: std::mem::take(&mut *zeros),
            size: self.size(),
            through: self.log.last_sequence(),
            held,
        });
        let image = Arc::clone(&self.lower().image);
        self.frozen_held.store(frozen.held, Ordering::Relaxed);
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
        let has_ingested = !self.ingested.blocks().is_empty();
        if frozen.is_empty() && frozen.size == image.size().get() && !has_ingested {
            return self.fold_nothing(state, image, goal);
        }
        let push = self.store.push().map_err(store)?;
        let rows = self.rows(frozen, &image, &push)?;
        let base_from = next_base_block(frozen, &image, &rows, state.base_from)?;
        let needs_base = base_from.is_some();
        let (root, index_bytes) = self.put_index(frozen, &image, &rows, needs_base, &push)?;
        // Opened before anything names it: what cannot be read is not what the tag stands for.
        let chunks = Arc::clone(&self.chunks);
        let next = DiskImage::open_through(&self.store, chunks, root, self.base.clone())?;
        self.carry(frozen, &rows.carried)?;
        self.name_in_log(state, frozen, root)?;
        self.move_head(&push, state, root)?;
        *state = FoldState {
            root,
            through: frozen.through,
            pending: None,
            base_from: base_from.unwrap_or(u64::MAX),
        };
        self.set_lower(Lower {
            frozen: None,
            image: Arc::new(next),
        });
        self.frozen_held.store(0, Ordering::Relaxed);
        self.folds.fetch_add(1, Ordering::Release);
        self.ingested.forget(rows.ingested.iter().copied());
        self.log.checkpoint(frozen.through).map_err(log)?;
        set_goal(&push, goal, root)?;
        let chunks = push.finish().map_err(store)?;
        let blocks = rows.block_count();
        tracing::debug!(
            blocks,
            index_bytes,
            chunks = chunks.written,
            "changes are in the store"
        );
        Ok(Folded {
            root,
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
            set_goal(&push, goal, state.root)?;
            push.finish().map_err(store)?;
        }
        Ok(Folded {
            root: state.root,
            blocks: 0,
            index_bytes: 0,
            chunks: PutCount::default(),
        })
    }

    /// Keeps a delta; or a whole index where the chain is long enough, or where that is the first
    /// one that needs no flat image.
    fn put_index(
        &self,
        frozen: &Frozen,
        image: &DiskImage<B>,
        rows: &Rows,
        needs_base: bool,
        push: &Push<B>,
    ) -> Result<(RootHash, u64), BlockError> {
        if self.chain_is_full(image) || image.needs_base() && !needs_base {
            let origin = match needs_base {
                true => image.base_origin(),
                false => IndexOrigin::None,
            };
            let flat = self.index(frozen, image, rows, origin);
            match flat.and_then(|flat| put(push, flat)) {
                Err(BlockError::Store { source }) if source.is_missing() => {
                    // A lost chunk must not keep what is new from becoming durable.
                    tracing::warn!(error = %source, "the index is not written whole");
                }
                Err(BlockError::Index { source }) => {
                    tracing::warn!(error = %source, "the index is not written whole");
                }
                done => return done,
            }
        }
        let origin = IndexOrigin::Parent {
            root: image.root(),
            size: image.size(),
        };
        put(push, self.index(frozen, image, rows, origin)?)
    }

    /// Puts back what could not be put together: into the log anew, and into the active layer
    /// wherever that has nothing newer.
    fn carry(&self, frozen: &Frozen, blocks: &[u64]) -> Result<(), BlockError> {
        for number in blocks {
            let Some(entry) = frozen.block(*number) else {
                continue;
            };
            let shard = self.shard(*number);
            let _writer = shard.writer();
            let newer = match self.zeros().end_of(*number) {
                Some(_) => u16::MAX,
                None => shard
                    .pages()
                    .get(*number)
                    .map_or(0, |block| block.present()),
            };
            let keep = entry.present() & !newer;
            for page in (0..PAGES_PER_BLOCK as usize).filter(|page| keep >> page & 1 == 1) {
                let at = (number * PAGES_PER_BLOCK + page as u64) * PAGE_BYTES;
                self.carry_page(at, entry.page(page))?;
            }
            tracing::warn!(
                block = number,
                "changes of a block that cannot be read are kept apart"
            );
        }
        Ok(())
    }

    fn carry_page(&self, at: u64, page: PageState) -> Result<(), BlockError> {
        let carried = match page {
            PageState::Absent => Ok(()),
            PageState::Zero => self.log_zeros(at, at + PAGE_BYTES),
            PageState::Logged(logged) => {
                let mut bytes = [0; PAGE];
                read_page(&self.log, logged, &mut bytes)?;
                self.log_pages(at, &bytes)
            }
        };
        carried.map_err(|pass| match pass {
            Pass::Full { .. } => BlockError::LogFull,
            Pass::Error(error) => error,
        })
    }

    fn name_in_log(
        &self,
        state: &mut FoldState,
        frozen: &Frozen,
        root: RootHash,
    ) -> Result<(), BlockError> {
        if state.pending != Some(root) {
            let mut payload = Vec::new();
            let record = Record::Base {
                root,
                through: frozen.through,
                size: ByteLen::new(frozen.size),
                head: self.head.as_str(),
            };
            record.encode(&mut payload);
            self.append_reserved(&payload)?;
            state.pending = Some(root);
        }
        self.flush()
    }

    fn move_head(
        &self,
        push: &Push<B>,
        state: &FoldState,
        root: RootHash,
    ) -> Result<(), BlockError> {
        let (old, new) = (tag_of(state.root), tag_of(root));
        let found = head_now(&self.store, &self.head)?;
        // It may have moved in an attempt whose answer was lost; then it is made durable.
        if found != Some(old) && found != Some(new) {
            let name = self.head.clone();
            return Err(BlockError::HeadMoved { name });
        }
        push.tag(&self.head, found, new)
            .map_err(|error| match error {
                StoreError::TagMoved { name } => BlockError::HeadMoved { name },
                error => store(error),
            })
    }
}

fn head_now<B: Backend>(from: &PackStore<B>, head: &TagName) -> Result<Option<Tag>, BlockError> {
    from.tag(head).map_err(store)
}

fn put<B: Backend>(
    push: &Push<B>,
    index: coldframe_chunkfile::EncodedIndex,
) -> Result<(RootHash, u64), BlockError> {
    let len = index.file_len.get();
    let root = push.put_root(&[&index.into_file()]).map_err(store)?;
    Ok((root, len))
}

fn set_goal<B: Backend>(push: &Push<B>, goal: Goal<'_>, root: RootHash) -> Result<(), BlockError> {
    let Some((name, found)) = goal else {
        return Ok(());
    };
    push.tag(name, found, tag_of(root))
        .map_err(|error| match error {
            StoreError::TagMoved { name } => BlockError::Exists { name },
            error => store(error),
        })
}
