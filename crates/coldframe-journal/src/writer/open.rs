//! Making a journal, and opening one to continue it.

use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;

use coldframe_storage::{Access, FileStorage, Storage, open_regular, sync_name};
use coldframe_units::{ByteLen, FileOffset};
use coldframe_walframe::journal::{PART_HEADER_LEN, PART_VERSION, PartHeader, PartId, PartKey};

use super::rewrite::rewrite;
use super::{JournalWriter, Recovered};
use crate::entry::{Buffer, SetOf};
use crate::place::{FileLock, is_at, refuse_special};
use crate::{AnyEntries, End, EntrySet, JournalError, JournalOptions, JournalReader, Unsupported};

impl<E: EntrySet> JournalWriter<E> {
    /// Creates a journal at `path`, which must not exist, and holds its lock.
    ///
    /// # Errors
    /// [`JournalError::Storage`], [`JournalError::Locked`], [`JournalError::Random`].
    pub fn create(path: &Path, options: JournalOptions) -> Result<Self, JournalError> {
        let file = FileStorage::create(path)?.into_file();
        let lock = FileLock::take(&file, path)?;
        let storage = Arc::new(FileStorage::from_file(file, path));
        let mut writer = Self::create_in(storage, options)?;
        writer.lock = Some(lock);
        sync_name(path)?;
        Ok(writer)
    }

    /// Opens the journal at `path` to continue it: drops a torn tail, and holds its lock. All that
    /// was found is durable when this returns, also if a sync failed before and the host has some
    /// of it in its cache alone: what is not proved to be on the disk is written again.
    ///
    /// # Errors
    /// [`JournalError::Locked`] if it has a writer, [`JournalError::Refused`] if it is corrupt or
    /// unsupported, or a part is joined behind a torn one; [`JournalError::OtherSchema`],
    /// [`JournalError::Gone`], [`JournalError::Storage`].
    pub fn open(path: &Path, options: JournalOptions) -> Result<(Self, Recovered), JournalError> {
        refuse_special(path)?;
        loop {
            let file = open_regular(path, Access::ReadWrite)?;
            let lock = FileLock::take(&file, path)?;
            // A compaction may have put another file there before the lock was ours.
            if is_at(&file, path)? {
                // Who put it there may have ended, or failed, before its name was durable.
                sync_name(path)?;
                let storage = Arc::new(FileStorage::from_file(file, path));
                let (mut writer, recovered) = Self::open_in(storage, options)?;
                writer.lock = Some(lock);
                return Ok((writer, recovered));
            }
        }
    }

    /// Begins a journal in `storage`, which must be empty. Who shares the storage sees to it that
    /// there is one writer.
    ///
    /// # Errors
    /// [`JournalError::Storage`], [`JournalError::Random`].
    pub fn create_in(
        storage: Arc<dyn Storage>,
        options: JournalOptions,
    ) -> Result<Self, JournalError> {
        const { SetOf::<E>::SOUND }
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|source| JournalError::Random { source })?;
        let part = PartHeader {
            version: PART_VERSION,
            schema: E::SCHEMA,
            id: PartId(id),
            producer: options.producer,
        };
        // Before any record: a damaged header with records behind it is then corrupt, not torn.
        storage.write_at(FileOffset::ZERO, &part.encode())?;
        storage.sync_data()?;
        Ok(Self::at(storage, options, part, 0, PART_HEADER_LEN))
    }

    /// Opens the journal in `storage` to continue it, as [`JournalWriter::open`] does.
    ///
    /// # Errors
    /// As [`JournalWriter::open`].
    pub fn open_in(
        storage: Arc<dyn Storage>,
        options: JournalOptions,
    ) -> Result<(Self, Recovered), JournalError> {
        const { SetOf::<E>::SOUND }
        let mut reader = JournalReader::<AnyEntries>::from_storage(Arc::clone(&storage))?;
        reader.track_durability();
        let mut entries = 0;
        let end = reader.read_all(|_| {
            entries += 1;
            Ok::<(), JournalError>(())
        })?;
        let at = end.offset().get();
        let (torn, sealed) = match end {
            End::Clean { sealed, .. } => (ByteLen::ZERO, sealed),
            // What was joined behind a torn part may be sound: not ours to drop.
            End::Torn {
                dropped,
                joined: None,
                ..
            } => (dropped, false),
            End::Unsupported {
                what: Unsupported::Foreign,
                ..
            } => {
                let path = storage.path().display().to_string();
                return Err(JournalError::Foreign { path });
            }
            _ => return Err(JournalError::Refused { end }),
        };
        if let Some(part) = reader
            .part_read()
            .filter(|part| part.header.schema != E::SCHEMA)
        {
            let (found, expected) = (part.header.schema, E::SCHEMA);
            return Err(JournalError::OtherSchema { found, expected });
        }
        let unproved = reader.take_unproved();
        rewrite(&storage, &unproved, at)?;
        if torn > ByteLen::ZERO {
            storage.set_len(ByteLen::new(at))?;
        }
        // What was recovered is durable before anything builds on it.
        storage.sync_data()?;
        let mut writer = match reader.part_read() {
            Some(part) => Self::at(storage, options, part.header, part.start, at),
            None => Self::create_in(storage, options)?,
        };
        writer.room = writer.storage.len()?.get();
        writer.entries = entries;
        writer.compacted();
        let end = writer.end();
        tracing::info!(
            entries,
            torn_bytes = torn.get(),
            end = end.get(),
            "journal opened"
        );
        Ok((
            writer,
            Recovered {
                entries,
                torn,
                end,
                sealed,
            },
        ))
    }

    fn at(
        storage: Arc<dyn Storage>,
        options: JournalOptions,
        part: PartHeader,
        part_start: u64,
        end: u64,
    ) -> Self {
        Self {
            storage,
            lock: None,
            options,
            part,
            key: PartKey::new(part.id),
            part_start,
            end,
            durable: end,
            room: end,
            buffer: Buffer::new(),
            poisoned: false,
            entries: 0,
            base: (0, end),
            set: PhantomData,
        }
    }
}
