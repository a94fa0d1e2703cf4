//! Whole operations against a `Vec`.

use std::sync::Arc;

use coldframe_journal::{Batch, JournalError};
use coldframe_storage::MemStorage;
use proptest::prelude::*;

use super::sample::{All, Blob, Writer, options, reader_of};

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<u8>),
    Commit(Vec<Vec<u8>>),
    Reopen,
    Close,
    /// Cut off this many bytes (modulo the length of what was not flushed), then reopen.
    Cut(usize),
    Flush,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..80);
    let step = prop_oneof![
        6 => bytes().prop_map(Step::Append),
        2 => prop::collection::vec(bytes(), 0..4).prop_map(Step::Commit),
        1 => Just(Step::Reopen),
        1 => Just(Step::Close),
        1 => any::<usize>().prop_map(Step::Cut),
        2 => Just(Step::Flush),
    ];
    prop::collection::vec(step, 0..30)
}

fn read(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut reader = reader_of::<All>(bytes);
    let end = reader.read_all(|entry| {
        found.push(entry.decode::<Blob>().unwrap().bytes);
        Ok::<(), JournalError>(())
    });
    assert!(end.unwrap().is_clean());
    found
}

proptest! {
    // Spec: JRNL-1, JRNL-10, JRNL-11
    // Parity: F43
    #[test]
    fn journal_behaves_as_a_list(steps in steps()) {
        let mut storage = Arc::new(MemStorage::new());
        let mut writer = Writer::create_in(storage.clone(), options()).unwrap();
        // Entries with the end of their record.
        let mut model: Vec<(Vec<u8>, u64)> = Vec::new();
        for step in steps {
            match step {
                Step::Append(bytes) => {
                    let end = writer.append(&Blob { bytes: bytes.clone() }).unwrap().end;
                    model.push((bytes, end.get()));
                }
                Step::Commit(all) => {
                    let mut batch = Batch::new();
                    for bytes in &all {
                        batch.push(&Blob { bytes: bytes.clone() }).unwrap();
                    }
                    let end = writer.commit(&batch).unwrap().end.get();
                    model.extend(all.into_iter().map(|bytes| (bytes, end)));
                }
                Step::Flush => writer.flush().unwrap(),
                Step::Reopen => writer = Writer::open_in(storage.clone(), options()).unwrap().0,
                Step::Close => {
                    writer.close().unwrap();
                    writer = Writer::open_in(storage.clone(), options()).unwrap().0;
                }
                Step::Cut(by) => {
                    let loose = (writer.end().get() - writer.durable().get()) as usize;
                    let mut bytes = storage.to_vec();
                    bytes.truncate(bytes.len() - by % (loose + 1));
                    model.retain(|(_, end)| *end <= bytes.len() as u64);
                    storage = Arc::new(MemStorage::from_vec(bytes));
                    writer = Writer::open_in(storage.clone(), options()).unwrap().0;
                }
            }
            prop_assert_eq!(writer.entries(), model.len() as u64);
        }
        let expected: Vec<_> = model.into_iter().map(|(bytes, _)| bytes).collect();
        prop_assert_eq!(read(&storage.to_vec()), expected);
    }

    // Spec: JRNL-5
    // Parity: F45
    #[test]
    fn any_bytes_read_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let mut reader = reader_of::<All>(&bytes);
        let _ = reader.read_all(|_| Ok::<(), JournalError>(())).unwrap();
        while reader.resume().unwrap().is_some() {
            let _ = reader.read_all(|_| Ok::<(), JournalError>(())).unwrap();
        }
    }
}
