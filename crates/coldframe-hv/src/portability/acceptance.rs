//! Proof that a report was looked at, of one state and one host.

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::sync::Arc;

use super::msr_item;
use crate::{HostIdentity, MachineState};

/// What was compared, byte for byte: the state of a machine is small beside its memory, and a copy
/// needs no hash that might be wrong about two of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Binding(Arc<(MachineState, HostIdentity)>);

impl Binding {
    pub(super) fn of(state: &MachineState, host: &HostIdentity) -> Self {
        Self(Arc::new((state.clone(), host.clone())))
    }
}

/// Proof that a report was looked at: every item that had to be waived was.
///
/// It cannot be made in any other way; a restore takes it by value, and [checks](Self::check) that
/// it is of the state and the host at hand.
#[derive(Debug, PartialEq, Eq)]
pub struct Acceptance {
    waived: BTreeSet<String>,
    binding: Option<Binding>,
}

/// An acceptance of something else than what is to be restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotAccepted {
    /// It is of a report on two hosts, which says nothing of a state.
    #[error("the acceptance is of two hosts, not of a state: use PortabilityReport::of")]
    OfHosts,
    /// It is of another state, or the state was changed since.
    #[error("the acceptance is of another state than the one to be restored")]
    OtherState,
    /// It is of another host.
    #[error("the acceptance is of another host than this one")]
    OtherHost,
}

impl Acceptance {
    pub(super) fn new(waivers: &[&str], binding: Option<Binding>) -> Self {
        let waived = waivers.iter().map(|name| (*name).to_string()).collect();
        Self { waived, binding }
    }

    /// For adapters, before anything is written: that this is of `state`, byte for byte, and of
    /// `host`.
    ///
    /// # Errors
    /// [`NotAccepted`] saying what it is of instead.
    pub fn check(&self, state: &MachineState, host: &HostIdentity) -> Result<(), NotAccepted> {
        let Some(Binding(of)) = &self.binding else {
            return Err(NotAccepted::OfHosts);
        };
        match &**of {
            (_, its_host) if its_host != host => Err(NotAccepted::OtherHost),
            (its_state, _) if its_state != state => Err(NotAccepted::OtherState),
            _ => Ok(()),
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
}
