//! What coldframe asks of a hypervisor adapter. Pausing and resuming stay the VMM's own.

use coldframe_dirty::DirtyBitmap;
use coldframe_units::GenerationId;

use crate::{Accepted, MachineState};

/// A paused machine: all its vCPUs are out of the kernel and no device writes to its memory.
pub trait Machine {
    /// What can go wrong.
    type Error: core::error::Error + Send + Sync + 'static;

    /// Reads the whole state, in the order of the save plan.
    ///
    /// # Errors
    /// The adapter's own error, naming the operation that was refused.
    fn save(&self) -> Result<MachineState, Self::Error>;

    /// Writes the whole state into a machine that has just been made, in the order of the restore
    /// plan. That the differences of the hosts were looked at is what [`Accepted`] proves.
    ///
    /// # Errors
    /// The adapter's own error, naming the operation that was refused; the machine must then not
    /// be run.
    fn restore(&mut self, accepted: &Accepted) -> Result<Thawed, Self::Error>;
}

/// Where the pages that the guest wrote are learnt from.
///
/// The hypervisor sees what vCPUs write, not what the VMM's devices write: those are marked in the
/// same bitmap by the VMM (through the memory layer), and the union is what a diff holds.
pub trait DirtySource {
    /// What can go wrong.
    type Error: core::error::Error + Send + Sync + 'static;

    /// Adds each page written since the last harvest to `into`, and forgets it at the source.
    ///
    /// With all vCPUs stopped the result is exact; while they run, a page written during the call
    /// is reported by this call or the next.
    ///
    /// # Errors
    /// The adapter's own error. Pages already taken from the source are in `into`: none is lost.
    fn harvest(&mut self, into: &DirtyBitmap) -> Result<(), Self::Error>;
}

/// A machine that was restored and has not yet been told that it is a new run.
///
/// Two runs of one snapshot share random pools, identifiers and keys. Each restore therefore has a
/// new generation id, and the only way on is through [`Thawed::generation`]: hand the id to the
/// guest (VM generation id device, entropy), then let it run.
#[must_use = "the guest must be told its new generation id before it runs"]
#[derive(Debug, PartialEq, Eq)]
pub struct Thawed {
    generation: GenerationId,
}

impl Thawed {
    /// For adapters: a machine whose state is in place. `generation` must never have been used.
    pub const fn new(generation: GenerationId) -> Self {
        Self { generation }
    }

    /// The id of this run, to be handed to the guest before it runs.
    #[must_use = "hand the id to the guest before it runs"]
    pub const fn generation(self) -> GenerationId {
        self.generation
    }
}
