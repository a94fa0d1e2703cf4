//! `coldframe rm SNAP...`: deletes snapshots that nothing needs.

use std::path::{Path, PathBuf};

use coldframe_snapshot::catalog::{Catalog, CatalogError, Item};
use serde::Serialize;

use crate::cli::Rm;
use crate::exit::{Failure, line};
use crate::output;
use crate::search::is_wanting;

#[derive(Serialize)]
struct Removed {
    removed: Vec<String>,
    refused: Vec<String>,
    leftovers_removed: usize,
}

/// Deletes each in turn; exit 1 if one must stay, 3 if it could not be told.
pub fn run(args: &Rm) -> Result<(), Failure> {
    let mut report = Removed {
        removed: Vec::new(),
        refused: Vec::new(),
        leftovers_removed: 0,
    };
    let mut worst = None;
    for path in &args.snapshots {
        match remove(
            path,
            &args.forget_children_in,
            &mut report.leftovers_removed,
        ) {
            Ok(()) => report.removed.push(path.display().to_string()),
            Err(failure @ Failure::Usage(_)) => return Err(failure),
            Err(failure) => {
                report.refused.push(failure.to_string());
                worst = worst.max(Some(failure.exit_code()));
            }
        }
    }
    if args.json {
        output::json(&report)?;
    } else {
        report
            .removed
            .iter()
            .for_each(|path| output::say(format_args!("{path}: deleted")));
        if report.leftovers_removed > 0 {
            let count = report.leftovers_removed;
            output::say(format_args!("{count} leftovers of killed runs removed"));
        }
    }
    let Some((last, others)) = report.refused.split_last() else {
        return Ok(());
    };
    match worst {
        Some(3) => {
            if !args.json {
                others
                    .iter()
                    .for_each(|text| eprintln!("coldframe: {text}"));
            }
            Err(Failure::Environment(last.clone()))
        }
        _ => {
            if !args.json {
                let refused = report.refused.iter();
                refused.for_each(|text| eprintln!("coldframe: {text}"));
            }
            Err(Failure::Reported)
        }
    }
}

/// Removes what the path names, and nothing else: only its directory is resolved.
fn remove(path: &Path, forgotten: &[PathBuf], swept: &mut usize) -> Result<(), Failure> {
    let cannot = format!("cannot delete {}", path.display());
    let environment = |error: std::io::Error| Failure::environment(&cannot, &error);
    let full = match path.file_name() {
        Some(name) => {
            let parent = path.parent().filter(|dir| !dir.as_os_str().is_empty());
            let dir = parent.unwrap_or(Path::new(".")).canonicalize();
            dir.map_err(environment)?.join(name)
        }
        // "." and "..": no link has such a name.
        None => path.canonicalize().map_err(environment)?,
    };
    std::fs::symlink_metadata(&full).map_err(environment)?;
    let (Some(dir), Some(name)) = (full.parent(), full.file_name()) else {
        return Err(Failure::Usage(format!("{cannot}: it is in no directory")));
    };
    let mut catalog = Catalog::open(dir).map_err(|error| catalog_failure(&cannot, &error))?;
    *swept += sweep(dir);
    for dir in forgotten {
        let dir = std::path::absolute(dir).map_err(environment)?;
        let paths = |item: &Item| item.paths().any(|path| path == full);
        let id = catalog.items().iter().find(|(_, item)| paths(item));
        if let Some(id) = id.map(|(id, _)| *id) {
            let forgotten = catalog.forget_children_in(id, &dir);
            forgotten.map_err(|error| catalog_failure(&cannot, &error))?;
        }
    }
    catalog.delete_named(name).map_err(|error| match error {
        CatalogError::ChildrenUnknown { ref dir, .. } => {
            let text = line("not deleted", &error);
            let dir = dir.display();
            Failure::Wanting(format!("{text} with --forget-children-in {dir}"))
        }
        CatalogError::HasChildren { .. }
        | CatalogError::Pinned { .. }
        | CatalogError::Leased { .. }
        | CatalogError::InUse { .. }
        | CatalogError::IsLink { .. }
        | CatalogError::NoSnapshot { .. } => Failure::Wanting(line("not deleted", &error)),
        error => catalog_failure(&cannot, &error),
    })
}

/// Removes what killed processes left in a directory, and says how many there were. What cannot be
/// removed stays: it is in nobody's way.
pub fn sweep(dir: &Path) -> usize {
    match coldframe_storage::sweep_stale(dir) {
        Ok(swept) => swept.len(),
        Err(error) => {
            eprintln!("coldframe: {}", line("leftovers stay", &error));
            0
        }
    }
}

/// The same for the directory of what was just made, told on standard error.
pub fn sweep_beside(made: &Path) {
    let dir = made.parent().filter(|dir| !dir.as_os_str().is_empty());
    let swept = sweep(dir.unwrap_or(Path::new(".")));
    if swept > 0 {
        eprintln!("coldframe: {swept} leftovers of killed runs removed");
    }
}

/// A damaged catalog is exit 1, one that cannot be read or written exit 3.
pub fn catalog_failure(what: &str, error: &CatalogError) -> Failure {
    match error {
        CatalogError::Damaged { .. } | CatalogError::Entry { .. } => Failure::wanting(what, error),
        CatalogError::Unreadable {
            source: Some(source),
            ..
        } if is_wanting(source) => Failure::wanting(what, error),
        _ => Failure::environment(what, error),
    }
}
