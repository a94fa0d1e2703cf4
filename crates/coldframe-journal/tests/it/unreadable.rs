//! Stretches of the file that the host cannot read: a reader that is told to goes on around them.

use std::sync::Arc;

use coldframe_journal::{End, JournalError, JournalReader, Next};
use coldframe_storage::MemStorage;
use coldframe_testkit::fault::{Fault, FaultStorage};
use coldframe_units::FileOffset;

use super::sample::{All, Note, notes};

fn reader(bytes: &[u8], from: u64, len: u64) -> Result<JournalReader<All>, JournalError> {
    let offset = FileOffset::new(from);
    let faults = [Fault::Unreadable { offset, len }];
    let storage = FaultStorage::new(MemStorage::from_vec(bytes.to_vec()), &faults);
    JournalReader::from_storage(Arc::new(storage))
}

/// The entries that are left, and how the journal ends before each gap and at last.
fn salvage(mut reader: JournalReader<All>) -> (Vec<u64>, Vec<End>) {
    let (mut found, mut ends) = (Vec::new(), Vec::new());
    loop {
        let end = match reader.read().unwrap() {
            Next::Entry(entry) => {
                found.push(entry.decode::<Note>().unwrap().at);
                continue;
            }
            Next::End(end) => end,
        };
        ends.push(end);
        if reader.resume().unwrap().is_none() {
            return (found, ends);
        }
    }
}

// Spec: JRNL-22
#[test]
fn what_cannot_be_read_hides_the_entries_in_it_and_is_neither_torn_nor_corrupt() {
    for is_closed in [true, false] {
        let (bytes, spans) = notes(40, is_closed);
        let last = spans.last().unwrap().start.get();
        for sector in (0..=last / 512).rev() {
            let from = sector * 512;
            let around = reader(&bytes, from, 512).unwrap().read_around();
            let (found, ends) = salvage(around);
            let is_hidden = |number: &u64| {
                let span = spans[*number as usize];
                span.start.get() < from + 512 && from < span.end.get()
            };
            let expected: Vec<u64> = (0..40).filter(|number| !is_hidden(number)).collect();
            // Without the header of its part no record is known, unless its seal has a copy.
            let expected = if sector == 0 && !is_closed {
                vec![]
            } else {
                expected
            };
            assert_eq!(found, expected, "{sector} {is_closed}");
            assert!(matches!(ends[0], End::Unreadable { .. }), "{ends:?}");
            assert!(ends.iter().all(|end| !end.is_torn()), "{ends:?}");
            // Whoever decides by what it reads gets the error.
            let mut strict = reader(&bytes, from, 512).unwrap();
            let failed = strict.read_all(|_| Ok::<(), JournalError>(())).unwrap_err();
            assert!(matches!(failed, JournalError::Storage { .. }));
        }
    }
}
