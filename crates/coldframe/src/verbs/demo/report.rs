//! What the demonstration found, as a table or as JSON.

use std::path::{Path, PathBuf};
use std::time::Duration;

use coldframe_minivmm::EndState;
use serde::Serialize;

use super::guest::Choice;
use super::shoot::Shot;
use crate::cli::Demo;
use crate::exit::Failure;
use crate::human::{size, time};
use crate::output;
use crate::verbs::thaw::End;

/// The keys are part of the contract of the command line.
#[derive(Serialize)]
pub struct Report {
    backend: &'static str,
    ram_bytes: u64,
    seed: u64,
    workload: String,
    end: End,
    snapshots: Vec<SnapshotRow>,
    verdict: &'static str,
    /// Of a recorded guest, if it is kept.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "output::path_option"
    )]
    journal: Option<PathBuf>,
}

/// One snapshot.
#[derive(Serialize)]
pub struct SnapshotRow {
    name: String,
    kind: &'static str,
    parent: Option<String>,
    pages: u64,
    bytes_written: u64,
    pause_us: u64,
    publish_us: u64,
    restore_us: u64,
    identical: bool,
}

impl SnapshotRow {
    /// What was measured of a snapshot, and whether its guest ended as it should.
    pub fn new(shot: Shot, restore_us: u64, identical: bool) -> Self {
        Self {
            kind: if shot.parent.is_some() {
                "diff"
            } else {
                "full"
            },
            name: shot.name,
            parent: shot.parent,
            pages: shot.pages,
            bytes_written: shot.bytes_written,
            pause_us: shot.pause_us,
            publish_us: shot.publish_us,
            restore_us,
            identical,
        }
    }
}

impl Report {
    /// Everything in one place, with the verdict.
    pub fn new(
        choice: Choice,
        args: &Demo,
        end: &EndState,
        snapshots: Vec<SnapshotRow>,
        journal: Option<PathBuf>,
    ) -> Self {
        let identical = snapshots.iter().all(|row| row.identical);
        Self {
            backend: choice.name(),
            ram_bytes: args.guest.ram,
            seed: args.guest.seed,
            workload: super::guest::workload_name(args),
            end: End::from(end),
            snapshots,
            verdict: if identical { "identical" } else { "different" },
            journal,
        }
    }

    /// Whether every thawed guest ended as the one that was never stopped.
    pub fn is_identical(&self) -> bool {
        self.verdict == "identical"
    }

    /// Prints it; `kept` is where the snapshots stay.
    pub fn print(&self, json: bool, kept: Option<&Path>) -> Result<(), Failure> {
        if json {
            return output::json(self);
        }
        let (backend, workload, seed) = (self.backend, &self.workload, self.seed);
        output::say(format_args!(
            "guest: {} on {backend}, workload {workload}, seed {seed}",
            size(self.ram_bytes)
        ));
        let heading = [
            "name",
            "kind",
            "pages",
            "written",
            "pause",
            "publish",
            "restore",
            "identical",
        ];
        let mut rows = vec![heading.map(String::from).to_vec()];
        rows.extend(self.snapshots.iter().map(SnapshotRow::cells));
        rows.push(self.total());
        output::table(&rows);
        if let Some(kept) = kept {
            output::say(format_args!("kept in {}", kept.display()));
        }
        let end = &self.end;
        output::say(format_args!(
            "end: RAM {:.16}, registers {:.16}, console {:.16}",
            end.ram_blake3, end.regs_blake3, end.console_blake3
        ));
        output::say(format_args!("verdict: {}", self.verdict));
        Ok(())
    }

    fn total(&self) -> Vec<String> {
        let sum = |of: fn(&SnapshotRow) -> u64| self.snapshots.iter().map(of).sum::<u64>();
        vec![
            "total".into(),
            String::new(),
            sum(|row| row.pages).to_string(),
            size(sum(|row| row.bytes_written)),
            micros(sum(|row| row.pause_us)),
            micros(sum(|row| row.publish_us)),
            micros(sum(|row| row.restore_us)),
            self.verdict.into(),
        ]
    }
}

impl SnapshotRow {
    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.kind.into(),
            self.pages.to_string(),
            size(self.bytes_written),
            micros(self.pause_us),
            micros(self.publish_us),
            micros(self.restore_us),
            if self.identical { "yes" } else { "NO" }.into(),
        ]
    }
}

fn micros(micros: u64) -> String {
    time(Duration::from_micros(micros))
}
