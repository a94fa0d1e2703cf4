//! The journal's entries: coldframe's own, and three that only this VMM has.
//!
//! Invariant: a struct here never changes; what must change becomes another one with another
//! number.

use coldframe_journal::kinds::{ClockRead, ConsoleInput, PortInput, SnapshotMark};
use coldframe_journal::{Description, Entry, EntryRef, EntrySet, Schema, TypeId, describe_core};
use rkyv::{Archive, Deserialize, Serialize};

/// The first entry: which recording this is. Its snapshots carry the same id.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Begin {
    /// 16 random bytes.
    pub recording: [u8; 16],
}

/// The guest made a progress mark.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct GuestMark {
    /// The guest's exits so far, this one included.
    pub progress: u64,
    /// How many bytes it had printed.
    pub console_bytes: u64,
    /// What it wrote to the port.
    pub mark: u32,
}

/// The guest ended, and this is what it came to.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct GuestEnd {
    /// The guest's exits.
    pub progress: u64,
    /// [`crate::EndState::ram_blake3`].
    pub ram_blake3: String,
    /// [`crate::EndState::regs_blake3`].
    pub regs_blake3: String,
    /// [`crate::EndState::console_blake3`].
    pub console_blake3: String,
}

impl Entry for Begin {
    const TYPE: TypeId = TypeId::must_understand(0x1001);
}

impl Entry for GuestMark {
    const TYPE: TypeId = TypeId::must_understand(0x1002);
}

impl Entry for GuestEnd {
    const TYPE: TypeId = TypeId::must_understand(0x1003);
}

const _: () = {
    assert!(size_of::<ArchivedBegin>() == 16 && align_of::<ArchivedBegin>() == 1);
    assert!(size_of::<ArchivedGuestMark>() == 24 && align_of::<ArchivedGuestMark>() == 8);
    assert!(size_of::<ArchivedGuestEnd>() == 32 && align_of::<ArchivedGuestEnd>() == 8);
};

/// The entries of a recording.
#[derive(Clone, Copy, Debug)]
pub enum RecordingEntries {}

impl EntrySet for RecordingEntries {
    const SCHEMA: Schema = Schema::new("minivmm");
    const TYPES: &'static [TypeId] = &[
        ConsoleInput::TYPE,
        PortInput::TYPE,
        ClockRead::TYPE,
        SnapshotMark::TYPE,
        Begin::TYPE,
        GuestMark::TYPE,
        GuestEnd::TYPE,
    ];

    fn describe(entry: &EntryRef<'_>) -> Option<Description> {
        describe_core(entry).or_else(|| describe_own(entry))
    }
}

fn describe_own(entry: &EntryRef<'_>) -> Option<Description> {
    let named = Description::new;
    Some(match entry.type_id() {
        Begin::TYPE => {
            let begin = entry.archived::<Begin>().ok()?;
            named("begin").with("recording", &begin.recording[..])
        }
        GuestMark::TYPE => {
            let mark = entry.archived::<GuestMark>().ok()?;
            named("guest_mark")
                .with("progress", mark.progress.to_native())
                .with("mark", u64::from(mark.mark.to_native()))
                .with("console_bytes", mark.console_bytes.to_native())
        }
        GuestEnd::TYPE => {
            let end = entry.archived::<GuestEnd>().ok()?;
            named("guest_end")
                .with("progress", end.progress.to_native())
                .with("ram_blake3", &*end.ram_blake3)
                .with("regs_blake3", &*end.regs_blake3)
                .with("console_blake3", &*end.console_blake3)
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
