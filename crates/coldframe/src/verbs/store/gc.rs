//! `coldframe store gc`: deletes what no tag needs.

use coldframe_chunks::{CollectOptions, Collected, Key, StoreError};
use coldframe_snapshot::store::SnapshotTracer;
use serde::Serialize;

use crate::cli::store::Gc;
use crate::exit::{Failure, line};
use crate::human::size;
use crate::store::{Store, failure};
use crate::{output, progress, store};

#[derive(Serialize)]
struct Report {
    dry_run: bool,
    live_chunks: u64,
    condemned_packs: u64,
    compacted_packs: u64,
    condemned_files: u64,
    deleted_packs: u64,
    deleted_files: u64,
    deleted_bytes: u64,
    acquitted: u64,
    waiting: u64,
    temporaries: u64,
    /// Packs that cannot be read, and stay as they are.
    unreadable_packs: u64,
}

/// Collects; prints what was done, or would be: also what was deleted before an error.
pub fn run(args: &Gc) -> Result<(), Failure> {
    let url = &args.at.url;
    let chunks = store::open(url)?;
    if args.new_ledger {
        return new_ledger(args, &chunks);
    }
    let options = CollectOptions {
        grace: args.grace,
        dry_run: args.dry_run,
        ..CollectOptions::USUAL
    };
    let given_up = args.give_up.iter().copied().collect();
    let bar = progress::wait("gc");
    let mut done = Collected::default();
    let ended = chunks.collect_into(options, &[&SnapshotTracer], &given_up, &mut done);
    bar.finish_and_clear();
    if ended.is_ok() || done.has_deleted() {
        let report = report(args.dry_run, done);
        match args.json {
            true => output::json(&report)?,
            false => print(&report),
        }
    }
    ended.map_err(|error| stopped(url, &error))
}

#[derive(Serialize)]
struct LedgerReport {
    /// Whether there is a new one.
    renewed: bool,
    /// What it names.
    tags: u64,
    files: u64,
}

/// Puts a new ledger in the place of a damaged one.
fn new_ledger(args: &Gc, chunks: &Store) -> Result<(), Failure> {
    let url = &args.at.url;
    let renewed = chunks.renew_ledger();
    let what = format!("cannot make a new ledger in {url}");
    let new = renewed.map_err(|error| failure(what, &error))?;
    let (tags, files) = new.map_or((0, 0), |new| (new.tags, new.files));
    if args.json {
        let renewed = new.is_some();
        return output::json(&LedgerReport {
            renewed,
            tags,
            files,
        });
    }
    match new {
        None => output::say(format_args!(
            "the ledger is not damaged, and stays as it is"
        )),
        Some(_) => output::say(format_args!(
            "a new ledger names {tags} tags and {files} files; 'coldframe store verify --deep' \
             finds damaged chunks again"
        )),
    }
    Ok(())
}

/// Why it stopped, and what to do about it.
fn stopped(url: &str, error: &StoreError) -> Failure {
    let what = format!("cannot collect garbage in {url}");
    match error {
        StoreError::LostFile {
            key: Key::Root(root, _),
        }
        | StoreError::MissingRoot { root }
        | StoreError::DamagedRoot { root, .. }
        | StoreError::WrongRoot { root, .. } => {
            let text = line(what, error);
            Failure::Wanting(format!(
                "{text}; 'coldframe store verify' names the tags that need it: push them again, or \
                 restore it; or untag them, and go on without what only it needs, by --give-up \
                 {root}"
            ))
        }
        error => failure(what, error),
    }
}

fn report(dry_run: bool, done: Collected) -> Report {
    Report {
        dry_run,
        live_chunks: done.live_chunks,
        condemned_packs: done.condemned_packs,
        compacted_packs: done.compacted_packs,
        condemned_files: done.condemned_roots,
        deleted_packs: done.deleted_packs,
        deleted_files: done.deleted_roots,
        deleted_bytes: done.deleted_bytes,
        acquitted: done.acquitted,
        waiting: done.waiting,
        temporaries: done.temporaries,
        unreadable_packs: done.unreadable_packs,
    }
}

fn print(report: &Report) {
    let verb = if report.dry_run {
        "would be condemned"
    } else {
        "condemned"
    };
    output::say(format_args!(
        "{} chunks are needed; {} packs and {} files {verb}",
        report.live_chunks, report.condemned_packs, report.condemned_files
    ));
    if report.unreadable_packs > 0 {
        let packs = report.unreadable_packs;
        output::say(format_args!(
            "{packs} packs cannot be read and stay: store verify names them"
        ));
    }
    if report.dry_run {
        return;
    }
    output::say(format_args!(
        "{} packs and {} files deleted, {} freed",
        report.deleted_packs,
        report.deleted_files,
        size(report.deleted_bytes)
    ));
    if report.temporaries > 0 {
        let count = report.temporaries;
        output::say(format_args!("{count} leftovers of killed runs removed"));
    }
    if report.waiting > 0 {
        let waiting = report.waiting;
        output::say(format_args!(
            "{waiting} wait for a push to end: run it again later"
        ));
    }
}
