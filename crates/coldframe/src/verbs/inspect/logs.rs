//! The two logs among what is inspected.

use std::path::Path;

use super::report::FileReport;
use crate::exit::Failure;
use crate::logs::{self, Log, LogKind};

/// Fills in what its verb would say of the log at `path`.
pub fn read(report: &mut FileReport, path: &Path, kind: LogKind) -> Result<(), Failure> {
    let format = match kind {
        LogKind::Ring => "RING",
        LogKind::Journal => "JRNL",
    };
    report.format = Some(format.to_owned());
    let log = match logs::read(path, kind) {
        Ok(log) => log,
        Err(Failure::Wanting(text)) => {
            report.problem = Some(text);
            return Ok(());
        }
        Err(failure) => return Err(failure),
    };
    let first = log.damages().into_iter().next();
    report.problem = first.map(|damage| match damage.offset {
        Some(offset) => format!("offset {offset:#x}: {}: {}", damage.kind, damage.detail),
        None => format!("{}: {}", damage.kind, damage.detail),
    });
    match log {
        Log::Ring(found) => report.wal = Some(*found),
        Log::Journal(found) => {
            let part = found.parts.first();
            report.version = part.map(|part| part.version.clone());
            report.producer = part.map(|part| part.producer.clone());
            report.journal = Some(*found);
        }
    }
    Ok(())
}
