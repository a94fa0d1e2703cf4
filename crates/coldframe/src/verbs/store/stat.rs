//! `coldframe store stat`: how much a store holds, for whom, and what keeping it once saves.

use coldframe_chunks::{StoreStat, TagStat};
use coldframe_snapshot::store::SnapshotTracer;
use serde::Serialize;

use crate::cli::store::Stat;
use crate::exit::Failure;
use crate::human::size;
use crate::store::failure;
use crate::verbs::store::verify::{Damage, damage};
use crate::{output, progress, store};

#[derive(Serialize)]
struct Report<'a> {
    store: &'a str,
    /// Bytes of all blocks of all tags, each as often as it occurs; zeros are not counted.
    logical_bytes: u64,
    /// Bytes of the different chunks that tags need.
    unique_bytes: u64,
    /// Bytes of the different chunks that more than one tag needs.
    shared_bytes: u64,
    /// Bytes of all different chunks, garbage too, and what they take in packs.
    raw_bytes: u64,
    stored_bytes: u64,
    /// Logical by unique.
    dedup_ratio: Option<f64>,
    /// Raw by stored.
    compression_ratio: Option<f64>,
    chunks: u64,
    packs: u64,
    pack_bytes: u64,
    roots: u64,
    root_bytes: u64,
    tags: Vec<Line>,
    /// What cannot be read, and is not counted; chunks that are known to be damaged.
    damages: Vec<Damage>,
}

#[derive(Serialize)]
struct Line {
    name: String,
    logical_bytes: u64,
    unique_bytes: u64,
    exclusive_bytes: u64,
    shared_bytes: u64,
    missing_chunks: u64,
    /// Files that cannot be read: what they need is not counted.
    unread_files: u64,
    /// Blocks with pages that are lost for good.
    lost_blocks: u64,
}

/// Counts; exit 1 if something could not be read, and the rest is counted, or is known to be
/// damaged.
pub fn run(args: &Stat) -> Result<(), Failure> {
    let url = &args.at.url;
    let chunks = store::open(url)?;
    let bar = progress::wait("stat");
    let stat = chunks.stat_all(&[&SnapshotTracer]);
    bar.finish_and_clear();
    let stat = stat.map_err(|error| failure(format!("cannot count {url}"), &error))?;
    let report = report(url, &stat);
    if args.json {
        output::json(&report)?;
    } else {
        print(&report);
    }
    match report.damages.is_empty() {
        true => Ok(()),
        false => Err(Failure::Reported),
    }
}

fn report<'a>(store: &'a str, stat: &StoreStat) -> Report<'a> {
    let exclusive: u64 = stat.tags.values().map(|tag| tag.exclusive_bytes).sum();
    let unique_bytes = exclusive + stat.shared_bytes;
    let line = |(name, tag): (_, &TagStat)| Line {
        name: format!("{name}"),
        logical_bytes: tag.logical_bytes,
        unique_bytes: tag.unique_bytes,
        exclusive_bytes: tag.exclusive_bytes,
        shared_bytes: tag.unique_bytes - tag.exclusive_bytes,
        missing_chunks: tag.missing_chunks,
        unread_files: tag.unread_files,
        lost_blocks: tag.lost_blocks,
    };
    Report {
        store,
        logical_bytes: stat.logical_bytes(),
        unique_bytes,
        shared_bytes: stat.shared_bytes,
        raw_bytes: stat.raw_bytes,
        stored_bytes: stat.stored_bytes,
        dedup_ratio: ratio(stat.logical_bytes(), unique_bytes),
        compression_ratio: ratio(stat.raw_bytes, stat.stored_bytes),
        chunks: stat.chunks,
        packs: stat.packs,
        pack_bytes: stat.pack_bytes,
        roots: stat.roots,
        root_bytes: stat.root_bytes,
        tags: stat.tags.iter().map(line).collect(),
        damages: stat.findings.iter().map(damage).collect(),
    }
}

/// Two decimals of a ratio; none of nothing.
fn ratio(of: u64, by: u64) -> Option<f64> {
    (by > 0).then(|| (of as f64 / by as f64 * 100.0).round() / 100.0)
}

fn print(report: &Report<'_>) {
    let text = |ratio: Option<f64>| ratio.map_or("-".to_string(), |ratio| format!("{ratio:.2}"));
    output::say(format_args!(
        "{} of blocks under tags, {} of them different: dedup {}",
        size(report.logical_bytes),
        size(report.unique_bytes),
        text(report.dedup_ratio)
    ));
    output::say(format_args!(
        "{} chunks of {} take {} in {} packs: compression {}",
        report.chunks,
        size(report.raw_bytes),
        size(report.stored_bytes),
        report.packs,
        text(report.compression_ratio)
    ));
    output::say(format_args!(
        "{} shared between tags; {} files of {} beside",
        size(report.shared_bytes),
        report.roots,
        size(report.root_bytes)
    ));
    for damage in &report.damages {
        match damage.kind {
            "chunk" | "pages" => output::say(format_args!("{}", damage.detail)),
            _ => output::say(format_args!("not counted: {}", damage.detail)),
        }
    }
    if report.tags.is_empty() {
        return;
    }
    let heading = ["tag", "logical", "unique", "its own", "shared", "missing"];
    let mut rows = vec![heading.map(String::from).to_vec()];
    for line in &report.tags {
        rows.push(vec![
            line.name.clone(),
            size(line.logical_bytes),
            size(line.unique_bytes),
            size(line.exclusive_bytes),
            size(line.shared_bytes),
            line.missing_chunks.to_string(),
        ]);
    }
    output::table(&rows);
}
