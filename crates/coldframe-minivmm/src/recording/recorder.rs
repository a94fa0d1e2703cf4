//! Writing a recording.
//!
//! Invariant: entries are appended in the order in which the guest meets them, under the lock of
//! its ports; durable at each snapshot and at the end.

use std::fmt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use coldframe_journal::kinds::{SnapshotMark, Trigger};
use coldframe_journal::{Entry, JournalOptions, JournalWriter};
use coldframe_units::SnapshotId;

use crate::digest::EndState;
use crate::recording::{Begin, GuestEnd, GuestMark, RecordingEntries, RecordingError};

/// Which recording: random, carried by its journal and by its snapshots.
pub type RecordingId = [u8; 16];

/// Appends the inputs of one guest to a journal.
pub struct Recorder {
    journal: JournalWriter<RecordingEntries>,
    id: RecordingId,
    last_mark_at: Option<u64>,
}

impl Recorder {
    /// Begins a recording in a new journal at `path`, which must not exist.
    ///
    /// # Errors
    /// [`RecordingError::Write`], [`RecordingError::NewId`].
    pub fn create(path: &Path) -> Result<Self, RecordingError> {
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|error| RecordingError::NewId(error.into()))?;
        let options = JournalOptions::new().map_err(RecordingError::Write)?;
        let journal = JournalWriter::create(path, options).map_err(RecordingError::Write)?;
        let mut recorder = Self {
            journal,
            id,
            last_mark_at: None,
        };
        recorder.append(&Begin { recording: id })?;
        Ok(recorder)
    }

    /// Which recording it is.
    #[must_use]
    pub const fn id(&self) -> RecordingId {
        self.id
    }

    /// Appends one entry.
    pub(crate) fn append<T: Entry>(&mut self, entry: &T) -> Result<(), RecordingError> {
        self.journal.append(entry).map_err(RecordingError::Write)?;
        Ok(())
    }

    /// The guest made a mark.
    pub(crate) fn mark(&mut self, mark: &GuestMark) -> Result<(), RecordingError> {
        self.last_mark_at = Some(mark.progress);
        self.append(mark)
    }

    /// A snapshot was taken: the guest asked for it if it has done nothing since its last mark.
    pub(crate) fn snapshot(&mut self, progress: u64, id: SnapshotId) -> Result<(), RecordingError> {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let asked = self.last_mark_at == Some(progress);
        self.append(&SnapshotMark {
            progress,
            unix_ns: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
            snapshot: *id.as_bytes(),
            trigger: if asked {
                Trigger::Guest
            } else {
                Trigger::Explicit
            },
        })
    }

    /// Returns once all entries are durable.
    pub(crate) fn flush(&mut self) -> Result<(), RecordingError> {
        self.journal.flush().map_err(RecordingError::Write)
    }

    /// Notes the end, and closes the journal.
    pub(crate) fn finish(mut self, progress: u64, end: &EndState) -> Result<(), RecordingError> {
        self.append(&GuestEnd {
            progress,
            ram_blake3: end.ram_blake3.clone(),
            regs_blake3: end.regs_blake3.clone(),
            console_blake3: end.console_blake3.clone(),
        })?;
        self.journal.close().map_err(RecordingError::Write)?;
        Ok(())
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
