//! `coldframe rm SNAP...`: deletes snapshots that nothing needs.

use std::path::{Path, PathBuf};

use coldframe_snapshot::SnapshotError;
use coldframe_snapshot::catalog::{self, Catalog, CatalogError, Item};
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
    for paths in together(args)? {
        match remove(&paths, args, &mut report.leftovers_removed) {
            Ok(()) => {
                let names = paths.iter().map(|path| path.display().to_string());
                report.removed.extend(names);
            }
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

/// The paths that are removed together: with --damaged all of one directory.
fn together(args: &Rm) -> Result<Vec<Vec<PathBuf>>, Failure> {
    let mut groups: Vec<(PathBuf, Vec<PathBuf>)> = Vec::new();
    for path in &args.snapshots {
        let dir = match args.damaged {
            true => resolved(path)?.parent().map(Path::to_path_buf),
            false => None,
        };
        let known = |(known, _): &&mut (PathBuf, Vec<PathBuf>)| dir.as_ref() == Some(known);
        match groups.iter_mut().find(known) {
            Some((_, paths)) => paths.push(path.clone()),
            None => groups.push((dir.unwrap_or_default(), vec![path.clone()])),
        }
    }
    Ok(groups.into_iter().map(|(_, paths)| paths).collect())
}

/// What a path names, with only its directory resolved.
fn resolved(path: &Path) -> Result<PathBuf, Failure> {
    let environment = |error: std::io::Error| Failure::environment(cannot(path), &error);
    match path.file_name() {
        Some(name) => {
            let parent = path.parent().filter(|dir| !dir.as_os_str().is_empty());
            let dir = parent.unwrap_or(Path::new(".")).canonicalize();
            Ok(dir.map_err(environment)?.join(name))
        }
        // "." and "..": no link has such a name.
        None => path.canonicalize().map_err(environment),
    }
}

fn cannot(path: &Path) -> String {
    format!("cannot delete {}", path.display())
}

/// Removes what the paths name, and nothing else; they are all in one directory.
fn remove(paths: &[PathBuf], args: &Rm, swept: &mut usize) -> Result<(), Failure> {
    let cannot = paths.iter().map(|path| path.display().to_string());
    let cannot = format!("cannot delete {}", cannot.collect::<Vec<_>>().join(", "));
    let environment = |error: std::io::Error| Failure::environment(&cannot, &error);
    let mut full = Vec::new();
    for path in paths {
        let path = resolved(path)?;
        std::fs::symlink_metadata(&path).map_err(environment)?;
        full.push(path);
    }
    let dir = full.first().and_then(|path| path.parent());
    let names: Option<Vec<_>> = full.iter().map(|path| path.file_name()).collect();
    let (Some(dir), Some(names)) = (dir, names) else {
        return Err(Failure::Usage(format!("{cannot}: it is in no directory")));
    };
    // Of what is none, not even a new catalog is left.
    let contents = catalog::read(dir).map_err(|error| catalog_failure(&cannot, &error))?;
    if let Some(path) = full.iter().find(|path| !contents.has(path)) {
        let path = path.clone();
        return Err(refusal(
            &cannot,
            &CatalogError::NoSnapshot { path },
            args.damaged,
            paths,
        ));
    }
    let mut catalog = Catalog::open(dir).map_err(|error| catalog_failure(&cannot, &error))?;
    *swept += sweep(dir);
    for forgotten in &args.forget_children_in {
        let forgotten = std::path::absolute(forgotten).map_err(environment)?;
        for path in &full {
            forget(&mut catalog, path, &forgotten)
                .map_err(|error| refusal(&cannot, &error, args.damaged, paths))?;
        }
    }
    let deleted = match &names[..] {
        [name] if !args.damaged => catalog.delete_named(name),
        names => catalog.delete_damaged(names),
    };
    deleted.map_err(|error| refusal(&cannot, &error, args.damaged, paths))
}

/// Takes no account of the children in a directory that is gone.
fn forget(catalog: &mut Catalog, path: &Path, dir: &Path) -> Result<(), CatalogError> {
    let paths = |item: &Item| item.paths().any(|found| found == path);
    let id = catalog.items().iter().find(|(_, item)| paths(item));
    match (id.map(|(id, _)| *id), path.file_name()) {
        (Some(id), _) => catalog.forget_children_in(id, dir),
        (None, Some(name)) => catalog.forget_lost_children_in(name, dir),
        _ => Ok(()),
    }
}

/// Why something stays, with what helps.
fn refusal(cannot: &str, error: &CatalogError, damaged: bool, paths: &[PathBuf]) -> Failure {
    match error {
        CatalogError::AfterDeletion { .. } => Failure::Environment(line("done in part", error)),
        CatalogError::ChildrenUnknown { dir, .. } => {
            let text = line("not deleted", error);
            let dir = dir.display();
            Failure::Wanting(format!("{text} with --forget-children-in {dir}"))
        }
        CatalogError::Unread {
            source: Some(source),
            ..
        } if !damaged && (source.is_corrupt() || is_absent(source)) => {
            let text = line("not deleted", error);
            Failure::Wanting(format!("{text}; delete it with --damaged"))
        }
        CatalogError::Unreadable {
            path,
            source: Some(source),
        } if source.is_corrupt() || is_absent(source) => {
            let text = line("not deleted", error);
            if std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none()) {
                let advice = "mount what belongs there, or remove the empty directory";
                return Failure::Wanting(format!("{text}; {advice}"));
            }
            // Alone it may be refused: what was to be deleted may be built on it.
            let both = std::iter::once(path).chain(paths);
            let both: Vec<_> = both.map(|path| path.display().to_string()).collect();
            let both = both.join(" ");
            Failure::Wanting(format!("{text}; or delete both: rm --damaged {both}"))
        }
        CatalogError::HasChildren { .. }
        | CatalogError::CopyDamaged { .. }
        | CatalogError::HasOrphan { .. }
        | CatalogError::NoteUnread { .. }
        | CatalogError::MayBe { .. }
        | CatalogError::ChildUnknown { .. }
        | CatalogError::LinkUnknown { .. }
        | CatalogError::Pinned { .. }
        | CatalogError::Leased { .. }
        | CatalogError::InUse { .. }
        | CatalogError::IsLink { .. }
        | CatalogError::NoSnapshot { .. } => Failure::Wanting(line("not deleted", error)),
        error => catalog_failure(cannot, error),
    }
}

fn is_absent(error: &SnapshotError) -> bool {
    matches!(error, SnapshotError::Storage(storage) if storage.is_not_found())
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
        }
        | CatalogError::Unread {
            source: Some(source),
            ..
        } if is_wanting(source) => Failure::wanting(what, error),
        _ => Failure::environment(what, error),
    }
}
