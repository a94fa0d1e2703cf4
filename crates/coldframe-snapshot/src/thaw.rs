//! Thawing, the mirror of freezing: each step a type of its own, and nothing read twice.
//!
//! [`Snapshot::thaw`] opens the chain and reads the state once; [`Thaw::compare`] holds the state
//! against a host, and what is accepted owns it; [`Thaw::memory`] gives the guest its memory in the
//! way that was asked for, or is an error.

use std::path::PathBuf;

use coldframe_hv::{Comparison, DeviceState, MachineState, Offer};
use coldframe_mem::{Layers, Source};

use crate::{Chain, SavedState, Snapshot, SnapshotError};

impl Snapshot {
    /// Begins to thaw it: finds its parents beside it and in the directories of `search`, opens
    /// and checks the memory files of all, and reads and decodes the machine's state.
    ///
    /// # Errors
    /// As [`Chain::of`] and [`Chain::thaw`].
    pub fn thaw(self, search: &[PathBuf]) -> Result<Thaw, SnapshotError> {
        Chain::of(self, search)?.thaw()
    }
}

impl Chain {
    /// Begins to thaw its youngest snapshot.
    ///
    /// # Errors
    /// [`SnapshotError::NoMachine`] if only memory, or an opaque state, was imported: such a
    /// snapshot has [`Chain::memory`] and [`Snapshot::state`]; else as those two.
    pub fn thaw(self) -> Result<Thaw, SnapshotError> {
        let saved = self.youngest().state()?;
        let machine = saved.machine()?;
        let devices = saved.devices()?;
        let layers = self.memory()?;
        Ok(Thaw {
            chain: self,
            layers,
            saved,
            machine,
            devices,
        })
    }
}

/// A snapshot that is being thawed: everything but its memory's pages was read and checked.
///
/// It may be thawed into several machines.
#[derive(Debug)]
pub struct Thaw {
    chain: Chain,
    layers: Layers,
    saved: SavedState,
    machine: MachineState,
    devices: Vec<DeviceState>,
}

impl Thaw {
    /// The snapshot.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        self.chain.youngest()
    }

    /// The machine's state, to make a machine of its shape.
    #[must_use]
    pub const fn machine(&self) -> &MachineState {
        &self.machine
    }

    /// The states of the VMM's devices.
    #[must_use]
    pub fn devices(&self) -> &[DeviceState] {
        &self.devices
    }

    /// The state file, for sections of the VMM's own.
    #[must_use]
    pub const fn saved(&self) -> &SavedState {
        &self.saved
    }

    /// The memory files of the snapshot and of its parents.
    #[must_use]
    pub const fn layers(&self) -> &Layers {
        &self.layers
    }

    /// Holds the machine's state against a host, item by item.
    #[must_use]
    pub fn compare<'a>(&self, host: impl Into<Offer<'a>>) -> Comparison {
        Comparison::of(&self.machine, host.into())
    }

    /// Gives a guest the memory, as `source` says: [`Map`](coldframe_mem::Map) maps the files and
    /// checks no hash, [`CopyInto`](coldframe_mem::CopyInto) checks each block that it copies.
    ///
    /// # Errors
    /// Those of the source: it is not replaced by another.
    pub fn memory<S: Source>(&self, source: S) -> Result<S::Memory, S::Error> {
        source.restore(&self.layers)
    }
}
