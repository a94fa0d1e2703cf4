//! A journal that compacts itself, beside the writer's path.
//!
//! Invariants: an append that succeeded says so, whatever became of a compaction; there is one
//! compaction at a time, on a thread of its own; what it costs the writer is one flush when it
//! begins, and when it is adopted the copy of what was appended meanwhile.

use std::thread::JoinHandle;

use coldframe_units::FileOffset;

use super::{
    Batch, CompactWhen, Compacted, EntryRef, EntrySet, JournalError, JournalWriter, Rewritten,
    Scope, Sink, Span,
};

/// A writer whose journal is rewritten to what still matters whenever that is due.
///
/// Spans that appends return hold until the next compaction is adopted. Dropped, it leaves the
/// journal as it is, and a compaction that runs comes to nothing.
///
/// ```
/// use coldframe_journal::kinds::{CoreEntries, MemoryZero};
/// use coldframe_journal::{
///     CompactWhen, Compacting, JournalOptions, JournalWriter, Sink, core_scope,
/// };
///
/// # let dir = coldframe_testkit::scratch::on_disk();
/// # let path = dir.path().join("journal");
/// let writer = JournalWriter::<CoreEntries>::create(&path, JournalOptions::new()?)?;
/// let when = CompactWhen { on_close: true, ..CompactWhen::default() };
/// let mut journal = Compacting::new(writer, when, core_scope);
/// for _ in 0..100 {
///     journal.append(&MemoryZero { ram_offset: 0, len: 4096 })?; // the last one is enough
/// }
/// journal.close()?;
/// let (writer, _) = JournalWriter::<CoreEntries>::open(&path, JournalOptions::new()?)?;
/// assert_eq!(writer.entries(), 1);
/// # Ok::<(), coldframe_journal::JournalError>(())
/// ```
pub struct Compacting<E, F> {
    writer: JournalWriter<E>,
    when: CompactWhen,
    scope: F,
    running: Option<JoinHandle<Result<Rewritten<E>, JournalError>>>,
    done: u64,
    last: Option<Compacted>,
    failure: Option<JournalError>,
}

impl<E, F> Compacting<E, F>
where
    E: EntrySet + 'static,
    F: FnMut(&EntryRef<'_>) -> Scope + Clone + Send + 'static,
{
    /// Compacts `writer`'s journal by `scope` when `when` says so; the journal must be a file.
    pub const fn new(writer: JournalWriter<E>, when: CompactWhen, scope: F) -> Self {
        Self {
            writer,
            when,
            scope,
            running: None,
            done: 0,
            last: None,
            failure: None,
        }
    }

    /// The writer.
    pub const fn writer(&self) -> &JournalWriter<E> {
        &self.writer
    }

    /// Whether no compaction runs.
    pub const fn is_idle(&self) -> bool {
        self.running.is_none()
    }

    /// How many compactions took the journal's place so far.
    pub const fn compactions(&self) -> u64 {
        self.done
    }

    /// What the last of them did.
    pub const fn last(&self) -> Option<Compacted> {
        self.last
    }

    /// Why the last compaction came to nothing, once. The journal is as it was, and the next one
    /// is due as much later as if it had been done.
    pub const fn take_failure(&mut self) -> Option<JournalError> {
        self.failure.take()
    }

    /// Adopts a compaction that has run, and begins one that is due: every append does this too.
    pub fn tend(&mut self) {
        if self.running.as_ref().is_some_and(JoinHandle::is_finished) {
            let adopted = self.adopt();
            self.note(adopted);
        }
        if self.running.is_none() && self.when.is_due(&self.writer, false) {
            let begun = self.begin();
            self.note(begun);
        }
    }

    /// Waits for a compaction that runs, makes one if closing says so, and closes the journal.
    ///
    /// # Errors
    /// As [`JournalWriter::close`]; a compaction that fails leaves the journal as it was, and is
    /// no error.
    pub fn close(mut self) -> Result<FileOffset, JournalError> {
        let adopted = self.adopt();
        self.note(adopted);
        if self.when.is_due(&self.writer, true) {
            let made = self.begin().and_then(|()| self.adopt());
            self.note(made);
        }
        self.writer.close()
    }

    fn begin(&mut self) -> Result<(), JournalError> {
        let compaction = self.writer.begin_compaction()?;
        let scope = self.scope.clone();
        self.running = Some(std::thread::spawn(move || compaction.run(scope)));
        Ok(())
    }

    fn adopt(&mut self) -> Result<(), JournalError> {
        let Some(running) = self.running.take() else {
            return Ok(());
        };
        let rewritten = match running.join() {
            Ok(rewritten) => rewritten?,
            // The caller's own rule panicked.
            Err(panic) => std::panic::resume_unwind(panic),
        };
        self.last = Some(self.writer.adopt(rewritten)?);
        self.done += 1;
        Ok(())
    }

    fn note(&mut self, result: Result<(), JournalError>) {
        if let Err(error) = result {
            tracing::warn!(%error, "journal not compacted");
            // Not again at the next append, which would fail likewise.
            self.writer.compacted();
            self.failure = Some(error);
        }
    }
}

impl<E, F> Sink<E> for Compacting<E, F>
where
    E: EntrySet + 'static,
    F: FnMut(&EntryRef<'_>) -> Scope + Clone + Send + 'static,
{
    fn append_encoded(&mut self, entry: EntryRef<'_>) -> Result<Option<Span>, JournalError> {
        self.tend();
        Sink::append_encoded(&mut self.writer, entry)
    }

    fn commit(&mut self, batch: &Batch<E>) -> Result<Option<Span>, JournalError> {
        self.tend();
        Sink::commit(&mut self.writer, batch)
    }

    fn flush(&mut self) -> Result<(), JournalError> {
        self.writer.flush()
    }
}
