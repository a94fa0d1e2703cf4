//! A machine state held against one host, and the proof that what differs was accepted.

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::ops::Deref;

use super::{Difference, Offer, PortabilityReport, Refused, msr_item, state};
use crate::{HostIdentity, Machine, MachineState, Thawed};

/// What a machine state would find different on a host: a [`PortabilityReport`] that belongs to
/// both, so that it can be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    report: PortabilityReport,
    compared: Arc<(MachineState, HostIdentity)>,
}

impl Comparison {
    /// Compares `state` with a host: the vCPUs' own CPUID and TSC rate are held against what the
    /// host offers, and so is what else the state asks for (length of the extended state,
    /// interrupt controller, vector lengths).
    ///
    /// ```
    /// # use coldframe_hv::{Comparison, HostIdentity, Machine, MachineState, Thawed};
    /// # fn thaw<M: Machine>(state: &MachineState, here: &HostIdentity, machine: &mut M)
    /// # -> Result<Thawed, Box<dyn std::error::Error>> {
    /// let comparison = Comparison::of(state, here.into());
    /// let accepted = comparison.accept(&["cpu.model"])?; // an error names every other item
    /// Ok(accepted.restore(machine)?)
    /// # }
    /// ```
    #[must_use]
    pub fn of(state: &MachineState, offer: Offer<'_>) -> Self {
        Self {
            report: PortabilityReport::new(state::compare(state, offer)),
            compared: Arc::new((state.clone(), offer.identity.clone())),
        }
    }

    /// Adds what an adapter knows to differ beside all that is compared here, such as the version
    /// of an opaque item. It can only add: no verdict of the report is taken back.
    #[must_use]
    pub fn with(mut self, items: impl IntoIterator<Item = Difference>) -> Self {
        self.report.differences.extend(items);
        self
    }

    /// Agrees to the differences named in `waivers`, and to no other.
    ///
    /// # Errors
    /// [`Refused`] with every item that had to be waived and was not, or that is impossible.
    pub fn accept(&self, waivers: &[&str]) -> Result<Accepted, Refused> {
        self.report.check(waivers)?;
        Ok(Accepted {
            waived: waivers.iter().map(|name| (*name).to_string()).collect(),
            compared: Arc::clone(&self.compared),
        })
    }
}

impl Deref for Comparison {
    type Target = PortabilityReport;

    fn deref(&self) -> &PortabilityReport {
        &self.report
    }
}

/// A machine state whose differences from one host were accepted: what an adapter restores.
///
/// [`Comparison::accept`] alone makes one. It owns the state, so that what is restored is what was
/// compared; an adapter [checks](Self::check) that the host is its own. Several machines may be
/// restored from one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    waived: BTreeSet<String>,
    compared: Arc<(MachineState, HostIdentity)>,
}

/// The state was accepted for another host than the one that is to restore it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the machine state was accepted for another host than this one")]
pub struct OtherHost;

impl Accepted {
    /// The state to be restored.
    #[must_use]
    pub fn state(&self) -> &MachineState {
        &self.compared.0
    }

    /// For adapters, before anything is written: that it was accepted for `host`.
    ///
    /// # Errors
    /// [`OtherHost`].
    pub fn check(&self, host: &HostIdentity) -> Result<(), OtherHost> {
        if self.compared.1 == *host {
            Ok(())
        } else {
            Err(OtherHost)
        }
    }

    /// Whether the item of this name was waived.
    #[must_use]
    pub fn waives(&self, item: &str) -> bool {
        self.waived.contains(item)
    }

    /// Whether the model-specific register `index` was waived: it may then be left out.
    #[must_use]
    pub fn waives_msr(&self, index: u32) -> bool {
        self.waives(&msr_item(index))
    }

    /// Writes the state into `machine`, which has just been made: [`Machine::restore`].
    ///
    /// # Errors
    /// Those of the adapter; the machine must then not be run.
    pub fn restore<M: Machine + ?Sized>(&self, machine: &mut M) -> Result<Thawed, M::Error> {
        machine.restore(self)
    }
}
