//! Target and features of a vCPU, and making them final.

use std::io;

use coldframe_hv::{ItemKind, VcpuState};
use kvm_bindings::{KVM_ARM_VCPU_POWER_OFF, KVM_ARM_VCPU_SVE, kvm_vcpu_init};
use kvm_ioctls::VcpuFd;

use crate::error::{KvmError, Place};

/// Target, and seven words of features.
const WORDS: usize = 8;

/// The bytes of `init` as a state keeps them: whether a vCPU is on is its power state's affair.
pub(super) fn encode(init: &kvm_vcpu_init) -> Vec<u8> {
    let mut words = [0; WORDS];
    words[0] = init.target;
    words[1..].copy_from_slice(&init.features);
    words[1] &= !(1 << KVM_ARM_VCPU_POWER_OFF);
    words.into_iter().flat_map(u32::to_le_bytes).collect()
}

/// What a vCPU was initialised with.
pub(super) fn of(state: &VcpuState) -> Result<kvm_vcpu_init, KvmError> {
    let item = ItemKind::VCPU_INIT;
    let place = Place::Vcpu(state.index);
    let bytes = state.items.get(&item);
    let bytes = bytes.ok_or(KvmError::FindItem { item, place })?;
    let (words, rest) = bytes.as_chunks::<4>();
    let words: Vec<u32> = words.iter().map(|word| u32::from_le_bytes(*word)).collect();
    match (words.as_slice(), rest) {
        (&[target, a, b, c, d, e, f, g], []) => Ok(kvm_vcpu_init {
            target,
            features: [a, b, c, d, e, f, g],
        }),
        _ => Err(KvmError::MatchItem {
            item,
            place,
            found: bytes.len(),
            expected: WORDS * size_of::<u32>(),
        }),
    }
}

/// `KVM_ARM_VCPU_INIT` (api.rst, section of that name): EINVAL if the vCPU was initialised with
/// another target or other features. Some kernels (Linux 6.1) count among these whether it starts
/// switched off, which its power state decides later: both are tried.
pub(super) fn restore(vcpu: &VcpuFd, state: &VcpuState) -> Result<(), KvmError> {
    let mut init = of(state)?;
    let first = vcpu.vcpu_init(&init);
    init.features[0] |= 1 << KVM_ARM_VCPU_POWER_OFF;
    first
        .or_else(|refused| vcpu.vcpu_init(&init).map_err(|_| refused))
        .map_err(|e| set_error(state.index, e))
}

/// `KVM_ARM_VCPU_FINALIZE` (api.rst, section of that name) of the vector registers, if there are
/// any.
pub(super) fn finalize(vcpu: &VcpuFd, state: &VcpuState) -> Result<(), KvmError> {
    if of(state)?.features[0] & 1 << KVM_ARM_VCPU_SVE == 0 {
        return Ok(());
    }
    let feature = i32::try_from(KVM_ARM_VCPU_SVE).expect("the number of a feature is small");
    let finalized = vcpu.vcpu_finalize(&feature);
    finalized.map_err(|e| set_error(state.index, e))
}

fn set_error(vcpu: u32, error: kvm_ioctls::Error) -> KvmError {
    KvmError::SetItem {
        item: ItemKind::VCPU_INIT,
        place: Place::Vcpu(vcpu),
        source: io::Error::from_raw_os_error(error.errno()),
    }
}
