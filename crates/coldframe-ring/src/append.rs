//! Appending and syncing.

use std::ops::RangeInclusive;

use coldframe_storage::Storage;
use coldframe_walframe::ring::{RECORD_HEADER_LEN, parts_len, record_extent};

use crate::commit::Level;
use crate::{RingError, RingPlace, RingWal, Sequence};

impl<S: Storage> RingWal<S> {
    /// Appends a record and returns its sequence; with [`crate::Durability::Each`] it is on the
    /// disk then. An empty payload is a record as any other.
    ///
    /// Spec: RING-30, RING-31
    ///
    /// # Errors
    /// [`RingError::Full`] says how much to free, [`RingError::TooLong`] that no checkpoint helps;
    /// nothing was appended then. [`RingError::Failed`]: it is unknown whether it was.
    pub fn append(&self, payload: &[u8]) -> Result<Sequence, RingError> {
        self.append_parts(&[payload]).map(|(sequence, _)| sequence)
    }

    /// As [`RingWal::append`], with a payload that is these parts, one behind the other; also
    /// returns where it lies, for [`RingWal::read_payload`].
    ///
    /// # Errors
    /// As [`RingWal::append`].
    pub fn append_parts(&self, parts: &[&[u8]]) -> Result<(Sequence, RingPlace), RingError> {
        let mut state = self.state();
        state.admit(record_extent(parts_len(parts)), 1)?;
        let place = RingPlace::at(state.head.position + RECORD_HEADER_LEN);
        let sequence = state.stage(&self.key, parts)?;
        self.await_level(state, sequence, self.options.durability.into())?;
        Ok((Sequence::new(sequence), place))
    }

    /// Appends several records with one write and at most one sync; `None` if there are none.
    ///
    /// Either all of them fit or none is appended. A power cut before this returns may leave the
    /// first few of them.
    ///
    /// # Errors
    /// As [`RingWal::append`].
    pub fn append_batch<P: AsRef<[u8]>>(
        &self,
        payloads: &[P],
    ) -> Result<Option<RangeInclusive<Sequence>>, RingError> {
        let extents = payloads
            .iter()
            .map(|payload| record_extent(payload.as_ref().len() as u64));
        let need = extents.fold(0, u64::saturating_add);
        let mut state = self.state();
        state.admit(need, payloads.len() as u64)?;
        let first = state.head.sequence;
        let mut last = None;
        for payload in payloads {
            last = Some(state.stage(&self.key, &[payload.as_ref()])?);
        }
        let Some(last) = last else {
            return Ok(None);
        };
        self.await_level(state, last, self.options.durability.into())?;
        Ok(Some(Sequence::new(first)..=Sequence::new(last)))
    }

    /// Returns once every record appended so far is on the disk, with the last one's sequence.
    /// Of several threads that wait one syncs for all.
    ///
    /// # Errors
    /// [`RingError::Failed`].
    pub fn sync(&self) -> Result<Sequence, RingError> {
        let state = self.state();
        // Also if all is durable: who was told of a failure must open the log again.
        state.refuse_after_failure()?;
        let last = state.head.sequence - 1;
        self.await_level(state, last, Level::Durable)?;
        Ok(Sequence::new(last))
    }
}
