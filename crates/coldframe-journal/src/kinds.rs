//! Entries that every VMM needs: inputs that a guest cannot compute, its memory, its snapshots.
//!
//! Invariant: a struct here never changes; what must change becomes another struct with another
//! number. Sizes and alignments of their archived forms are checked when this is compiled, and
//! their bytes by a golden file.

use coldframe_walframe::journal::Schema;
use rkyv::{Archive, Deserialize, Serialize};

use super::print::describe_core;

crate::entries! {
    /// Coldframe's own entries, and no others.
    pub set CoreEntries(Schema::COLDFRAME, describe_core);

    /// Bytes that came in on a console.
    must_understand(0x0001) ConsoleInput [24, 8] {
        /// How far the guest was: a count that the VMM can reach again, its exits say.
        progress: u64,
        /// Which console.
        console: u32,
        /// The bytes.
        bytes: Vec<u8>,
    }
    /// What the guest read from a port or a device register.
    must_understand(0x0002) PortInput [32, 8] {
        /// How far the guest was.
        progress: u64,
        /// The port, or the guest address of the register.
        address: u64,
        /// What it read, little-endian in the low bytes.
        value: u64,
        /// Which vCPU read.
        vcpu: u32,
        /// How many bytes it read.
        width: u8,
    }
    /// What the guest read from a clock of the host.
    must_understand(0x0003) ClockRead [24, 8] {
        /// How far the guest was.
        progress: u64,
        /// What it read, in nanoseconds.
        nanoseconds: u64,
        /// Which clock.
        clock: u32,
        /// Which vCPU read.
        vcpu: u32,
    }
    /// An interrupt that came from outside, and when the guest took it.
    must_understand(0x0004) InterruptMark [16, 8] {
        /// How far the guest was.
        progress: u64,
        /// Which vCPU took it.
        vcpu: u32,
        /// Its line or vector.
        line: u32,
    }
    /// Bytes of guest memory that replace what was there.
    must_understand(0x0010) MemoryRegion [16, 8] {
        /// Where in guest RAM, all regions laid end to end, in bytes.
        ram_offset: u64,
        /// The bytes.
        bytes: Vec<u8>,
    }
    /// Guest memory that is zero now.
    must_understand(0x0011) MemoryZero [16, 8] {
        /// Where in guest RAM, all regions laid end to end, in bytes.
        ram_offset: u64,
        /// How many bytes.
        len: u64,
    }
    /// A snapshot was taken here: what is before belongs to it, what is behind does not.
    must_understand(0x0018) SnapshotMark [40, 8] {
        /// How far the guest was.
        progress: u64,
        /// When, in nanoseconds since 1970 (UTC).
        unix_ns: u64,
        /// The snapshot's id.
        snapshot: [u8; 16],
        /// Why it was taken.
        trigger: Trigger,
    }
    /// A snapshot was published.
    must_understand(0x0020) Published [88, 8] {
        /// Its id.
        snapshot: [u8; 16],
        /// Its parent's id; none for a full one.
        parent: Option<[u8; 16]>,
        /// The root of its manifest.
        root: [u8; 32],
        /// When, in nanoseconds since 1970 (UTC).
        unix_ns: u64,
        /// Its directory's name.
        name: String,
    }
    /// A snapshot got another name.
    must_understand(0x0021) Renamed [24, 4] {
        /// Its id.
        snapshot: [u8; 16],
        /// Its directory's new name.
        name: String,
    }
    /// A snapshot must stay, or need no longer.
    must_understand(0x0022) Pinned [17, 1] {
        /// Its id.
        snapshot: [u8; 16],
        /// Whether it must stay.
        pinned: bool,
    }
    /// A snapshot is used until a moment.
    must_understand(0x0023) Leased [32, 8] {
        /// Its id.
        snapshot: [u8; 16],
        /// Until when, in nanoseconds since 1970 (UTC); 0 gives it back.
        until_unix_ns: u64,
        /// By whom.
        holder: String,
    }
    /// A snapshot was deleted.
    must_understand(0x0024) Deleted [16, 1] {
        /// Its id.
        snapshot: [u8; 16],
    }
}

/// Why a snapshot was taken.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Trigger {
    /// Someone asked.
    Explicit,
    /// The guest asked.
    Guest,
    /// It was time.
    Timer,
    /// The guest was idle.
    Idle,
    /// The guest waited for its first input.
    FirstInput,
    /// The guest listened for its first connection.
    FirstListen,
    /// The machine is about to move or stop.
    Shutdown,
    /// Something else.
    Other,
}
