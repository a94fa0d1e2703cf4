//! The calls of the adapter, answered by the model.
//!
//! # Safety
//! Nothing is done here: `map` hands on what its caller promises.
#![allow(unsafe_code)]

use coldframe_hv::aarch64::SysReg;
use coldframe_hvf::{CoreReg, ExitReason, HvStatus, Line, Perms, RawExit, VcpuCalls, VmCalls};
use coldframe_testkit::hvf::{Answer, Framework, Reason};
use coldframe_units::{ByteLen, GuestAddr};

/// The machine of the model.
#[derive(Clone, Debug)]
pub struct OnModel(pub Framework);

/// A vCPU of the model.
#[derive(Debug)]
pub struct ModelVcpu {
    pub framework: Framework,
    pub id: u64,
}

fn answered<T>(answer: Answer<T>) -> Result<T, HvStatus> {
    answer.map_err(|code| HvStatus::from_code(code).unwrap())
}

impl VmCalls for OnModel {
    unsafe fn map(
        &self,
        host: *mut u8,
        ipa: GuestAddr,
        len: ByteLen,
        perms: Perms,
    ) -> Result<(), HvStatus> {
        answered(self.0.vm_map(host, ipa.get(), len.get(), perms.bits()))
    }

    fn unmap(&self, ipa: GuestAddr, len: ByteLen) -> Result<(), HvStatus> {
        answered(self.0.vm_unmap(ipa.get(), len.get()))
    }

    fn protect(&self, ipa: GuestAddr, len: ByteLen, perms: Perms) -> Result<(), HvStatus> {
        answered(self.0.vm_protect(ipa.get(), len.get(), perms.bits()))
    }

    fn gic_state(&self) -> Result<Vec<u8>, HvStatus> {
        answered(self.0.gic_state())
    }

    fn set_gic_state(&self, blob: &[u8]) -> Result<(), HvStatus> {
        answered(self.0.gic_set_state(blob))
    }

    fn exit_vcpus(&self, vcpus: &[u64]) -> Result<(), HvStatus> {
        answered(self.0.vcpus_exit(vcpus))
    }

    fn host_counter(&self) -> u64 {
        self.0.absolute_time()
    }
}

impl VcpuCalls for ModelVcpu {
    fn id(&self) -> u64 {
        self.id
    }

    fn run(&self) -> Result<RawExit, HvStatus> {
        let exit = answered(self.framework.vcpu_run(self.id))?;
        Ok(RawExit {
            reason: match exit.reason {
                Reason::Canceled => ExitReason::Canceled,
                Reason::Exception => ExitReason::Exception,
            },
            syndrome: exit.syndrome,
            virtual_address: exit.physical_address,
            physical_address: exit.physical_address,
        })
    }

    fn reg(&self, register: CoreReg) -> Result<u64, HvStatus> {
        answered(self.framework.reg(self.id, register.number()))
    }

    fn set_reg(&self, register: CoreReg, value: u64) -> Result<(), HvStatus> {
        answered(self.framework.set_reg(self.id, register.number(), value))
    }

    fn simd(&self, number: u8) -> Result<[u8; 16], HvStatus> {
        answered(self.framework.simd(self.id, number))
    }

    fn set_simd(&self, number: u8, value: [u8; 16]) -> Result<(), HvStatus> {
        answered(self.framework.set_simd(self.id, number, value))
    }

    fn sys_reg(&self, register: SysReg) -> Result<u64, HvStatus> {
        answered(self.framework.sys_reg(self.id, register.bits()))
    }

    fn set_sys_reg(&self, register: SysReg, value: u64) -> Result<(), HvStatus> {
        answered(self.framework.set_sys_reg(self.id, register.bits(), value))
    }

    fn icc_reg(&self, register: SysReg) -> Result<u64, HvStatus> {
        answered(self.framework.icc_reg(self.id, register.bits()))
    }

    fn set_icc_reg(&self, register: SysReg, value: u64) -> Result<(), HvStatus> {
        answered(self.framework.set_icc_reg(self.id, register.bits(), value))
    }

    fn vtimer_offset(&self) -> Result<u64, HvStatus> {
        answered(self.framework.vtimer_offset(self.id))
    }

    fn set_vtimer_offset(&self, offset: u64) -> Result<(), HvStatus> {
        answered(self.framework.set_vtimer_offset(self.id, offset))
    }

    fn vtimer_mask(&self) -> Result<bool, HvStatus> {
        answered(self.framework.vtimer_mask(self.id))
    }

    fn set_vtimer_mask(&self, masked: bool) -> Result<(), HvStatus> {
        answered(self.framework.set_vtimer_mask(self.id, masked))
    }

    fn pending(&self, line: Line) -> Result<bool, HvStatus> {
        answered(
            self.framework
                .pending(self.id, usize::from(line == Line::Fiq)),
        )
    }

    fn set_pending(&self, line: Line, pending: bool) -> Result<(), HvStatus> {
        let number = usize::from(line == Line::Fiq);
        answered(self.framework.set_pending(self.id, number, pending))
    }
}
