//! A new ledger in the place of a damaged one.
//!
//! Invariants: nothing is deleted here, and nothing that is needed is deleted later for what the
//! damaged ledger knew. What was condemned is as good as any other file again, and goes only when
//! a later round condemns it. A push that began before may have been promised otherwise: the new
//! ledger has a round that is later than all of the old one and that has seen no lease, so each of
//! them fails (see [`ledger::Read::has_overlooked`]).

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use coldframe_chunkfile::{Ledger, Round};

use crate::backend::{Backend, Key};
use crate::error::{encode, storage};
use crate::store::PackStore;
use crate::{FileId, StoreError, known, ledger, tags};

/// What a new ledger knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NewLedger {
    /// Names of tags.
    pub tags: u64,
    /// Files by their root.
    pub files: u64,
}

impl<B: Backend> PackStore<B> {
    /// Puts a new ledger in the place of a damaged one; `None` if it is not damaged. It names the
    /// tags and files that are listed, and those that can still be read of the damaged one. Pushes
    /// that are under way fail; what was known of damaged chunks is found again by a verification.
    ///
    /// Spec: STORE-47
    ///
    /// # Errors
    /// [`StoreError::Busy`], [`StoreError::ExclusiveLost`]: someone else collects garbage;
    /// [`StoreError::DamagedLedger`] if it is of a newer version; [`StoreError::LedgerStuck`] if it
    /// was changed meanwhile; [`StoreError::Storage`].
    pub fn renew_ledger(&self) -> Result<Option<NewLedger>, StoreError> {
        let exclusive = self.backend().exclusive().map_err(storage)?;
        let exclusive = exclusive.ok_or(StoreError::Busy)?;
        let Some(damaged) = ledger::damaged(self.backend())? else {
            return Ok(None);
        };
        let ledger = self.ledger_of_what_is_there(&damaged)?;
        let bytes = ledger.encode(self.inner().producer).map_err(encode)?;
        if !exclusive.confirm().map_err(storage)? {
            return Err(StoreError::ExclusiveLost);
        }
        let swapped = self
            .backend()
            .replace(&Key::Ledger, Some(&damaged), Some(&bytes));
        if !swapped.map_err(storage)? {
            return Err(StoreError::LedgerStuck { tries: 1 });
        }
        tracing::warn!(place = %self.backend().place(), "new ledger in the place of a damaged one");
        Ok(Some(NewLedger {
            tags: ledger.names.len() as u64,
            files: ledger.files.len() as u64,
        }))
    }

    fn ledger_of_what_is_there(&self, damaged: &[u8]) -> Result<Ledger, StoreError> {
        let mut ledger = Ledger::salvage(damaged);
        let names = tags::names(self.inner())?;
        let names = names.iter().map(|name| name.as_str().to_owned());
        ledger.names.extend(names.take(tags::KNOWN_MAX));
        let listed = known::listed(self.inner())?;
        let listed: BTreeSet<_> = listed.into_iter().map(|(file, _)| file).collect();
        let mut files = BTreeSet::new();
        for (root, file) in std::mem::take(&mut ledger.files) {
            // One that was condemned may be gone: that it was is not known any more.
            let known = (root, FileId::new(file));
            if listed.contains(&known) || known::is_there(self.inner(), known)? {
                files.insert((root, file));
            }
        }
        let listed = listed.into_iter().map(|(root, file)| (root, file.get()));
        files.extend(listed.take(known::FILES_MAX));
        ledger.files = files;
        // Rounds are counted from 0, or from the time of an earlier new ledger.
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let round = now.map_or(1 << 40, |now| now.as_millis() as u64);
        let waits_for = Some(BTreeSet::new());
        ledger.rounds.insert(round, Round { waits_for });
        Ok(ledger)
    }
}
