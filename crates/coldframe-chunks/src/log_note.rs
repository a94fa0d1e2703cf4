//! Which write-ahead log may hold changes of a disk: a note at the disk's tag, so that it is
//! written and read with the tag, by one compare-and-swap, in every kind of place.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use coldframe_chunkfile::{DiskId, LogId, LogPlace, Tag, TagFile};

use crate::StoreError;
use crate::backend::{Backend, TagName};
use crate::error::storage;
use crate::store::PackStore;
use crate::tags::{read_file, swap_file};
use coldframe_storage::{IoContext, Operation};

/// A log that a tag names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogNote {
    /// The number in the log itself.
    pub id: LogId,
    /// Where it was when it was opened last.
    pub place: LogPlace,
}

impl LogNote {
    /// Where it was on its host.
    #[must_use]
    pub fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(self.place.path()))
    }

    /// The name of its host, as text.
    #[must_use]
    pub fn host(&self) -> String {
        String::from_utf8_lossy(self.place.host()).into_owned()
    }
}

impl fmt::Display for LogNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on host {}", self.path().display(), self.host())
    }
}

impl<B: Backend> PackStore<B> {
    /// The log that a tag names; `None` if there is no such tag, or the store has all of the disk.
    ///
    /// # Errors
    /// As [`PackStore::tag`].
    pub fn log_note(&self, name: &TagName) -> Result<Option<LogNote>, StoreError> {
        Ok(read_file(self.inner(), name)?.and_then(|(file, _)| note(&file)))
    }

    /// A tag, and the log that it names, from one reading: two could be of two moments.
    ///
    /// # Errors
    /// As [`PackStore::tag`].
    pub fn noted_tag(&self, name: &TagName) -> Result<Option<(Tag, Option<LogNote>)>, StoreError> {
        let found = read_file(self.inner(), name)?;
        Ok(found.map(|(file, _)| (file.tag, note(&file))))
    }

    /// Says at the tag which disk it is and which log has changes of it (`None`: none any more), if
    /// it is `expected` now; returns the tag as it is then. This is also the way to give a log up.
    ///
    /// Spec: STORE-41
    ///
    /// # Errors
    /// [`StoreError::TagMoved`]; as [`PackStore::tag`].
    pub fn set_log(
        &self,
        name: &TagName,
        expected: Tag,
        disk: Option<DiskId>,
        log: Option<LogNote>,
    ) -> Result<Tag, StoreError> {
        let tag = Tag {
            disk,
            log: log.as_ref().map(|note| note.id),
            ..expected
        };
        let place = log.map(|note| note.place);
        let found = read_file(self.inner(), name)?;
        let Some((file, bytes)) = found.filter(|(file, _)| file.tag == expected) else {
            return Err(StoreError::TagMoved { name: name.clone() });
        };
        let new = TagFile { tag, place };
        if new != file {
            swap_file(self.inner(), name, Some(&bytes), Some(&new))?;
        }
        Ok(tag)
    }

    /// A new identity for a disk.
    ///
    /// # Errors
    /// [`StoreError::Storage`]: the host has no random numbers.
    pub fn new_disk_id(&self) -> Result<DiskId, StoreError> {
        random(self).map(DiskId::from_bytes)
    }

    /// A new identity for a log.
    ///
    /// # Errors
    /// As [`PackStore::new_disk_id`].
    pub fn new_log_id(&self) -> Result<LogId, StoreError> {
        random(self).map(LogId::from_bytes)
    }
}

pub(crate) fn note(file: &TagFile) -> Option<LogNote> {
    let id = file.tag.log?;
    let place = file.place.clone()?;
    Some(LogNote { id, place })
}

fn random<B: Backend>(store: &PackStore<B>) -> Result<[u8; 16], StoreError> {
    let mut bytes = [0; 16];
    let place = store.backend().place();
    let filled = getrandom::fill(&mut bytes);
    let filled = filled.at(Operation::TemporaryName, place.as_ref());
    filled.map_err(storage)?;
    Ok(bytes)
}
