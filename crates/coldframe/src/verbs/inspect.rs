//! `coldframe inspect PATH`: what a file or snapshot directory is, without trusting it.
//!
//! What can be read is shown, whatever is wrong with the rest; the first thing that is wrong is
//! named. Nothing is mapped, for the file may be anybody's.

mod host;
mod logs;
mod machine;
mod print;
mod report;
mod store;

use std::path::Path;

use crate::cli::Inspect;
use crate::exit::Failure;
use crate::output;

use report::{Report, SnapshotReport};

/// Prints the report; exit 1 if something is wrong with what was inspected.
pub fn run(args: &Inspect) -> Result<(), Failure> {
    if args.against.against_host {
        return host::run(&args.path, &args.against.waived, args.json);
    }
    let report = look(&args.path)?;
    if args.json {
        output::json(&report)?;
    } else {
        print::report(&report);
    }
    if report.is_sound() {
        Ok(())
    } else {
        Err(Failure::Reported)
    }
}

fn look(path: &Path) -> Result<Report, Failure> {
    let metadata = std::fs::metadata(path).map_err(|error| {
        Failure::environment(format!("cannot inspect {}", path.display()), &error)
    })?;
    if metadata.is_dir() {
        return Ok(Report::Snapshot(SnapshotReport::of(path)?));
    }
    Ok(Report::File(Box::new(report::FileReport::of(path)?)))
}
