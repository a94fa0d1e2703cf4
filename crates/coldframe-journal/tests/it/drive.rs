//! Bytes as a journal, and bytes as operations on one: for the fuzz target, and for its finds.

use std::sync::Arc;

use bytes::Bytes;
use coldframe_journal::{
    AnyEntries, Batch, EntryRef, JournalError, JournalOptions, JournalReader, JournalWriter,
    TypeId, kinds,
};
use coldframe_storage::MemStorage;

const BLOB: TypeId = TypeId::optional(0x1002);

/// The first byte says which; no panic, and what was written comes back.
pub fn check(data: &[u8]) {
    match data.split_first() {
        Some((0..=127, rest)) => decode(rest),
        Some((_, rest)) => operate(rest),
        None => decode(data),
    }
}

/// Reads any bytes to every end there is; from storage and from a buffer it is the same.
fn decode(bytes: &[u8]) {
    let storage = Arc::new(MemStorage::from_vec(bytes.to_vec()));
    let from_storage = walk(JournalReader::from_storage(storage).expect("memory does not fail"));
    let from_bytes = walk(JournalReader::from_bytes(Bytes::copy_from_slice(bytes)));
    assert_eq!(from_storage, from_bytes);
}

fn walk(mut reader: JournalReader<AnyEntries>) -> Vec<(u64, Vec<u8>)> {
    let mut found = Vec::new();
    loop {
        let end = reader.read_all(|entry: EntryRef<'_>| {
            let _ = coldframe_journal::describe_core(&entry);
            found.push((entry.span().start.get(), entry.payload().to_vec()));
            Ok::<(), JournalError>(())
        });
        let end = end.expect("memory does not fail");
        assert!(end.offset().get() <= reader.offset().get().max(end.offset().get()));
        match reader.resume().expect("memory does not fail") {
            Some(gap) => assert!(gap.start < gap.end),
            None => return found,
        }
    }
}

type Writer = JournalWriter<kinds::CoreEntries>;

/// Each byte is an operation; the model is a list of payloads.
fn operate(script: &[u8]) {
    let options = JournalOptions::new().expect("this crate has a version");
    let mut storage = Arc::new(MemStorage::new());
    let mut writer = Writer::create_in(storage.clone(), options).expect("memory does not fail");
    let mut model: Vec<(Vec<u8>, u64)> = Vec::new();
    for (index, op) in script.iter().take(64).enumerate() {
        let payload = vec![*op; index * 7 % 61];
        match op % 8 {
            0..=3 => {
                let span = writer.append_encoded(BLOB, &payload).expect("appends");
                model.push((payload, span.end.get()));
            }
            4 => {
                let mut batch = Batch::new();
                batch.push_encoded(BLOB, &payload);
                batch.push_encoded(BLOB, &[]);
                let end = writer.commit(&batch).expect("commits").end.get();
                model.extend([(payload, end), (Vec::new(), end)]);
            }
            5 => writer.flush().expect("flushes"),
            6 => {
                writer.close().expect("closes");
                writer = Writer::open_in(storage.clone(), options).expect("opens").0;
            }
            _ => {
                let loose = writer.end().get() - writer.durable().get();
                let mut bytes = storage.to_vec();
                bytes.truncate(bytes.len() - (u64::from(*op) * 3 % (loose + 1)) as usize);
                model.retain(|(_, end)| *end <= bytes.len() as u64);
                storage = Arc::new(MemStorage::from_vec(bytes));
                writer = Writer::open_in(storage.clone(), options).expect("opens").0;
            }
        }
    }
    let found = walk(JournalReader::from_storage(storage).expect("memory does not fail"));
    let found = found.into_iter().map(|(_, payload)| payload);
    let expected = model.into_iter().map(|(payload, _)| payload);
    assert!(found.eq(expected), "what was appended is not what is read");
}
