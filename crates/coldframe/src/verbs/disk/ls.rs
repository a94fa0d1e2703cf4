//! `coldframe disk ls`: the disks of a store, and what their blocks are.

use coldframe_block::usage;
use coldframe_chunkfile::TagKind;
use coldframe_chunks::TagName;
use coldframe_units::BLOCK_BYTES;
use serde::Serialize;

use crate::cli::disk::Ls;
use crate::exit::Failure;
use crate::human::size;
use crate::verbs::disk::failure;
use crate::{output, store};

#[derive(Serialize)]
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
    /// A log that may have changes which are not counted here.
    log: Option<LogLine>,
}

#[derive(Serialize)]
struct LogLine {
    path: String,
    host: String,
}

/// Prints the list; writes nothing.
pub fn run(args: &Ls) -> Result<(), Failure> {
    let cannot = format!("cannot list the disks of {}", args.store);
    let store = store::open(&args.store)?;
    let tags = store
        .tags()
        .map_err(|error| store::failure(&cannot, &error))?;
    let mut lines = Vec::new();
    for (name, tag) in tags.iter().filter(|(_, tag)| tag.kind == TagKind::Index) {
        let used = usage(&store, tag.root).map_err(|error| failure(&cannot, &error))?;
        lines.push(Line {
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
            log: log_of(&store, name, &cannot)?,
        });
    }
    if args.json {
        return output::json(&lines);
    }
    print(&lines);
    Ok(())
}

/// The log that the tag names.
fn log_of(store: &store::Store, name: &TagName, cannot: &str) -> Result<Option<LogLine>, Failure> {
    let note = store.log_note(name);
    let note = note.map_err(|error| store::failure(cannot, &error))?;
    Ok(note.map(|note| LogLine {
        path: note.path().display().to_string(),
        host: note.host(),
    }))
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
}
