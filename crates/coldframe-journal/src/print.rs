//! Entries as text and as JSON, one line each.
//!
//! Invariant: what is not known is printed all the same: its type, its length, its first bytes.

use std::fmt::Write as _;
use std::io;
use std::marker::PhantomData;

use super::kinds;
use super::{Batch, Entry, EntryRef, EntrySet, JournalError, Sink, Span};

/// What an entry says, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The name of its type.
    pub name: String,
    /// Its fields, in order.
    pub fields: Vec<(String, Value)>,
}

/// The value of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number.
    Number(u64),
    /// A truth.
    Bool(bool),
    /// A text.
    Text(String),
    /// Bytes: hexadecimal, the first 32 of them as text.
    Bytes(Vec<u8>),
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Self::Bool(truth)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(bytes.to_vec())
    }
}

impl Description {
    /// One of this name, without fields.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            fields: Vec::new(),
        }
    }

    /// The same with one more field.
    #[must_use]
    pub fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.fields.push((field.to_owned(), value.into()));
        self
    }
}

/// Describes coldframe's own entries; `None` for others.
#[must_use]
pub fn describe_core(entry: &EntryRef<'_>) -> Option<Description> {
    describe_input(entry).or_else(|| describe_lineage(entry))
}

fn describe_input(entry: &EntryRef<'_>) -> Option<Description> {
    let named = Description::new;
    Some(match entry.type_id() {
        kinds::ConsoleInput::TYPE => {
            let input = entry.archived::<kinds::ConsoleInput>().ok()?;
            named("console_input")
                .with("progress", input.progress.to_native())
                .with("console", u64::from(input.console.to_native()))
                .with("bytes", &*input.bytes)
        }
        kinds::PortInput::TYPE => {
            let input = entry.archived::<kinds::PortInput>().ok()?;
            named("port_input")
                .with("progress", input.progress.to_native())
                .with("vcpu", u64::from(input.vcpu.to_native()))
                .with("address", input.address.to_native())
                .with("width", u64::from(input.width))
                .with("value", input.value.to_native())
        }
        kinds::ClockRead::TYPE => {
            let read = entry.archived::<kinds::ClockRead>().ok()?;
            named("clock_read")
                .with("progress", read.progress.to_native())
                .with("vcpu", u64::from(read.vcpu.to_native()))
                .with("clock", u64::from(read.clock.to_native()))
                .with("nanoseconds", read.nanoseconds.to_native())
        }
        kinds::InterruptMark::TYPE => {
            let mark = entry.archived::<kinds::InterruptMark>().ok()?;
            named("interrupt")
                .with("progress", mark.progress.to_native())
                .with("vcpu", u64::from(mark.vcpu.to_native()))
                .with("line", u64::from(mark.line.to_native()))
        }
        kinds::MemoryRegion::TYPE => {
            let region = entry.archived::<kinds::MemoryRegion>().ok()?;
            named("memory")
                .with("ram_offset", region.ram_offset.to_native())
                .with("len", region.bytes.len() as u64)
        }
        kinds::MemoryZero::TYPE => {
            let zero = entry.archived::<kinds::MemoryZero>().ok()?;
            named("memory_zero")
                .with("ram_offset", zero.ram_offset.to_native())
                .with("len", zero.len.to_native())
        }
        _ => return None,
    })
}

fn describe_lineage(entry: &EntryRef<'_>) -> Option<Description> {
    let of = |name, id: &[u8; 16]| Description::new(name).with("snapshot", &id[..]);
    Some(match entry.type_id() {
        kinds::SnapshotMark::TYPE => {
            let mark = entry.decode::<kinds::SnapshotMark>().ok()?;
            of("snapshot_mark", &mark.snapshot)
                .with("progress", mark.progress)
                .with("unix_ns", mark.unix_ns)
                .with("trigger", &*format!("{:?}", mark.trigger).to_lowercase())
        }
        kinds::Published::TYPE => {
            let published = entry.decode::<kinds::Published>().ok()?;
            of("published", &published.snapshot)
                .with("parent", &published.parent.unwrap_or_default()[..])
                .with("root", &published.root[..])
                .with("unix_ns", published.unix_ns)
                .with("name", &*published.name)
        }
        kinds::Renamed::TYPE => {
            let renamed = entry.archived::<kinds::Renamed>().ok()?;
            of("renamed", &renamed.snapshot).with("name", &*renamed.name)
        }
        kinds::Pinned::TYPE => {
            let pinned = entry.archived::<kinds::Pinned>().ok()?;
            of("pinned", &pinned.snapshot).with("pinned", pinned.pinned)
        }
        kinds::Leased::TYPE => {
            let leased = entry.archived::<kinds::Leased>().ok()?;
            of("leased", &leased.snapshot)
                .with("until_unix_ns", leased.until_unix_ns.to_native())
                .with("holder", &*leased.holder)
        }
        kinds::Deleted::TYPE => of(
            "deleted",
            &entry.archived::<kinds::Deleted>().ok()?.snapshot,
        ),
        _ => return None,
    })
}

/// How entries are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// `0x70 console_input progress=4 bytes=6c730a`.
    Text,
    /// One JSON object for each.
    Json,
}

/// A sink that prints.
///
/// ```
/// use std::sync::Arc;
/// use coldframe_storage::MemStorage;
/// use coldframe_journal::kinds::{CoreEntries, MemoryZero};
/// use coldframe_journal::{JournalOptions, JournalReader, JournalWriter, Printer, Style, copy};
///
/// let storage = Arc::new(MemStorage::new());
/// let options = JournalOptions::new()?;
/// let mut journal = JournalWriter::<CoreEntries>::create_in(storage.clone(), options)?;
/// journal.append(&MemoryZero { ram_offset: 0, len: 4096 })?;
/// let mut reader = JournalReader::<CoreEntries>::from_storage(storage)?;
/// let mut printer = Printer::<CoreEntries, _>::new(Vec::new(), Style::Text);
/// copy(&mut reader, &mut printer)?;
/// assert_eq!(printer.into_inner(), b"0x70 memory_zero ram_offset=0 len=4096\n");
/// # Ok::<(), coldframe_journal::JournalError>(())
/// ```
pub struct Printer<E, W> {
    out: W,
    style: Style,
    set: PhantomData<fn() -> E>,
}

impl<E: EntrySet, W: io::Write> Printer<E, W> {
    /// Prints to `out`.
    pub const fn new(out: W, style: Style) -> Self {
        Self {
            out,
            style,
            set: PhantomData,
        }
    }

    /// What it prints to.
    pub fn into_inner(self) -> W {
        self.out
    }

    fn line(&mut self, entry: &EntryRef<'_>) -> Result<(), JournalError> {
        let line = line_of(entry, E::describe(entry), self.style);
        writeln!(self.out, "{line}").map_err(|source| JournalError::Print { source })
    }
}

impl<E: EntrySet, W: io::Write> Sink<E> for Printer<E, W> {
    fn append_encoded(&mut self, entry: EntryRef<'_>) -> Result<Option<Span>, JournalError> {
        self.line(&entry).map(|()| None)
    }

    fn commit(&mut self, batch: &Batch<E>) -> Result<Option<Span>, JournalError> {
        batch.entries().try_for_each(|entry| self.line(&entry))?;
        Ok(None)
    }

    fn flush(&mut self) -> Result<(), JournalError> {
        let flushed = self.out.flush();
        flushed.map_err(|source| JournalError::Print { source })
    }
}

/// One line for an entry: what it says, or its type and its bytes if nobody knows.
///
/// For tools that read journals of several programs; a program of its own uses [`Printer`].
#[must_use]
pub fn line_of(entry: &EntryRef<'_>, described: Option<Description>, style: Style) -> String {
    let described = described.unwrap_or_else(|| unknown(entry));
    match style {
        Style::Text => text(entry, &described),
        Style::Json => json(entry, described),
    }
}

fn unknown(entry: &EntryRef<'_>) -> Description {
    Description::new(&format!("type_{:04x}", entry.type_id().raw()))
        .with("len", entry.payload().len() as u64)
        .with("bytes", entry.payload())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn text(entry: &EntryRef<'_>, described: &Description) -> String {
    let mut line = format!("{} {}", entry.span().start, described.name);
    for (field, value) in &described.fields {
        let _ = match value {
            Value::Number(number) => write!(line, " {field}={number}"),
            Value::Bool(truth) => write!(line, " {field}={truth}"),
            Value::Text(text) => write!(line, " {field}={text:?}"),
            Value::Bytes(bytes) if bytes.len() > 32 => {
                write!(line, " {field}={}..", hex(&bytes[..32]))
            }
            Value::Bytes(bytes) => write!(line, " {field}={}", hex(bytes)),
        };
    }
    line
}

fn json(entry: &EntryRef<'_>, described: Description) -> String {
    let mut object = serde_json::Map::new();
    object.insert("offset".to_owned(), entry.span().start.get().into());
    object.insert("type".to_owned(), entry.type_id().to_string().into());
    object.insert("kind".to_owned(), described.name.into());
    for (field, value) in described.fields {
        let value = match value {
            Value::Number(number) => number.into(),
            Value::Bool(truth) => truth.into(),
            Value::Text(text) => text.into(),
            Value::Bytes(bytes) => hex(&bytes).into(),
        };
        object.insert(field, value);
    }
    serde_json::Value::Object(object).to_string()
}
