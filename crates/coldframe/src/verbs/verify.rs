//! `coldframe verify PATH...`: one line for each damage.

use std::path::{Path, PathBuf};

use coldframe_snapshot::verify::{Damage, Depth, Verifier};
use serde::Serialize;

use crate::cli::Verify;
use crate::exit::Failure;
use crate::human::size;
use crate::logs::{self, LogKind};
use crate::search::{exist, failure};
use crate::{output, progress};

#[derive(Serialize)]
struct Report {
    verdict: &'static str,
    snapshots: u64,
    files: u64,
    bytes_checked: u64,
    /// Guest memory that was not read: all of it without --deep.
    bytes_not_read: u64,
    depth: &'static str,
    damages: Vec<DamageReport>,
}

#[derive(Serialize)]
struct DamageReport {
    #[serde(serialize_with = "output::path")]
    file: PathBuf,
    offset: Option<u64>,
    kind: &'static str,
    detail: String,
}

/// Prints each damage; exit 1 if there is one.
pub fn run(args: &Verify) -> Result<(), Failure> {
    let depth = if args.deep {
        Depth::Deep
    } else {
        Depth::Tables
    };
    exist(&args.search)?;
    let bar = progress::bytes("verify", 0);
    let mut verifier = Verifier::new(depth, args.search.clone());
    let mut logs = Logs::default();
    for path in &args.paths {
        if let Some(kind) = logs::kind_at(path) {
            logs.check(path, kind)?;
            continue;
        }
        verifier
            .check(path, &mut |file_bytes| {
                bar.inc_length(file_bytes);
                bar.inc(file_bytes);
            })
            .map_err(|error| failure(format!("cannot verify {}", path.display()), &error))?;
    }
    bar.finish_and_clear();
    let verified = verifier.finish();
    let damages = verified.damages.into_iter().map(damage_report);
    let damages: Vec<_> = damages.chain(logs.damages).collect();
    let is_sound = damages.is_empty();
    let report = Report {
        verdict: if is_sound { "sound" } else { "damaged" },
        snapshots: verified.snapshots,
        files: verified.files + logs.files,
        bytes_checked: verified.bytes + logs.bytes,
        bytes_not_read: verified.unread,
        depth: if args.deep { "deep" } else { "tables" },
        damages,
    };
    if args.json {
        output::json(&report)?;
    } else {
        print(&report);
    }
    if is_sound {
        Ok(())
    } else {
        Err(Failure::Reported)
    }
}

/// Ring WALs and journals among the paths: they are read whole, with or without `--deep`.
#[derive(Default)]
struct Logs {
    files: u64,
    bytes: u64,
    damages: Vec<DamageReport>,
}

impl Logs {
    fn check(&mut self, path: &Path, kind: LogKind) -> Result<(), Failure> {
        self.files += 1;
        self.bytes += std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        let file = path.to_path_buf();
        match logs::read(path, kind) {
            Ok(log) => self.damages.extend(log.damages().into_iter().map(|damage| {
                let (file, offset, kind) = (file.clone(), damage.offset, damage.kind);
                let detail = damage.detail;
                DamageReport {
                    file,
                    offset,
                    kind,
                    detail,
                }
            })),
            // Not to be read at all, from its first byte on.
            Err(Failure::Wanting(detail)) => self.damages.push(DamageReport {
                file,
                offset: Some(0),
                kind: "damage",
                detail,
            }),
            Err(failure) => return Err(failure),
        }
        Ok(())
    }
}

fn damage_report(damage: Damage) -> DamageReport {
    let Damage {
        file,
        offset,
        kind,
        detail,
    } = damage;
    DamageReport {
        file,
        offset,
        kind,
        detail,
    }
}

fn print(report: &Report) {
    for damage in &report.damages {
        let file = damage.file.display();
        let detail = &damage.detail;
        match damage.offset {
            Some(offset) => output::say(format_args!(
                "{file}: offset {offset:#x}: {}: {detail}",
                damage.kind
            )),
            None => output::say(format_args!("{file}: {}: {detail}", damage.kind)),
        }
    }
    let (verdict, snapshots, files) = (report.verdict, report.snapshots, report.files);
    let checked = size(report.bytes_checked);
    let unread = match report.bytes_not_read {
        0 => String::new(),
        bytes => format!(
            "; {} of guest memory not read (--deep reads it)",
            size(bytes)
        ),
    };
    output::say(format_args!(
        "{verdict}: {snapshots} snapshots, {files} files, {checked} checked{unread}"
    ));
}
