//! Registers one by one: which there are, what they hold, and which this kernel does not have.
//!
//! Invariant: a register that the kernel lists is in the state, or the save fails; a register of
//! the state is written, has its value already, or was waived by its own name.

use std::collections::BTreeSet;
use std::io;

use coldframe_hv::aarch64::{RegId, RegStep, register_item};
use coldframe_hv::{Accepted, VcpuState};
use kvm_ioctls::VcpuFd;

use crate::error::KvmError;
use crate::sys::{self, Request};

/// `KVM_GET_REG_LIST` (api.rst, section of that name): the structure is as long as its first word
/// says, in words.
const LIST: Request = Request::read_write(0xb0, 8);

/// Every register that the kernel has for this vCPU, which must be finalised.
pub(super) fn list(vcpu: &VcpuFd, index: u32) -> Result<BTreeSet<RegId>, KvmError> {
    let failed = |source| KvmError::ListRegisters {
        vcpu: index,
        source,
    };
    let mut count = 0;
    loop {
        let mut bytes = vec![0; 8 + count * 8];
        bytes[..8].copy_from_slice(&(count as u64).to_le_bytes());
        let asked = sys::read(vcpu, LIST, &mut bytes);
        let (words, _) = bytes.as_chunks::<8>();
        let mut words = words.iter().map(|word| u64::from_le_bytes(*word));
        let there = usize::try_from(words.next().unwrap_or(0)).unwrap_or(usize::MAX);
        match asked {
            Ok(()) => return Ok(words.take(there).map(RegId::from_kvm).collect()),
            // The kernel says how many there are: ask again, with room for all.
            Err(error) if error.raw_os_error() == Some(libc::E2BIG) && there > count => {
                count = there;
            }
            Err(source) => return Err(failed(source)),
        }
    }
}

/// The value of one register.
pub(super) fn get(vcpu: &VcpuFd, index: u32, register: RegId) -> Result<Vec<u8>, KvmError> {
    let mut value = vec![0; register.bytes().unwrap_or(0)];
    vcpu.get_one_reg(register.to_kvm(), &mut value)
        .map_err(|error| KvmError::GetRegister {
            vcpu: index,
            register,
            source: io::Error::from_raw_os_error(error.errno()),
        })?;
    Ok(value)
}

/// The value of a register of 64 bits.
pub(super) fn get_u64(vcpu: &VcpuFd, index: u32, register: RegId) -> Result<u64, KvmError> {
    let value = get(vcpu, index, register)?;
    Ok(value
        .first_chunk()
        .map_or(0, |bytes| u64::from_le_bytes(*bytes)))
}

/// Writes one register.
pub(super) fn set(
    vcpu: &VcpuFd,
    index: u32,
    register: RegId,
    value: &[u8],
) -> Result<(), KvmError> {
    vcpu.set_one_reg(register.to_kvm(), value)
        .map(drop)
        .map_err(|error| KvmError::SetRegister {
            vcpu: index,
            register,
            source: io::Error::from_raw_os_error(error.errno()),
        })
}

/// Reads the registers that this step of a restore writes.
pub(super) fn save(vcpu: &VcpuFd, step: RegStep, state: &mut VcpuState) -> Result<(), KvmError> {
    for register in list(vcpu, state.index)? {
        if register.restored_in() == Some(step) {
            let value = get(vcpu, state.index, register)?;
            state.regs.insert(register.code(), value);
        }
    }
    Ok(())
}

/// Writes the registers of this step. One that is refused is passed over if it has its value
/// already, or was waived by name.
pub(super) fn restore(
    vcpu: &VcpuFd,
    step: RegStep,
    state: &VcpuState,
    accepted: &Accepted,
) -> Result<(), KvmError> {
    for (code, value) in &state.regs {
        let register = RegId::from_code(*code);
        if register.restored_in() != Some(step) || accepted.waives(&register_item(*code)) {
            continue;
        }
        let Err(refused) = set(vcpu, state.index, register, value) else {
            continue;
        };
        if !get(vcpu, state.index, register).is_ok_and(|here| here == *value) {
            return Err(refused);
        }
    }
    Ok(())
}

/// That this kernel has each register of the state, save those that were waived by name.
pub(super) fn check_known(
    vcpu: &VcpuFd,
    state: &VcpuState,
    accepted: &Accepted,
) -> Result<(), KvmError> {
    let here = list(vcpu, state.index)?;
    let saved = state.regs.keys().map(|code| RegId::from_code(*code));
    let registers: Vec<RegId> = saved
        .filter(|register| register.restored_in().is_some() && !here.contains(register))
        .filter(|register| !accepted.waives(&register_item(register.code())))
        .collect();
    if registers.is_empty() {
        return Ok(());
    }
    Err(KvmError::UnknownRegisters {
        vcpu: state.index,
        registers,
    })
}
