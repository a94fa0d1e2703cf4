//! Messages of every kind, hostile ones too. Fork is tested with the kernel's own descriptors.

use super::{Event, EventBuffer, FaultKind, Message};

fn message(kind: u8, words: [u64; 3]) -> Message {
    Message {
        kind,
        reserved: [0; 7],
        words,
    }
}

#[track_caller]
fn check(kind: u8, words: [u64; 3], expected: &str) {
    // SAFETY: none of these carries a descriptor.
    let event = unsafe { message(kind, words).decode() };
    assert_eq!(format!("{event:?}"), expected);
}

#[test]
fn every_kind_of_event_is_decoded() {
    check(
        0x12,
        [1, 0x7000, 0xffff_ffff_0000_0007],
        "PageFault(PageFault { addr: HostAddr(0x7000), kind: Missing, is_write: true, thread: 7 })",
    );
    check(
        0x14,
        [0x1000, 0x9000, 0x2000],
        "Remap { from: HostAddr(0x1000), to: HostAddr(0x9000), len: 8192 }",
    );
    check(
        0x15,
        [0x1000, 0x3000, 0],
        "Remove(HostRange(0x1000..0x3000))",
    );
    check(
        0x16,
        [0x1000, 0x3000, 0],
        "Unmap(HostRange(0x1000..0x3000))",
    );
}

#[test]
fn events_that_make_no_sense_are_unknown_and_nothing_else() {
    check(0x00, [0, 0, 0], "Unknown { kind: 0 }");
    check(0xff, [1, 2, 3], "Unknown { kind: 255 }");
    check(0x15, [0x3000, 0x1000, 0], "Unknown { kind: 21 }");
    check(0x16, [0x1000, 0x1000, 0], "Unknown { kind: 22 }");
    check(0x13, [0xffff_ffff, 0, 0], "Unknown { kind: 19 }");
}

#[test]
fn the_kinds_of_faults_stay_apart() {
    for (flags, kind, is_write) in [
        (0, FaultKind::Missing, false),
        (1, FaultKind::Missing, true),
        (2, FaultKind::WriteProtected, false),
        (3, FaultKind::WriteProtected, true),
        (4, FaultKind::Minor, false),
        (5, FaultKind::Minor, true),
    ] {
        let fault = super::fault(flags, 0x1000, 0);
        assert_eq!((fault.kind, fault.is_write), (kind, is_write));
    }
}

#[test]
fn a_message_that_is_cut_short_is_none() {
    let mut buffer = EventBuffer::new(2);
    // SAFETY: the messages are empty ones.
    let events = unsafe { buffer.filled(63) };
    assert_eq!(events.len(), 1);
    let kinds: Vec<_> = events.collect();
    assert!(matches!(kinds[..], [Event::Unknown { kind: 0 }]));
}
