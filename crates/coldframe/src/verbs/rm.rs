//! `coldframe rm SNAP...`: deletes snapshots that nothing needs.

use std::path::Path;

use coldframe_snapshot::catalog::{Catalog, CatalogError};
use serde::Serialize;

use crate::cli::Rm;
use crate::exit::{Failure, line};
use crate::output;
use crate::search::open;

#[derive(Serialize)]
struct Removed {
    removed: Vec<String>,
    refused: Vec<String>,
}

/// Deletes each in turn; exit 1 if one must stay.
pub fn run(args: &Rm) -> Result<(), Failure> {
    let mut report = Removed {
        removed: Vec::new(),
        refused: Vec::new(),
    };
    for path in &args.snapshots {
        match remove(path) {
            Ok(()) => report.removed.push(path.display().to_string()),
            Err(Failure::Wanting(text)) => report.refused.push(text),
            Err(failure) => return Err(failure),
        }
    }
    if args.json {
        output::json(&report)?;
    } else {
        report
            .removed
            .iter()
            .for_each(|path| output::say(format_args!("{path}: deleted")));
        report
            .refused
            .iter()
            .for_each(|text| eprintln!("coldframe: {text}"));
    }
    if report.refused.is_empty() {
        Ok(())
    } else {
        Err(Failure::Reported)
    }
}

fn remove(path: &Path) -> Result<(), Failure> {
    let cannot = format!("cannot delete {}", path.display());
    let snapshot = open(path)?;
    let full = path
        .canonicalize()
        .map_err(|error| Failure::environment(&cannot, &error))?;
    let Some(dir) = full.parent() else {
        return Err(Failure::Usage(format!("{cannot}: it is in no directory")));
    };
    let mut catalog = Catalog::open(dir).map_err(|error| catalog_failure(&cannot, &error))?;
    catalog.delete(snapshot.id()).map_err(|error| match error {
        CatalogError::HasChildren { .. }
        | CatalogError::Pinned { .. }
        | CatalogError::Leased { .. } => Failure::Wanting(line("not deleted", &error)),
        error => catalog_failure(&cannot, &error),
    })
}

/// A damaged catalog is exit 1, one that cannot be read or written exit 3.
pub fn catalog_failure(what: &str, error: &CatalogError) -> Failure {
    match error {
        CatalogError::Damaged { .. } | CatalogError::Entry { .. } => Failure::wanting(what, error),
        _ => Failure::environment(what, error),
    }
}
