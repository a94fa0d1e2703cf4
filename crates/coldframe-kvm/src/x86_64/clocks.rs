//! The guest's time-stamp counters.
//!
//! Invariant: the guest's counters go on from where they stopped, and their distances from each
//! other are kept exactly, where the kernel has TSC offsets (Linux 5.16). All offsets are computed
//! from one reading of one counter: one write to each counter at its own moment would let them
//! drift apart, and KVM takes writes close together for an attempt to synchronise.
//!
//! Source: Linux Documentation/virt/kvm/devices/vcpu.rst, KVM_VCPU_TSC_CTRL.

use std::io;

use coldframe_hv::{Accepted, GuestTime, ItemKind, MachineState, VcpuState};
use kvm_bindings::{KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET};
use kvm_ioctls::VcpuFd;

use super::{KvmMachine, msr};
use crate::error::{KvmError, Place};
use crate::sys::{self, Attribute};

const OFFSET: Attribute = Attribute {
    group: KVM_VCPU_TSC_CTRL,
    attr: KVM_VCPU_TSC_OFFSET as u64,
};

/// Rates closer than this are left as they are (`tsc_tolerance_ppm`, Linux arch/x86/kvm/x86.c).
const RATE_TOLERANCE_PPM: u64 = 250;

/// The local APIC's timer entry, in bytes from the start of its registers, and the bits that say
/// that it is not masked and in deadline mode (Intel SDM volume 3, 12.5.1).
const LVT_TIMER: usize = 0x320;
const LVT_MASKED: u32 = 1 << 16;
const LVT_MODE: u32 = 3 << 17;
const LVT_DEADLINE: u32 = 2 << 17;

/// Rate of the vCPU's TSC in kHz; `None` if the kernel cannot say.
pub(super) fn read_rate(vcpu: &VcpuFd) -> Option<Vec<u8>> {
    let rate = vcpu.get_tsc_khz().ok().filter(|rate| *rate > 0)?;
    Some(rate.to_le_bytes().to_vec())
}

/// Sets the rate if it is another one.
pub(super) fn write_rate(
    vcpu: &VcpuFd,
    state: &VcpuState,
    accepted: &Accepted,
) -> Result<(), KvmError> {
    let item = ItemKind::TSC_KHZ;
    let place = Place::Vcpu(state.index);
    let Some(bytes) = state.items.get(&item) else {
        return Ok(());
    };
    let saved = u32::from_le_bytes(fixed(item, place, bytes)?);
    let here = vcpu.get_tsc_khz().unwrap_or(0);
    let apart = u64::from(saved.abs_diff(here)) * 1_000_000;
    if apart <= u64::from(saved) * RATE_TOLERANCE_PPM {
        return Ok(());
    }
    match vcpu.set_tsc_khz(saved) {
        Ok(()) => Ok(()),
        Err(_) if accepted.waives("tsc.khz") => Ok(()),
        Err(error) => Err(KvmError::SetItem {
            item,
            place,
            source: io::Error::from_raw_os_error(error.errno()),
        }),
    }
}

/// What KVM adds to the host's counter for this vCPU; `None` if the kernel does not say.
pub(super) fn read_offset(vcpu: &VcpuFd, index: u32) -> Result<Option<Vec<u8>>, KvmError> {
    if !has_offset(vcpu, index)? {
        return Ok(None);
    }
    let offset = get_offset(vcpu, index)?;
    Ok(Some(offset.to_le_bytes().to_vec()))
}

fn has_offset(vcpu: &VcpuFd, index: u32) -> Result<bool, KvmError> {
    sys::has_attribute(vcpu, OFFSET).map_err(|source| KvmError::GetItem {
        item: ItemKind::TSC_OFFSET,
        place: Place::Vcpu(index),
        source,
    })
}

fn get_offset(vcpu: &VcpuFd, index: u32) -> Result<u64, KvmError> {
    sys::get_attribute(vcpu, OFFSET).map_err(|source| KvmError::GetItem {
        item: ItemKind::TSC_OFFSET,
        place: Place::Vcpu(index),
        source,
    })
}

/// Sets the counters of all vCPUs.
pub(super) fn write_counters(
    machine: &KvmMachine<'_>,
    state: &MachineState,
    accepted: &Accepted,
) -> Result<(), KvmError> {
    let (Some(first), Some(boot)) = (state.vcpus.first(), machine.vcpus.first()) else {
        return Ok(());
    };
    let Some(saved) = first.msrs.get(&msr::TSC).copied() else {
        return Ok(());
    };
    let offsets: Option<Vec<u64>> = state.vcpus.iter().map(saved_offset).collect();
    let saved = saved.wrapping_add(ticks(machine.time, first));
    let mut by_offset = true;
    for (index, vcpu) in machine.numbered() {
        by_offset &= has_offset(vcpu, index)?;
    }
    let (Some(offsets), true) = (offsets, by_offset) else {
        // One value for all: KVM makes counters that are written so within a second equal.
        for (index, vcpu) in machine.numbered() {
            msr::write(vcpu, index, &[(msr::TSC, saved)], Some(accepted))?;
        }
        return Ok(());
    };
    // guest = host + offset: the host's counter at the one moment of reference.
    let now = msr::read(boot, 0, &[msr::TSC])?;
    let now = now.get(&msr::TSC).copied().unwrap_or(0);
    let host = now.wrapping_sub(get_offset(boot, 0)?);
    let base = saved.wrapping_sub(host);
    for ((index, vcpu), offset) in machine.numbered().zip(&offsets) {
        let distance = offset.wrapping_sub(offsets[0]);
        sys::set_attribute(vcpu, OFFSET, base.wrapping_add(distance)).map_err(|source| {
            KvmError::SetItem {
                item: ItemKind::TSC_OFFSET,
                place: Place::Vcpu(index),
                source,
            }
        })?;
    }
    Ok(())
}

/// How far the counter is ahead, at the guest's own rate.
fn ticks(time: GuestTime, vcpu: &VcpuState) -> u64 {
    const NANOS_PER_MS: u128 = 1_000_000;
    let GuestTime::Advance { nanos } = time else {
        return 0;
    };
    let bytes = vcpu.items.get(&ItemKind::TSC_KHZ).map(Vec::as_slice);
    let khz = bytes.and_then(|bytes| bytes.try_into().ok());
    let khz = khz.map_or(0, u32::from_le_bytes);
    // kHz are ticks in a millisecond.
    let ticks = u128::from(nanos) * u128::from(khz) / NANOS_PER_MS;
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

fn saved_offset(vcpu: &VcpuState) -> Option<u64> {
    let bytes = vcpu.items.get(&ItemKind::TSC_OFFSET)?;
    Some(u64::from_le_bytes(bytes.as_slice().try_into().ok()?))
}

/// Sets the deadline of the LAPIC's timer.
///
/// A deadline that had passed but whose interrupt was not yet taken reads as 0, and would be lost:
/// it is set to the counter's value, so that it fires at once. Found by Firecracker
/// (`fix_zero_tsc_deadline_msr`). A timer that is masked or in another mode keeps its 0.
pub(super) fn write_deadline(
    vcpu: &VcpuFd,
    state: &VcpuState,
    accepted: &Accepted,
) -> Result<(), KvmError> {
    let Some(saved) = state.msrs.get(&msr::TSC_DEADLINE).copied() else {
        return Ok(());
    };
    let counter = state.msrs.get(&msr::TSC).copied().unwrap_or(0);
    let deadline = if saved == 0 && waits_for_deadline(state) {
        counter
    } else {
        saved
    };
    msr::write(
        vcpu,
        state.index,
        &[(msr::TSC_DEADLINE, deadline)],
        Some(accepted),
    )
}

fn waits_for_deadline(state: &VcpuState) -> bool {
    let registers = state.items.get(&ItemKind::LAPIC);
    let entry = registers.and_then(|bytes| bytes.get(LVT_TIMER..LVT_TIMER + 4));
    let entry = entry
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, u32::from_le_bytes);
    entry & (LVT_MODE | LVT_MASKED) == LVT_DEADLINE
}

/// Bytes of a structure whose length is known.
pub(super) fn fixed<const N: usize>(
    item: ItemKind,
    place: Place,
    bytes: &[u8],
) -> Result<[u8; N], KvmError> {
    bytes.try_into().map_err(|_| KvmError::MatchItem {
        item,
        place,
        found: bytes.len(),
        expected: N,
    })
}
