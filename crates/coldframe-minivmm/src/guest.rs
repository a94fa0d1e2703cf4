//! What every backend offers to the one who controls its guest.
//!
//! Invariant: every method but `resume` leaves the guest paused, or fails because it is not.

use std::ops::DerefMut;
use std::time::Duration;

use coldframe_dirty::DirtyBitmap;
use coldframe_hv::{Comparison, DirtySource, Machine, MachineState};

use crate::config::Shape;
use crate::digest::EndState;
use crate::error::MiniVmError;
use crate::event::{Event, Stops};
use crate::memory::{Ram, dirty_bitmap};
use crate::ports::Ports;

/// A guest and its machine, on KVM or simulated.
///
/// As a [`Machine`] its state is saved while it is paused, and restored before it has run. What is
/// not in there: RAM, and [`Guest::device_state`].
pub trait Guest: Machine<Error = MiniVmError> {
    /// Tells which pages the guest wrote.
    type Written: DirtySource<Error = MiniVmError>;

    /// Lets the guest run; returns at once.
    ///
    /// # Errors
    /// [`MiniVmError::AlreadyEnded`].
    fn resume(&mut self, stops: Stops) -> Result<(), MiniVmError>;

    /// Waits for an event, for so long at most, and pauses the guest.
    ///
    /// # Errors
    /// What went wrong while the guest ran.
    fn wait(&mut self, time: Duration) -> Result<Event, MiniVmError>;

    /// Pauses the guest wherever it is; nothing if it is paused. What happened until then is the
    /// next event.
    ///
    /// # Errors
    /// [`MiniVmError::ThreadDied`].
    fn pause(&mut self) -> Result<(), MiniVmError>;

    /// Guest RAM.
    fn memory(&self) -> &Ram;

    /// Tells which pages the guest itself wrote, by no way of the VMM's. It may be used while the
    /// machine is, and keeps RAM alive.
    fn written(&self) -> Self::Written;

    /// What is different on this host from the one that `state` was saved on.
    fn compare(&self, state: &MachineState) -> Comparison;

    /// vCPUs and interrupt controller.
    fn shape(&self) -> Shape;

    /// All that the guest has printed so far.
    fn console(&self) -> Vec<u8>;

    /// How many marks the guest has made so far.
    fn marks(&self) -> u64;

    /// How many port and MMIO exits the guest has made so far.
    fn exits(&self) -> u64;

    /// The guest's ports: what it is given, and its recording.
    fn ports(&mut self) -> impl DerefMut<Target = Ports>;

    /// The VMM's own device state, for a snapshot's device section: little-endian, version u32,
    /// last mark u32, marks u64, exits u64, length of the console u64, the console. Version 2,
    /// where there are inputs: the recording's id (16 bytes, zeros for none), length u64, what was
    /// typed and not read. Spec: `specs/minivmm.md`.
    fn device_state(&self) -> Vec<u8>;

    /// Takes a saved device state over; where inputs come from stays as it is.
    ///
    /// # Errors
    /// [`MiniVmError::DeviceState`]; nothing is changed then.
    fn restore_device(&mut self, bytes: &[u8]) -> Result<(), MiniVmError>;

    /// The digest of the guest as it stands, paused.
    ///
    /// # Errors
    /// [`MiniVmError::NotPaused`]; `Vcpu` and `AccessRam` where something cannot be read.
    fn end_state(&self) -> Result<EndState, MiniVmError>;

    /// Lets the guest run until something happens, and pauses it.
    ///
    /// # Errors
    /// As [`Guest::resume`] and [`Guest::wait`].
    fn run_until_event(&mut self, stops: Stops) -> Result<Event, MiniVmError> {
        self.resume(stops)?;
        self.wait(Duration::MAX)
    }

    /// The pages that were written through [`Guest::memory`], and those that were harvested from
    /// [`Guest::written`] into it.
    fn dirty(&self) -> &DirtyBitmap {
        dirty_bitmap(self.memory())
    }
}
