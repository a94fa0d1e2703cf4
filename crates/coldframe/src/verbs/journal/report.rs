//! What is said about a journal, as data; the keys are part of the contract of `--json`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use coldframe_journal::{Description, End, EntryRef, EntrySet, Gap, JournalReader};
use coldframe_storage::Unreadable;
use serde::Serialize;

use crate::human::size;
use crate::output;

/// The state of a journal.
#[derive(Serialize)]
pub struct JournalReport {
    pub file: String,
    /// Each part that holds entries, and the last.
    pub parts: Vec<PartReport>,
    /// Sound entries, those behind damage too.
    pub entries: u64,
    /// How many of each kind.
    pub kinds: BTreeMap<String, u64>,
    /// `clean`, `torn`, `damaged` or `unsupported`.
    pub end: &'static str,
    pub end_offset: u64,
    /// Whether its last writer closed it.
    pub sealed: bool,
    /// Bytes of what is not whole.
    pub torn_bytes: u64,
    pub damages: Vec<Damage>,
    /// What the host cannot read of the file.
    pub unreadable: Vec<Stretch>,
    pub verdict: &'static str,
}

/// One of the parts that were joined.
#[derive(Serialize)]
pub struct PartReport {
    pub offset: u64,
    pub schema: String,
    pub version: String,
    pub producer: String,
    pub part_id: String,
}

/// A stretch of a file that the host cannot read.
#[derive(Serialize)]
pub struct Stretch {
    pub offset: u64,
    pub len: u64,
    pub error: String,
}

impl Stretch {
    /// As it is printed.
    pub fn of(found: &Unreadable) -> Self {
        let (offset, len) = (found.offset.get(), found.len.get());
        let error = found.reason().to_string();
        Self { offset, len, error }
    }
}

impl fmt::Display for Stretch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offset, len, error } = self;
        write!(f, "{len} bytes at {offset:#x} cannot be read: {error}")
    }
}

/// Where no sound entry stands.
#[derive(Serialize)]
pub struct Damage {
    pub offset: u64,
    /// Where sound entries go on, if they do.
    pub until: Option<u64>,
    /// `torn`, `damage`, `unreadable` or `unsupported`.
    pub kind: &'static str,
    /// Bytes that a power cut left, of a torn one.
    pub torn_bytes: u64,
    pub detail: String,
}

/// What stands behind the entries of a dump.
#[derive(Serialize)]
pub struct DumpTail<'a> {
    end: &'static str,
    end_offset: u64,
    sealed: bool,
    torn_bytes: u64,
    damages: &'a [Damage],
    unreadable: &'a [Stretch],
    verdict: &'static str,
}

impl JournalReport {
    /// Of a journal of which nothing was read.
    pub fn new(path: &Path) -> Self {
        Self {
            file: path.display().to_string(),
            parts: Vec::new(),
            entries: 0,
            kinds: BTreeMap::new(),
            end: "clean",
            end_offset: 0,
            sealed: false,
            torn_bytes: 0,
            damages: Vec::new(),
            unreadable: Vec::new(),
            verdict: "sound",
        }
    }

    /// Whether nothing that was durable is missing, and all of it can be read.
    pub fn is_sound(&self) -> bool {
        self.verdict == "sound"
    }

    /// Takes note of the part that is being read.
    pub fn note_part<E: EntrySet>(&mut self, reader: &JournalReader<E>) {
        let (Some(part), Some(start)) = (reader.part(), reader.part_start()) else {
            return;
        };
        let offset = start.get();
        if self.parts.last().is_none_or(|last| last.offset != offset) {
            self.parts.push(PartReport {
                offset,
                schema: part.schema.to_string(),
                version: part.version.to_string(),
                producer: part.producer.to_string(),
                part_id: part.id.to_string(),
            });
        }
    }

    /// Counts an entry.
    pub fn note_entry(&mut self, entry: &EntryRef<'_>, described: Option<&Description>) {
        self.entries += 1;
        let kind = match described {
            Some(described) => described.name.clone(),
            None => format!("type_{:04x}", entry.type_id().raw()),
        };
        *self.kinds.entry(kind).or_default() += 1;
    }

    /// Takes note of a place without a sound entry.
    pub fn note_damage(&mut self, damage: Damage) {
        self.torn_bytes += damage.torn_bytes;
        if damage.kind != "torn" {
            self.verdict = "damaged";
        }
        self.damages.push(damage);
    }

    /// Takes note of what cannot be read.
    pub fn note_unreadable(&mut self, unreadable: &[Unreadable]) {
        self.unreadable = unreadable.iter().map(Stretch::of).collect();
        if !unreadable.is_empty() {
            self.verdict = "damaged";
        }
    }

    /// Takes note of the end.
    pub fn note_end(&mut self, end: &End) {
        self.end_offset = end.offset().get();
        self.end = match end {
            End::Clean { .. } => "clean",
            End::Torn { .. } => "torn",
            End::Unsupported { .. } => "unsupported",
            _ => "damaged",
        };
        self.sealed = matches!(end, End::Clean { sealed: true, .. });
    }

    /// The same for people.
    pub fn print(&self) {
        output::say(format_args!("{}: typed journal", self.file));
        self.print_fields();
        output::say(format_args!("{}: {} entries", self.verdict, self.entries));
    }

    /// Its fields and damages alone.
    pub fn print_fields(&self) {
        let field = |name: &str, value: String| output::say(format_args!("  {name:<12} {value}"));
        for part in &self.parts {
            let (offset, schema) = (part.offset, &part.schema);
            let (version, producer) = (&part.version, &part.producer);
            field(
                "part",
                format!("at {offset:#x}, entries of {schema}, version {version}, by {producer}"),
            );
        }
        let kinds: Vec<_> = (self.kinds.iter())
            .map(|(kind, count)| format!("{count} {kind}"))
            .collect();
        field("entries", format!("{}: {}", self.entries, kinds.join(", ")));
        let sealed = if self.sealed { ", closed" } else { "" };
        field(
            "end",
            format!("{} at {:#x}{sealed}", self.end, self.end_offset),
        );
        if self.torn_bytes > 0 {
            field("torn", format!("{} are dropped", size(self.torn_bytes)));
        }
        for damage in &self.damages {
            field("at", damage.to_string());
        }
        for stretch in &self.unreadable {
            field("unreadable", stretch.to_string());
        }
    }
}

impl Damage {
    /// What an end that is not clean means, and where reading goes on behind it.
    pub fn of(end: &End, gap: Option<Gap>) -> Option<Self> {
        let (kind, torn_bytes) = match end {
            End::Clean { .. } => return None,
            End::Torn { dropped, .. } => ("torn", dropped.get()),
            End::Unsupported { .. } => ("unsupported", 0),
            End::Unreadable { .. } => ("unreadable", 0),
            _ => ("damage", 0),
        };
        Some(Self {
            offset: end.offset().get(),
            until: gap.map(|gap| gap.end.get()),
            kind,
            torn_bytes,
            detail: end.to_string(),
        })
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (offset, kind, detail) = (self.offset, self.kind, &self.detail);
        write!(f, "{offset:#x} {kind}: {detail}")?;
        match self.until {
            Some(until) => write!(f, "; sound again from {until:#x} on"),
            None => f.write_str("; nothing sound behind it"),
        }
    }
}

impl<'a> DumpTail<'a> {
    /// How the journal ends, and what is wrong with it.
    pub fn of(report: &'a JournalReport) -> Self {
        Self {
            end: report.end,
            end_offset: report.end_offset,
            sealed: report.sealed,
            torn_bytes: report.torn_bytes,
            damages: &report.damages,
            unreadable: &report.unreadable,
            verdict: report.verdict,
        }
    }
}
