//! wasmer-journal: its `LogFileJournal`. It has no checksum, and its `flush` syncs nothing, so
//! its file is synced for it.

#[cfg(feature = "wal-peers")]
mod contestant {
    use std::fs::{self, File};
    use std::hint::black_box;
    use std::path::Path;

    use anyhow::{Result, ensure};
    use wasmer_journal::{JournalEntry, LogFileJournal, ReadableJournal, WritableJournal};

    use crate::harness::{Run, timed};

    fn entry(payload: &[u8]) -> JournalEntry<'_> {
        JournalEntry::FileDescriptorWriteV1 {
            fd: 0,
            offset: 0,
            data: payload.into(),
            is_64bit: true,
        }
    }

    /// Appends to a new journal.
    pub fn append<'a>(
        path: &'a Path,
        payload: &'a [u8],
        sync: bool,
        count: usize,
    ) -> Option<Run<'a>> {
        Some(Box::new(move || {
            let file = File::options()
                .read(true)
                .write(true)
                .create_new(true)
                .open(path)?;
            let journal = LogFileJournal::from_file(file.try_clone()?)?;
            let time = timed(|| {
                for _ in 0..count {
                    journal.write(entry(payload))?;
                    journal.flush()?;
                    if sync {
                        file.sync_data()?;
                    }
                }
                Ok(())
            });
            drop((journal, file));
            fs::remove_file(path)?;
            time
        }))
    }

    /// Reads a filled one, which is filled now.
    pub fn recover<'a>(path: &'a Path, payload: &[u8], count: usize) -> Result<Option<Run<'a>>> {
        let journal = LogFileJournal::new(path)?;
        for _ in 0..count {
            journal.write(entry(payload))?;
        }
        drop(journal);
        Ok(Some(Box::new(move || {
            timed(|| {
                let journal = LogFileJournal::new(path)?;
                let mut found = 0;
                while let Some(entry) = journal.read()? {
                    black_box(&entry.record);
                    found += 1;
                }
                ensure!(found == count, "found {found} entries");
                Ok(())
            })
        })))
    }
}

#[cfg(not(feature = "wal-peers"))]
mod contestant {
    use std::path::Path;

    use anyhow::Result;

    use crate::harness::Run;

    /// The feature is off.
    pub fn append<'a>(_: &'a Path, _: &'a [u8], _: bool, _: usize) -> Option<Run<'a>> {
        None
    }

    /// The feature is off.
    pub fn recover<'a>(_: &'a Path, _: &[u8], _: usize) -> Result<Option<Run<'a>>> {
        Ok(None)
    }
}

pub use contestant::{append, recover};
