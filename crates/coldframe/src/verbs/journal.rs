//! `coldframe journal stat|dump FILE`: a typed journal as it is, damage and all.

mod report;

use std::path::Path;
use std::sync::Arc;

use coldframe_journal::{
    AnyEntries, Description, End, EntryRef, EntrySet, JournalError, JournalReader, Schema, Source,
    Style, Unsupported, describe_core, line_of,
};
use coldframe_minivmm::RecordingEntries;

use crate::cli::{Journal, JournalFile};
use crate::exit::Failure;
use crate::output::{self, JsonList};
use crate::verbs::wal::storage;

use report::{Damage, DumpTail};
pub use report::{JournalReport, Stretch};

/// Runs one of the verbs.
pub fn run(verb: &Journal) -> Result<(), Failure> {
    match verb {
        Journal::Stat(args) => stat(args),
        Journal::Dump(args) => dump(args),
    }
}

/// A piece of a journal, in order.
enum Piece<'a> {
    Entry(&'a EntryRef<'a>, Option<Description>),
    /// What stands between sound pieces, or at the end.
    Break(&'a Damage),
}

/// Reads all of the journal at `path`, on both sides of damage.
pub fn read(path: &Path) -> Result<JournalReport, Failure> {
    walk(path, &mut |_| {})
}

fn stat(args: &JournalFile) -> Result<(), Failure> {
    let report = read(&args.file)?;
    if args.json {
        output::json(&report)?;
    } else {
        report.print();
    }
    verdict(&report)
}

fn dump(args: &JournalFile) -> Result<(), Failure> {
    let report = if args.json {
        let mut list = None;
        let begin = || JsonList::begin(&args.file, "entries");
        let report = walk(&args.file, &mut |piece| {
            if let Piece::Entry(entry, described) = piece {
                let line = line_of(entry, described, Style::Json);
                list.get_or_insert_with(begin).item(line);
            }
        })?;
        list.unwrap_or_else(begin).end(&DumpTail::of(&report))?;
        report
    } else {
        let report = walk(&args.file, &mut |piece| match piece {
            Piece::Entry(entry, described) => {
                output::say(format_args!("{}", line_of(entry, described, Style::Text)));
            }
            Piece::Break(damage) => output::say(format_args!("{damage}")),
        })?;
        for stretch in &report.unreadable {
            output::say(format_args!("{}: {stretch}", args.file.display()));
        }
        report
    };
    verdict(&report)
}

fn verdict(report: &JournalReport) -> Result<(), Failure> {
    if report.is_sound() {
        Ok(())
    } else {
        Err(Failure::Reported)
    }
}

/// Entries of programs that this one knows are described; others are bytes.
fn describe(schema: Option<Schema>, entry: &EntryRef<'_>) -> Option<Description> {
    match schema {
        Some(schema) if schema == RecordingEntries::SCHEMA => RecordingEntries::describe(entry),
        _ => describe_core(entry),
    }
}

fn walk(path: &Path, each: &mut dyn FnMut(Piece<'_>)) -> Result<JournalReport, Failure> {
    let cannot = format!("cannot read {}", path.display());
    let failed = |error: JournalError| Failure::environment(&cannot, &error);
    let storage = Arc::new(storage(path)?);
    let reader = JournalReader::<AnyEntries>::from_storage(storage).map_err(failed)?;
    let mut reader = reader.read_around();
    let mut report = JournalReport::new(path);
    loop {
        let end = reader.advance().map_err(failed)?;
        report.note_part(&reader);
        let Some(end) = end else {
            if let Some(entry) = reader.current() {
                let described = describe(reader.part().map(|part| part.schema), &entry);
                report.note_entry(&entry, described.as_ref());
                each(Piece::Entry(&entry, described));
            }
            continue;
        };
        if is_foreign(&end) {
            return Err(Failure::Wanting(format!(
                "{} is no journal: the magic bytes are missing",
                path.display()
            )));
        }
        let gap = reader.resume().map_err(failed)?;
        if let Some(damage) = Damage::of(&end, gap) {
            each(Piece::Break(&damage));
            report.note_damage(damage);
        }
        if gap.is_none() {
            report.note_unreadable(reader.unreadable());
            report.note_end(&end);
            return Ok(report);
        }
    }
}

const fn is_foreign(end: &End) -> bool {
    matches!(
        end,
        End::Unsupported {
            what: Unsupported::Foreign,
            ..
        }
    )
}
