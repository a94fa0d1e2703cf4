//! The bytes of coldframe's own entries, and what no release may change.

use std::sync::Arc;

use coldframe_journal::kinds::{
    ClockRead, ConsoleInput, CoreEntries, Deleted, InterruptMark, Leased, MemoryRegion, MemoryZero,
    Pinned, PortInput, Published, Renamed, SnapshotMark, Trigger,
};
use coldframe_journal::{Entry, JournalReader, JournalWriter, Next, Printer, Source, Style, copy};
use coldframe_storage::MemStorage;
use coldframe_testkit::golden::{assert_golden, golden};

use super::sample::options;

/// One of each kind, as (type, payload).
fn payloads() -> Vec<u8> {
    let storage = Arc::new(MemStorage::new());
    let mut writer = JournalWriter::<CoreEntries>::create_in(storage.clone(), options()).unwrap();
    write_inputs(&mut writer);
    write_lineage(&mut writer);
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

fn write_lineage(writer: &mut JournalWriter<CoreEntries>) {
    let (snapshot, progress) = ([0x11; 16], 7);
    let name = || "first".to_owned();
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

// Spec: JRNL-19, ENTR-1, ENTR-2, ENTR-3, ENTR-4
#[test]
fn payloads_of_every_kind_are_the_golden_bytes() {
    assert_golden("tests/golden/v1/journal_kinds.bin", &payloads());
}

// Parity: F54
#[test]
fn every_kind_of_the_goldens_is_printed_with_its_fields() {
    let bytes = golden("tests/golden/v1/journal.bin");
    let mut reader = JournalReader::<CoreEntries>::from_bytes(bytes.into());
    let text = printed(&mut reader);
    let input = "61206c6f6e676572206c696e65206f6620696e7075740a";
    assert_eq!(
        text,
        [
            format!("console_input progress=7 console=2 bytes={input}"),
            "port_input progress=7 vcpu=1 address=1016 width=1 value=65".to_owned(),
            "clock_read progress=7 vcpu=1 clock=3 nanoseconds=5".to_owned(),
            "interrupt progress=7 vcpu=1 line=4".to_owned(),
            "memory ram_offset=4096 len=3".to_owned(),
            "memory_zero ram_offset=8192 len=4096".to_owned(),
        ]
    );
    let storage = Arc::new(MemStorage::new());
    let mut writer = JournalWriter::<CoreEntries>::create_in(storage.clone(), options()).unwrap();
    write_lineage(&mut writer);
    let text = printed(&mut JournalReader::<CoreEntries>::from_storage(storage).unwrap());
    let of = |rest: &str| {
        format!("snapshot={} {rest}", "11".repeat(16))
            .trim_end()
            .to_owned()
    };
    let (parent, root) = ("22".repeat(16), "33".repeat(32));
    let unix_ns = 0x0102_0304_0506_0708_u64;
    let published = format!("parent={parent} root={root} unix_ns={unix_ns} name=\"first\"");
    let mark = format!("progress=7 unix_ns={unix_ns} trigger=\"timer\"");
    let leased = format!("until_unix_ns={unix_ns} holder=\"first\"");
    assert_eq!(
        text,
        [
            format!("snapshot_mark {}", of(&mark)),
            format!("published {}", of(&published)),
            format!("renamed {}", of("name=\"first\"")),
            format!("pinned {}", of("pinned=true")),
            format!("leased {}", of(&leased)),
            format!("deleted {}", of("")),
        ]
    );
}

/// The printed lines, without their offsets.
fn printed(reader: &mut JournalReader<CoreEntries>) -> Vec<String> {
    let mut printer = Printer::<CoreEntries, _>::new(Vec::new(), Style::Text);
    copy(reader, &mut printer).unwrap();
    let text = String::from_utf8(printer.into_inner()).unwrap();
    let line = |line: &str| line.split_once(' ').unwrap().1.to_owned();
    text.lines().map(line).collect()
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
            Ok::<(), coldframe_journal::JournalError>(())
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
