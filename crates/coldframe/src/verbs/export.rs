//! `coldframe export raw` and `coldframe export firecracker`.

use std::path::Path;

use coldframe_snapshot::export::{self, Holes};
use coldframe_snapshot::{Chain, SnapshotError};
use coldframe_storage::{Overwrite, PendingDir, PendingFile, Storage, StorageError};
use coldframe_units::FileOffset;
use serde::Serialize;

use crate::cli::{ExportFirecracker, ExportRaw};
use crate::exit::Failure;
use crate::human::size;
use crate::search::{check_output, failure, use_chain};
use crate::verbs::import::FIRECRACKER_STATE;
use crate::verbs::rm::sweep_beside;
use crate::{output, progress};

#[derive(Serialize)]
struct Exported {
    path: String,
    ram_bytes: u64,
}

/// The flattened memory as raw bytes.
pub fn raw(args: &ExportRaw) -> Result<(), Failure> {
    let chain = use_chain(&args.snapshot, &args.search)?;
    let holes = if args.sparse {
        Holes::ForZeros
    } else {
        Holes::None
    };
    check_output(&args.output)?;
    let cannot = cannot_write(&args.output);
    let file = PendingFile::create(&args.output, Overwrite::Refuse).map_err(&cannot)?;
    let ram_bytes = memory(&chain, &file, holes, &args.output)?;
    file.publish().map_err(&cannot)?;
    said(&args.output, ram_bytes, args.json)
}

/// A pair that Firecracker loads.
pub fn firecracker(args: &ExportFirecracker) -> Result<(), Failure> {
    let chain = use_chain(&args.snapshot, &args.search)?;
    let what = format!("cannot export {}", args.snapshot.display());
    let youngest = chain.youngest();
    let none = || {
        Failure::Usage(format!(
            "{} holds no Firecracker state: only what came from Firecracker goes back to it",
            args.snapshot.display()
        ))
    };
    let state = match youngest.state() {
        Err(SnapshotError::NoMachine { .. }) => return Err(none()),
        state => state.map_err(|error| failure(&what, &error))?,
    };
    let sections = state.file().map_err(|error| failure(&what, &error))?;
    let body = sections.opaque(FIRECRACKER_STATE, 0).ok_or_else(none)?;
    crate::firecracker::State::check(body.body())
        .map_err(|error| Failure::wanting(&what, &error))?;

    check_output(&args.output)?;
    let cannot = cannot_write(&args.output);
    let dir = PendingDir::create(&args.output).map_err(&cannot)?;
    let file = dir.file("state").map_err(&cannot)?;
    file.write_at(FileOffset::ZERO, body.body())
        .map_err(&cannot)?;
    let file = dir.file("mem").map_err(&cannot)?;
    let ram_bytes = memory(&chain, &file, Holes::ForZeros, &args.output)?;
    drop(file);
    dir.publish().map_err(&cannot)?;
    said(&args.output, ram_bytes, args.json)
}

fn memory(chain: &Chain, file: &dyn Storage, holes: Holes, output: &Path) -> Result<u64, Failure> {
    let total = chain.youngest().manifest().ram.total().get();
    let bar = progress::bytes("export", total);
    export::raw(chain, file, holes, &mut |bytes| bar.inc(bytes))
        .map_err(|error| failure(format!("cannot write {}", output.display()), &error))?;
    bar.finish_and_clear();
    Ok(total)
}

fn cannot_write(output: &Path) -> impl Fn(StorageError) -> Failure {
    move |error| Failure::environment(format!("cannot write {}", output.display()), &error)
}

fn said(output: &Path, ram_bytes: u64, json: bool) -> Result<(), Failure> {
    sweep_beside(output);
    let path = output.display().to_string();
    if json {
        return output::json(&Exported { path, ram_bytes });
    }
    output::say(format_args!("{path}: {} of guest memory", size(ram_bytes)));
    Ok(())
}
