//! Tails that are torn, bytes that rot, files that are something else.

use coldframe_journal::{End, Entry, JournalError, Next, Unsupported};
use coldframe_testkit::alloc::assert_alloc_bounded;
use coldframe_testkit::hostile::check_bit_flips;
use coldframe_walframe::journal::{PartHeader, PartKey, RecordHeader, seal_record};

use super::sample::{
    All, Note, OnlyBlobs, OnlyNotes, Other, fresh, note, notes, notes_in, read_notes, reader_of,
    reopen,
};

// Spec: JRNL-5, JRNL-11
// Parity: F44
#[test]
fn tail_cut_at_any_byte_of_the_last_three_records_drops_only_what_is_not_whole() {
    let (bytes, spans) = notes(8, false);
    for cut in spans[5].start.get() as usize..=bytes.len() {
        let whole = spans
            .iter()
            .filter(|span| span.end.get() as usize <= cut)
            .count() as u64;
        let kept = spans[whole as usize - 1].end.get();
        let (found, end) = notes_in(&bytes[..cut]);
        assert_eq!(found, (0..whole).collect::<Vec<_>>(), "cut at {cut}");
        assert_eq!(end.offset().get(), kept);
        assert_eq!(end.is_clean(), cut as u64 == kept);
        let (storage, mut writer, torn) = reopen(&bytes[..cut]).unwrap();
        assert_eq!(torn, cut as u64 - kept);
        writer.append(&note(whole)).unwrap();
        writer.flush().unwrap();
        let (found, end) = notes_in(&storage.to_vec());
        assert_eq!(found, (0..=whole).collect::<Vec<_>>());
        assert!(end.is_clean());
    }
}

// Spec: JRNL-5, JRNL-11
// Parity: F44
#[test]
fn tail_of_zeros_from_any_byte_on_is_torn_or_clean() {
    let (bytes, spans) = notes(4, false);
    for cut in spans[3].start.get() as usize..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[cut..].fill(0);
        let (found, end) = notes_in(&bytes);
        assert!(found == [0, 1, 2] || found == [0, 1, 2, 3]);
        assert!(end.is_clean() || end.is_torn(), "{end}");
    }
}

// Spec: JRNL-4, JRNL-5
// Parity: F45
#[test]
fn every_flipped_bit_of_a_closed_journal_is_found() {
    let (bytes, spans) = notes(4, true);
    let sealed = spans[3].end.get();
    check_bit_flips(&bytes, &mut |damaged| {
        let at = bytes.iter().zip(damaged).position(|(a, b)| a != b).unwrap() as u64;
        let (found, end) = notes_in(damaged);
        let whole = spans.iter().filter(|span| span.end.get() <= at).count() as u64;
        assert_eq!(found, (0..whole).collect::<Vec<_>>());
        let start = spans
            .get(whole as usize)
            .map_or(sealed, |span| span.start.get());
        match end {
            End::Corrupt { offset, .. } => {
                let start = if at < 112 { 0 } else { start };
                assert_eq!(offset.get(), start);
            }
            End::Unsupported { offset, .. } => assert!(at < 10 && offset.get() == 0, "{end}"),
            End::Torn { offset, .. } => assert_eq!(offset.get(), sealed, "{end}"),
            _ => panic!("{end} though bit at {at:#x} is flipped"),
        }
        let refused = reopen(damaged);
        assert_eq!(refused.is_err(), at < sealed);
    });
}

/// A header whose checksum holds, of a record of 2^48 - 1 bytes at `at`.
fn endless_header(bytes: &[u8], at: usize) -> [u8; 32] {
    let key = PartKey::new(PartHeader::decode(bytes).unwrap().id);
    let mut header = [0; 32];
    header[..2].copy_from_slice(&0x9001_u16.to_le_bytes());
    header[2..8].fill(0xff);
    let position = (at as u64).to_le_bytes();
    let covered = [&header[..12], &header[16..], &position].concat();
    // The digest of a record's payload is made as the checksum of a header is.
    let mut record = [&[0; 32][..], &covered, &[0; 12]].concat();
    seal_record(&key, 0, Note::TYPE, 0, covered.len() as u64, &mut record);
    header[12..16].copy_from_slice(&record[16..20]);
    let decoded = RecordHeader::decode(&header, &key, at as u64).unwrap();
    assert_eq!(decoded.size, (1 << 48) - 1);
    header
}

// Spec: JRNL-5, JRNL-13
// Parity: D41, F45
#[test]
fn length_of_2_to_the_48_is_held_against_the_file_before_anything_is_allocated() {
    let (bytes, spans) = notes(4, false);
    for hit in [1, 3] {
        let mut hostile = bytes.clone();
        let at = spans[hit].start.get() as usize;
        let header = endless_header(&bytes, at);
        hostile[at..at + 32].copy_from_slice(&header);
        let found = assert_alloc_bounded(3 << 20, || {
            let mut reader = reader_of::<All>(&hostile);
            let (mut found, end) = read_notes(&mut reader);
            assert_eq!(end.offset().get(), at as u64);
            // The last one may be a tail that was cut; an earlier one was durable.
            assert_eq!(end.is_torn(), hit == 3, "{end}");
            while reader.resume().unwrap().is_some() {
                found.extend(read_notes(&mut reader).0);
            }
            found
        });
        let expected: Vec<u64> = (0..4).filter(|number| *number != hit as u64).collect();
        assert_eq!(found, expected);
    }
}

// Spec: JRNL-5
#[test]
fn tail_is_damage_if_the_caller_knows_that_it_was_durable() {
    let (bytes, spans) = notes(3, false);
    let durable = spans[2].end;
    let gone = spans[2].start.get() as usize;
    let mut zeroed = bytes.clone();
    zeroed[gone..].fill(0);
    let mut rotten = bytes.clone();
    rotten[gone + 40] ^= 1;
    for damaged in [&bytes[..gone], &bytes[..gone + 50], &zeroed, &rotten] {
        let mut reader = reader_of::<All>(damaged);
        let (found, end) = read_notes(&mut reader);
        assert_eq!(found, [0, 1]);
        assert!(end.is_clean() || end.is_torn(), "{end}");
        let mut reader = reader_of::<All>(damaged);
        reader.expect_durable(durable);
        let (found, end) = read_notes(&mut reader);
        assert_eq!(found, [0, 1]);
        assert!(
            matches!(end, End::Corrupt { offset, .. } if offset == spans[2].start),
            "{end}"
        );
    }
    let mut reader = reader_of::<All>(&bytes);
    reader.expect_durable(durable);
    assert!(read_notes(&mut reader).1.is_clean());
}

// Spec: JRNL-13
// Parity: F45
#[test]
fn salvage_yields_the_sound_records_on_both_sides() {
    let (bytes, spans) = notes(6, true);
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        let mut reader = reader_of::<All>(&damaged);
        let (mut found, mut gaps) = (Vec::new(), 0);
        loop {
            found.extend(read_notes(&mut reader).0);
            match reader.resume().unwrap() {
                Some(gap) => {
                    assert!(gap.start.get() <= at as u64 && at as u64 <= gap.end.get());
                    gaps += 1;
                }
                None => break,
            }
        }
        let hit = spans
            .iter()
            .position(|span| (span.start.get()..span.end.get()).contains(&(at as u64)));
        let expected: Vec<u64> = (0..6).filter(|n| Some(*n as usize) != hit).collect();
        assert_eq!(found, expected, "byte {at:#x}");
        assert!(gaps <= 1);
    }
}

// Spec: JRNL-7
// Parity: F48
#[test]
fn unknown_type_is_skipped_with_a_count_or_stops_by_its_bit() {
    let (storage, mut writer) = fresh();
    writer.append(&note(0)).unwrap();
    writer.append(&super::sample::Tick).unwrap();
    let span = writer.append(&note(1)).unwrap();
    writer.flush().unwrap();
    let bytes = storage.to_vec();
    let mut reader = reader_of::<OnlyNotes>(&bytes);
    let (found, end) = read_notes(&mut reader);
    assert_eq!((found, reader.skipped()), (vec![0, 1], 1));
    assert!(end.is_clean());

    let mut reader = reader_of::<OnlyBlobs>(&bytes);
    let (found, end) = read_notes(&mut reader);
    assert!(found.is_empty());
    let what = Unsupported::Type(<super::sample::Note as coldframe_journal::Entry>::TYPE);
    assert!(
        matches!(end, End::Unsupported { what: w, .. } if w == what),
        "{end}"
    );
    // It says so again, and goes past it only when told to.
    assert!(matches!(reader.read().unwrap(), Next::End(again) if again == end));
    assert!(reader.resume().unwrap().is_some());
    let (_, end) = read_notes(&mut reader);
    assert_eq!(end.offset(), span.start);
    assert_eq!(reader.skipped(), 1);
    reader.resume().unwrap().unwrap();
    assert!(read_notes(&mut reader).1.is_clean());
}

// Spec: JRNL-6
// Parity: F47
#[test]
fn journals_joined_by_cat_read_as_one() {
    let (a, _) = notes(3, true);
    let (b, _) = notes(2, false);
    let joined = [a.clone(), b.clone(), a.clone()].concat();
    let (found, end) = notes_in(&joined);
    assert_eq!(found, [0, 1, 2, 0, 1, 0, 1, 2]);
    assert!(end.is_clean());
    let (storage, mut writer, torn) = reopen(&joined).unwrap();
    assert_eq!(torn, 0);
    writer.append(&note(9)).unwrap();
    assert_eq!(notes_in(&storage.to_vec()).0, [0, 1, 2, 0, 1, 0, 1, 2, 9]);
}

// Spec: JRNL-6, JRNL-13
// Parity: F47
#[test]
fn joined_journal_with_a_torn_part_goes_on_when_told_to_and_is_not_continued() {
    let (a, _) = notes(3, true);
    let (b, spans) = notes(3, false);
    for cut in 0..b.len() {
        let whole = spans.iter().filter(|s| s.end.get() as usize <= cut).count() as u64;
        let joined = [&a, &b[..cut], &a].concat();
        let mut reader = reader_of::<All>(&joined);
        let mut found = Vec::new();
        loop {
            let (more, end) = read_notes(&mut reader);
            found.extend(more);
            if end.is_clean() {
                break;
            }
            let gap = reader
                .resume()
                .unwrap()
                .unwrap_or_else(|| panic!("cut {cut}: the third part is sound, {end}"));
            assert_eq!(gap.end.get() as usize, a.len() + cut, "{end}");
        }
        let expected: Vec<u64> = (0..3).chain(0..whole).chain(0..3).collect();
        assert_eq!(found, expected, "cut at {cut}");
        let torn = ![0, 112].contains(&cut) && spans.iter().all(|s| s.end.get() as usize != cut);
        match reopen(&joined) {
            Ok(_) => assert!(!torn),
            Err(JournalError::Refused { end }) => assert!(torn && end.is_torn(), "{end}"),
            Err(error) => panic!("cut {cut}: {error}"),
        }
    }
}

// Spec: JRNL-6
// Parity: F48
#[test]
fn part_of_another_program_is_unsupported_and_can_be_passed_over() {
    let (a, _) = notes(2, true);
    let storage = std::sync::Arc::new(coldframe_storage::MemStorage::new());
    let options = super::sample::options();
    type Foreign = coldframe_journal::JournalWriter<Other>;
    let mut writer = Foreign::create_in(storage.clone(), options).unwrap();
    writer.append(&note(7)).unwrap();
    writer.close().unwrap();
    let joined = [a.clone(), storage.to_vec(), a.clone()].concat();
    let mut reader = reader_of::<All>(&joined);
    let (found, end) = read_notes(&mut reader);
    assert_eq!(found, [0, 1]);
    let what = Unsupported::Schema(coldframe_journal::Schema::new("other"));
    assert!(
        matches!(end, End::Unsupported { what: w, .. } if w == what),
        "{end}"
    );
    reader.resume().unwrap().unwrap();
    assert_eq!(read_notes(&mut reader).0, [0, 1]);
    let error = reopen(&[a, storage.to_vec()].concat()).err().unwrap();
    assert!(matches!(error, JournalError::OtherSchema { .. }) && error.is_unsupported());
}

// Spec: JRNL-2
#[test]
fn files_that_are_no_journal_are_refused_and_left_alone() {
    let short = [b"x".to_vec(), b"no journal\n".to_vec(), vec![0xff; 111]];
    let long = [vec![0; 4096], b"GIF89a".repeat(100), vec![0xff; 200]];
    for bytes in short.into_iter().chain(long) {
        let (found, end) = notes_in(&bytes);
        assert!(found.is_empty());
        let foreign = Unsupported::Foreign;
        assert!(
            matches!(end, End::Unsupported { what, .. } if what == foreign),
            "{end}"
        );
        let error = reopen(&bytes).err().unwrap();
        assert!(matches!(error, JournalError::Foreign { .. }), "{error}");
    }
}

// Spec: JRNL-2
#[test]
fn creation_that_was_cut_short_is_an_empty_journal() {
    let (bytes, _) = notes(0, false);
    for cut in 0..=bytes.len() {
        let (found, end) = notes_in(&bytes[..cut]);
        assert!(found.is_empty());
        assert_eq!(end.is_clean(), cut == 0 || cut == bytes.len());
        let (storage, mut writer, _) = reopen(&bytes[..cut]).unwrap();
        writer.append(&note(0)).unwrap();
        writer.flush().unwrap();
        assert_eq!(notes_in(&storage.to_vec()).0, [0]);
    }
    // Sectors that were not written yet.
    for unwritten in [vec![0; 5], vec![0; bytes.len()], vec![0x5a; bytes.len()]] {
        assert!(notes_in(&unwritten).1.is_torn());
        reopen(&unwritten).unwrap();
    }
}
