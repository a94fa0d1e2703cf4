//! What is said about a ring WAL, as data; the keys are part of the contract of `--json`.

use std::path::Path;

use coldframe_ring::{Entry, RingError, RingReader};
use coldframe_ring::{Finding, Plan, Recovery, Salvaged};
use coldframe_storage::Storage;
use serde::Serialize;

use super::hex;
use crate::human::size;
use crate::output;

/// The state of a log.
#[derive(Serialize)]
pub struct WalReport {
    pub file: String,
    /// Where the region begins.
    pub offset: u64,
    pub region_bytes: u64,
    pub ring_bytes: u64,
    /// Bytes that records take; unknown in a damaged log.
    pub used_bytes: Option<u64>,
    /// Sound records, those behind damage too.
    pub records: u64,
    pub first: Option<u64>,
    pub last: Option<u64>,
    pub checkpointed: u64,
    /// The last sequence that is proved to be on the disk; later ones may be in the page cache
    /// alone until the log is opened for writing.
    pub durable: u64,
    pub epoch: u32,
    pub laps: u64,
    pub closed: bool,
    /// `clean`, `torn`, or `damaged`.
    pub end: &'static str,
    pub end_offset: u64,
    pub torn_bytes: u64,
    pub dropped_records: u64,
    pub findings: Vec<FindingReport>,
    pub verdict: &'static str,
}

/// Something that is not as it should be.
#[derive(Serialize)]
pub struct FindingReport {
    pub offset: Option<u64>,
    pub kind: &'static str,
    /// Whether it makes the log count as damaged.
    pub damage: bool,
    pub detail: String,
    pub remedy: Option<&'static str>,
}

/// A record.
#[derive(Serialize)]
pub struct RecordReport {
    offset: u64,
    sequence: u64,
    len: usize,
    payload: String,
}

/// What stands behind the records of a dump.
#[derive(Serialize)]
pub struct DumpTail {
    end: &'static str,
    end_offset: u64,
    findings: Vec<FindingReport>,
    verdict: &'static str,
}

/// What a check found, and what was done about it.
#[derive(Serialize)]
pub struct CheckReport {
    file: String,
    records: u64,
    findings: Vec<FindingReport>,
    /// Whether a repair was made.
    applied: bool,
    /// `sound`, `damaged`, or `repaired`.
    verdict: &'static str,
    /// Whether a repair in place is possible, and would do something.
    #[serde(skip)]
    is_repairable: bool,
}

const fn end_of(recovery: &Recovery) -> &'static str {
    if recovery.is_corrupt() {
        "damaged"
    } else if recovery.is_torn() {
        "torn"
    } else {
        "clean"
    }
}

fn verdict_of(plan: &Plan) -> &'static str {
    if plan.findings.iter().any(Finding::is_damage) {
        "damaged"
    } else {
        "sound"
    }
}

fn findings_of(plan: &Plan) -> Vec<FindingReport> {
    let report = |finding: &Finding| FindingReport {
        offset: finding.offset().map(|offset| offset.get()),
        kind: finding.code(),
        damage: finding.is_damage(),
        detail: finding.to_string(),
        remedy: finding.remedy(),
    };
    plan.findings.iter().map(report).collect()
}

impl WalReport {
    /// Reads all of it.
    pub fn of<S: Storage>(
        file: &Path,
        reader: &RingReader<S>,
        plan: &Plan,
    ) -> Result<Self, RingError> {
        let (mut first, mut last) = (None, None);
        let mut salvage = reader.salvage();
        while let Some(next) = salvage.next()? {
            if let Salvaged::Record(entry) = next {
                first = first.or(Some(entry.sequence.get()));
                last = Some(entry.sequence.get());
            }
        }
        let (stats, recovery) = (reader.stats(), reader.recovery());
        Ok(Self {
            file: file.display().to_string(),
            offset: reader.region().offset().get(),
            region_bytes: stats.region.get(),
            ring_bytes: stats.ring.get(),
            used_bytes: (!recovery.is_corrupt()).then_some(stats.used.get()),
            records: plan.records,
            first,
            last,
            checkpointed: stats.checkpointed.get(),
            durable: stats.durable.get(),
            epoch: stats.epoch,
            laps: recovery.laps,
            closed: reader.is_closed(),
            end: end_of(recovery),
            end_offset: reader.end_offset().get(),
            torn_bytes: recovery.torn_bytes,
            dropped_records: recovery.dropped_records,
            findings: findings_of(plan),
            verdict: verdict_of(plan),
        })
    }

    /// The same for people.
    pub fn print(&self) {
        output::say(format_args!(
            "{}: ring WAL at {:#x}, {}",
            self.file,
            self.offset,
            size(self.region_bytes)
        ));
        self.print_fields();
        output::say(format_args!("{}: {} records", self.verdict, self.records));
    }

    /// Its fields and findings alone.
    pub fn print_fields(&self) {
        let field = |name: &str, value: String| output::say(format_args!("  {name:<12} {value}"));
        let used = self.used_bytes.map_or_else(String::new, |used| {
            let free = size(self.ring_bytes.saturating_sub(used));
            format!(", {} in use, {free} free", size(used))
        });
        field("ring", format!("{}{used}", size(self.ring_bytes)));
        let range = match (self.first, self.last) {
            (Some(first), Some(last)) => format!(", {first} to {last}"),
            _ => String::new(),
        };
        field("records", format!("{}{range}", self.records));
        field("checkpointed", format!("up to {}", self.checkpointed));
        let unproved = self.last.filter(|last| *last > self.durable).map(|last| {
            let first = self.durable + 1;
            format!(", {first} to {last} not proved to be on the disk")
        });
        let durable = format!("up to {}{}", self.durable, unproved.unwrap_or_default());
        field("durable", durable);
        let state = if self.closed { "closed" } else { "not closed" };
        let (epoch, laps) = (self.epoch, self.laps);
        field(
            "state",
            format!("{state}, opened {epoch} times, {laps} laps"),
        );
        field("end", format!("{} at {:#x}", self.end, self.end_offset));
        for finding in &self.findings {
            field("finding", finding.to_string());
        }
    }
}

impl std::fmt::Display for FindingReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(offset) = self.offset {
            write!(f, "offset {offset:#x}: ")?;
        }
        write!(f, "{}: {}", self.kind, self.detail)?;
        match self.remedy {
            Some(remedy) => write!(f, " ({remedy})"),
            None => Ok(()),
        }
    }
}

impl RecordReport {
    /// With its whole payload.
    pub fn of(entry: &Entry<'_>) -> Self {
        Self {
            offset: entry.offset.get(),
            sequence: entry.sequence.get(),
            len: entry.payload.len(),
            payload: hex(entry.payload),
        }
    }
}

impl DumpTail {
    /// How the log ends, and what is wrong with it.
    pub fn of<S: Storage>(reader: &RingReader<S>, plan: &Plan) -> Self {
        Self {
            end: end_of(reader.recovery()),
            end_offset: reader.end_offset().get(),
            findings: findings_of(plan),
            verdict: verdict_of(plan),
        }
    }
}

/// One line for each finding.
pub fn finding_lines(file: &Path, plan: &Plan) {
    for finding in findings_of(plan) {
        output::say(format_args!("{}: {finding}", file.display()));
    }
}

impl CheckReport {
    /// Before anything was done.
    pub fn of(file: &Path, plan: &Plan) -> Self {
        Self {
            file: file.display().to_string(),
            records: plan.records,
            findings: findings_of(plan),
            applied: false,
            verdict: verdict_of(plan),
            is_repairable: !plan.is_sound() && plan.is_repairable(),
        }
    }

    /// After a repair, with what is left then.
    pub fn repaired(&mut self, left: &Plan) {
        self.applied = true;
        self.records = left.records;
        self.verdict = match verdict_of(left) {
            "sound" => "repaired",
            other => other,
        };
    }

    /// For people: one line for each finding, then the verdict.
    pub fn print(&self) {
        for finding in &self.findings {
            output::say(format_args!("{}: {finding}", self.file));
        }
        let (verdict, records) = (self.verdict, self.records);
        let hint = match verdict {
            "damaged" if !self.applied && self.is_repairable => ", all kept by --apply",
            "repaired" => ", all kept",
            _ => "",
        };
        output::say(format_args!("{verdict}: {records} sound records{hint}"));
    }
}
