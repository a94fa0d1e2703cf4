//! The two logs where any file of ours may come: known by their magic, for they are no envelopes.

use std::path::Path;

use coldframe_storage::{ByteSource, FileStorage, PreadSource};
use coldframe_units::{ByteLen, FileOffset};
use coldframe_wal::LogKind;

use crate::exit::Failure;
use crate::verbs::journal::{self, JournalReport};
use crate::verbs::wal::{self, WalReport};

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
