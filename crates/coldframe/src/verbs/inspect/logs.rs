//! The two logs among what is inspected: they are no envelopes, and are known by their magic.

use std::path::Path;

use coldframe_storage::{ByteSource, PreadSource};
use coldframe_units::{ByteLen, FileOffset};
use coldframe_wal::LogKind;

use super::report::FileReport;
use crate::exit::Failure;
use crate::verbs::{journal, wal};

/// Which log a file is, if it is one.
pub fn kind(source: &PreadSource) -> Option<LogKind> {
    let len = source.len().min(ByteLen::new(LogKind::PREFIX_LEN));
    let prefix = source.bytes(FileOffset::ZERO, len).ok()?;
    LogKind::of(&prefix)
}

/// Fills in what its verb would say of the log at `path`.
pub fn read(report: &mut FileReport, path: &Path, kind: LogKind) -> Result<(), Failure> {
    let read = match kind {
        LogKind::Ring => {
            report.format = Some("RING".to_owned());
            wal::look(path).map(|found| report.wal = Some(found))
        }
        LogKind::Journal => {
            report.format = Some("JRNL".to_owned());
            journal::read(path).map(|found| {
                let part = found.parts.first();
                report.version = part.map(|part| part.version.clone());
                report.producer = part.map(|part| part.producer.clone());
                report.journal = Some(found);
            })
        }
    };
    match read {
        Ok(()) => report.problem = first_problem(report),
        Err(Failure::Wanting(text)) => report.problem = Some(text),
        Err(failure) => return Err(failure),
    }
    Ok(())
}

fn first_problem(report: &FileReport) -> Option<String> {
    let of_ring = report.wal.iter().flat_map(|wal| &wal.findings);
    let of_ring = of_ring.filter(|finding| finding.damage);
    let of_journal = report.journal.iter().flat_map(|journal| &journal.damages);
    let of_journal = of_journal.filter(|damage| damage.kind != "torn");
    let mut texts = (of_ring.map(ToString::to_string)).chain(of_journal.map(ToString::to_string));
    texts.next()
}
