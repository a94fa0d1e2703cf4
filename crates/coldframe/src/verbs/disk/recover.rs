//! `coldframe disk recover`: a new disk out of a log that no disk goes with any more.

use coldframe_block::{LostRange, LostRecords, recover};
use serde::Serialize;

use crate::cli::disk::Recover;
use crate::exit::Failure;
use crate::human::size;
use crate::verbs::disk::advice::{Advice, Takes};
use crate::verbs::disk::{base, failure};
use crate::verbs::journal::Stretch;
use crate::{output, store};

#[derive(Serialize)]
struct Report {
    name: String,
    root: String,
    size_bytes: u64,
    /// The tag that the log was of.
    log_of: String,
    /// The index that its changes were made on top of.
    based_on: String,
    changed_blocks: u64,
    /// Records of the log that are lost, and left out.
    lost_records: u64,
    /// Where they are missing in the log.
    lost: Vec<Lost>,
    /// Stretches of the log's file that cannot be read.
    unreadable: Vec<Stretch>,
}

/// Records that are lost; which blocks they changed is not known.
#[derive(Serialize)]
struct Lost {
    offset: u64,
    first: u64,
    /// `null` if nothing says.
    count: Option<u64>,
}

impl Lost {
    fn of(lost: &LostRange) -> Self {
        let (offset, first) = (lost.offset.get(), lost.first.get());
        let count = lost.count;
        Self {
            offset,
            first,
            count,
        }
    }

    fn print(&self) {
        let (offset, first) = (self.offset, self.first);
        let which = match self.count {
            None => format!("records from {first} on"),
            Some(0 | 1) => format!("record {first}"),
            Some(count) => format!("records {first} to {}", first.saturating_add(count - 1)),
        };
        output::say(format_args!(
            "lost: {which}, at {offset:#x} of the log; which blocks they changed is not known"
        ));
    }
}

/// Makes the disk; neither the log nor any other tag is changed. Without all records of the log it
/// is exit code 1.
pub fn run(args: &Recover) -> Result<(), Failure> {
    let cannot = format!("cannot recover {}", args.wal.display());
    let store = store::open(&args.store)?;
    let lost = match args.damaged {
        true => LostRecords::Accept,
        false => LostRecords::Refuse,
    };
    let base = base(args.base.as_deref())?;
    let made = recover(&store, &args.wal, &args.name, base, lost);
    let advice = Advice {
        store: &args.store,
        disk: args.name.as_str(),
        wal: Some(&args.wal),
        takes: Takes::Nothing,
    };
    let made = made.map_err(|error| failure(advice, &cannot, &error))?;
    let report = Report {
        name: args.name.to_string(),
        root: made.root.to_string(),
        size_bytes: made.size.get(),
        log_of: made.head,
        based_on: made.based_on.to_string(),
        changed_blocks: made.blocks,
        lost_records: made.lost_records,
        lost: made.lost.iter().map(Lost::of).collect(),
        unreadable: made.unreadable.iter().map(Stretch::of).collect(),
    };
    if args.json {
        output::json(&report)?;
        return verdict(&report);
    }
    let (name, all, blocks) = (&report.name, size(report.size_bytes), report.changed_blocks);
    let of = &report.log_of;
    output::say(format_args!(
        "{name}: {all}, {blocks} blocks changed by the log of {of}"
    ));
    report.lost.iter().for_each(Lost::print);
    for stretch in &report.unreadable {
        output::say(format_args!("log: {stretch}"));
    }
    verdict(&report)
}

fn verdict(report: &Report) -> Result<(), Failure> {
    let Report {
        name, lost_records, ..
    } = report;
    match lost_records {
        0 => Ok(()),
        lost => Err(Failure::Wanting(format!(
            "disk {name} is made without {lost} lost records of the log"
        ))),
    }
}
