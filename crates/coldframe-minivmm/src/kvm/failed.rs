//! Calls to KVM that failed.

use crate::error::MiniVmError;

/// A failed call to KVM.
pub(super) fn kvm_error(call: &'static str, source: kvm_ioctls::Error) -> MiniVmError {
    MiniVmError::Kvm {
        call,
        source: source.into(),
    }
}

/// A failed call to KVM on one vCPU.
pub(super) fn vcpu_error(call: &'static str, vcpu: u8, source: kvm_ioctls::Error) -> MiniVmError {
    MiniVmError::Vcpu {
        call,
        vcpu,
        source: source.into(),
    }
}
