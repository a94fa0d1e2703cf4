//! `coldframe store ls`: the tags, and what they point to.

use coldframe_chunkfile::{Tag, TagKind};
use coldframe_chunks::{StoreError, TagName};
use coldframe_snapshot::store::{Tagged, tagged};
use serde::Serialize;

use crate::cli::store::List;
use crate::exit::{Failure, reason};
use crate::human::size;
use crate::store::failure;
use crate::{output, store};

#[derive(Serialize)]
struct Listing<'a> {
    store: &'a str,
    tags: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    name: String,
    kind: &'static str,
    root: String,
    /// Bytes of guest memory, or of the disk.
    bytes: Option<u64>,
    /// The snapshot's.
    id: Option<String>,
    created_unix_seconds: Option<u64>,
    /// Why nothing more is known.
    error: Option<String>,
}

/// Prints the tags; one that cannot be read, or whose file is lost, damaged or cannot be read, is
/// listed all the same, but then the exit code is 1.
pub fn run(args: &List) -> Result<(), Failure> {
    let url = &args.at.url;
    let chunks = store::open(url)?;
    let cannot = format!("cannot list {url}");
    let failed = |error: StoreError| failure(&cannot, &error);
    let mut tags = Vec::new();
    let mut is_whole = true;
    for (name, tag) in chunks.read_tags().map_err(failed)? {
        let described = tag.map(|tag| {
            let found = tagged(&chunks, tag);
            is_whole &= found.is_ok();
            match found {
                Ok(found) => describe(&name, tag.root.to_string(), &found),
                Err(error) => unknown(&name, Some(tag), &error),
            }
        });
        tags.push(described.unwrap_or_else(|error| {
            is_whole = false;
            unknown(&name, None, &error)
        }));
    }
    let listing = Listing { store: url, tags };
    if args.json {
        output::json(&listing)?;
    } else {
        print(&listing);
    }
    if is_whole {
        Ok(())
    } else {
        Err(Failure::Reported)
    }
}

fn unknown(name: &TagName, tag: Option<Tag>, error: &StoreError) -> Line {
    Line {
        name: name.to_string(),
        kind: match tag.map(|tag| tag.kind) {
            Some(TagKind::Index) => "disk",
            Some(TagKind::Snapshot) => "snapshot",
            None => "unknown",
        },
        root: tag.map_or(String::new(), |tag| tag.root.to_string()),
        bytes: None,
        id: None,
        created_unix_seconds: None,
        error: Some(reason(error)),
    }
}

fn describe(name: &TagName, root: String, found: &Tagged) -> Line {
    let mut line = Line {
        name: name.to_string(),
        kind: "disk",
        root,
        bytes: None,
        id: None,
        created_unix_seconds: None,
        error: None,
    };
    match found {
        Tagged::Snapshot(manifest) => {
            line.kind = "snapshot";
            line.bytes = Some(manifest.ram.total().get());
            line.id = Some(manifest.id.to_string());
            line.created_unix_seconds = Some(manifest.created.seconds);
        }
        Tagged::Disk { size } => line.bytes = Some(size.get()),
    }
    line
}

fn print(listing: &Listing<'_>) {
    let heading = ["name", "kind", "size", "id or root"];
    let mut rows = vec![heading.map(String::from).to_vec()];
    for line in &listing.tags {
        rows.push(vec![
            line.name.clone(),
            line.kind.to_string(),
            line.bytes.map(size).unwrap_or_default(),
            match (&line.error, &line.id) {
                (Some(error), _) => error.clone(),
                (None, Some(id)) => id.clone(),
                (None, None) => line.root.clone(),
            },
        ]);
    }
    output::table(&rows);
}
