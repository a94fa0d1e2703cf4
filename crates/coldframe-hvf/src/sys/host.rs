//! What this host is, by the framework and sysctl(3).
//!
//! # Safety
//! sysctlbyname(3) is told the length of the buffer that it writes to, and no more than that is
//! read of it. The counter's rate is read by an instruction that any program may use.
#![allow(unsafe_code)]

use std::arch::asm;
use std::ffi::CStr;

use applevisor::vcpu::{FeatureReg, VcpuConfig};
use coldframe_hv::aarch64::SysReg;

use crate::calls::HvStatus;
use crate::error::{HvfError, Place};
use crate::host::{HostFacts, HvfHost};

const FEATURES: [(SysReg, FeatureReg); 12] = [
    (SysReg::new(3, 0, 0, 5, 0), FeatureReg::ID_AA64DFR0_EL1),
    (SysReg::new(3, 0, 0, 5, 1), FeatureReg::ID_AA64DFR1_EL1),
    (SysReg::new(3, 0, 0, 6, 0), FeatureReg::ID_AA64ISAR0_EL1),
    (SysReg::new(3, 0, 0, 6, 1), FeatureReg::ID_AA64ISAR1_EL1),
    (SysReg::new(3, 0, 0, 7, 0), FeatureReg::ID_AA64MMFR0_EL1),
    (SysReg::new(3, 0, 0, 7, 1), FeatureReg::ID_AA64MMFR1_EL1),
    (SysReg::new(3, 0, 0, 7, 2), FeatureReg::ID_AA64MMFR2_EL1),
    (SysReg::new(3, 0, 0, 4, 0), FeatureReg::ID_AA64PFR0_EL1),
    (SysReg::new(3, 0, 0, 4, 1), FeatureReg::ID_AA64PFR1_EL1),
    (SysReg::new(3, 3, 0, 0, 1), FeatureReg::CTR_EL0),
    (SysReg::new(3, 1, 0, 0, 1), FeatureReg::CLIDR_EL1),
    (SysReg::new(3, 3, 0, 0, 7), FeatureReg::DCZID_EL0),
];

pub(super) fn probe() -> Result<HvfHost, HvfError> {
    let config = VcpuConfig::new();
    let mut features = Vec::with_capacity(FEATURES.len());
    for (register, name) in FEATURES {
        let value = config.get_feature_reg(name).map_err(super::status);
        let call = "hv_vcpu_config_get_feature_reg";
        features.push((register, value.map_err(HvfError::call(call, Place::Vm))?));
    }
    let counter_hz: u64;
    // SAFETY: reads a register that EL0 may read; changes nothing.
    unsafe { asm!("mrs {}, cntfrq_el0", out(reg) counter_hz, options(nomem, nostack, pure)) };
    let text = |bytes: Vec<u8>| {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        text.trim_end_matches('\0').to_owned()
    };
    let family = sysctl(c"hw.cpufamily")?
        .try_into()
        .map_or(0, u32::from_le_bytes);
    Ok(HvfHost::new(HostFacts {
        brand: text(sysctl(c"machdep.cpu.brand_string")?),
        family,
        build: text(sysctl(c"kern.osversion")?),
        counter_hz,
        features,
    }))
}

fn sysctl(name: &CStr) -> Result<Vec<u8>, HvfError> {
    let mut buffer = vec![0_u8; 256];
    let mut len = buffer.len();
    // SAFETY: the buffer has `len` bytes, and nothing is set.
    let code = unsafe {
        libc::sysctlbyname(
            name.as_ptr(),
            buffer.as_mut_ptr().cast(),
            &raw mut len,
            std::ptr::null_mut(),
            0,
        )
    };
    if code != 0 {
        return Err(HvfError::Call {
            call: "sysctlbyname",
            place: Place::Vm,
            source: HvStatus::Error,
        });
    }
    buffer.truncate(len);
    Ok(buffer)
}
