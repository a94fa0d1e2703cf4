//! What a verb that makes a snapshot says at its end.

use coldframe_snapshot::Snapshot;
use serde::Serialize;

use crate::exit::Failure;
use crate::human::size;
use crate::output;

#[derive(Serialize)]
struct Made {
    path: String,
    id: String,
    root: String,
    kind: &'static str,
    parent: Option<String>,
    ram_bytes: u64,
    memory_file_bytes: u64,
}

/// Says which snapshot was made.
pub fn print(snapshot: &Snapshot, json: bool) -> Result<(), Failure> {
    let manifest = snapshot.manifest();
    let parent = manifest.parent();
    let made = Made {
        path: snapshot.path().display().to_string(),
        id: snapshot.id().to_string(),
        root: snapshot.root().to_string(),
        kind: if parent.is_some() { "diff" } else { "full" },
        parent: parent.map(|parent| parent.id.to_string()),
        ram_bytes: manifest.ram.total().get(),
        memory_file_bytes: manifest.memory.len.get(),
    };
    if json {
        return output::json(&made);
    }
    let (path, kind, id) = (&made.path, made.kind, &made.id);
    output::say(format_args!(
        "{path}: {kind} snapshot {id} of {} guest memory",
        size(made.ram_bytes)
    ));
    Ok(())
}
