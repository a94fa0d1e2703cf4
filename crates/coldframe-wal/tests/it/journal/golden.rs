//! The bytes of coldframe's own entries, and what no release may change.

use std::sync::Arc;

use coldframe_storage::MemStorage;
use coldframe_testkit::golden::{assert_golden, golden};
use coldframe_wal::journal::kinds::{
    ClockRead, ConsoleInput, CoreEntries, Deleted, InterruptMark, Leased, MemoryRegion, MemoryZero,
    Pinned, PortInput, Published, Renamed, SnapshotMark, Trigger,
};
use coldframe_wal::journal::{Entry, JournalReader, JournalWriter, Next, Source};

use super::sample::options;

/// One of each kind, as (type, payload).
fn payloads() -> Vec<u8> {
    let storage = Arc::new(MemStorage::new());
    let mut writer = JournalWriter::<CoreEntries>::create_in(storage.clone(), options()).unwrap();
    let (snapshot, progress) = ([0x11; 16], 7);
    let name = || "first".to_owned();
    write_inputs(&mut writer);
    let trigger = Trigger::Timer;
    let unix_ns = 0x0102_0304_0506_0708;
    writer
        .append(&SnapshotMark {
            progress,
            unix_ns,
            snapshot,
            trigger,
        })
        .unwrap();
    let (parent, root) = (Some([0x22; 16]), [0x33; 32]);
    let published = Published {
        snapshot,
        parent,
        root,
        unix_ns,
        name: name(),
    };
    writer.append(&published).unwrap();
    writer
        .append(&Renamed {
            snapshot,
            name: name(),
        })
        .unwrap();
    writer
        .append(&Pinned {
            snapshot,
            pinned: true,
        })
        .unwrap();
    let leased = Leased {
        snapshot,
        until_unix_ns: unix_ns,
        holder: name(),
    };
    writer.append(&leased).unwrap();
    writer.append(&Deleted { snapshot }).unwrap();
    writer.flush().unwrap();
    let mut reader = JournalReader::<CoreEntries>::from_storage(storage).unwrap();
    let mut bytes = Vec::new();
    while let Next::Entry(entry) = Source::read(&mut reader).unwrap() {
        bytes.extend(entry.type_id().raw().to_le_bytes());
        bytes.extend((entry.payload().len() as u16).to_le_bytes());
        bytes.extend(entry.payload());
    }
    bytes
}

fn write_inputs(writer: &mut JournalWriter<CoreEntries>) {
    let (progress, vcpu, console) = (7, 1, 2);
    let bytes = b"a longer line of input\n".to_vec();
    writer
        .append(&ConsoleInput {
            progress,
            console,
            bytes,
        })
        .unwrap();
    let (address, value, width) = (0x3f8, 0x41, 1);
    let input = PortInput {
        progress,
        address,
        value,
        vcpu,
        width,
    };
    writer.append(&input).unwrap();
    let (nanoseconds, clock) = (5, 3);
    writer
        .append(&ClockRead {
            progress,
            nanoseconds,
            clock,
            vcpu,
        })
        .unwrap();
    writer
        .append(&InterruptMark {
            progress,
            vcpu,
            line: 4,
        })
        .unwrap();
    let bytes = b"abc".to_vec();
    writer
        .append(&MemoryRegion {
            ram_offset: 4096,
            bytes,
        })
        .unwrap();
    writer
        .append(&MemoryZero {
            ram_offset: 8192,
            len: 4096,
        })
        .unwrap();
}

// Spec: JRNL-19
#[test]
fn payloads_of_every_kind_are_the_golden_bytes() {
    assert_golden("tests/golden/v1/journal_kinds.bin", &payloads());
}

// Spec: JRNL-19, JRNL-3
#[test]
fn golden_journal_reads_to_what_was_written() {
    let bytes = golden("tests/golden/v1/journal.bin");
    let mut reader = JournalReader::<CoreEntries>::from_bytes(bytes.into());
    let Next::Entry(entry) = Source::read(&mut reader).unwrap() else {
        panic!("no entry");
    };
    let input = entry.decode::<ConsoleInput>().unwrap();
    assert_eq!(input.bytes, b"a longer line of input\n");
    let mut types = vec![ConsoleInput::TYPE];
    let end = reader
        .read_all(|entry| {
            types.push(entry.type_id());
            Ok::<(), coldframe_wal::journal::JournalError>(())
        })
        .unwrap();
    assert!(end.is_clean());
    let expected = [
        ConsoleInput::TYPE,
        PortInput::TYPE,
        ClockRead::TYPE,
        InterruptMark::TYPE,
        MemoryRegion::TYPE,
        MemoryZero::TYPE,
    ];
    assert_eq!(types, expected);
}
