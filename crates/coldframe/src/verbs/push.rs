//! `coldframe push SNAP --store URL`: a snapshot and its chain into a store.

use coldframe_snapshot::store::{self, Move};
use serde::Serialize;

use crate::cli::store::Push;
use crate::exit::Failure;
use crate::human::size;
use crate::search::use_chain;
use crate::store::{open, transfer_failure};
use crate::{output, progress};

#[derive(Serialize)]
struct Report {
    tag: String,
    id: String,
    root: String,
    /// What the tag pointed to before.
    before: Option<String>,
    snapshots: u64,
    blocks: u64,
    bytes: u64,
    sent_blocks: u64,
    sent_bytes: u64,
    /// What these take in the store.
    stored_bytes: u64,
}

/// Pushes; prints what was sent.
pub fn run(args: &Push) -> Result<(), Failure> {
    let chain = use_chain(&args.snapshot, &args.search)?;
    let chunks = open(&args.at.url)?;
    let id = chain.youngest().id().to_string();
    let tag = match &args.name {
        Some(name) => name.clone(),
        None => id.parse().expect("hexadecimal digits are a tag's name"),
    };
    let moving = match args.replace {
        true => Move::Anywhere,
        false => Move::Forward,
    };
    let bar = progress::transfer("push");
    let pushed = store::push(&chain, &chunks, &tag, moving, &mut |now| bar.show(now));
    bar.clear();
    let pushed = pushed.map_err(|error| {
        let what = format!("cannot push {}", args.snapshot.display());
        transfer_failure(&args.at.url, what, &error)
    })?;
    let report = Report {
        tag: tag.to_string(),
        id,
        root: pushed.root.to_string(),
        before: pushed.before.map(|root| root.to_string()),
        snapshots: pushed.snapshots,
        blocks: pushed.progress.blocks,
        bytes: pushed.progress.done_bytes,
        sent_blocks: pushed.put.written,
        sent_bytes: pushed.put.raw_bytes,
        stored_bytes: pushed.put.stored_bytes,
    };
    if args.json {
        return output::json(&report);
    }
    let (tag, id, snapshots) = (&report.tag, &report.id, report.snapshots);
    output::say(format_args!("{tag}: snapshot {id}, a chain of {snapshots}"));
    output::say(format_args!(
        "{} of blocks, {} of them new to the store, {} stored",
        size(report.bytes),
        size(report.sent_bytes),
        size(report.stored_bytes)
    ));
    Ok(())
}
