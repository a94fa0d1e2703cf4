//! `coldframe verify PATH...`: one line for each damage.

use std::path::PathBuf;

use coldframe_snapshot::verify::{Damage, Depth, Verifier};
use serde::Serialize;

use crate::cli::Verify;
use crate::exit::Failure;
use crate::human::size;
use crate::search::failure;
use crate::{output, progress};

#[derive(Serialize)]
struct Report {
    verdict: &'static str,
    snapshots: u64,
    files: u64,
    bytes_checked: u64,
    damages: Vec<DamageReport>,
}

#[derive(Serialize)]
struct DamageReport {
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
    let bar = progress::bytes("verify", 0);
    let mut verifier = Verifier::new(depth, args.search.clone());
    for path in &args.paths {
        verifier
            .check(path, &mut |file_bytes| {
                bar.inc_length(file_bytes);
                bar.inc(file_bytes);
            })
            .map_err(|error| failure(format!("cannot verify {}", path.display()), &error))?;
    }
    bar.finish_and_clear();
    let verified = verifier.finish();
    let is_sound = verified.damages.is_empty();
    let report = Report {
        verdict: if is_sound { "sound" } else { "damaged" },
        snapshots: verified.snapshots,
        files: verified.files,
        bytes_checked: verified.bytes,
        damages: verified.damages.into_iter().map(damage_report).collect(),
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
    output::say(format_args!(
        "{verdict}: {snapshots} snapshots, {files} files, {checked} checked"
    ));
}
