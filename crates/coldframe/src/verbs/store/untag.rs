//! `coldframe store untag`: removes tags by name.

use std::collections::BTreeMap;

use coldframe_chunkfile::Tag;
use coldframe_chunks::{StoreError, TagName};
use serde::Serialize;

use crate::cli::store::Untag;
use crate::exit::Failure;
use crate::store::{Store, failure, failure_in};
use crate::{output, store};

#[derive(Serialize)]
struct Report<'a> {
    store: &'a str,
    removed: Vec<String>,
}

/// Removes them all, or none if one is not there, or a log has changes of it.
pub fn run(args: &Untag) -> Result<(), Failure> {
    let url = &args.at.url;
    let chunks = store::open(url)?;
    if args.damaged {
        return untag_damaged(args, &chunks);
    }
    let mut tags = BTreeMap::new();
    for name in &args.names {
        let cannot = || format!("cannot untag {name} in {url}, no tag is removed");
        let tag = chunks
            .tag(name)
            .map_err(|error| failure(cannot(), &error))?;
        let missing = StoreError::MissingTag { name: name.clone() };
        let tag = tag.ok_or_else(|| failure(cannot(), &missing))?;
        if tag.log.is_some()
            && let Some(log) = chunks
                .log_note(name)
                .map_err(|error| failure(cannot(), &error))?
        {
            let (name, log) = (name.clone(), Box::new(log));
            let unfolded = StoreError::UnfoldedLog { name, log };
            return Err(failure_in(url, cannot(), &unfolded));
        }
        tags.insert(name.clone(), tag);
    }
    let (removed, result) = remove(&chunks, url, &tags);
    tell(args, removed)?;
    result
}

fn tell(args: &Untag, removed: Vec<String>) -> Result<(), Failure> {
    let store = &args.at.url;
    let report = Report { store, removed };
    if args.json {
        return output::json(&report);
    }
    for name in &report.removed {
        output::say(format_args!("{name} removed"));
    }
    Ok(())
}

/// Removes those whose files are damaged; stops at the first that is not.
fn untag_damaged(args: &Untag, chunks: &Store) -> Result<(), Failure> {
    let url = &args.at.url;
    let (mut removed, mut result) = (Vec::new(), Ok(()));
    for name in &args.names {
        let cannot = format!("cannot untag {name} in {url}");
        match chunks.remove_damaged_tag(name) {
            Ok(true) => removed.push(name.to_string()),
            Ok(false) => {
                let text = format!("{cannot}: it is not damaged; leave out --damaged");
                result = Err(Failure::Usage(text));
                break;
            }
            Err(error) if error.is_removed() => {
                removed.push(name.to_string());
                let what = format!("{name} in {url} is removed, but not durably");
                result = result.and(Err(failure(what, &error)));
            }
            Err(error) => {
                result = Err(failure(cannot, &error));
                break;
            }
        }
    }
    // Of what is refused before anything has changed there is nothing to tell.
    if result.is_ok() || !removed.is_empty() {
        tell(args, removed)?;
    }
    result
}

/// Removes tags, each if it is what it was; returns those that were, and what stopped it. A disk
/// that a log has changes of stays, and stops nothing.
pub fn remove(
    chunks: &Store,
    url: &str,
    tags: &BTreeMap<TagName, Tag>,
) -> (Vec<String>, Result<(), Failure>) {
    let mut removed = Vec::new();
    let mut result = Ok(());
    for (name, tag) in tags {
        match chunks.remove_tag(name, *tag) {
            Ok(()) => removed.push(name.to_string()),
            Err(error) if error.is_removed() => {
                removed.push(name.to_string());
                let what = format!("{name} in {url} is removed, but not durably");
                result = result.and(Err(failure(what, &error)));
            }
            Err(error) => {
                let what = format!("cannot untag {name} in {url}");
                let failed = Err(failure_in(url, what, &error));
                if !error.is_unfolded_log() {
                    return (removed, failed);
                }
                result = result.and(failed);
            }
        }
    }
    (removed, result)
}
