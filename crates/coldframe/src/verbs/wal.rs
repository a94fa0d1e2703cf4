//! `coldframe wal stat|dump|check FILE`: a ring WAL as it is.
//!
//! All but `check --apply` open the file for reading only, and none of them wait for a writer.

mod report;

use std::fmt::Write as _;
use std::path::Path;

use coldframe_ring::{Plan, Salvaged};
use coldframe_ring::{Region, RingError, RingReader, RingWal};
use coldframe_storage::{FileStorage, Storage};
use coldframe_units::{ByteLen, FileOffset};

use crate::cli::{Wal, WalCheck, WalFile};
use crate::exit::Failure;
use crate::output::{self, JsonList};

pub use report::WalReport;
use report::{CheckReport, DumpTail, RecordReport, finding_lines};

/// Bytes of a payload that a line shows.
const SHOWN_BYTES: usize = 32;

/// Runs one of the verbs.
pub fn run(verb: &Wal) -> Result<(), Failure> {
    match verb {
        Wal::Stat(args) => stat(args),
        Wal::Dump(args) => dump(args),
        Wal::Check(args) => check(args),
    }
}

/// What stands in a file, opened for reading; only a regular file is.
pub fn storage(path: &Path) -> Result<FileStorage, Failure> {
    let cannot = || format!("cannot read {}", path.display());
    let metadata =
        std::fs::metadata(path).map_err(|error| Failure::environment(cannot(), &error))?;
    if !metadata.is_file() {
        let path = path.display();
        return Err(Failure::Usage(format!("{path} is no regular file")));
    }
    FileStorage::open_read_only(path).map_err(|error| Failure::environment(cannot(), &error))
}

/// The region that was asked for.
fn region_of(args: &WalFile, storage: &FileStorage) -> Result<Region, Failure> {
    let file = args.file.display();
    let len = storage
        .len()
        .map_err(|error| Failure::environment(format!("cannot read {file}"), &error))?;
    let offset = args.offset.unwrap_or(0);
    let rest = len.get().saturating_sub(offset) & !15;
    let size = args.size.unwrap_or(rest);
    let region = Region::new(FileOffset::new(offset), ByteLen::new(size));
    region.map_err(|error| match (args.offset, args.size) {
        (None, None) => Failure::Wanting(format!(
            "{file} is no ring WAL: it has {len} bytes, the least is 8240"
        )),
        _ => Failure::usage(format!("cannot read {file}"), &error),
    })
}

fn open(args: &WalFile) -> Result<(RingReader<FileStorage>, Region), Failure> {
    let storage = storage(&args.file)?;
    let region = region_of(args, &storage)?;
    let reader = RingWal::open_read_only(storage, region)
        .map_err(|error| failure(format!("cannot read {}", args.file.display()), args, &error))?;
    Ok((reader, region))
}

/// Damage and foreign files are exit 1, a region too small for its log exit 2, the rest exit 3.
fn failure(what: String, args: &WalFile, error: &RingError) -> Failure {
    match error {
        RingError::RegionSize { have, .. } if args.size == Some(have.get()) => {
            Failure::usage(what, error)
        }
        RingError::RegionSize { .. } | RingError::NotRepairable { .. } => {
            Failure::wanting(what, error)
        }
        _ if error.is_foreign() => Failure::wanting(format!("{what}: no ring WAL"), error),
        _ if error.is_corrupt() || error.is_unsupported_version() => Failure::wanting(what, error),
        _ => Failure::environment(what, error),
    }
}

fn plan(args: &WalFile, reader: &RingReader<FileStorage>) -> Result<Plan, Failure> {
    let cannot = format!("cannot check {}", args.file.display());
    reader
        .check()
        .map_err(|error| failure(cannot, args, &error))
}

fn verdict(plan: &Plan) -> Result<(), Failure> {
    if plan.findings.iter().any(|finding| finding.is_damage()) {
        Err(Failure::Reported)
    } else {
        Ok(())
    }
}

/// What `stat` says of the log that begins with the file at `path`.
pub fn look(path: &Path) -> Result<WalReport, Failure> {
    let args = WalFile {
        file: path.to_path_buf(),
        offset: None,
        size: None,
        json: false,
    };
    let (reader, _) = open(&args)?;
    report(&args, &reader, &plan(&args, &reader)?)
}

fn report(
    args: &WalFile,
    reader: &RingReader<FileStorage>,
    plan: &Plan,
) -> Result<WalReport, Failure> {
    WalReport::of(&args.file, reader, plan)
        .map_err(|error| failure(format!("cannot read {}", args.file.display()), args, &error))
}

fn stat(args: &WalFile) -> Result<(), Failure> {
    let (reader, _) = open(args)?;
    let plan = plan(args, &reader)?;
    let report = report(args, &reader, &plan)?;
    if args.json {
        output::json(&report)?;
    } else {
        report.print();
    }
    verdict(&plan)
}

fn dump(args: &WalFile) -> Result<(), Failure> {
    let (reader, _) = open(args)?;
    let plan = plan(args, &reader)?;
    let mut json = args.json.then(|| JsonList::begin(&args.file, "records"));
    let mut salvage = reader.salvage();
    loop {
        let next = salvage.next().map_err(|error| {
            failure(format!("cannot read {}", args.file.display()), args, &error)
        })?;
        match (next, &mut json) {
            (None, _) => break,
            (Some(Salvaged::Record(entry)), Some(json)) => {
                let record = RecordReport::of(&entry);
                let record = serde_json::to_string(&record)
                    .map_err(|error| Failure::environment("cannot write JSON", &error))?;
                json.item(record);
            }
            (Some(Salvaged::Record(entry)), None) => {
                let (offset, sequence) = (entry.offset, entry.sequence);
                let bytes = shown(entry.payload);
                let len = entry.payload.len();
                output::say(format_args!(
                    "{offset} record sequence={sequence} len={len} bytes={bytes}"
                ));
            }
            (
                Some(Salvaged::Lost {
                    offset,
                    first,
                    count,
                }),
                None,
            ) => {
                let count = count.map_or("unknown".into(), |count| count.to_string());
                output::say(format_args!("{offset} lost first={first} count={count}"));
            }
            // In the findings of the document's end.
            (Some(Salvaged::Lost { .. }), Some(_)) => {}
        }
    }
    if let Some(json) = json {
        json.end(&DumpTail::of(&reader, &plan))?;
    } else {
        finding_lines(&args.file, &plan);
    }
    verdict(&plan)
}

fn check(args: &WalCheck) -> Result<(), Failure> {
    let WalCheck { log, apply } = args;
    let (reader, region) = open(log)?;
    let before = plan(log, &reader)?;
    let mut report = CheckReport::of(&log.file, &before);
    let mut left = before;
    if *apply && !left.is_sound() {
        drop(reader);
        repair(log, region, &left)?;
        let (reader, _) = open(log)?;
        left = plan(log, &reader)?;
        report.repaired(&left);
    }
    if log.json {
        output::json(&report)?;
    } else {
        report.print();
    }
    verdict(&left)
}

fn repair(args: &WalFile, region: Region, plan: &Plan) -> Result<(), Failure> {
    let cannot = format!("cannot repair {}", args.file.display());
    let storage =
        FileStorage::open(&args.file).map_err(|error| Failure::environment(&cannot, &error))?;
    RingWal::repair(storage, region, plan).map_err(|error| failure(cannot, args, &error))
}

/// The first bytes of a payload, in hexadecimal.
fn shown(payload: &[u8]) -> String {
    let (shown, rest) = payload.split_at(payload.len().min(SHOWN_BYTES));
    let mut text = hex(shown);
    if !rest.is_empty() {
        text.push_str("..");
    }
    text
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
