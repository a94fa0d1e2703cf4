//! Pending SErrors, and what is refused: memory tags.
//!
//! Invariant: a machine with memory tagging is refused before anything is read, since its tags are
//! outside of the bytes that are copied.
//!
//! Source: Linux Documentation/virt/kvm/api.rst, KVM_GET_VCPU_EVENTS, KVM_CAP_ARM_MTE.

use coldframe_hv::aarch64::{RegId, SysReg, has_memory_tags};
use coldframe_hv::{ItemKind, VcpuState};
use kvm_bindings::{KVM_CAP_VCPU_EVENTS, kvm_vcpu_events};
use kvm_ioctls::VcpuFd;

use super::{KvmMachine, regs};
use crate::error::{KvmError, Place};
use crate::sys::{self, Request};

const BYTES: usize = size_of::<kvm_vcpu_events>();
/// `KVM_GET_VCPU_EVENTS`.
const GET: Request = Request::read(0x9f, BYTES);
/// `KVM_SET_VCPU_EVENTS`.
const SET: Request = Request::write(0xa0, BYTES);
const ID_AA64PFR1_EL1: RegId = RegId::from_system(SysReg::new(3, 0, 0, 4, 1));

/// Refuses a machine whose guest has allocation tags.
pub(super) fn refuse_memory_tags(machine: &KvmMachine<'_>) -> Result<(), KvmError> {
    for (index, vcpu) in machine.numbered() {
        if !regs::list(vcpu, index)?.contains(&ID_AA64PFR1_EL1) {
            continue;
        }
        let features = regs::get_u64(vcpu, index, ID_AA64PFR1_EL1)?;
        if has_memory_tags(features) {
            return Err(KvmError::Unsupported {
                what: "memory tagging (ID_AA64PFR1_EL1.MTE, KVM_CAP_ARM_MTE)",
            });
        }
    }
    Ok(())
}

/// Reads what is pending; nothing on a kernel without the call (before Linux 4.20).
pub(super) fn save(
    machine: &KvmMachine<'_>,
    vcpu: &VcpuFd,
    state: &mut VcpuState,
) -> Result<(), KvmError> {
    if machine.vm.check_extension_raw(KVM_CAP_VCPU_EVENTS.into()) <= 0 {
        return Ok(());
    }
    let mut bytes = vec![0; BYTES];
    sys::read(vcpu, GET, &mut bytes).map_err(|source| KvmError::GetItem {
        item: ItemKind::VCPU_EVENTS,
        place: Place::Vcpu(state.index),
        source,
    })?;
    state.items.insert(ItemKind::VCPU_EVENTS, bytes);
    Ok(())
}

/// Makes the saved SError pending again. Nothing is written where nothing was pending: a state of
/// an earlier version has no such item.
pub(super) fn restore(vcpu: &VcpuFd, state: &VcpuState) -> Result<(), KvmError> {
    let (item, place) = (ItemKind::VCPU_EVENTS, Place::Vcpu(state.index));
    let Some(bytes) = state.items.get(&item) else {
        return Ok(());
    };
    if bytes.len() != BYTES {
        return Err(KvmError::MatchItem {
            item,
            place,
            found: bytes.len(),
            expected: BYTES,
        });
    }
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok(());
    }
    sys::write(vcpu, SET, bytes).map_err(|source| KvmError::SetItem {
        item,
        place,
        source,
    })
}
