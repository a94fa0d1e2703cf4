//! Checking a store: every chunk against its id, every tag down to its chunks.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use coldframe_units::{ChunkId, RootHash};

use crate::backend::{Backend, Folder, Key, TagName};
use crate::error::storage;
use crate::store::PackStore;
use crate::trace::Tracer;
use crate::visit::Wanted;
use crate::{FileId, StoreError, ledger};

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
    /// anew. `tracers` know the formats beside the chunk index.
    ///
    /// # Errors
    /// [`StoreError::Storage`] where the place fails; damage is no error but a finding.
    pub fn verify(&self, tracers: &[&dyn Tracer<B>]) -> Result<Verified, StoreError> {
        self.refresh()?;
        let mut verified = Verified::default();
        self.verify_chunks(&mut verified)?;
        let damaged = self.inner().catalog().damaged();
        ledger::update(self.backend(), self.inner().producer, |ledger| {
            ledger.damaged = damaged.clone();
        })?;
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
        self.verify_packs(&mut verified);
        self.verify_tags(tracers, &mut verified)?;
        Ok(verified)
    }

    fn verify_packs(&self, verified: &mut Verified) {
        let bad = self.inner().catalog().bad_packs.clone();
        for pack in bad {
            if let Err(error) = self.inner().load_pack(pack) {
                verified.findings.push(Finding::Pack { pack, error });
            }
        }
    }

    fn verify_tags(
        &self,
        tracers: &[&dyn Tracer<B>],
        verified: &mut Verified,
    ) -> Result<(), StoreError> {
        let mut missing = BTreeSet::new();
        for file in self.backend().list(Folder::Tags).map_err(storage)? {
            let Key::Tag(name) = file.key else { continue };
            let tag = match self.tag(&name) {
                Ok(Some(tag)) => tag,
                Ok(None) => continue,
                Err(error @ StoreError::Storage { .. }) => return Err(error),
                Err(error) => {
                    verified.findings.push(Finding::Tag { name, error });
                    continue;
                }
            };
            match self.closure(tag.root, tracers) {
                Ok((chunks, _)) => {
                    let catalog = self.inner().catalog();
                    let none = BTreeSet::new();
                    let hurt = chunks
                        .iter()
                        .filter(|id| catalog.kept(**id, &none).is_none());
                    let hurt: Vec<ChunkId> = hurt.copied().collect();
                    let lost = hurt.iter().filter(|id| catalog.places(**id).is_empty());
                    missing.extend(lost.copied());
                    if !hurt.is_empty() {
                        verified.hurt_tags.insert(name, hurt.len() as u64);
                    }
                }
                Err(error @ StoreError::Storage { .. }) => return Err(error),
                Err(error) => {
                    let root = tag.root;
                    verified.hurt_tags.insert(name, 1);
                    verified.findings.push(Finding::Root { root, error });
                }
            }
        }
        // A damaged one was found when it was read; of a lost one nobody has read anything.
        for id in missing {
            let error = StoreError::MissingChunk { id };
            verified.findings.push(Finding::Chunk { id, error });
        }
        Ok(())
    }

    fn verify_chunks(&self, verified: &mut Verified) -> Result<(), StoreError> {
        self.verify_packs(verified);
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
            if inner.has_sound(id, &BTreeSet::new(), true)? {
                verified.chunks += 1;
                continue;
            }
            match inner.read_chunk(id) {
                Ok(_) => verified.chunks += 1,
                Err(error @ StoreError::Storage { .. }) => return Err(error),
                Err(error) => verified.findings.push(Finding::Chunk { id, error }),
            }
        }
        Ok(())
    }
}
