//! The ledger of a store: files that are about to be deleted, who must be gone before, chunks
//! that are known to be damaged, names of tags, and names of files that are kept by their root.

use alloc::borrow::ToOwned;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use coldframe_envelope::{
    Body, Container, ContainerBuilder, DecodeError, DecodeErrorKind as Error, EncodeError, Format,
    Limits, Producer, SectionKind,
};
use coldframe_units::{ChunkId, RootHash};
use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::layout::{
    COND, CondemnedBytes, DAMG, DamagedBytes, FILE, FileBytes, NAME, NameBytes, ROUN, RoundBytes,
    SECTION_VERSION, WAIT, WaitBytes,
};
use crate::parts::check_plain;

/// The format as it is read, and as it is written without names: version 1.0, plain bodies.
pub const LEDGER_FORMAT: Format = Format::new(*b"LEDG", 1, 0);

/// As it is written with names of tags.
const WITH_NAMES: Format = Format::new(*b"LEDG", 1, 1);

/// As it is written with names of files.
const WITH_FILES: Format = Format::new(*b"LEDG", 1, 2);

/// A file of a store that is about to be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CondemnedFile {
    /// The pack of this number.
    Pack(u64),
    /// The copy of this number of a file that is kept by its root.
    Root(RootHash, u64),
}

/// Files that were condemned at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// The leases that were held at some time after the ledger with this round was there; `None`
    /// if that was not yet looked at.
    pub waits_for: Option<BTreeSet<u64>>,
}

/// What a store's collector has decided so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// The rounds, by number.
    pub rounds: BTreeMap<u64, Round>,
    /// What is condemned, and in which round.
    pub condemned: BTreeMap<CondemnedFile, u64>,
    /// Damaged copies of chunks: the chunk, and the number of the pack.
    pub damaged: BTreeSet<(ChunkId, u64)>,
    /// Names of tags: those that are made later than this ledger, and those that were listed when
    /// it was written. One that is not among them may be a tag all the same, and one that is among
    /// them may be none any more.
    pub names: BTreeSet<String>,
    /// Files that are kept by their root: the root, and the number of the copy. One that is not
    /// among them may exist all the same.
    pub files: BTreeSet<(RootHash, u64)>,
}

const SCANNED: u8 = 1;

/// The longest name of a tag.
const NAME_LEN_MAX: usize = 128;

/// Whether a text is the name of a tag.
fn is_tag_name(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._@+=:-".contains(&byte);
    let fits = !text.is_empty() && text.len() <= NAME_LEN_MAX && !text.starts_with('.');
    fits && text.bytes().all(is_allowed)
}

impl Ledger {
    /// The bytes of its file.
    ///
    /// # Errors
    /// [`EncodeError`]: over what a reader accepts.
    pub fn encode(&self, producer: Producer) -> Result<Vec<u8>, EncodeError> {
        let mut rounds = Vec::new();
        let mut waits = Vec::new();
        for (number, round) in &self.rounds {
            rounds.push(RoundBytes {
                round: U64::new(*number),
                is_scanned: u8::from(round.waits_for.is_some()),
                reserved: [0; 7],
            });
            for lease in round.waits_for.iter().flatten() {
                waits.push(WaitBytes {
                    round: U64::new(*number),
                    lease: U64::new(*lease),
                });
            }
        }
        let condemned = self.condemned.iter().map(|(file, round)| {
            let (kind, file, root) = match file {
                CondemnedFile::Pack(file) => (0, *file, [0; 32]),
                CondemnedFile::Root(root, file) => (1, *file, *root.as_bytes()),
            };
            CondemnedBytes {
                kind,
                reserved: [0; 7],
                root,
                file: U64::new(file),
                round: U64::new(*round),
            }
        });
        let condemned: Vec<CondemnedBytes> = condemned.collect();
        let damaged = self.damaged.iter().map(|(id, pack)| DamagedBytes {
            id: *id.as_bytes(),
            pack: U64::new(*pack),
        });
        let damaged: Vec<DamagedBytes> = damaged.collect();
        let format = match (self.files.is_empty(), self.names.is_empty()) {
            (true, true) => LEDGER_FORMAT,
            (true, false) => WITH_NAMES,
            (false, _) => WITH_FILES,
        };
        let mut builder = ContainerBuilder::new(format, producer);
        for (kind, body) in [
            (ROUN, rounds.as_bytes()),
            (WAIT, waits.as_bytes()),
            (COND, condemned.as_bytes()),
            (DAMG, damaged.as_bytes()),
        ] {
            builder.must_understand(kind, 0, SECTION_VERSION, body.to_vec());
        }
        if !self.names.is_empty() {
            let rows: Vec<NameBytes> = self.names.iter().map(|name| name_row(name)).collect();
            builder.optional(NAME, 0, SECTION_VERSION, rows.as_bytes().to_vec());
        }
        if !self.files.is_empty() {
            let rows = self.files.iter().map(|(root, file)| FileBytes {
                root: *root.as_bytes(),
                file: U64::new(*file),
            });
            let rows: Vec<FileBytes> = rows.collect();
            builder.optional(FILE, 0, SECTION_VERSION, rows.as_bytes().to_vec());
        }
        builder.finish().map(|(file, _)| file)
    }

    /// The ledger in these bytes of a file.
    ///
    /// # Errors
    /// [`DecodeError`] naming the first thing that does not hold.
    pub fn decode(file: &[u8]) -> Result<Self, DecodeError> {
        let container = Container::decode(file, LEDGER_FORMAT, Limits::SMALL_FILE)?;
        check_plain(container.header())?;
        container.refuse_unknown(&[ROUN, WAIT, COND, DAMG])?;
        let mut ledger = Self::default();
        let mut last = None;
        for row in rows::<RoundBytes>(&container, ROUN)? {
            row.rises(&mut last, row.row.round.get(), "round")?;
            row.is_zero(&row.row.reserved)?;
            let waits_for = match row.row.is_scanned {
                0 => None,
                SCANNED => Some(BTreeSet::new()),
                _ => return Err(row.invalid("is_scanned")),
            };
            ledger
                .rounds
                .insert(row.row.round.get(), Round { waits_for });
        }
        let mut last = None;
        for row in rows::<WaitBytes>(&container, WAIT)? {
            let (round, lease) = (row.row.round.get(), row.row.lease.get());
            row.rises(&mut last, (round, lease), "lease")?;
            let known = ledger.rounds.get_mut(&round);
            let waits_for = known.and_then(|round| round.waits_for.as_mut());
            waits_for.ok_or(row.invalid("round"))?.insert(lease);
        }
        let mut last = None;
        for row in rows::<CondemnedBytes>(&container, COND)? {
            row.is_zero(&row.row.reserved)?;
            let number = row.row.file.get();
            let file = match row.row.kind {
                0 if row.row.root == [0; 32] => CondemnedFile::Pack(number),
                1 => CondemnedFile::Root(RootHash::from_bytes(row.row.root), number),
                _ => return Err(row.invalid("kind of file")),
            };
            row.rises(&mut last, file, "file")?;
            let round = row.row.round.get();
            if !ledger.rounds.contains_key(&round) {
                return Err(row.invalid("round"));
            }
            ledger.condemned.insert(file, round);
        }
        let mut last = None;
        for row in rows::<DamagedBytes>(&container, DAMG)? {
            let damaged = (ChunkId::from_bytes(row.row.id), row.row.pack.get());
            row.rises(&mut last, damaged, "chunk")?;
            ledger.damaged.insert(damaged);
        }
        ledger.decode_names(&container)?;
        ledger.decode_files(&container)?;
        Ok(ledger)
    }

    /// The names of tags and files that can still be read of a damaged ledger: those of each
    /// section whose hash holds. What is condemned is not among it, nor are the rounds.
    #[must_use]
    pub fn salvage(file: &[u8]) -> Self {
        let mut ledger = Self::default();
        let limits = Limits::SMALL_FILE;
        let Ok(container) = Container::peek(file, limits) else {
            return ledger;
        };
        let holds = |kind: SectionKind| {
            let mut sections = container.table().sections().iter();
            sections.any(|section| section.kind == kind && section.body(file, limits).is_ok())
        };
        if holds(NAME) && ledger.decode_names(&container).is_err() {
            ledger.names.clear();
        }
        if holds(FILE) && ledger.decode_files(&container).is_err() {
            ledger.files.clear();
        }
        ledger
    }

    /// The names of tags.
    fn decode_names(&mut self, container: &Container<'_>) -> Result<(), DecodeError> {
        let mut last = None;
        for row in optional_rows::<NameBytes>(container, NAME)? {
            row.is_zero(&row.row.reserved)?;
            let (name, rest) = row
                .row
                .name
                .split_at(usize::from(row.row.len).min(NAME_LEN_MAX));
            let text = core::str::from_utf8(name).ok();
            let is_long = usize::from(row.row.len) > NAME_LEN_MAX;
            let text = text.filter(|text| !is_long && is_tag_name(text));
            let text = text.ok_or(row.invalid("tag name"))?;
            row.is_zero(rest)?;
            row.rises(&mut last, text, "tag name")?;
            self.names.insert(text.to_owned());
        }
        Ok(())
    }

    /// The names of files by their root.
    fn decode_files(&mut self, container: &Container<'_>) -> Result<(), DecodeError> {
        let mut last = None;
        for row in optional_rows::<FileBytes>(container, FILE)? {
            let file = (RootHash::from_bytes(row.row.root), row.row.file.get());
            row.rises(&mut last, file, "known file")?;
            self.files.insert(file);
        }
        Ok(())
    }
}

/// The row of a tag's name.
fn name_row(text: &str) -> NameBytes {
    let mut name = [0; NAME_LEN_MAX];
    let len = text.len().min(NAME_LEN_MAX);
    for (to, from) in name.iter_mut().zip(text.bytes()) {
        *to = from;
    }
    NameBytes {
        len: u8::try_from(len).unwrap_or(u8::MAX),
        reserved: [0; 7],
        name,
    }
}

/// A row, and where it lies.
struct Row<'a, T> {
    row: &'a T,
    body: Body<'a>,
    at: u64,
}

impl<T> Row<'_, T> {
    fn invalid(&self, field: &'static str) -> DecodeError {
        self.body.error(Error::Invalid { field }, self.at)
    }

    fn is_zero(&self, reserved: &[u8]) -> Result<(), DecodeError> {
        if reserved.iter().any(|byte| *byte != 0) {
            return Err(self.body.error(Error::ReservedNotZero, self.at));
        }
        Ok(())
    }

    fn rises<K: Ord>(
        &self,
        last: &mut Option<K>,
        key: K,
        field: &'static str,
    ) -> Result<(), DecodeError> {
        if last.as_ref().is_some_and(|last| *last >= key) {
            return Err(self.invalid(field));
        }
        *last = Some(key);
        Ok(())
    }
}

/// The rows of a section that need not be there.
fn optional_rows<'a, T>(
    container: &Container<'a>,
    kind: SectionKind,
) -> Result<Vec<Row<'a, T>>, DecodeError>
where
    T: FromBytes + Immutable + KnownLayout + Unaligned,
{
    match container.find(kind, 0) {
        Some(body) => {
            check_version(body, kind)?;
            rows_of(body)
        }
        None => Ok(Vec::new()),
    }
}

fn rows<'a, T>(container: &Container<'a>, kind: SectionKind) -> Result<Vec<Row<'a, T>>, DecodeError>
where
    T: FromBytes + Immutable + KnownLayout + Unaligned,
{
    let body = container.require(kind, 0)?;
    check_version(body, kind)?;
    if !body.section().flags.is_must_understand() {
        let field = "section flags";
        return Err(body.error(Error::Invalid { field }, 0));
    }
    rows_of(body)
}

fn check_version(body: Body<'_>, kind: SectionKind) -> Result<(), DecodeError> {
    let (found, max) = (body.section().version, SECTION_VERSION);
    if found == max {
        return Ok(());
    }
    let error = Error::UnsupportedSection {
        kind,
        instance: 0,
        found,
        max,
    };
    Err(body.error(error, 0))
}

fn rows_of<'a, T>(body: Body<'a>) -> Result<Vec<Row<'a, T>>, DecodeError>
where
    T: FromBytes + Immutable + KnownLayout + Unaligned,
{
    let field = "section length";
    let rows =
        <[T]>::ref_from_bytes(body.body()).map_err(|_| body.error(Error::Invalid { field }, 0))?;
    let size = u64::try_from(size_of::<T>()).unwrap_or(u64::MAX);
    let offsets = (0..).map(|index: u64| index.saturating_mul(size));
    let rows = rows.iter().zip(offsets);
    Ok(rows.map(|(row, at)| Row { row, body, at }).collect())
}
