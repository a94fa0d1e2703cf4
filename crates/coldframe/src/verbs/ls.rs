//! `coldframe ls DIR`: the snapshots of a directory as a tree, with sizes and shared parts.

use std::collections::{BTreeMap, HashMap};

use coldframe_snapshot::FilePool;
use coldframe_snapshot::catalog::{self, Item, children};
use coldframe_units::{BLOCK_BYTES, ChunkId, SnapshotId};
use serde::Serialize;

use crate::cli::Ls;
use crate::exit::Failure;
use crate::human::size;
use crate::output;
use crate::search::failure;
use crate::verbs::rm::catalog_failure;

#[derive(Serialize)]
struct Listing {
    dir: String,
    snapshots: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    name: String,
    id: String,
    kind: &'static str,
    parent: Option<String>,
    depth: usize,
    created_unix_seconds: u64,
    ram_bytes: u64,
    /// Bytes of its own pages.
    own_bytes: u64,
    /// Of these, what stands in another snapshot of the directory too.
    shared_bytes: u64,
    pinned: bool,
    leased_by: Vec<String>,
}

/// The blocks of one snapshot that have an id.
struct Blocks {
    own_bytes: u64,
    ids: Vec<ChunkId>,
}

/// Prints the tree; writes nothing.
pub fn run(args: &Ls) -> Result<(), Failure> {
    let cannot = format!("cannot list {}", args.dir.display());
    if !args.dir.is_dir() {
        return Err(Failure::Usage(format!(
            "{} is not a directory",
            args.dir.display()
        )));
    }
    let items = catalog::read(&args.dir).map_err(|error| catalog_failure(&cannot, &error))?;
    let mut blocks = HashMap::new();
    let mut seen: HashMap<ChunkId, u32> = HashMap::new();
    for (id, item) in &items {
        let found = blocks_of(item).map_err(|error| failure(&cannot, &error))?;
        for chunk in &found.ids {
            *seen.entry(*chunk).or_default() += 1;
        }
        blocks.insert(*id, found);
    }
    let mut snapshots = Vec::new();
    let roots = items.iter().filter(|(_, item)| {
        let parent = item.snapshot.manifest().parent();
        parent.is_none_or(|parent| !items.contains_key(&parent.id))
    });
    for (id, _) in roots {
        lines(&items, *id, 0, &blocks, &seen, &mut snapshots);
    }
    let listing = Listing {
        dir: args.dir.display().to_string(),
        snapshots,
    };
    if args.json {
        return output::json(&listing);
    }
    print(&listing);
    Ok(())
}

fn blocks_of(item: &Item) -> Result<Blocks, coldframe_snapshot::SnapshotError> {
    let file = item.snapshot.memory_source(&FilePool::default())?;
    let refused = |source| coldframe_snapshot::SnapshotError::Decode {
        path: item.snapshot.path().join(coldframe_snapshot::MEMORY),
        source,
    };
    let unread = coldframe_snapshot::SnapshotError::Memory;
    let view = file.view().map_err(unread)?;
    let extents = file.extents().map_err(unread)?;
    let pages: u64 = extents
        .iter()
        .filter(|e| !e.is_zero())
        .map(|e| e.run.count())
        .sum();
    let rows = file.blocks().map_err(unread)?;
    let ids = rows
        .iter_verified()
        .collect::<Result<Vec<_>, _>>()
        .map_err(refused)?;
    Ok(Blocks {
        own_bytes: pages * view.page_size().bytes(),
        ids: ids
            .iter()
            .filter_map(coldframe_memfile::BlockRow::chunk_id)
            .collect(),
    })
}

fn lines(
    items: &BTreeMap<SnapshotId, Item>,
    id: SnapshotId,
    depth: usize,
    blocks: &HashMap<SnapshotId, Blocks>,
    seen: &HashMap<ChunkId, u32>,
    out: &mut Vec<Line>,
) {
    let (Some(item), Some(own)) = (items.get(&id), blocks.get(&id)) else {
        return;
    };
    let manifest = item.snapshot.manifest();
    let shared = own
        .ids
        .iter()
        .filter(|chunk| seen.get(chunk).is_some_and(|count| *count > 1));
    out.push(Line {
        name: item.name.clone(),
        id: id.to_string(),
        kind: if manifest.parent().is_some() {
            "diff"
        } else {
            "full"
        },
        parent: manifest.parent().map(|parent| parent.id.to_string()),
        depth,
        created_unix_seconds: manifest.created.seconds,
        ram_bytes: manifest.ram.total().get(),
        own_bytes: own.own_bytes,
        shared_bytes: (shared.count() as u64 * BLOCK_BYTES).min(own.own_bytes),
        pinned: item.pinned,
        leased_by: item.leases.keys().cloned().collect(),
    });
    for child in children(items, id) {
        lines(items, child.snapshot.id(), depth + 1, blocks, seen, out);
    }
}

fn print(listing: &Listing) {
    let heading = ["name", "kind", "memory", "own", "shared", "id", ""];
    let mut rows = vec![heading.map(String::from).to_vec()];
    for line in &listing.snapshots {
        let mut notes = Vec::new();
        if line.pinned {
            notes.push("pinned".to_string());
        }
        notes.extend(
            line.leased_by
                .iter()
                .map(|holder| format!("leased by {holder}")),
        );
        rows.push(vec![
            format!("{}{}", "  ".repeat(line.depth), line.name),
            line.kind.to_string(),
            size(line.ram_bytes),
            size(line.own_bytes),
            size(line.shared_bytes),
            line.id.clone(),
            notes.join(", "),
        ]);
    }
    output::table(&rows);
}
