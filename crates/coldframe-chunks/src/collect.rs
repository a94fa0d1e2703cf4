//! Collecting garbage beside those who push: mark, condemn, wait, mark again, delete.
//!
//! Invariants: nothing is deleted in the run of decisions that a push could have missed. A file is
//! condemned in the ledger first; a push that begins later reads the ledger and takes the file for
//! absent; one that began earlier is waited for. Only then, and only if a second mark does not
//! reach the file either, it is deleted. Names are never used twice, so what a push writes anew is
//! not what is deleted.
//!
//! A tag, a file, a lease or the ledger that cannot be read stops the collector before its first
//! deletion: what it protects is not known. A pack that cannot be read does not: what is needed is
//! told by tags and files alone. That pack stays, and so does every other copy of what it may hold,
//! for the copy that stays is read before another is deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use coldframe_chunkfile::{CondemnedFile, Ledger, Round};
use coldframe_units::{ChunkId, RootHash};

use crate::backend::{Backend, Exclusive, Folder, Key, Seen, TagName};
use crate::catalog::{Catalog, IdMap, IdSet};
use crate::error::storage;
use crate::known::RootFile;
use crate::store::PackStore;
use crate::trace::{Reference, Tracer, trace};
use crate::{FileId, StoreError, compact, known, ledger, tags};

/// How garbage is collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CollectOptions {
    /// Files younger than this are kept, and files that are kept whole keep what they need.
    pub grace: Duration,
    /// A pack is written anew when at least this much of it is garbage, in percent.
    pub garbage_percent: u64,
    /// Only say what would be done.
    pub dry_run: bool,
}

impl CollectOptions {
    /// A day of grace, packs of which half is garbage.
    pub const USUAL: Self = Self {
        grace: Duration::from_secs(24 * 3600),
        garbage_percent: 50,
        dry_run: false,
    };
}

/// What a collection did, or would do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Chunks that some tag needs.
    pub live_chunks: u64,
    /// Packs that were condemned now.
    pub condemned_packs: u64,
    /// Among them, those whose live chunks were written anew.
    pub compacted_packs: u64,
    /// Files by their root that were condemned now.
    pub condemned_roots: u64,
    /// Packs that were deleted.
    pub deleted_packs: u64,
    /// Files by their root that were deleted.
    pub deleted_roots: u64,
    /// Bytes of what was deleted.
    pub deleted_bytes: u64,
    /// Condemned files that turned out to be needed.
    pub acquitted: u64,
    /// Condemned files that wait for a push to end.
    pub waiting: u64,
    /// Unfinished files of processes that died.
    pub temporaries: u64,
    /// Packs that cannot be read, and are left as they are.
    pub unreadable_packs: u64,
}

impl Collected {
    /// Whether anything was deleted.
    #[must_use]
    pub const fn has_deleted(&self) -> bool {
        self.deleted_packs + self.deleted_roots + self.temporaries > 0
    }
}

/// What a collection goes by.
struct Rules<'a, B: Backend> {
    options: CollectOptions,
    tracers: &'a [&'a dyn Tracer<B>],
    /// Files that may be lost: what only they need is garbage then.
    given_up: &'a BTreeSet<RootHash>,
}

/// A pack is small below this part of a full one.
const SMALL_PACK_PART: u64 = 8;

/// So many small packs are written anew as few.
const SMALL_PACKS_MAX: usize = 16;

/// What is needed.
struct Live {
    tags: BTreeSet<TagName>,
    chunks: IdSet,
    roots: BTreeSet<RootHash>,
    /// The files by their root that are listed, or were found by their names.
    files: BTreeSet<RootFile>,
    /// Those that the ledger names and that are gone: another copy is there, or they are given up.
    lost: BTreeSet<RootFile>,
}

/// What went wrong without being in the way of the rest: the first of it is told at the end.
#[derive(Default)]
struct Failures {
    first: Option<StoreError>,
}

impl Failures {
    fn note<T>(&mut self, result: Result<T, StoreError>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                tracing::warn!(%error, "collecting goes on without it");
                self.first.get_or_insert(error);
                None
            }
        }
    }
}

/// What to condemn.
#[derive(Default)]
struct Plan {
    dead_packs: BTreeSet<FileId>,
    sparse_packs: BTreeSet<FileId>,
    roots: BTreeSet<(RootHash, FileId)>,
}

impl<B: Backend> PackStore<B> {
    /// Deletes what no tag needs; `tracers` know the formats beside the chunk index.
    ///
    /// # Errors
    /// [`StoreError::Busy`] if someone else collects, [`StoreError::ExclusiveLost`] if someone else
    /// has begun to; an error of the first tag, file or folder that
    /// cannot be read, and then nothing was deleted; [`StoreError::Storage`]. What could not be
    /// written anew or removed is told when all else is done.
    pub fn collect(
        &self,
        options: CollectOptions,
        tracers: &[&dyn Tracer<B>],
    ) -> Result<Collected, StoreError> {
        let mut done = Collected::default();
        self.collect_into(options, tracers, &BTreeSet::new(), &mut done)?;
        Ok(done)
    }

    /// As [`PackStore::collect`]; what was done is in `done`, also after an error. A file in
    /// `given_up` that is lost or damaged does not stop the collection: what only that file needs
    /// is garbage.
    ///
    /// Spec: STORE-43
    ///
    /// # Errors
    /// As [`PackStore::collect`].
    pub fn collect_into(
        &self,
        options: CollectOptions,
        tracers: &[&dyn Tracer<B>],
        given_up: &BTreeSet<RootHash>,
        done: &mut Collected,
    ) -> Result<(), StoreError> {
        let span = tracing::info_span!("collect", place = %self.backend().place());
        let _entered = span.enter();
        let rules = Rules {
            options,
            tracers,
            given_up,
        };
        // Who only looks writes nothing, not even the file of a lock.
        let exclusive = match options.dry_run {
            true => None,
            false => {
                let exclusive = self.backend().exclusive().map_err(storage)?;
                Some(exclusive.ok_or(StoreError::Busy)?)
            }
        };
        let live = self.mark(&rules)?;
        done.live_chunks = live.chunks.len() as u64;
        let plan = self.plan(options, &live)?;
        done.condemned_packs = (plan.dead_packs.len() + plan.sparse_packs.len()) as u64;
        done.compacted_packs = plan.sparse_packs.len() as u64;
        done.condemned_roots = plan.roots.len() as u64;
        done.unreadable_packs = self.inner().catalog().bad_packs.len() as u64;
        // Everything is listed before anything is removed, leases too.
        self.backend().can_sweep().map_err(storage)?;
        let Some(exclusive) = exclusive else {
            return Ok(());
        };
        let mut failed = Failures::default();
        if let Some(swept) = failed.note(self.backend().sweep().map_err(storage)) {
            done.temporaries = swept;
        }
        tags::know_only(self.inner(), &live.tags)?;
        self.know_files(&*exclusive, &live)?;
        self.condemn(plan, &live, done, &mut failed)?;
        self.delete_condemned(&*exclusive, &rules, done, &mut failed)?;
        tracing::info!(?done, "garbage collected");
        failed.first.map_or(Ok(()), Err)
    }

    /// Has the ledger name the files that are there: only while no other collector can have deleted
    /// one of them.
    fn know_files(&self, exclusive: &dyn Exclusive, live: &Live) -> Result<(), StoreError> {
        if !exclusive.confirm().map_err(storage)? {
            return Err(StoreError::ExclusiveLost);
        }
        known::know_listed(self.inner(), &live.files, &live.lost)?;
        if !exclusive.confirm().map_err(storage)? {
            known::forget_gone(self.inner(), &live.files)?;
            return Err(StoreError::ExclusiveLost);
        }
        Ok(())
    }

    /// Everything that a tag needs, or a file that is young.
    fn mark(&self, rules: &Rules<'_, B>) -> Result<Live, StoreError> {
        let grace = rules.options.grace;
        self.refresh()?;
        let tagged = tags::list(self.inner())?;
        let mut queue: Vec<RootHash> = tagged.values().map(|tag| tag.root).collect();
        let mut live = Live {
            tags: tagged.into_keys().collect(),
            chunks: IdSet::default(),
            roots: BTreeSet::new(),
            files: BTreeSet::new(),
            lost: BTreeSet::new(),
        };
        for (file, Seen { facts, .. }) in known::listed(self.inner())? {
            // One whose age is not known may be young.
            if !facts.is_ok_and(|facts| facts.age >= grace) {
                queue.push(file.0);
            }
            live.files.insert(file);
        }
        queue.extend(self.find_unlisted(rules, &mut live)?);
        while let Some(root) = queue.pop() {
            if !live.roots.insert(root) {
                continue;
            }
            let each = &mut |reference| match reference {
                Reference::Chunk(id, _) => {
                    live.chunks.insert(id);
                }
                Reference::Root(root) => queue.push(root),
            };
            match trace(self, rules.tracers, root, each) {
                Err(error) if rules.given_up.contains(&root) && error.is_wanting() => {
                    tracing::warn!(%root, %error, "given up: what only it needs is garbage");
                }
                traced => traced?,
            }
        }
        Ok(live)
    }

    /// Looks for the files that the ledger names and no listing has: those that are there are kept,
    /// for nobody knows their age. Returns their roots.
    fn find_unlisted(
        &self,
        rules: &Rules<'_, B>,
        live: &mut Live,
    ) -> Result<Vec<RootHash>, StoreError> {
        let read = ledger::read(self.backend())?;
        let mut found = known::look(self.inner(), &read, &live.files);
        if let Some((_, error)) = found.unread.pop_first() {
            return Err(error);
        }
        live.files.extend(&found.unlisted);
        let there: BTreeSet<RootHash> = live.files.iter().map(|(root, _)| *root).collect();
        for (root, file) in found.lost {
            if !there.contains(&root) {
                let key = Key::Root(root, file);
                if !rules.given_up.contains(&root) {
                    return Err(StoreError::LostFile { key });
                }
                tracing::warn!(%key, "given up: it does not exist");
            }
            live.lost.insert((root, file));
        }
        Ok(found.unlisted.into_iter().map(|(root, _)| root).collect())
    }

    fn plan(&self, options: CollectOptions, live: &Live) -> Result<Plan, StoreError> {
        let condemned = ledger::read(self.backend())?.condemned();
        let mut plan = Plan::default();
        for Seen { key, facts } in self.backend().scan(Folder::Roots).map_err(storage)? {
            if let Key::Root(root, file) = key
                && facts.is_ok_and(|file| file.age >= options.grace)
                && !live.roots.contains(&root)
                && !condemned.roots.contains(&(root, file))
            {
                plan.roots.insert((root, file));
            }
        }
        let catalog = self.inner().catalog();
        let mut used = used_bytes(&catalog, live, &condemned.packs);
        let mut stored: BTreeMap<FileId, u64> = BTreeMap::new();
        for (_, place) in catalog.all() {
            *stored.entry(place.pack).or_default() += u64::from(place.stored_len);
        }
        let small_max = u64::from(self.options().pack_bytes) / SMALL_PACK_PART;
        let mut small = BTreeSet::new();
        for Seen { key, facts } in self.backend().scan(Folder::Packs).map_err(storage)? {
            let Key::Pack(pack) = key else { continue };
            // A pack whose table cannot be read is left for people to look at.
            let is_known = catalog.packs.contains(&pack);
            let is_old = facts.is_ok_and(|file| file.age >= options.grace);
            if !is_old || condemned.packs.contains(&pack) || !is_known {
                continue;
            }
            let stored = stored.remove(&pack).unwrap_or(0);
            let used = used.remove(&pack).unwrap_or(0);
            let garbage = stored.saturating_sub(used);
            if used == 0 {
                plan.dead_packs.insert(pack);
            } else if garbage > 0 && garbage * 100 >= stored * options.garbage_percent {
                plan.sparse_packs.insert(pack);
            } else if stored < small_max {
                small.insert(pack);
            }
        }
        if small.len() >= SMALL_PACKS_MAX {
            plan.sparse_packs.extend(small);
        }
        Ok(plan)
    }

    /// Writes anew what is needed of sparse packs, then puts all into the ledger.
    fn condemn(
        &self,
        plan: Plan,
        live: &Live,
        done: &mut Collected,
        failed: &mut Failures,
    ) -> Result<(), StoreError> {
        // On a full disk the packs without anything needed make the room that this lacks.
        let compacted = failed.note(self.compact(&plan, live)).unwrap_or_default();
        done.compacted_packs = compacted.len() as u64;
        let mut packs: BTreeSet<FileId> = plan.dead_packs;
        packs.extend(compacted);
        let packs = packs.iter().map(|file| CondemnedFile::Pack(file.get()));
        let roots = plan.roots.iter();
        let roots = roots.map(|(root, file)| CondemnedFile::Root(*root, file.get()));
        let files: Vec<CondemnedFile> = packs.chain(roots).collect();
        ledger::update(self.backend(), self.inner().producer, |ledger| {
            let next = ledger.rounds.keys().next_back().map_or(0, |last| last + 1);
            if !files.is_empty() {
                ledger.rounds.insert(next, Round::default());
            }
            for file in &files {
                ledger.condemned.entry(*file).or_insert(next);
            }
        })?;
        done.condemned_packs = files.len() as u64 - done.condemned_roots;
        Ok(())
    }

    /// Writes anew what is needed of sparse packs; returns those that may go now.
    fn compact(&self, plan: &Plan, live: &Live) -> Result<BTreeSet<FileId>, StoreError> {
        let mut packs = BTreeSet::new();
        if plan.sparse_packs.is_empty() {
            return Ok(packs);
        }
        let push = self.push()?.without(&plan.dead_packs);
        let push = push.without(&plan.sparse_packs);
        for pack in &plan.sparse_packs {
            let wanted = |id: ChunkId| live.chunks.contains(&id);
            // A pack with a chunk that cannot be read and is needed stays as it is.
            match compact::rescue(self, &push, *pack, &wanted)?.first() {
                None => drop(packs.insert(*pack)),
                Some(error) => tracing::warn!(%pack, %error, "pack not written anew"),
            }
        }
        push.finish()?;
        Ok(packs)
    }

    /// Deletes what was condemned before every push that is under way, and is still not needed.
    fn delete_condemned(
        &self,
        exclusive: &dyn Exclusive,
        rules: &Rules<'_, B>,
        done: &mut Collected,
        failed: &mut Failures,
    ) -> Result<(), StoreError> {
        // The ledger is published: a lease that is not seen here will read it.
        let held = self.backend().leases().map_err(storage)?;
        let held: BTreeSet<u64> = held.iter().map(|lease| lease.get()).collect();
        let producer = self.inner().producer;
        let ledger = ledger::update(self.backend(), producer, |ledger| {
            for round in ledger.rounds.values_mut() {
                match &mut round.waits_for {
                    None => round.waits_for = Some(held.clone()),
                    Some(waits_for) => waits_for.retain(|lease| held.contains(lease)),
                }
            }
        })?;
        let free: Vec<CondemnedFile> = free(&ledger).collect();
        done.waiting = (ledger.condemned.len() - free.len()) as u64;
        if free.is_empty() {
            return Ok(());
        }
        // What those pushes tagged before they ended is seen only by a mark that begins now.
        let live = self.mark(rules)?;
        let needed = self.needed(&live, &ledger)?;
        let (needed, doomed): (Vec<_>, Vec<_>) =
            free.into_iter().partition(|file| needed.contains(file));
        done.acquitted = needed.len() as u64;
        let sizes = self.sizes()?;
        let mut gone: BTreeSet<CondemnedFile> = BTreeSet::new();
        for file in doomed.iter().rev() {
            let key = key_of(file);
            if !exclusive.confirm().map_err(storage)? {
                return Err(StoreError::ExclusiveLost);
            }
            // Roots come after packs in order, and go first: nothing is left that names what is
            // gone. One that cannot be removed stays condemned, so no push counts on it.
            let removed = self.backend().remove(&key).map_err(storage);
            let Some(was_there) = failed.note(removed) else {
                continue;
            };
            gone.insert(*file);
            if was_there {
                done.deleted_bytes += sizes.get(&key).copied().unwrap_or(0);
                match key {
                    Key::Pack(_) => done.deleted_packs += 1,
                    _ => done.deleted_roots += 1,
                }
            }
        }
        ledger::update(self.backend(), producer, |ledger| {
            for file in gone.iter().chain(&needed) {
                ledger.condemned.remove(file);
            }
            let is_gone = |file: CondemnedFile| gone.contains(&file);
            // No file ever has the name of one that is gone.
            let damaged = &mut ledger.damaged;
            damaged.retain(|(_, pack)| !is_gone(CondemnedFile::Pack(*pack)));
            let files = &mut ledger.files;
            files.retain(|(root, file)| !is_gone(CondemnedFile::Root(*root, *file)));
        })?;
        self.refresh()
    }

    /// The condemned files that have something that is needed and is nowhere else, or may have it.
    fn needed(&self, live: &Live, ledger: &Ledger) -> Result<BTreeSet<CondemnedFile>, StoreError> {
        let mut needed = BTreeSet::new();
        let mut packs = BTreeSet::new();
        for file in ledger.condemned.keys() {
            match file {
                CondemnedFile::Pack(pack) => drop(packs.insert(FileId::new(*pack))),
                CondemnedFile::Root(root, copy) => {
                    if live.roots.contains(root) && !self.has_equal(*root, *copy, ledger) {
                        needed.insert(*file);
                    }
                }
            }
        }
        let (at_stake, unread) = self.at_stake(live, &packs);
        needed.extend(unread.iter().map(|pack| CondemnedFile::Pack(pack.get())));
        // Nothing is deleted on the word of a catalog: the copy that stays is read.
        for (id, holders) in at_stake {
            if !self.inner().has_sound(id, &packs, false) {
                needed.extend(holders.iter().map(|pack| CondemnedFile::Pack(pack.get())));
            }
        }
        Ok(needed)
    }

    /// The needed chunks in condemned packs, each with those packs; and the packs of which nobody
    /// can tell what they have. They were read when they were condemned.
    fn at_stake(
        &self,
        live: &Live,
        packs: &BTreeSet<FileId>,
    ) -> (IdMap<BTreeSet<FileId>>, BTreeSet<FileId>) {
        let mut at_stake: IdMap<BTreeSet<FileId>> = IdMap::default();
        let mut unread = BTreeSet::new();
        let mut unlisted = Vec::new();
        {
            let catalog = self.inner().catalog();
            for pack in packs.iter().filter(|pack| !catalog.packs.contains(pack)) {
                match catalog.bad_packs.contains_key(pack) {
                    true => drop(unread.insert(*pack)),
                    false => unlisted.push(*pack),
                }
            }
            for (id, place) in catalog.all() {
                if packs.contains(&place.pack) && live.chunks.contains(&id) {
                    at_stake.entry(id).or_default().insert(place.pack);
                }
            }
        }
        // It would be deleted by its name, so it is by its name that it is looked for.
        for (pack, loaded) in self.inner().load_packs(&unlisted) {
            let table = match loaded {
                Ok(Some(table)) => table,
                Ok(None) => continue,
                Err(_) => {
                    unread.insert(pack);
                    continue;
                }
            };
            for chunk in table.chunks() {
                if live.chunks.contains(&chunk.id) {
                    at_stake.entry(chunk.id).or_default().insert(pack);
                }
            }
        }
        (at_stake, unread)
    }

    /// Whether a file by its root has another copy with the same bytes that is not condemned.
    fn has_equal(&self, root: RootHash, copy: u64, ledger: &Ledger) -> bool {
        let others: Vec<FileId> = {
            let catalog = self.inner().catalog();
            let files = catalog.roots.get(&root).into_iter().flatten();
            let is_kept = |file: &FileId| {
                let condemned = CondemnedFile::Root(root, file.get());
                !ledger.condemned.contains_key(&condemned)
            };
            files.copied().filter(is_kept).collect()
        };
        let copy = Key::Root(root, FileId::new(copy));
        others.into_iter().any(|other| {
            let other = Key::Root(root, other);
            self.inner()
                .is_equal(&copy, &other)
                .unwrap_or_else(|error| {
                    tracing::warn!(%copy, %other, %error, "copies not compared");
                    false
                })
        })
    }

    /// The lengths of files, as far as they are known.
    fn sizes(&self) -> Result<BTreeMap<Key, u64>, StoreError> {
        let mut sizes = BTreeMap::new();
        for folder in [Folder::Packs, Folder::Roots] {
            let seen = self.backend().scan(folder).map_err(storage)?;
            let listed = seen.into_iter().filter_map(|seen| seen.facts.ok());
            sizes.extend(listed.map(|file| (file.key, file.len.get())));
        }
        Ok(sizes)
    }
}

fn key_of(file: &CondemnedFile) -> Key {
    match file {
        CondemnedFile::Pack(file) => Key::Pack(FileId::new(*file)),
        CondemnedFile::Root(root, file) => Key::Root(*root, FileId::new(*file)),
    }
}

/// Condemned files that nobody holds a lease from before.
fn free(ledger: &Ledger) -> impl Iterator<Item = CondemnedFile> + '_ {
    let is_free = |round: &u64| {
        let round = ledger.rounds.get(round);
        let waits_for = round.and_then(|round| round.waits_for.as_ref());
        waits_for.is_some_and(BTreeSet::is_empty)
    };
    let condemned = ledger.condemned.iter();
    condemned
        .filter(move |(_, round)| is_free(round))
        .map(|(file, _)| *file)
}

/// How many bytes of each pack are needed: of a chunk in several packs, one copy.
fn used_bytes(
    catalog: &Catalog,
    live: &Live,
    condemned: &BTreeSet<FileId>,
) -> BTreeMap<FileId, u64> {
    let mut used: BTreeMap<FileId, u64> = BTreeMap::new();
    for id in &live.chunks {
        let sound = catalog.kept(*id, condemned).copied();
        // Without a sound copy the damaged one is kept: it may be the place that recovers.
        let place = sound.or_else(|| catalog.places(*id).first().copied());
        if let Some(place) = place {
            *used.entry(place.pack).or_default() += u64::from(place.stored_len);
        }
    }
    used
}
