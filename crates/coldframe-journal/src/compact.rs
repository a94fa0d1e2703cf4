//! Rewriting a journal to what still matters, while it goes on being written.
//!
//! Invariants: until the rename the old file is whole and in use, after it the new one is; what
//! was appended meanwhile is carried over before the rename; the rule is worked out from the
//! journal itself each time, so that compacting twice is compacting once.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::Path;
use std::sync::Arc;

use coldframe_storage::{
    FileStorage, IoContext, Operation, Overwrite, PendingFile, Storage, StorageError,
};
use coldframe_units::{ByteLen, FileOffset};

use super::flow::{Copied, Pick, copy_where};
use super::place::FileLock;
use super::supersede::survivors;
use super::{
    AnyEntries, End, EntryRef, EntrySet, JournalError, JournalOptions, JournalReader,
    JournalWriter, Scope, Sink, Source,
};

/// When a journal is due to be compacted; any of them. None of them by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompactWhen {
    /// So many entries were appended since the last time.
    pub entries: Option<u64>,
    /// It grew by so much since the last time.
    pub growth: Option<ByteLen>,
    /// It is so many times as long as after the last time, and over 64 KiB.
    pub factor: Option<u32>,
    /// It is closed.
    pub on_close: bool,
}

/// A factor says nothing of a journal that is shorter than this.
const FACTOR_BYTES_MIN: u64 = 64 * 1024;

impl CompactWhen {
    /// Whether `writer`'s journal is due; `closing` if it is about to be closed.
    #[must_use]
    pub fn is_due<E: EntrySet>(&self, writer: &JournalWriter<E>, closing: bool) -> bool {
        let (entries, base) = writer.since_compaction();
        let len = writer.end().get();
        let base = base.max(FACTOR_BYTES_MIN);
        let grown = len.saturating_sub(writer.since_compaction().1);
        self.entries.is_some_and(|limit| entries >= limit)
            || self.growth.is_some_and(|limit| grown >= limit.get())
            || (self.factor).is_some_and(|n| len > base && len >= base.saturating_mul(n.into()))
            || (self.on_close && closing && entries > 0)
    }
}

/// What a compaction did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// Entries looked at.
    pub entries_before: u64,
    /// Entries kept.
    pub entries_after: u64,
}

/// Copies from `source` to `sink` what still matters by `scope`, batches whole as far as they are
/// kept. Reads twice, and does not flush.
///
/// # Errors
/// Those of the two; [`JournalError::Refused`] if the source does not end cleanly.
pub fn compact<E: EntrySet>(
    source: &mut impl Source,
    sink: &mut impl Sink<E>,
    scope: impl FnMut(&EntryRef<'_>) -> Scope,
) -> Result<Compacted, JournalError> {
    compact_until(source, sink, u64::MAX, scope)
}

fn compact_until<E: EntrySet>(
    source: &mut impl Source,
    sink: &mut impl Sink<E>,
    until: u64,
    mut scope: impl FnMut(&EntryRef<'_>) -> Scope,
) -> Result<Compacted, JournalError> {
    let mut scopes = Vec::new();
    source.restart()?;
    let end = loop {
        if let Some(end) = source.advance()? {
            break end;
        }
        match source.current() {
            Some(entry) if entry.record().start.get() < until => scopes.push(scope(&entry)),
            _ => break clean(until),
        }
    };
    refuse_unclean(end)?;
    let keep = survivors(&scopes);
    let mut keep = keep.into_iter();
    source.restart()?;
    let copied = copy_where(source, sink, |_| match keep.next() {
        Some(true) => Pick::Take,
        Some(false) => Pick::Leave,
        None => Pick::Stop,
    })?;
    refuse_unclean(copied.end)?;
    Ok(Compacted {
        entries_before: scopes.len() as u64,
        entries_after: copied.entries,
    })
}

const fn clean(until: u64) -> End {
    let (offset, sealed) = (FileOffset::new(until), false);
    End::Clean { offset, sealed }
}

const fn refuse_unclean(end: End) -> Result<(), JournalError> {
    if end.is_clean() {
        Ok(())
    } else {
        Err(JournalError::Refused { end })
    }
}

/// A compaction that was begun: it may run on a thread of its own while the writer goes on.
pub struct Compaction<E> {
    source: JournalReader<AnyEntries>,
    sink: JournalWriter<E>,
    pending: PendingFile,
    until: u64,
}

/// A compaction that ran: [`JournalWriter::adopt`] puts it in place.
pub struct Rewritten<E> {
    source: JournalReader<AnyEntries>,
    sink: JournalWriter<E>,
    pending: PendingFile,
    until: u64,
    done: Compacted,
}

impl<E: EntrySet> Compaction<E> {
    pub(crate) fn begin(
        storage: Arc<dyn Storage>,
        until: u64,
        options: JournalOptions,
    ) -> Result<Self, JournalError> {
        let pending = PendingFile::create(storage.path(), Overwrite::Replace)?;
        let fd = pending.as_fd().try_clone_to_owned();
        let file = File::from(fd.at(Operation::Open, pending.dest())?);
        pass_on_access(storage.path(), &file).at(Operation::Create, pending.dest())?;
        // It has the lock already: the copy sees to it that it is given back.
        let lock = FileLock::take(&file, pending.dest())?;
        let new = Arc::new(FileStorage::from_file(file, pending.dest()));
        let mut sink = JournalWriter::create_in(new, options)?;
        sink.hold(lock);
        Ok(Self {
            source: JournalReader::from_storage(storage)?,
            sink,
            pending,
            until,
        })
    }

    /// Rewrites what was in the journal when the compaction was begun. Entries of types that `E`
    /// does not have are kept.
    ///
    /// # Errors
    /// [`JournalError::Storage`]; [`JournalError::Refused`] if the journal is damaged. Nothing is
    /// left behind, and the journal is as it was.
    pub fn run(
        mut self,
        mut scope: impl FnMut(&EntryRef<'_>) -> Scope,
    ) -> Result<Rewritten<E>, JournalError> {
        let span = tracing::info_span!("compact", until = self.until);
        let _entered = span.enter();
        let done = compact_until(&mut self.source, &mut self.sink, self.until, |entry| {
            if E::TYPES.contains(&entry.type_id()) {
                scope(entry)
            } else {
                Scope::Keep
            }
        })?;
        self.sink.flush()?;
        Ok(Rewritten {
            source: self.source,
            sink: self.sink,
            pending: self.pending,
            until: self.until,
            done,
        })
    }
}

impl<E: EntrySet> Rewritten<E> {
    /// What was done.
    #[must_use]
    pub const fn done(&self) -> Compacted {
        self.done
    }

    /// Carries over what was appended meanwhile, and takes the old file's place.
    pub(crate) fn publish(mut self) -> Result<JournalWriter<E>, JournalError> {
        // What was copied is not read again: this is the writer's time.
        self.source.go_on_at(FileOffset::new(self.until))?;
        let Copied { end, .. } = copy_where(&mut self.source, &mut self.sink, |_| Pick::Take)?;
        refuse_unclean(end)?;
        self.sink.flush()?;
        // Not read-only for a moment: whoever opens it after a power cut must be able to go on.
        self.pending.publish_in_use()?;
        self.sink.compacted();
        Ok(self.sink)
    }
}

/// Gives the new file the owner and the mode of the old one: the same users can read and continue
/// the journal.
fn pass_on_access(old: &Path, new: &File) -> io::Result<()> {
    let (old, made) = (std::fs::metadata(old)?, new.metadata()?);
    if (old.uid(), old.gid()) != (made.uid(), made.gid()) {
        fchown(new, Some(old.uid()), Some(old.gid()))?;
    }
    if old.mode() != made.mode() {
        new.set_permissions(old.permissions())?;
    }
    Ok(())
}

/// Whether the old file is still in place after a publish that failed so.
pub(crate) const fn is_before_rename(error: &JournalError) -> bool {
    !matches!(
        error,
        JournalError::Storage {
            source: StorageError::NotDurable { .. }
        }
    )
}
