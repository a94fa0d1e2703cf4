//! The calls that read and set what a vCPU is made of.

use super::cpu::{CNTP, CNTP_TVAL, ICC_RPR, MIDR, MPIDR, X_COUNT, is_system};
use super::{Answer, Framework, HV_BAD_ARGUMENT, HV_DENIED, HV_UNSUPPORTED, lock};

impl Framework {
    /// `hv_vcpu_get_reg`, by number: x0 to x30, PC, FPCR, FPSR, CPSR.
    ///
    /// # Errors
    /// `HV_BAD_ARGUMENT`.
    pub fn reg(&self, id: u64, register: u32) -> Answer<u64> {
        self.on(id, |cpu| {
            cpu.core
                .get(register as usize)
                .copied()
                .ok_or(HV_BAD_ARGUMENT)
        })
    }

    /// `hv_vcpu_set_reg`.
    ///
    /// # Errors
    /// `HV_BAD_ARGUMENT`.
    pub fn set_reg(&self, id: u64, register: u32, value: u64) -> Answer<()> {
        self.on(id, |cpu| {
            let place = cpu.core.get_mut(register as usize).ok_or(HV_BAD_ARGUMENT)?;
            // Floating-point and program status have 32 bits.
            let is_short = register as usize > X_COUNT;
            *place = if is_short { value & 0xffff_ffff } else { value };
            Ok(())
        })
    }

    /// `hv_vcpu_get_simd_fp_reg`.
    ///
    /// # Errors
    /// `HV_BAD_ARGUMENT`.
    pub fn simd(&self, id: u64, register: u8) -> Answer<[u8; 16]> {
        self.on(id, |cpu| {
            let value = cpu.simd.get(usize::from(register));
            value.copied().ok_or(HV_BAD_ARGUMENT)
        })
    }

    /// `hv_vcpu_set_simd_fp_reg`.
    ///
    /// # Errors
    /// `HV_BAD_ARGUMENT`.
    pub fn set_simd(&self, id: u64, register: u8, value: [u8; 16]) -> Answer<()> {
        self.on(id, |cpu| {
            let place = cpu.simd.get_mut(usize::from(register));
            *place.ok_or(HV_BAD_ARGUMENT)? = value;
            Ok(())
        })
    }

    /// `hv_vcpu_get_sys_reg`.
    ///
    /// # Errors
    /// `HV_UNSUPPORTED` for the physical timer where there is none, and always for what is left of
    /// it; `HV_BAD_ARGUMENT` for registers that the framework does not have.
    pub fn sys_reg(&self, id: u64, register: u16) -> Answer<u64> {
        let offered = self.check_system(register);
        self.on(id, |cpu| {
            offered?;
            if register == MPIDR {
                return Ok(cpu.affinity.unwrap_or(0));
            }
            Ok(cpu.system.get(&register).copied().unwrap_or(0))
        })
    }

    /// `hv_vcpu_set_sys_reg`.
    ///
    /// # Errors
    /// As [`Self::sys_reg`]; `HV_DENIED` for MIDR_EL1, and for affinity once the vCPU has run;
    /// `HV_BAD_ARGUMENT` (the model's choice) for an affinity that another vCPU has.
    pub fn set_sys_reg(&self, id: u64, register: u16, value: u64) -> Answer<()> {
        let offered = self.check_system(register);
        let is_taken = register == MPIDR && self.is_taken(id, value);
        self.on(id, |cpu| {
            offered?;
            match register {
                MIDR => return Err(HV_DENIED),
                MPIDR if cpu.has_run => return Err(HV_DENIED),
                MPIDR if is_taken => return Err(HV_BAD_ARGUMENT),
                MPIDR => cpu.affinity = Some(value),
                other => {
                    cpu.system.insert(other, value);
                }
            }
            self.check_timer(cpu);
            Ok(())
        })?;
        if register == MPIDR {
            *lock(&self.find(id)?.known_affinity) = Some(value);
        }
        Ok(())
    }

    fn check_system(&self, register: u16) -> Answer<()> {
        if register == CNTP_TVAL || CNTP.contains(&register) {
            let has = self.inner.host.has_physical_timer && register != CNTP_TVAL;
            return if has { Ok(()) } else { Err(HV_UNSUPPORTED) };
        }
        if register == MPIDR || is_system(register) {
            Ok(())
        } else {
            Err(HV_BAD_ARGUMENT)
        }
    }

    /// `hv_gic_get_icc_reg`.
    ///
    /// # Errors
    /// `HV_BAD_ARGUMENT` before the vCPU has its affinity, or for another register.
    pub fn icc_reg(&self, id: u64, register: u16) -> Answer<u64> {
        self.on(id, |cpu| {
            cpu.affinity.ok_or(HV_BAD_ARGUMENT)?;
            if register == ICC_RPR {
                return Ok(cpu.running_priority);
            }
            cpu.interface.get(&register).copied().ok_or(HV_BAD_ARGUMENT)
        })
    }

    /// `hv_gic_set_icc_reg`.
    ///
    /// # Errors
    /// As [`Self::icc_reg`]; `HV_DENIED` for the running priority.
    pub fn set_icc_reg(&self, id: u64, register: u16, value: u64) -> Answer<()> {
        self.on(id, |cpu| {
            cpu.affinity.ok_or(HV_BAD_ARGUMENT)?;
            if register == ICC_RPR {
                return Err(HV_DENIED);
            }
            *cpu.interface.get_mut(&register).ok_or(HV_BAD_ARGUMENT)? = value;
            Ok(())
        })
    }

    /// The guest begins to handle an interrupt of this priority, or ends (0xff).
    ///
    /// # Errors
    /// `HV_BAD_ARGUMENT`.
    pub fn set_running_priority(&self, id: u64, priority: u64) -> Answer<()> {
        self.on(id, |cpu| {
            cpu.running_priority = priority;
            Ok(())
        })
    }

    /// `hv_vcpu_get_vtimer_offset`.
    ///
    /// # Errors
    /// `HV_BAD_ARGUMENT`.
    pub fn vtimer_offset(&self, id: u64) -> Answer<u64> {
        self.on(id, |cpu| Ok(cpu.offset))
    }

    /// `hv_vcpu_set_vtimer_offset`: the counter moves, and a timer may be due by it.
    ///
    /// # Errors
    /// `HV_BAD_ARGUMENT`.
    pub fn set_vtimer_offset(&self, id: u64, offset: u64) -> Answer<()> {
        self.on(id, |cpu| {
            cpu.offset = offset;
            self.check_timer(cpu);
            Ok(())
        })
    }

    /// `hv_vcpu_get_vtimer_mask`.
    ///
    /// # Errors
    /// `HV_BAD_ARGUMENT`.
    pub fn vtimer_mask(&self, id: u64) -> Answer<bool> {
        self.on(id, |cpu| Ok(cpu.is_masked))
    }

    /// `hv_vcpu_set_vtimer_mask`.
    ///
    /// # Errors
    /// `HV_BAD_ARGUMENT`.
    pub fn set_vtimer_mask(&self, id: u64, masked: bool) -> Answer<()> {
        self.on(id, |cpu| {
            cpu.is_masked = masked;
            Ok(())
        })
    }

    /// `hv_vcpu_get_pending_interrupt`: line 0 is IRQ, 1 is FIQ.
    ///
    /// # Errors
    /// `HV_BAD_ARGUMENT`.
    pub fn pending(&self, id: u64, line: usize) -> Answer<bool> {
        self.on(id, |cpu| {
            cpu.lines.get(line).copied().ok_or(HV_BAD_ARGUMENT)
        })
    }

    /// `hv_vcpu_set_pending_interrupt`.
    ///
    /// # Errors
    /// `HV_BAD_ARGUMENT`.
    pub fn set_pending(&self, id: u64, line: usize, pending: bool) -> Answer<()> {
        self.on(id, |cpu| {
            *cpu.lines.get_mut(line).ok_or(HV_BAD_ARGUMENT)? = pending;
            Ok(())
        })
    }
}
