//! Model-specific registers: which are saved, read and written in chunks, every count checked.
//!
//! Invariant: a register that cannot be read is left out of the state, one that refuses its saved
//! value is an error that names it. `KVM_GET_MSRS` and `KVM_SET_MSRS` stop at the first register
//! they refuse and answer how many came before (Documentation/virt/kvm/api.rst, KVM_SET_MSRS).

use std::collections::BTreeMap;
use std::io;

use coldframe_hv::x86_64::msr::{self as rules, FEATURES, LostMsr};
use coldframe_hv::{Accepted, VcpuState};
use kvm_bindings::{KVM_MAX_MSR_ENTRIES, Msrs, kvm_msr_entry};
use kvm_ioctls::VcpuFd;

use super::{KvmHost, cpuid};
use crate::error::KvmError;
use crate::sys::{self, Request};

pub(super) use rules::{TSC, TSC_DEADLINE};

/// Number of machine-check banks (low byte) and features.
const MCG_CAP: u32 = 0x179;
const MCG_STATUS: u32 = 0x17a;
const MCG_CTL: u32 = 0x17b;
const MC0_CTL: u32 = 0x400;
const REGISTERS_PER_BANK: u32 = 4;
/// Thresholds of corrected errors, where the vCPU has them.
const MC0_CTL2: u32 = 0x280;
/// `KVM_X86_SETUP_MCE` (api.rst, section of that name).
const SETUP_MCE: Request = Request::write(0x9c, size_of::<u64>());

/// Gives the vCPU the machine-check banks that the saved one had; no register sets their number.
pub(super) fn set_machine_checks(vcpu: &VcpuFd, state: &VcpuState) -> Result<(), KvmError> {
    let Some(saved) = state.msrs.get(&MCG_CAP).copied() else {
        return Ok(());
    };
    if read(vcpu, state.index, &[MCG_CAP])?.get(&MCG_CAP) == Some(&saved) {
        return Ok(());
    }
    sys::write(vcpu, SETUP_MCE, &saved.to_le_bytes()).map_err(|_| KvmError::SetMsr {
        vcpu: state.index,
        index: MCG_CAP,
        value: saved,
    })
}

/// Memory type ranges, which `KVM_GET_MSR_INDEX_LIST` leaves out (Intel SDM volume 3, 13.11).
fn memory_types() -> impl Iterator<Item = u32> {
    const FIXED: [u32; 11] = [
        0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f,
    ];
    const DEFAULT: u32 = 0x2ff;
    (0x200..0x210).chain(FIXED).chain([DEFAULT])
}

/// Machine-check registers, which the list leaves out since their number differs by vCPU.
fn machine_checks(vcpu: &VcpuFd, index: u32) -> Result<Vec<u32>, KvmError> {
    let capability = read(vcpu, index, &[MCG_CAP])?;
    let banks = capability
        .get(&MCG_CAP)
        .map_or(0, |value| *value as u32 & 0xff);
    let registers = MC0_CTL..MC0_CTL + banks * REGISTERS_PER_BANK;
    let corrected = MC0_CTL2..MC0_CTL2 + banks;
    let machine = [MCG_CAP, MCG_STATUS, MCG_CTL];
    Ok(machine
        .into_iter()
        .chain(registers)
        .chain(corrected)
        .collect())
}

/// Every register of the vCPU that can be read, the TSC and its deadline included. Those of
/// Hyper-V's interface are left alone unless the guest's CPUID has it: reading one makes the kernel
/// keep state for it.
pub(super) fn read_all(
    vcpu: &VcpuFd,
    state: &VcpuState,
    host: &KvmHost,
) -> Result<BTreeMap<u32, u64>, KvmError> {
    let index = state.index;
    let mut wanted = host.identity().msr_indexes.clone();
    wanted.extend(FEATURES);
    wanted.extend(host.feature_msrs());
    wanted.extend(memory_types());
    wanted.extend(machine_checks(vcpu, index)?);
    wanted.extend([TSC, TSC_DEADLINE]);
    let has_hyper_v = cpuid::has_hyper_v(state);
    let is_wanted = |register: &u32| has_hyper_v || !rules::is_hyper_v(*register);
    let wanted: Vec<_> = wanted.into_iter().filter(is_wanted).collect();
    read(vcpu, index, &wanted)
}

/// Reads every register of a state back: what one write has set, another may have reset.
pub(super) fn check(vcpu: &VcpuFd, state: &VcpuState, accepted: &Accepted) -> Result<(), KvmError> {
    let has_hyper_v = cpuid::has_hyper_v(state);
    let is_written = |register: u32| has_hyper_v || !rules::is_hyper_v(register);
    let saved = state
        .msrs
        .iter()
        .map(|(register, value)| (*register, *value));
    let saved: BTreeMap<u32, u64> = saved.filter(|row| is_written(row.0)).collect();
    let written: Vec<u32> = saved.keys().copied().collect();
    let found = read(vcpu, state.index, &written)?;
    let lost = rules::lost(&saved, &found);
    let mut stands = lost.iter().filter(|row| !accepted.waives_msr(row.index));
    match stands.next() {
        None => Ok(()),
        Some(LostMsr {
            index,
            saved,
            found,
        }) => Err(KvmError::KeepMsr {
            vcpu: state.index,
            index: *index,
            value: *saved,
            found: *found,
        }),
    }
}

fn entry((index, data): (u32, u64)) -> kvm_msr_entry {
    kvm_msr_entry {
        index,
        data,
        ..Default::default()
    }
}

fn chunk_of(values: impl Iterator<Item = (u32, u64)>) -> Msrs {
    let entries: Vec<_> = values.take(KVM_MAX_MSR_ENTRIES).map(entry).collect();
    Msrs::from_entries(&entries).expect("the chunk is no longer than the limit")
}

/// Those of `wanted` that can be read.
pub(super) fn read(
    vcpu: &VcpuFd,
    index: u32,
    wanted: &[u32],
) -> Result<BTreeMap<u32, u64>, KvmError> {
    let mut values = BTreeMap::new();
    let mut rest = wanted;
    while !rest.is_empty() {
        let mut chunk = chunk_of(rest.iter().map(|register| (*register, 0)));
        let asked = chunk.as_slice().len();
        let got = vcpu
            .get_msrs(&mut chunk)
            .map_err(|error| KvmError::GetMsrs {
                vcpu: index,
                source: io::Error::from_raw_os_error(error.errno()),
            })?;
        let read = chunk.as_slice().iter().take(got);
        values.extend(read.map(|entry| (entry.index, entry.data)));
        // The one after the last that was read cannot be: leave it out and go on behind it.
        let refused = usize::from(got < asked);
        rest = rest.get(got + refused..).unwrap_or_default();
    }
    Ok(values)
}

/// Writes all of `values`. One that is refused is passed over if it has its value already, or was
/// waived by name.
pub(super) fn write(
    vcpu: &VcpuFd,
    index: u32,
    values: &[(u32, u64)],
    accepted: Option<&Accepted>,
) -> Result<(), KvmError> {
    let mut rest = values;
    while !rest.is_empty() {
        let chunk = chunk_of(rest.iter().copied());
        let asked = chunk.as_slice().len();
        let set = vcpu.set_msrs(&chunk).map_err(|error| KvmError::SetMsrs {
            vcpu: index,
            source: io::Error::from_raw_os_error(error.errno()),
        })?;
        if set < asked {
            let (register, value) = rest[set];
            let has_it = read(vcpu, index, &[register])?.get(&register) == Some(&value);
            let is_waived = accepted.is_some_and(|one| one.waives_msr(register));
            if !has_it && !is_waived {
                return Err(KvmError::SetMsr {
                    vcpu: index,
                    index: register,
                    value,
                });
            }
        }
        rest = rest
            .get(set + usize::from(set < asked)..)
            .unwrap_or_default();
    }
    Ok(())
}
