//! Registers that KVM lists one by one on x86_64 (Linux 6.18): the shadow-stack pointer.
//!
//! Invariant: a register that the kernel lists is in the state, or the save fails; a guest that
//! sees shadow stacks has its pointer in the state, or is refused by name.
//!
//! Source: Linux arch/x86/include/uapi/asm/kvm.h, KVM_REG_GUEST_SSP; api.rst, KVM_GET_REG_LIST.

use std::io;

use coldframe_hv::{Accepted, VcpuState};
use kvm_ioctls::VcpuFd;

use super::cpuid;
use crate::error::KvmError;
use crate::sys::{self, Request};

/// `KVM_GET_REG_LIST`: the structure is as long as its first word says, in words.
const LIST: Request = Request::read_write(0xb0, 8);
/// `KVM_GET_ONE_REG` and `KVM_SET_ONE_REG`, `struct kvm_one_reg`: number and address of a value.
const VALUE_BYTES: usize = 8;
/// `KVM_REG_GUEST_SSP`: x86, 64 bits, type 3 (KVM's own), number 0.
const GUEST_SSP: u64 = 0x2030_0003_0000_0000;

/// Every register that the kernel lists; none before Linux 6.18.
fn list(vcpu: &VcpuFd, index: u32) -> Result<Vec<u64>, KvmError> {
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
        let Err(error) = asked else {
            return Ok(words.take(there).collect());
        };
        match error.raw_os_error() {
            Some(libc::E2BIG) if there > count => count = there,
            // No such call on this kernel.
            Some(libc::EINVAL | libc::ENOTTY) => return Ok(Vec::new()),
            _ => return Err(failed(error)),
        }
    }
}

/// Reads the registers.
pub(super) fn save(vcpu: &VcpuFd, state: &mut VcpuState) -> Result<(), KvmError> {
    for register in list(vcpu, state.index)? {
        let mut value = [0; VALUE_BYTES];
        sys::get_one_reg(vcpu, register, &mut value).map_err(|source| KvmError::GetListed {
            vcpu: state.index,
            register,
            source,
        })?;
        state.regs.insert(register, value.to_vec());
    }
    if cpuid::has_shadow_stacks(state) && !state.regs.contains_key(&GUEST_SSP) {
        return Err(KvmError::Unsupported {
            what: "the shadow-stack pointer (CPUID.7.ECX.SHSTK; KVM_REG_GUEST_SSP, Linux 6.18)",
        });
    }
    Ok(())
}

/// Writes the registers. One that is refused is passed over if it has its value already, or was
/// waived by name.
pub(super) fn restore(
    vcpu: &VcpuFd,
    state: &VcpuState,
    accepted: &Accepted,
) -> Result<(), KvmError> {
    for (register, value) in &state.regs {
        let (register, vcpu_index) = (*register, state.index);
        if accepted.waives(&format!("reg.{register:#018x}")) {
            continue;
        }
        let Ok(value) = <[u8; VALUE_BYTES]>::try_from(value.as_slice()) else {
            return Err(KvmError::SetListed {
                vcpu: vcpu_index,
                register,
                source: io::Error::from_raw_os_error(libc::EINVAL),
            });
        };
        let Err(source) = sys::set_one_reg(vcpu, register, &value) else {
            continue;
        };
        let mut here = [0; VALUE_BYTES];
        let has_it = sys::get_one_reg(vcpu, register, &mut here).is_ok() && here == value;
        if !has_it {
            return Err(KvmError::SetListed {
                vcpu: vcpu_index,
                register,
                source,
            });
        }
    }
    Ok(())
}
