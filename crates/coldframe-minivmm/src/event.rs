//! What a running guest reports to the one who controls it, and on what it stops.
//!
//! Invariant: whenever an event is handed out, every vCPU is parked.

/// On what a resumed guest stops, besides its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stops {
    /// At each 32-bit write to port 0xf0.
    pub marks: bool,
    /// After this many port and MMIO exits, counted from the resumption.
    pub exits: Option<u64>,
}

impl Stops {
    /// At nothing but the end.
    pub const NONE: Self = Self {
        marks: false,
        exits: None,
    };
    /// At each mark.
    pub const MARKS: Self = Self {
        marks: true,
        exits: None,
    };
}

/// Why the guest stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The guest wrote this to port 0xf0.
    Mark(u32),
    /// The guest has made as many exits as asked for; this many since it was booted.
    Exits(u64),
    /// The time given to it has passed.
    TimedOut,
    /// The last entry of the journal that it replays has been used.
    Replayed,
    /// The guest has ended, and all vCPUs have come to rest.
    Ended(EndReason),
}

/// How a guest ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// It wrote this byte to port 0xf4.
    Code(u8),
    /// It wrote 0xfe to port 0x64, the keyboard controller's reset.
    Reset,
    /// It halted, and nothing could wake it.
    Halted,
    /// It triple-faulted.
    TripleFault,
}
