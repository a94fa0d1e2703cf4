//! `coldframe ls DIR`: the snapshots of a directory as a tree, with sizes and shared parts.

use std::collections::{BTreeMap, HashMap};
use std::io::ErrorKind;
use std::path::Path;

use coldframe_snapshot::FilePool;
use coldframe_snapshot::catalog::{self, Item, children};
use coldframe_snapshot::{Damaged, Link, MANIFEST};
use coldframe_units::{BLOCK_BYTES, ChunkId, SnapshotId};
use serde::Serialize;

use crate::cli::Ls;
use crate::exit::{Failure, line};
use crate::human::size;
use crate::output;
use crate::verbs::rm::catalog_failure;

#[derive(Serialize)]
struct Listing {
    dir: String,
    snapshots: Vec<Line>,
    /// Symbolic links: they are no snapshots of this directory.
    links: Vec<LinkLine>,
    /// What may be a snapshot and cannot be read, or not to its end.
    damaged: Vec<DamagedLine>,
    /// What killed runs left, or living ones are making.
    leftovers: Vec<String>,
    /// Why pins, leases or children elsewhere are not known, if they are not.
    catalog: Option<String>,
}

#[derive(Serialize)]
struct LinkLine {
    name: String,
    target: String,
    /// The id of the snapshot at its end, if there is one.
    id: Option<String>,
}

#[derive(Serialize)]
struct DamagedLine {
    name: String,
    detail: String,
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
#[derive(Default)]
struct Blocks {
    own_bytes: u64,
    ids: Vec<ChunkId>,
}

/// Prints the tree; writes nothing.
pub fn run(args: &Ls) -> Result<(), Failure> {
    let cannot = format!("cannot list {}", args.dir.display());
    match std::fs::metadata(&args.dir) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => {
            let dir = args.dir.display();
            return Err(Failure::Usage(format!("{dir} is not a directory")));
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(Failure::usage(&cannot, &error));
        }
        Err(error) => return Err(Failure::environment(&cannot, &error)),
    }
    let contents = catalog::read(&args.dir).map_err(|error| catalog_failure(&cannot, &error))?;
    let items = &contents.items;
    let has_manifest = args.dir.join(MANIFEST).symlink_metadata().is_ok();
    if items.is_empty() && contents.damaged.is_empty() && has_manifest {
        let text = "it is a snapshot, not a directory of snapshots: inspect shows one";
        return Err(Failure::Usage(format!("{cannot}: {text}")));
    }
    let mut damaged: Vec<DamagedLine> = contents.damaged.iter().map(damaged_line).collect();
    let mut blocks = HashMap::new();
    let mut seen: HashMap<ChunkId, u32> = HashMap::new();
    for (id, item) in items {
        let found = blocks_of(item).unwrap_or_else(|error| {
            damaged.push(DamagedLine {
                name: item.name.clone(),
                detail: line("its memory cannot be counted", &error),
            });
            Blocks::default()
        });
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
        lines(items, *id, 0, &blocks, &seen, &mut snapshots);
    }
    let listing = Listing {
        dir: args.dir.display().to_string(),
        snapshots,
        links: contents.links.iter().map(link_line).collect(),
        damaged,
        leftovers: contents.leftovers.iter().map(|path| name(path)).collect(),
        catalog: contents
            .journal
            .as_ref()
            .map(|error| line("pins and leases are not known", error)),
    };
    if args.json {
        output::json(&listing)?;
    } else {
        print(&listing);
    }
    if let Some(error) = &contents.journal {
        return Err(catalog_failure(&cannot, error));
    }
    if listing.damaged.is_empty() {
        Ok(())
    } else {
        Err(Failure::Reported)
    }
}

/// The last part of a path, as it can be printed.
fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn damaged_line(entry: &Damaged) -> DamagedLine {
    let cause = line("cannot be read", &entry.error);
    DamagedLine {
        name: name(&entry.path),
        detail: cause,
    }
}

fn link_line(link: &Link) -> LinkLine {
    LinkLine {
        name: name(&link.path),
        target: link.target.display().to_string(),
        id: link.snapshot.as_ref().map(|found| found.id().to_string()),
    }
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
    let shared_bytes = (shared.count() as u64 * BLOCK_BYTES).min(own.own_bytes);
    for path in item.paths() {
        out.push(Line {
            name: name(path),
            id: id.to_string(),
            kind: match manifest.parent() {
                Some(_) => "diff",
                None => "full",
            },
            parent: manifest.parent().map(|parent| parent.id.to_string()),
            depth,
            created_unix_seconds: manifest.created.seconds,
            ram_bytes: manifest.ram.total().get(),
            own_bytes: own.own_bytes,
            shared_bytes,
            pinned: item.pinned,
            leased_by: kept_by(item),
        });
    }
    for child in children(items, id) {
        lines(items, child.snapshot.id(), depth + 1, blocks, seen, out);
    }
}

/// Who uses it, and the other directories in which it has, or had, children.
fn kept_by(item: &Item) -> Vec<String> {
    let dirs = item.children_in.iter();
    let dirs = dirs.map(|dir| format!("children in {}", dir.display()));
    item.leases.keys().cloned().chain(dirs).collect()
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
    for link in &listing.links {
        let (name, target) = (&link.name, &link.target);
        let none = if link.id.is_some() {
            ""
        } else {
            ", no snapshot"
        };
        output::say(format_args!("{name} -> {target} (symbolic link{none})"));
    }
    for name in &listing.leftovers {
        output::say(format_args!(
            "{name} (leftover of a killed run, or still being written)"
        ));
    }
    for entry in &listing.damaged {
        output::say(format_args!("{}: damaged: {}", entry.name, entry.detail));
    }
}
