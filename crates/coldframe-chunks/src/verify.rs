//! Checking a store: every chunk against its id, every tag down to its chunks.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use coldframe_chunkfile::{Ledger, PartSource, Tag, TagKind};
use coldframe_units::{ChunkId, RootHash};

use crate::backend::{Backend, Key, TagName};
use crate::error::storage;
use crate::image::Located;
use crate::known::RootFile;
use crate::store::{PackStore, SMALL_FILE_MAX};
use crate::trace::Tracer;
use crate::visit::Wanted;
use crate::walk::Walker;
use crate::{FileId, StoreError, known, ledger, tags};

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
    /// An image with pages that are lost for good: the index itself says so, and reading them is an
    /// error until they are written.
    Pages {
        /// The root of its index.
        root: RootHash,
        /// How many pages of 4,096 bytes.
        pages: u64,
        /// The first block.
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
        self.inner().catalog_mut().forget_damage();
        let mut verified = Verified::default();
        self.findings_of_packs(&mut verified.findings);
        self.verify_chunks(&mut verified)?;
        if self.verify_ledger(&mut verified) {
            let (damaged, seen) = {
                let catalog = self.inner().catalog();
                let seen: BTreeSet<u64> = catalog.packs.iter().map(|pack| pack.get()).collect();
                (catalog.damaged(), seen)
            };
            // Of a pack that is not listed, or cannot be read, nothing is known but what was.
            let recorded = ledger::update(self.backend(), self.inner().producer, |ledger| {
                ledger.damaged.retain(|(_, pack)| !seen.contains(pack));
                ledger.damaged.extend(&damaged);
            });
            verified.not_recorded = recorded.err();
        }
        self.verify_tags(tracers, &mut verified)?;
        Ok(verified)
    }

    /// As [`PackStore::verify`], without reading a chunk or writing down what is damaged: the
    /// tables of all packs, the files that tags need, and whether each chunk is somewhere. What the
    /// ledger says is damaged is a finding until there is another copy of it.
    ///
    /// # Errors
    /// As [`PackStore::verify`].
    pub fn verify_tables(&self, tracers: &[&dyn Tracer<B>]) -> Result<Verified, StoreError> {
        self.refresh()?;
        let mut verified = Verified::default();
        self.findings_of_packs(&mut verified.findings);
        match ledger::read(self.backend()) {
            Ok(read) => self.findings_of_ledger(&read.ledger, &mut verified.findings),
            Err(error) => verified.findings.push(Finding::Ledger { error }),
        }
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

    /// The chunks whose only copies an earlier verification found damaged.
    pub(crate) fn findings_of_ledger(&self, ledger: &Ledger, findings: &mut Vec<Finding>) {
        let mut catalog = self.inner().catalog_mut();
        for (id, pack) in &ledger.damaged {
            catalog.mark_damaged(*id, FileId::new(*pack));
        }
        let none = BTreeSet::new();
        let mut last = None;
        for (id, _) in &ledger.damaged {
            let places = catalog.places(*id);
            let Some(place) = places.first().filter(|_| last.replace(*id) != Some(*id)) else {
                continue;
            };
            if catalog.kept(*id, &none).is_none() {
                let (id, pack) = (*id, place.pack);
                let error = StoreError::KnownDamage { id, pack };
                findings.push(Finding::Chunk { id, error });
            }
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
        // Of each chunk that a tag needs: whether it is lost.
        let mut states: Vec<Option<bool>> = Vec::new();
        let none = BTreeSet::new();
        let mut all_lost = BTreeSet::new();
        for (name, tag) in tags::read_all(self.inner())? {
            let tag = match tag {
                Ok(tag) => tag,
                Err(error) => {
                    verified.findings.push(Finding::Tag { name, error });
                    continue;
                }
            };
            let mut lost = BTreeSet::new();
            let unread = walker.walk(tag.root, &mut |chunk, id, _| {
                if chunk >= states.len() {
                    states.resize(chunk + 1, None);
                }
                let find = || self.inner().catalog().kept(id, &none).is_none();
                if *states[chunk].get_or_insert_with(find) {
                    lost.insert(id);
                }
            });
            if unread == 0 {
                self.keep_what_is_read(tag, &mut lost);
            }
            let pages = walker.lost_pages(tag, &mut verified.findings);
            let hurt = unread + lost.len() as u64 + pages;
            if hurt > 0 {
                verified.hurt_tags.insert(name, hurt);
            }
            all_lost.extend(lost);
        }
        // A damaged one was found when it was read; of a lost one nobody has read anything.
        for id in all_lost {
            if self.inner().catalog().places(id).is_empty() {
                let error = self.inner().absent(id);
                verified.findings.push(Finding::Chunk { id, error });
            }
        }
        let unread: BTreeSet<RootHash> = walker.unread.keys().copied().collect();
        for (root, error) in walker.unread {
            verified.findings.push(Finding::Root { root, error });
        }
        self.findings_of_known(&unread, &mut verified.findings)
    }

    /// The files that the ledger names and of which no copy can be found, but for those that were
    /// told already. A ledger that cannot be read is another finding.
    fn findings_of_known(
        &self,
        told: &BTreeSet<RootHash>,
        findings: &mut Vec<Finding>,
    ) -> Result<(), StoreError> {
        let Ok(read) = ledger::read(self.backend()) else {
            return Ok(());
        };
        let listed = known::listed(self.inner())?;
        let mut there: BTreeSet<RootFile> = listed.into_iter().map(|(file, _)| file).collect();
        let known = known::look(self.inner(), &read, &there);
        there.extend(known.unlisted);
        let there: BTreeSet<RootHash> = there.into_iter().map(|(root, _)| root).collect();
        let lost = known.lost.into_iter().map(|(root, file)| {
            let key = Key::Root(root, file);
            (root, StoreError::LostFile { key })
        });
        let unread = known.unread.into_iter();
        let all = lost.chain(unread.map(|((root, _), error)| (root, error)));
        for (root, error) in all.filter(|(root, _)| !there.contains(root) && !told.contains(root)) {
            findings.push(Finding::Root { root, error });
        }
        Ok(())
    }

    /// Of the lost chunks that the indexes of a disk name, leaves those that some block of it still
    /// is: what was written since is healed, though an ancestor names it. An index that cannot be
    /// read changes nothing.
    pub(crate) fn keep_what_is_read(&self, tag: Tag, lost: &mut BTreeSet<ChunkId>) {
        if lost.is_empty() || tag.kind != TagKind::Index {
            return;
        }
        let read = self.image(tag.root).and_then(|image| {
            let mut read = BTreeSet::new();
            let (mut block, blocks) = (0, image.index().block_count());
            while block < blocks {
                let (located, run) = image.locate_run(block, blocks - block)?;
                match located {
                    Located::Chunk(id, _) => drop(read.insert(id)),
                    Located::Parts => {
                        let parts = image.parts(block);
                        if let Some((_, error)) = parts.unknown {
                            return Err(error);
                        }
                        let chunks = parts.known.into_iter().filter_map(|(_, part)| match part {
                            PartSource::Chunk { id, .. } => Some(id),
                            _ => None,
                        });
                        read.extend(chunks);
                    }
                    Located::Zero | Located::Base => {}
                }
                block += run;
            }
            Ok(read)
        });
        match read {
            Ok(read) => lost.retain(|id| read.contains(id)),
            Err(error) => tracing::warn!(root = %tag.root, %error, "blocks not followed"),
        }
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
