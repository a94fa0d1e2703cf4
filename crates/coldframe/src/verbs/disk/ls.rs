//! `coldframe disk ls`: the disks of a store, and what their blocks are.

use coldframe_block::usage;
use coldframe_chunkfile::{Tag, TagKind};
use coldframe_chunks::TagName;
use coldframe_units::BLOCK_BYTES;
use serde::Serialize;

use crate::cli::disk::Ls;
use crate::exit::{Failure, reason};
use crate::human::size;
use crate::{output, store};

#[derive(Default, Serialize)]
struct Line {
    name: String,
    root: String,
    size_bytes: u64,
    /// Blocks that its own index names, zeros included.
    own_blocks: u64,
    data_blocks: u64,
    unique_chunks: u64,
    zero_blocks: u64,
    base_blocks: u64,
    ancestors: usize,
    base: Option<String>,
    /// Blocks with pages that are lost for good, until they are written.
    lost_blocks: u64,
    /// A log that may have changes which are not counted here.
    log: Option<LogLine>,
    /// Why nothing is known of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Serialize)]
struct LogLine {
    path: String,
    host: String,
}

/// Prints the list; writes nothing. One that cannot be read is listed with the reason: exit code 1.
pub fn run(args: &Ls) -> Result<(), Failure> {
    let cannot = format!("cannot list the disks of {}", args.store);
    let store = store::open(&args.store)?;
    let tags = store
        .read_tags()
        .map_err(|error| store::failure(&cannot, &error))?;
    let mut lines = Vec::new();
    for (name, tag) in tags {
        let line = match tag {
            Ok(tag) if tag.kind != TagKind::Index => continue,
            Ok(tag) => describe(&store, &name, tag)
                .unwrap_or_else(|error| unknown(&name, Some(tag), error)),
            Err(error) => unknown(&name, None, reason(&error)),
        };
        lines.push(line);
    }
    if args.json {
        output::json(&lines)?;
    } else {
        print(&lines);
    }
    let is_sound = |line: &Line| line.error.is_none() && line.lost_blocks == 0;
    if lines.iter().all(is_sound) {
        Ok(())
    } else {
        Err(Failure::Reported)
    }
}

fn describe(store: &store::Store, name: &TagName, tag: Tag) -> Result<Line, String> {
    let used = usage(store, tag.root).map_err(|error| reason(&error))?;
    let note = store.log_note(name).map_err(|error| reason(&error))?;
    Ok(Line {
        name: name.to_string(),
        root: tag.root.to_string(),
        size_bytes: used.size.get(),
        own_blocks: used.own_blocks,
        data_blocks: used.data_blocks,
        unique_chunks: used.unique_chunks,
        zero_blocks: used.zero_blocks,
        base_blocks: used.base_blocks,
        ancestors: used.ancestors,
        base: used.base.map(|id| id.to_string()),
        lost_blocks: used.lost_blocks,
        log: note.map(|note| LogLine {
            path: note.path().display().to_string(),
            host: note.host(),
        }),
        error: None,
    })
}

/// A disk, or what may be one, of which nothing can be read.
fn unknown(name: &TagName, tag: Option<Tag>, error: String) -> Line {
    Line {
        name: name.to_string(),
        root: tag.map_or_else(String::new, |tag| tag.root.to_string()),
        error: Some(error),
        ..Line::default()
    }
}

fn print(lines: &[Line]) {
    let heading = [
        "name",
        "size",
        "data",
        "unique",
        "own",
        "ancestors",
        "root",
        "log",
    ];
    let mut rows = vec![heading.map(String::from).to_vec()];
    for line in lines {
        if let Some(error) = &line.error {
            let mut row = vec![String::new(); heading.len()];
            (row[0], row[heading.len() - 1]) = (line.name.clone(), error.clone());
            rows.push(row);
            continue;
        }
        let blocks = |count: u64| size(count * BLOCK_BYTES);
        rows.push(vec![
            line.name.clone(),
            size(line.size_bytes),
            blocks(line.data_blocks),
            blocks(line.unique_chunks),
            blocks(line.own_blocks),
            line.ancestors.to_string(),
            line.root[..16].to_owned(),
            line.log
                .as_ref()
                .map_or(String::new(), |log| format!("{}:{}", log.host, log.path)),
        ]);
    }
    output::table(&rows);
    for line in lines.iter().filter(|line| line.lost_blocks > 0) {
        let (name, lost) = (&line.name, line.lost_blocks);
        output::say(format_args!(
            "disk {name}: {lost} blocks have pages that are lost until they are written again"
        ));
    }
}
