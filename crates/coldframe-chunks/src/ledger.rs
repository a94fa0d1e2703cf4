//! The store's ledger: read whole, changed by compare-and-swap.

use std::collections::BTreeSet;

use bytes::Bytes;
use coldframe_chunkfile::{CondemnedFile, Ledger};
use coldframe_envelope::Producer;
use coldframe_units::RootHash;

use crate::backend::{Backend, Key, TagName};
use crate::error::{encode, storage};
use crate::store::SMALL_FILE_MAX;
use crate::{FileId, StoreError};

/// So many of the newest rounds are kept when all their files are settled: they say which leases a
/// collector has seen, to pushes that began before.
const SETTLED_ROUNDS: usize = 64;

/// Refusals of a compare-and-swap in a row, the content being the same.
const REFUSALS_MAX: u32 = 16;

/// A ledger, and the bytes that it was read from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Read {
    pub ledger: Ledger,
    bytes: Option<Bytes>,
}

/// What is about to be deleted.
#[derive(Debug, Default)]
pub(crate) struct Condemned {
    pub packs: BTreeSet<FileId>,
    pub roots: BTreeSet<(RootHash, FileId)>,
}

impl Read {
    /// The names of tags that it knows.
    pub fn names(&self) -> BTreeSet<TagName> {
        let names = self.ledger.names.iter();
        names.filter_map(|name| name.parse().ok()).collect()
    }

    /// The files by their root that it knows.
    pub fn files(&self) -> BTreeSet<(RootHash, FileId)> {
        let files = self.ledger.files.iter();
        files
            .map(|(root, file)| (*root, FileId::new(*file)))
            .collect()
    }

    /// The newest round.
    pub fn round(&self) -> Option<u64> {
        self.ledger.rounds.keys().next_back().copied()
    }

    /// Whether a collector has condemned files after the round `since`, and has not seen this
    /// lease, or not any more, when it looked for those that are held.
    pub fn has_overlooked(&self, lease: u64, since: Option<u64>) -> bool {
        let rounds = self.ledger.rounds.iter();
        let mut later = rounds.filter(|(round, _)| since.is_none_or(|since| **round > since));
        later.any(|(_, round)| {
            let waits_for = round.waits_for.as_ref();
            waits_for.is_some_and(|waits_for| !waits_for.contains(&lease))
        })
    }

    pub fn condemned(&self) -> Condemned {
        let mut condemned = Condemned::default();
        for file in self.ledger.condemned.keys() {
            match file {
                CondemnedFile::Pack(file) => condemned.packs.insert(FileId::new(*file)),
                CondemnedFile::Root(root, file) => {
                    condemned.roots.insert((*root, FileId::new(*file)))
                }
            };
        }
        condemned
    }
}

/// The ledger as it is; an empty one if there is none. Damage is what two reads see.
pub(crate) fn read<B: Backend>(backend: &B) -> Result<Read, StoreError> {
    match read_once(backend) {
        Err(StoreError::DamagedLedger { .. }) => read_once(backend),
        read => read,
    }
}

fn read_once<B: Backend>(backend: &B) -> Result<Read, StoreError> {
    let bytes = backend
        .read(&Key::Ledger, SMALL_FILE_MAX)
        .map_err(storage)?;
    let ledger = match &bytes {
        None => Ledger::default(),
        Some(bytes) => {
            Ledger::decode(bytes).map_err(|source| StoreError::DamagedLedger { source })?
        }
    };
    Ok(Read { ledger, bytes })
}

/// The bytes of a ledger that is damaged; `None` if it is sound, or there is none. One of a newer
/// version is an error.
pub(crate) fn damaged<B: Backend>(backend: &B) -> Result<Option<Bytes>, StoreError> {
    match read(backend) {
        Err(StoreError::DamagedLedger { source }) if !source.is_unsupported_version() => {}
        read => return read.map(|_| None),
    }
    let bytes = backend.read(&Key::Ledger, SMALL_FILE_MAX);
    let bytes = bytes.map_err(storage)?;
    Ok(bytes.filter(|bytes| Ledger::decode(bytes).is_err()))
}

/// Changes the ledger; `change` may run more than once, each time on what is there.
pub(crate) fn update<B: Backend>(
    backend: &B,
    producer: Producer,
    change: impl Fn(&mut Ledger),
) -> Result<Ledger, StoreError> {
    let first = read(backend)?;
    Ok(update_from(first, backend, producer, change)?.ledger)
}

/// As [`update`], of a ledger that was read before: if it has changed since, it is read again.
pub(crate) fn update_from<B: Backend>(
    first: Read,
    backend: &B,
    producer: Producer,
    change: impl Fn(&mut Ledger),
) -> Result<Read, StoreError> {
    let mut tries = 0;
    let mut last: Option<Option<Bytes>> = None;
    let mut first = Some(first);
    loop {
        let read = match first.take() {
            Some(first) => first,
            None => read(backend)?,
        };
        // Each refusal means that someone changed the ledger. If it is the same as before, the
        // place contradicts itself, and to go on would not end.
        if last.as_ref() == Some(&read.bytes) {
            tries += 1;
            if tries >= REFUSALS_MAX {
                return Err(StoreError::LedgerStuck { tries });
            }
        } else {
            tries = 0;
        }
        let mut ledger = read.ledger.clone();
        change(&mut ledger);
        // A round without files has nothing to wait for.
        let used: BTreeSet<u64> = ledger.condemned.values().copied().collect();
        let newest = ledger.rounds.keys().rev().nth(SETTLED_ROUNDS - 1).copied();
        ledger
            .rounds
            .retain(|round, _| used.contains(round) || newest.is_none_or(|last| *round >= last));
        if ledger == read.ledger {
            return Ok(read);
        }
        let bytes = ledger.encode(producer).map_err(encode)?;
        let swapped = backend.replace(&Key::Ledger, read.bytes.as_deref(), Some(&bytes));
        if swapped.map_err(storage)? {
            let bytes = Some(Bytes::from(bytes));
            return Ok(Read { ledger, bytes });
        }
        last = Some(read.bytes);
    }
}
