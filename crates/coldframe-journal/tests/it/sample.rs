//! Entry types of a program, and small journals made of them.

use std::sync::Arc;

use coldframe_journal::{
    End, Entry, EntrySet, JournalError, JournalOptions, JournalReader, JournalWriter, Schema, Span,
    TypeId,
};
use coldframe_storage::MemStorage;
use rkyv::{Archive, Deserialize, Serialize};

#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Note {
    pub at: u64,
    pub text: String,
}

impl Entry for Note {
    const TYPE: TypeId = TypeId::must_understand(0x1001);
}

#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    pub bytes: Vec<u8>,
}

impl Entry for Blob {
    const TYPE: TypeId = TypeId::optional(0x1002);
}

#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Tick;

impl Entry for Tick {
    const TYPE: TypeId = TypeId::optional(0x1003);
}

/// All of them.
pub enum All {}

impl EntrySet for All {
    const SCHEMA: Schema = Schema::new("sample");
    const TYPES: &'static [TypeId] = &[Note::TYPE, Blob::TYPE, Tick::TYPE];
}

/// An older release, that knows notes alone.
pub enum OnlyNotes {}

impl EntrySet for OnlyNotes {
    const SCHEMA: Schema = Schema::new("sample");
    const TYPES: &'static [TypeId] = &[Note::TYPE];
}

/// A release that knows blobs alone, so that notes stop it.
pub enum OnlyBlobs {}

impl EntrySet for OnlyBlobs {
    const SCHEMA: Schema = Schema::new("sample");
    const TYPES: &'static [TypeId] = &[Blob::TYPE];
}

/// Another program.
pub enum Other {}

impl EntrySet for Other {
    const SCHEMA: Schema = Schema::new("other");
    const TYPES: &'static [TypeId] = &[Note::TYPE];
}

pub fn options() -> JournalOptions {
    JournalOptions::new().unwrap()
}

pub fn note(at: u64) -> Note {
    let text = format!("note {at} {}", "x".repeat((at % 40) as usize));
    Note { at, text }
}

pub type Writer = JournalWriter<All>;

/// A writer on memory that one can look at.
pub fn fresh() -> (Arc<MemStorage>, Writer) {
    let storage = Arc::new(MemStorage::new());
    let writer = Writer::create_in(storage.clone(), options()).unwrap();
    (storage, writer)
}

/// A journal of notes 0 to `count`, each flushed, closed or not, and where each stands.
pub fn notes(count: u64, close: bool) -> (Vec<u8>, Vec<Span>) {
    let (storage, mut writer) = fresh();
    let mut spans = Vec::new();
    for at in 0..count {
        spans.push(writer.append(&note(at)).unwrap());
        writer.flush().unwrap();
    }
    if close {
        writer.close().unwrap();
    }
    (storage.to_vec(), spans)
}

pub fn storage_of(bytes: &[u8]) -> Arc<MemStorage> {
    Arc::new(MemStorage::from_vec(bytes.to_vec()))
}

pub fn reader_of<E: EntrySet>(bytes: &[u8]) -> JournalReader<E> {
    JournalReader::from_storage(storage_of(bytes)).unwrap()
}

pub fn reopen(bytes: &[u8]) -> Result<(Arc<MemStorage>, Writer, u64), JournalError> {
    let storage = storage_of(bytes);
    let (writer, recovered) = Writer::open_in(storage.clone(), options())?;
    Ok((storage, writer, recovered.torn.get()))
}

/// The `at` of each note until the end, and the end.
pub fn read_notes<E: EntrySet>(reader: &mut JournalReader<E>) -> (Vec<u64>, End) {
    let mut found = Vec::new();
    let end = reader
        .read_all(|entry| {
            if entry.is::<Note>() {
                let read = entry.decode::<Note>().unwrap();
                assert_eq!(read, note(read.at), "an entry was changed");
                found.push(read.at);
            }
            Ok::<(), JournalError>(())
        })
        .unwrap();
    (found, end)
}

pub fn notes_in(bytes: &[u8]) -> (Vec<u64>, End) {
    read_notes(&mut reader_of::<All>(bytes))
}
