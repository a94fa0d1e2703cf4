//! Filters, counters, tees, copies, transactions, printing.

use std::sync::Arc;

use coldframe_journal::{
    Batch, Counting, End, Filtered, JournalOptions, JournalReader, NullSink, Printer, Sink, Source,
    Style, Tee, Transaction, copy, kinds,
};
use coldframe_storage::MemStorage;

use super::sample::{
    All, Blob, Note, Tick, Writer, fresh, note, notes_in, options, read_notes, reader_of,
};

// Spec: JRNL-10
// Parity: F52
#[test]
fn transaction_commits_all_or_leaves_no_trace() {
    let (storage, mut writer) = fresh();
    writer.append(&note(0)).unwrap();
    let mut transaction = Transaction::<All, _>::new(&mut writer);
    for at in 1..4 {
        assert_eq!(transaction.append(&note(at)).unwrap(), None);
    }
    let (count, span) = transaction.finish().unwrap();
    assert_eq!(count, 3);
    transaction.append(&note(8)).unwrap();
    transaction.rollback();
    transaction.append(&note(9)).unwrap();
    drop(transaction);
    assert_eq!(writer.end(), span.unwrap().end);
    writer.flush().unwrap();
    assert_eq!(notes_in(&storage.to_vec()).0, [0, 1, 2, 3]);
}

// Parity: F53
#[test]
fn filters_work_by_type_and_by_index_on_both_sides() {
    let (storage, writer) = fresh();
    let mut filtered = Filtered::new(writer, |entry: &_| !is_tick(entry));
    Sink::<All>::append(&mut filtered, &note(0))
        .unwrap()
        .unwrap();
    assert_eq!(Sink::<All>::append(&mut filtered, &Tick).unwrap(), None);
    let mut batch = Batch::<All>::new();
    batch.push(&Tick).unwrap();
    assert_eq!(filtered.commit(&batch).unwrap(), None);
    batch.push(&note(1)).unwrap();
    batch.push(&note(2)).unwrap();
    filtered.commit(&batch).unwrap().unwrap();
    Sink::<All>::flush(&mut filtered).unwrap();
    assert_eq!(filtered.into_inner().entries(), 3);

    let mut index = 0;
    let reader = reader_of::<All>(&storage.to_vec());
    let mut odd = Filtered::new(reader, move |_: &_| {
        index += 1;
        index % 2 == 0
    });
    let mut found = Vec::new();
    while odd.advance().unwrap().is_none() {
        found.push(odd.current().unwrap().decode::<Note>().unwrap().at);
    }
    assert_eq!(found, [1]);
}

fn is_tick(entry: &coldframe_journal::EntryRef<'_>) -> bool {
    entry.is::<Tick>()
}

// Parity: F54
#[test]
fn tee_counter_null_and_copy_agree() {
    let (storage, writer) = fresh();
    let (other, second) = fresh();
    let mut both = Tee(Counting::new(writer), Tee(second, Counting::new(NullSink)));
    Sink::<All>::append(&mut both, &note(0)).unwrap().unwrap();
    let mut batch = Batch::new();
    for at in 1..3 {
        batch.push(&note(at)).unwrap();
    }
    both.commit(&batch).unwrap().unwrap();
    Sink::<All>::flush(&mut both).unwrap();
    let Tee(counted, Tee(_, sized)) = both;
    assert_eq!((counted.entries(), sized.entries()), (3, 3));
    assert_eq!(counted.payload_bytes(), sized.payload_bytes());
    assert_eq!(notes_in(&storage.to_vec()), notes_in(&other.to_vec()));

    // A journal in memory is a journal: copying keeps batches together.
    let (third, mut sink) = fresh();
    let mut source = reader_of::<All>(&storage.to_vec());
    let copied = copy(&mut source, &mut sink).unwrap();
    assert_eq!(copied.entries, 3);
    assert!(copied.end.is_clean());
    sink.flush().unwrap();
    assert_eq!(third.to_vec().len(), storage.to_vec().len());
    assert_eq!(notes_in(&third.to_vec()).0, [0, 1, 2]);
    source.restart().unwrap();
    assert_eq!(read_notes(&mut source).0, [0, 1, 2]);
}

// Parity: D52, F49, F54
#[test]
fn a_journal_in_memory_is_a_pipe_between_threads() {
    let storage = Arc::new(MemStorage::new());
    let writer = Writer::create_in(storage.clone(), options()).unwrap();
    let sender = std::thread::spawn(move || {
        let mut writer = writer;
        for at in 0..200 {
            writer.append(&note(at)).unwrap();
        }
        writer.close().unwrap();
    });
    let mut reader = JournalReader::<All>::from_storage(storage).unwrap();
    let mut found = Vec::new();
    loop {
        let (more, end) = read_notes(&mut reader);
        found.extend(more);
        if matches!(end, End::Clean { sealed: true, .. }) {
            break;
        }
        reader.refresh().unwrap();
    }
    sender.join().unwrap();
    assert_eq!(found, (0..200).collect::<Vec<_>>());
    // Begun again, it has all of them again.
    reader.restart().unwrap();
    assert_eq!(read_notes(&mut reader).0.len(), 200);
}

// Parity: F54
#[test]
fn entries_print_as_text_and_as_json() {
    let storage = Arc::new(MemStorage::new());
    type Core = coldframe_journal::JournalWriter<kinds::CoreEntries>;
    let mut writer = Core::create_in(storage.clone(), options()).unwrap();
    let input = kinds::ConsoleInput {
        progress: 4,
        console: 0,
        bytes: b"ls\n".to_vec(),
    };
    writer.append(&input).unwrap();
    let mut reader = JournalReader::<kinds::CoreEntries>::from_storage(storage).unwrap();
    let mut text = Printer::<kinds::CoreEntries, _>::new(Vec::new(), Style::Text);
    copy(&mut reader, &mut text).unwrap();
    let text = String::from_utf8(text.into_inner()).unwrap();
    assert_eq!(
        text,
        "0x70 console_input progress=4 console=0 bytes=6c730a\n"
    );
    reader.restart().unwrap();
    let mut json = Printer::<kinds::CoreEntries, _>::new(Vec::new(), Style::Json);
    copy(&mut reader, &mut json).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json.into_inner()).unwrap();
    assert_eq!(json["kind"], "console_input");
    assert_eq!(
        (&json["progress"], &json["bytes"]),
        (&4.into(), &"6c730a".into())
    );
    assert_eq!(json["offset"], 112);
}

// Parity: F54
#[test]
fn entries_of_other_programs_print_too() {
    let (storage, mut writer) = fresh();
    let bytes = vec![7; 100];
    writer.append(&Blob { bytes }).unwrap();
    let mut printer = Printer::<All, _>::new(Vec::new(), Style::Text);
    copy(&mut reader_of::<All>(&storage.to_vec()), &mut printer).unwrap();
    let text = String::from_utf8(printer.into_inner()).unwrap();
    assert!(
        text.starts_with("0x70 type_1002 len=108 bytes=0707"),
        "{text}"
    );
}

#[test]
fn options_name_this_crate_as_the_producer() {
    let options = JournalOptions::new().unwrap();
    assert!(options.producer.as_str().starts_with("coldframe-wal "));
    let (storage, _writer): (_, Writer) = fresh();
    let mut reader = reader_of::<All>(&storage.to_vec());
    reader.advance().unwrap();
    assert_eq!(reader.part().unwrap().producer, options.producer);
}
