//! Checking a store: every chunk against its id, every tag down to its chunks.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use coldframe_units::{ChunkId, RootHash};

use crate::backend::{Backend, Key, TagName};
use crate::error::storage;
use crate::store::{PackStore, SMALL_FILE_MAX};
use crate::trace::Tracer;
use crate::visit::Wanted;
use crate::walk::Walker;
use crate::{FileId, StoreError, ledger, tags};

/// Something that is wrong with a store.
#[derive(Debug)]
#[non_exhaustive]
pub enum Finding {
    /// A pack whose table cannot be read: its chunks are lost unless they are elsewhere too.
    Pack {
        /// Which.
        pack: FileId,
        /// Why.
        error: StoreError,
    },
    /// A chunk without a sound copy.
    Chunk {
        /// Which.
        id: ChunkId,
        /// Why.
        error: StoreError,
    },
    /// A file without a sound copy.
    Root {
        /// Which.
        root: RootHash,
        /// Why.
        error: StoreError,
    },
    /// A tag that cannot be read.
    Tag {
        /// Which.
        name: TagName,
        /// Why.
        error: StoreError,
    },
    /// The ledger cannot be read: nothing can be pushed or collected.
    Ledger {
        /// Why.
        error: StoreError,
    },
}

/// What a verification found.
#[derive(Debug, Default)]
pub struct Verified {
    /// Chunks that were read and are sound.
    pub chunks: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// For each tag that needs something missing or damaged: how many such things.
    pub hurt_tags: BTreeMap<TagName, u64>,
    /// Why the damaged chunks could not be put down in the ledger: a later push does not heal them.
    pub not_recorded: Option<StoreError>,
}

impl Verified {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty() && self.hurt_tags.is_empty()
    }
}

impl<B: Backend> PackStore<B> {
    /// Reads every chunk, those that no tag needs too, and checks it against its id; then follows
    /// every tag. Damaged copies are put down in the ledger, so that any later push stores them
    /// anew; where that cannot be written, [`Verified::not_recorded`] says so. `tracers` know the
    /// formats beside the chunk index.
    ///
    /// # Errors
    /// [`StoreError::Storage`] where the place fails as a whole; what is damaged or cannot be read
    /// is no error but a finding.
    pub fn verify(&self, tracers: &[&dyn Tracer<B>]) -> Result<Verified, StoreError> {
        self.refresh()?;
        let mut verified = Verified::default();
        self.findings_of_packs(&mut verified.findings);
        self.verify_chunks(&mut verified)?;
        if self.verify_ledger(&mut verified) {
            let damaged = self.inner().catalog().damaged();
            let recorded = ledger::update(self.backend(), self.inner().producer, |ledger| {
                ledger.damaged = damaged.clone();
            });
            verified.not_recorded = recorded.err();
        }
        self.verify_tags(tracers, &mut verified)?;
        Ok(verified)
    }

    /// As [`PackStore::verify`], without reading a chunk or writing down what is damaged: the
    /// tables of all packs, the files that tags need, and whether each chunk is somewhere.
    ///
    /// # Errors
    /// As [`PackStore::verify`].
    pub fn verify_tables(&self, tracers: &[&dyn Tracer<B>]) -> Result<Verified, StoreError> {
        self.refresh()?;
        let mut verified = Verified::default();
        self.findings_of_packs(&mut verified.findings);
        self.verify_ledger(&mut verified);
        self.verify_tags(tracers, &mut verified)?;
        Ok(verified)
    }

    /// The packs whose table cannot be read.
    pub(crate) fn findings_of_packs(&self, findings: &mut Vec<Finding>) {
        let bad = self.inner().catalog().bad_packs.clone();
        for pack in bad.into_keys() {
            let error = match self.inner().load_pack(pack) {
                Ok(Some(_)) => continue,
                Ok(None) => StoreError::ListedNotFound {
                    key: Key::Pack(pack),
                },
                Err(error) => error,
            };
            findings.push(Finding::Pack { pack, error });
        }
    }

    /// Whether the ledger can be read.
    fn verify_ledger(&self, verified: &mut Verified) -> bool {
        let read = ledger::read(self.backend());
        let error = read.err();
        let is_read = error.is_none();
        let finding = error.map(|error| Finding::Ledger { error });
        verified.findings.extend(finding);
        is_read
    }

    fn verify_tags(
        &self,
        tracers: &[&dyn Tracer<B>],
        verified: &mut Verified,
    ) -> Result<(), StoreError> {
        let mut walker = Walker::new(self, tracers);
        // Of each chunk that a tag needs: the last tag that counted it, and whether it is hurt.
        let mut states: Vec<Option<(usize, bool)>> = Vec::new();
        let none = BTreeSet::new();
        for (number, (name, tag)) in tags::read_all(self.inner())?.into_iter().enumerate() {
            let tag = match tag {
                Ok(tag) => tag,
                Err(error) => {
                    verified.findings.push(Finding::Tag { name, error });
                    continue;
                }
            };
            let mut hurt = 0;
            let unread = walker.walk(tag.root, &mut |chunk, id, _| {
                if chunk >= states.len() {
                    states.resize(chunk + 1, None);
                }
                let is_new = states[chunk].is_none();
                let is_lost = is_new && self.inner().catalog().kept(id, &none).is_none();
                let (last, is_hurt) = states[chunk].get_or_insert((usize::MAX, is_lost));
                hurt += u64::from(*is_hurt && *last != number);
                *last = number;
            });
            hurt += unread;
            if hurt > 0 {
                verified.hurt_tags.insert(name, hurt);
            }
        }
        // A damaged one was found when it was read; of a lost one nobody has read anything.
        for (id, state) in walker.ids().iter().zip(states) {
            let is_hurt = state.is_some_and(|(_, is_hurt)| is_hurt);
            if is_hurt && self.inner().catalog().places(*id).is_empty() {
                let error = self.inner().absent(*id);
                verified.findings.push(Finding::Chunk { id: *id, error });
            }
        }
        for (root, error) in walker.unread {
            verified.findings.push(Finding::Root { root, error });
        }
        Ok(())
    }

    fn verify_chunks(&self, verified: &mut Verified) -> Result<(), StoreError> {
        let inner = self.inner();
        let (ids, copies) = {
            let catalog = inner.catalog();
            let copies = catalog.all().enumerate();
            let copies = copies.map(|(number, (id, &place))| Wanted { number, id, place });
            (catalog.ids(), copies.collect::<Vec<_>>())
        };
        // Every copy is looked at: of two, the sound one may be the one that is deleted later.
        let odd = Mutex::new(BTreeSet::new());
        let lock = || odd.lock().unwrap_or_else(PoisonError::into_inner);
        inner.read_copies(copies, &|copy, bytes| {
            if bytes.is_none() {
                lock().insert(copy.id);
            }
            ControlFlow::Continue(())
        });
        let odd = std::mem::take(&mut *lock());
        verified.chunks += (ids.len() - odd.len()) as u64;
        for id in odd {
            if inner.has_sound(id, &BTreeSet::new(), true) {
                verified.chunks += 1;
                continue;
            }
            match inner.read_chunk(id) {
                Ok(_) => verified.chunks += 1,
                Err(error) => {
                    if !error.is_wanting() {
                        // One file that fails is a finding; a place that is gone is none.
                        let own = inner.backend.read(&Key::Store, SMALL_FILE_MAX);
                        own.map_err(storage)?;
                    }
                    verified.findings.push(Finding::Chunk { id, error });
                }
            }
        }
        Ok(())
    }
}
