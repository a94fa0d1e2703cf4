//! Whether a vCPU is on, as PSCI sees it. It is restored as it was: a secondary vCPU that ran goes
//! on running, one that was off stays off.

use crate::{ItemKind, VcpuState};

/// The power state of a vCPU; its code is that of `struct kvm_mp_state`, on every hypervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PowerState {
    /// It runs, or waits for an interrupt (`KVM_MP_STATE_RUNNABLE`).
    On,
    /// It was never switched on, or switched itself off (`KVM_MP_STATE_STOPPED`).
    Off,
    /// It waits for a wake-up event (`KVM_MP_STATE_SUSPENDED`).
    Suspended,
}

impl PowerState {
    /// The code that files store.
    ///
    /// Source: Linux Documentation/virt/kvm/api.rst, `KVM_GET_MP_STATE`.
    #[must_use]
    pub const fn code(self) -> u32 {
        match self {
            Self::On => 0,
            Self::Off => 5,
            Self::Suspended => 10,
        }
    }

    /// From the code that files store; `None` if aarch64 has no such state.
    #[must_use]
    pub const fn from_code(code: u32) -> Option<Self> {
        match code {
            0 => Some(Self::On),
            5 => Some(Self::Off),
            10 => Some(Self::Suspended),
            _ => None,
        }
    }

    /// What a vCPU was; `None` if its state does not say, or says what aarch64 does not have.
    #[must_use]
    pub fn of(vcpu: &VcpuState) -> Option<Self> {
        let bytes = vcpu.items.get(&ItemKind::MP_STATE)?.as_slice();
        Self::from_code(u32::from_le_bytes(bytes.try_into().ok()?))
    }

    /// Says it of a vCPU.
    pub fn store(self, vcpu: &mut VcpuState) {
        let bytes = self.code().to_le_bytes().to_vec();
        vcpu.items.insert(ItemKind::MP_STATE, bytes);
    }
}
