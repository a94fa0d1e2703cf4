//! The two logs where any file of ours may come: known by their magic, for they are no envelopes.

use std::path::Path;

use coldframe_storage::{ByteSource, FileStorage, PreadSource};
use coldframe_units::{ByteLen, FileOffset};
use coldframe_walframe::journal::PART_MAGIC;
use coldframe_walframe::ring::{CONTROL_MAGIC, CONTROL_SLOT_STRIDE};

use crate::exit::Failure;
use crate::verbs::journal::{self, JournalReport};
use crate::verbs::wal::{self, WalReport};

/// One of the two logs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogKind {
    /// A ring WAL that begins with the file: [`coldframe_ring`].
    Ring,
    /// A typed journal: [`coldframe_journal`].
    Journal,
}

impl LogKind {
    /// How many of a file's first bytes tell.
    pub const PREFIX_LEN: u64 = CONTROL_SLOT_STRIDE + 8;

    /// The log that a file is whose first bytes these are, if it is one. Nothing else is checked:
    /// it may be damaged, or of another version.
    #[must_use]
    pub fn of(prefix: &[u8]) -> Option<Self> {
        // One of a ring's two control blocks may be lost.
        let second = prefix.get(CONTROL_SLOT_STRIDE as usize..).unwrap_or(&[]);
        if prefix.starts_with(&PART_MAGIC) {
            Some(Self::Journal)
        } else if prefix.starts_with(&CONTROL_MAGIC) || second.starts_with(&CONTROL_MAGIC) {
            Some(Self::Ring)
        } else {
            None
        }
    }
}

/// What the verb of a log would say of it.
pub enum Log {
    Ring(Box<WalReport>),
    Journal(Box<JournalReport>),
}

/// Something that makes a log damaged.
pub struct LogDamage {
    pub offset: Option<u64>,
    pub kind: &'static str,
    pub detail: String,
}

/// Which log the file at `path` is; `None` if it is none, or cannot be read.
pub fn kind_at(path: &Path) -> Option<LogKind> {
    if !path.is_file() {
        return None;
    }
    kind(&PreadSource::<FileStorage>::open(path).ok()?)
}

/// The same of a file that is open.
pub fn kind(source: &PreadSource) -> Option<LogKind> {
    let len = source.len().min(ByteLen::new(LogKind::PREFIX_LEN));
    let prefix = source.bytes(FileOffset::ZERO, len).ok()?;
    LogKind::of(&prefix)
}

/// Reads all of it.
pub fn read(path: &Path, kind: LogKind) -> Result<Log, Failure> {
    match kind {
        LogKind::Ring => wal::look(path).map(|report| Log::Ring(Box::new(report))),
        LogKind::Journal => journal::read(path).map(|report| Log::Journal(Box::new(report))),
    }
}

impl Log {
    /// What makes it damaged; a torn end does not.
    pub fn damages(&self) -> Vec<LogDamage> {
        match self {
            Self::Ring(report) => (report.findings.iter())
                .filter(|finding| finding.damage)
                .map(|finding| LogDamage {
                    offset: finding.offset,
                    kind: finding.kind,
                    detail: finding.detail.clone(),
                })
                .collect(),
            Self::Journal(report) => (report.damages.iter())
                .filter(|damage| damage.kind != "torn")
                .map(|damage| LogDamage {
                    offset: Some(damage.offset),
                    kind: damage.kind,
                    detail: damage.detail.clone(),
                })
                .collect(),
        }
    }
}
