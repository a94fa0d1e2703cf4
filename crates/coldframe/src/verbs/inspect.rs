//! `coldframe inspect PATH`: what a file or snapshot directory is, without trusting it.
//!
//! What can be read is shown, whatever is wrong with the rest; the first thing that is wrong is
//! named. Nothing is mapped, for the file may be anybody's.

mod host;
mod logs;
mod machine;
mod plan;
mod print;
mod report;
mod store;

use std::path::{Path, PathBuf};

use crate::cli::Inspect;
use crate::exit::Failure;
use crate::output;
use crate::search::exist;

use report::{Report, SnapshotReport};

/// Prints the report; exit 1 if something is wrong with what was inspected.
pub fn run(args: &Inspect) -> Result<(), Failure> {
    if let Some(target) = args.plan {
        return plan::run(target, args.json);
    }
    let path = args.path.as_deref();
    let path = path.ok_or_else(|| Failure::Usage("there is nothing to inspect".to_owned()))?;
    if args.against.against_host {
        return host::run(path, &args.against.waived, args.json);
    }
    let report = look(path, &args.search)?;
    if args.json {
        output::json(&report)?;
    } else {
        print::report(&report);
    }
    if report.is_sound() {
        return Ok(());
    }
    // That something could not be read is worse than what was found in the rest.
    match report.unread() {
        Some(Failure::Environment(text)) => Err(Failure::Environment(text)),
        _ => Err(Failure::Reported),
    }
}

fn look(path: &Path, search: &[PathBuf]) -> Result<Report, Failure> {
    exist(search)?;
    let metadata = std::fs::metadata(path).map_err(|error| {
        Failure::environment(format!("cannot inspect {}", path.display()), &error)
    })?;
    if metadata.is_dir() {
        let mut report = SnapshotReport::of(path)?;
        if !search.is_empty() {
            report.follow(path, search);
        }
        return Ok(Report::Snapshot(report));
    }
    if !search.is_empty() {
        let path = path.display();
        return Err(Failure::Usage(format!(
            "--search is for a snapshot directory, which {path} is not"
        )));
    }
    Ok(Report::File(Box::new(report::FileReport::of(path)?)))
}
