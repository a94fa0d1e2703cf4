//! `coldframe store verify`: one line for each damage, and for each tag that is hurt.

use coldframe_chunks::{Finding, Verified};
use coldframe_snapshot::store::SnapshotTracer;
use serde::Serialize;

use crate::cli::store::Verify;
use crate::exit::{Failure, line};
use crate::store::failure;
use crate::{output, progress, store};

#[derive(Serialize)]
struct Report {
    verdict: &'static str,
    /// Chunks that were read; none without --deep.
    chunks_read: u64,
    damages: Vec<Damage>,
    hurt_tags: Vec<Hurt>,
    /// Why the next push does not heal what is damaged; with --deep.
    not_recorded: Option<String>,
}

/// Something that is wrong with a store.
#[derive(Serialize)]
pub struct Damage {
    pub kind: &'static str,
    pub name: String,
    pub detail: String,
}

#[derive(Serialize)]
struct Hurt {
    tag: String,
    /// How many things that it needs are missing or damaged.
    lost: u64,
}

/// Prints each damage; exit 1 if there is one.
pub fn run(args: &Verify) -> Result<(), Failure> {
    let url = &args.at.url;
    let chunks = store::open(url)?;
    let bar = progress::wait("verify");
    let verified = match args.deep {
        true => chunks.verify(&[&SnapshotTracer]),
        false => chunks.verify_tables(&[&SnapshotTracer]),
    };
    bar.finish_and_clear();
    let verified = verified.map_err(|error| failure(format!("cannot verify {url}"), &error))?;
    let report = report(&verified);
    if args.json {
        output::json(&report)?;
    } else {
        print(&report);
    }
    if verified.is_sound() {
        Ok(())
    } else {
        Err(Failure::Reported)
    }
}

fn report(verified: &Verified) -> Report {
    let hurt = verified.hurt_tags.iter().map(|(tag, lost)| Hurt {
        tag: tag.to_string(),
        lost: *lost,
    });
    Report {
        verdict: if verified.is_sound() {
            "sound"
        } else {
            "damaged"
        },
        chunks_read: verified.chunks,
        damages: verified.findings.iter().map(damage).collect(),
        hurt_tags: hurt.collect(),
        not_recorded: (verified.not_recorded.as_ref())
            .map(|error| line("damage is not recorded in the ledger", error)),
    }
}

/// A finding as a line.
pub fn damage(finding: &Finding) -> Damage {
    let (kind, name, error) = match finding {
        Finding::Pack { pack, error } => ("pack", pack.to_string(), error),
        Finding::Chunk { id, error } => ("chunk", id.to_string(), error),
        Finding::Root { root, error } => ("file", root.to_string(), error),
        Finding::Tag { name, error } => ("tag", name.to_string(), error),
        Finding::Pages { root, pages, error } => {
            let (kind, name) = ("pages", root.to_string());
            let detail = line(
                format_args!("{pages} pages of the disk with index {name}"),
                error,
            );
            return Damage { kind, name, detail };
        }
        Finding::Ledger { error } => {
            let (kind, name) = ("ledger", String::new());
            let detail = line("ledger", error);
            return Damage { kind, name, detail };
        }
        _ => {
            return Damage {
                kind: "other",
                name: String::new(),
                detail: format!("{finding:?}"),
            };
        }
    };
    Damage {
        kind,
        detail: line(format_args!("{kind} {name}"), error),
        name,
    }
}

fn print(report: &Report) {
    for damage in &report.damages {
        output::say(format_args!("{}", damage.detail));
    }
    for hurt in &report.hurt_tags {
        let (tag, lost) = (&hurt.tag, hurt.lost);
        output::say(format_args!("tag {tag} needs {lost} of what is lost"));
    }
    if let Some(reason) = &report.not_recorded {
        output::say(format_args!("{reason}; the next push does not heal it"));
    }
    let (verdict, chunks) = (report.verdict, report.chunks_read);
    output::say(format_args!("{verdict}: {chunks} chunks read and checked"));
}
