//! What can be chosen when a log is opened.

/// When an append returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// When the record is on the disk.
    Each,
    /// When the host has the record: it survives the end of the process, and a power cut only
    /// after [`crate::RingWal::sync`].
    OnDemand,
}

/// When [`crate::RingWal::should_checkpoint`] says yes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CheckpointPolicy {
    /// At this occupancy, in percent.
    pub occupancy_percent: u64,
    /// At this many records since the last checkpoint.
    pub records: u64,
}

impl CheckpointPolicy {
    /// At 75 percent, or 1,000 records.
    pub const STANDARD: Self = Self {
        occupancy_percent: 75,
        records: 1000,
    };
}

/// How to open a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RingOptions {
    /// When an append returns.
    pub durability: Durability,
    /// When a checkpoint is due.
    pub checkpoint: CheckpointPolicy,
}

impl RingOptions {
    /// Every append is durable when it returns.
    pub const SYNC_EACH: Self = Self {
        durability: Durability::Each,
        checkpoint: CheckpointPolicy::STANDARD,
    };

    /// Appends are durable after the next sync.
    pub const ON_DEMAND: Self = Self {
        durability: Durability::OnDemand,
        checkpoint: CheckpointPolicy::STANDARD,
    };
}
