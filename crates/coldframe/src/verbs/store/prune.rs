//! `coldframe store prune`: removes old tags of families, by rules that say what to keep.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use coldframe_chunkfile::Tag;
use coldframe_chunks::{Backend as _, Folder, Key, StoreError, TagName};
use coldframe_snapshot::store::{Tagged, tagged};
use serde::Serialize;

use super::untag::remove;
use crate::cli::store::Prune;
use crate::exit::Failure;
use crate::store::{Store, failure};
use crate::{output, store};

/// How far apart times must be for one of them to be the later: object storage keeps whole seconds,
/// and a listing takes its time.
const APART: Duration = Duration::from_secs(1);

#[derive(Serialize)]
struct Report<'a> {
    store: &'a str,
    dry_run: bool,
    families: Vec<Family>,
    /// What was removed; with --dry-run, nothing.
    removed: Vec<String>,
}

#[derive(Serialize)]
struct Family {
    name: String,
    /// The newest first.
    tags: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    name: String,
    unix_seconds: u64,
    keep: bool,
}

/// A tag of a family.
struct Member {
    name: TagName,
    tag: Tag,
    /// Since 1970.
    time: Duration,
}

/// Chooses, then removes.
pub fn run(args: &Prune) -> Result<(), Failure> {
    let url = &args.at.url;
    let chunks = store::open(url)?;
    let families = families(&chunks, &args.family)
        .map_err(|error| failure(format!("cannot prune {url}, no tag is removed"), &error))?;
    let mut doomed = BTreeMap::new();
    let mut report = Report {
        store: url,
        dry_run: args.dry_run,
        families: Vec::new(),
        removed: Vec::new(),
    };
    for (family, mut members) in families {
        members.sort_by(|a, b| (b.time, &b.name).cmp(&(a.time, &a.name)));
        let times: Vec<Duration> = members.iter().map(|member| member.time).collect();
        let keep = kept(&times, args.keep_last, args.keep_within);
        let tags = members.iter().zip(&keep).map(|(member, keep)| Line {
            name: member.name.to_string(),
            unix_seconds: member.time.as_secs(),
            keep: *keep,
        });
        report.families.push(Family {
            name: family,
            tags: tags.collect(),
        });
        let gone = members.into_iter().zip(keep).filter(|(_, keep)| !keep);
        doomed.extend(gone.map(|(member, _)| (member.name, member.tag)));
    }
    let mut result = Ok(());
    if !args.dry_run {
        (report.removed, result) = remove(&chunks, url, &doomed);
    }
    if args.json {
        output::json(&report)?;
    } else {
        print(&report, doomed.len());
    }
    result
}

/// The families, each with its tags and their times. Every tag is read: one that cannot be read may
/// be the newest of its family.
fn families(chunks: &Store, only: &[String]) -> Result<BTreeMap<String, Vec<Member>>, StoreError> {
    let written = written(chunks)?;
    let mut families: BTreeMap<String, Vec<Member>> = BTreeMap::new();
    for (name, tag) in chunks.tags()? {
        let Some((family, _)) = name.as_str().rsplit_once('@') else {
            continue;
        };
        if !only.is_empty() && !only.iter().any(|only| only == family) {
            continue;
        }
        let time = match tagged(chunks, tag)? {
            Tagged::Snapshot(manifest) => {
                let created = manifest.created;
                Duration::new(created.seconds, created.nanos)
            }
            Tagged::Disk { .. } => match written.get(&name) {
                Some(time) => *time,
                // It is known, but left out of the listing.
                None => {
                    let key = Key::Tag(name);
                    return Err(StoreError::ListedNotFound { key });
                }
            },
        };
        let family = families.entry(family.to_owned()).or_default();
        family.push(Member { name, tag, time });
    }
    Ok(families)
}

/// When each tag was written.
fn written(chunks: &Store) -> Result<BTreeMap<TagName, Duration>, StoreError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or_default();
    let listed = chunks.backend().list(Folder::Tags);
    let listed = listed.map_err(|source| StoreError::Storage { source })?;
    let times = listed.into_iter().filter_map(|file| match file.key {
        Key::Tag(name) => Some((name, now.saturating_sub(file.age))),
        _ => None,
    });
    Ok(times.collect())
}

/// Which of these times, the newest first, a rule keeps. Those that may be as late as one that is
/// kept for its number are kept with it.
fn kept(times: &[Duration], last: Option<u32>, within: Option<Duration>) -> Vec<bool> {
    let Some(newest) = times.first().copied() else {
        return Vec::new();
    };
    let last = last.map(|last| (last as usize).clamp(1, times.len()));
    let bound = last.map(|last| times[last - 1].saturating_sub(APART));
    let is_kept = |time: &Duration| {
        let by_number = bound.is_some_and(|bound| *time > bound);
        let age = newest.saturating_sub(*time);
        by_number || within.is_some_and(|within| age <= within || age < APART)
    };
    times.iter().map(is_kept).collect()
}

fn print(report: &Report<'_>, doomed: usize) {
    for family in &report.families {
        for line in &family.tags {
            let verdict = match (line.keep, report.dry_run) {
                (true, _) => "kept",
                (false, true) => "would be removed",
                (false, false) if report.removed.contains(&line.name) => "removed",
                (false, false) => "not removed",
            };
            output::say(format_args!("{} {verdict}", line.name));
        }
    }
    let (count, verb) = match report.dry_run {
        true => (doomed, "would be removed"),
        false => (report.removed.len(), "removed"),
    };
    output::say(format_args!("{count} tags {verb}"));
}

#[cfg(test)]
mod tests;
