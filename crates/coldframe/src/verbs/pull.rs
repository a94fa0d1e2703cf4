//! `coldframe pull TAG|ID --store URL -o DIR`: a snapshot and its chain out of a store.

use coldframe_snapshot::store;
use serde::Serialize;

use crate::cli::store::Pull;
use crate::exit::Failure;
use crate::human::size;
use crate::search::exist;
use crate::store::{hold, open_with, transfer_failure};
use crate::verbs::rm::sweep;
use crate::{output, progress};

#[derive(Serialize)]
struct Report {
    id: String,
    root: String,
    path: String,
    /// The chain, the full snapshot first.
    snapshots: Vec<Line>,
    blocks: u64,
    bytes: u64,
    fetched_blocks: u64,
    fetched_bytes: u64,
    leftovers_removed: usize,
}

#[derive(Serialize)]
struct Line {
    path: String,
    id: String,
    kind: &'static str,
    is_new: bool,
}

/// Pulls; prints where each snapshot is.
pub fn run(args: &Pull) -> Result<(), Failure> {
    exist(&args.search)?;
    let chunks = open_with(&args.at.url, &args.cache)?;
    let cannot = format!("cannot pull {}", args.name);
    let failed = |error| transfer_failure(&args.at.url, &cannot, &error);
    let _held = hold(&chunks, &args.at.url);
    let root = store::find(&chunks, &args.name).map_err(failed)?;
    let bar = progress::transfer("pull");
    let pulled = store::pull(&chunks, root, &args.output, &args.search, &mut |now| {
        bar.show(now);
    });
    bar.clear();
    let pulled = pulled.map_err(failed)?;
    // What an interrupted pull of these left was gone on with: the rest is nobody's.
    let leftovers_removed = sweep(&args.output);
    let line = |link: &store::PulledLink| Line {
        path: link.snapshot.path().display().to_string(),
        id: link.snapshot.id().to_string(),
        kind: match link.snapshot.manifest().parent() {
            Some(_) => "diff",
            None => "full",
        },
        is_new: link.is_new,
    };
    let report = Report {
        id: pulled.youngest().id().to_string(),
        root: root.to_string(),
        path: pulled.youngest().path().display().to_string(),
        snapshots: pulled.links.iter().map(line).collect(),
        blocks: pulled.progress.blocks,
        bytes: pulled.progress.done_bytes,
        fetched_blocks: pulled.progress.moved,
        fetched_bytes: pulled.progress.moved_bytes,
        leftovers_removed,
    };
    if args.json {
        return output::json(&report);
    }
    for line in &report.snapshots {
        let (path, kind) = (&line.path, line.kind);
        let note = if line.is_new { "" } else { ", was there" };
        output::say(format_args!("{path}: {kind} snapshot{note}"));
    }
    output::say(format_args!(
        "{} of blocks, {} of them fetched",
        size(report.bytes),
        size(report.fetched_bytes)
    ));
    if leftovers_removed > 0 {
        output::say(format_args!(
            "{leftovers_removed} leftovers of killed runs removed"
        ));
    }
    Ok(())
}
