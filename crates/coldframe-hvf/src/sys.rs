//! The two traits on Hypervisor.framework itself, by way of `applevisor`.
//!
//! Invariant: each function is one call; whatever could be decided is decided above.
//!
//! # Safety
//! Calls that `applevisor` has no safe form of are made through `applevisor-sys`, with memory that
//! the caller vouches for or that lives on this stack.
#![allow(unsafe_code)]

mod host;
mod names;
mod simd;

use applevisor::prelude::{
    GicEnabled, HypervisorError, InterruptType, Vcpu, VirtualMachineInstance,
};
use applevisor::vcpu::ExitReason as AppleReason;
use applevisor_sys as hv;
use coldframe_hv::aarch64::SysReg;
use coldframe_units::{ByteLen, GuestAddr};

use crate::calls::{CoreReg, ExitReason, HvStatus, Line, Perms, RawExit, VcpuCalls, VmCalls};
use crate::error::HvfError;
use crate::host::HvfHost;

unsafe extern "C" {
    /// Ticks since the host started: what the guest's counters are offsets of.
    safe fn mach_absolute_time() -> u64;
}

/// The machine of this process.
#[derive(Clone, Debug)]
pub struct AppleVm {
    vm: VirtualMachineInstance<GicEnabled>,
}

impl AppleVm {
    /// The machine behind a handle of `applevisor`.
    #[must_use]
    pub const fn new(vm: VirtualMachineInstance<GicEnabled>) -> Self {
        Self { vm }
    }

    /// Asks this host what it offers to guests.
    ///
    /// # Errors
    /// [`HvfError::Call`].
    pub fn host() -> Result<HvfHost, HvfError> {
        host::probe()
    }
}

/// A vCPU, on the thread that made it.
#[derive(Debug)]
pub struct AppleVcpu<'v> {
    vcpu: &'v Vcpu,
}

impl<'v> AppleVcpu<'v> {
    /// A vCPU of `applevisor`.
    #[must_use]
    pub const fn new(vcpu: &'v Vcpu) -> Self {
        Self { vcpu }
    }

    /// The framework's number of it, for its seat.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.vcpu.id()
    }
}

fn status(error: HypervisorError) -> HvStatus {
    // An error is never the code of success.
    HvStatus::from_code(hv::hv_return_t::from(error)).unwrap_or(HvStatus::Error)
}

fn answered(code: hv::hv_return_t) -> Result<(), HvStatus> {
    HvStatus::from_code(code).map_or(Ok(()), Err)
}

/// 64-bit targets only: nothing is cut off.
const fn bytes(len: ByteLen) -> usize {
    len.get() as usize
}

impl VmCalls for AppleVm {
    unsafe fn map(
        &self,
        host: *mut u8,
        ipa: GuestAddr,
        len: ByteLen,
        perms: Perms,
    ) -> Result<(), HvStatus> {
        let (host, len) = (host.cast_const().cast(), bytes(len));
        // SAFETY: the caller promises that the memory stays until it is unmapped.
        answered(unsafe { hv::hv_vm_map(host, ipa.get(), len, perms.bits()) })
    }

    fn unmap(&self, ipa: GuestAddr, len: ByteLen) -> Result<(), HvStatus> {
        // SAFETY: takes memory away from the guest; nothing of this process is touched.
        answered(unsafe { hv::hv_vm_unmap(ipa.get(), bytes(len)) })
    }

    fn protect(&self, ipa: GuestAddr, len: ByteLen, perms: Perms) -> Result<(), HvStatus> {
        // SAFETY: changes what the guest may do; nothing of this process is touched.
        answered(unsafe { hv::hv_vm_protect(ipa.get(), bytes(len), perms.bits()) })
    }

    fn gic_state(&self) -> Result<Vec<u8>, HvStatus> {
        let mut state = self.vm.gic_state_create().map_err(status)?;
        let mut blob = vec![0; state.size().map_err(status)?];
        state.get(&mut blob).map_err(status)?;
        Ok(blob)
    }

    fn set_gic_state(&self, blob: &[u8]) -> Result<(), HvStatus> {
        // SAFETY: the framework reads `blob.len()` bytes, which are borrowed for the call.
        answered(unsafe { hv::hv_gic_set_state(blob.as_ptr().cast(), blob.len()) })
    }

    fn exit_vcpus(&self, vcpus: &[u64]) -> Result<(), HvStatus> {
        let count = u32::try_from(vcpus.len()).map_err(|_| HvStatus::BadArgument)?;
        // SAFETY: the framework reads `count` numbers; one of no vCPU is refused.
        answered(unsafe { hv::hv_vcpus_exit(vcpus.as_ptr(), count) })
    }

    fn host_counter(&self) -> u64 {
        mach_absolute_time()
    }
}

/// In the framework's headers `HV_INTERRUPT_TYPE_IRQ` is 0 and `HV_INTERRUPT_TYPE_FIQ` 1;
/// `applevisor-sys` 1.0 has the two names the other way round. What counts is the number.
const fn line(line: Line) -> InterruptType {
    const { assert!(InterruptType::FIQ as u32 == 0 && InterruptType::IRQ as u32 == 1) };
    match line {
        Line::Irq => InterruptType::FIQ,
        Line::Fiq => InterruptType::IRQ,
    }
}

impl VcpuCalls for AppleVcpu<'_> {
    fn id(&self) -> u64 {
        self.vcpu.id()
    }

    fn run(&self) -> Result<RawExit, HvStatus> {
        self.vcpu.run().map_err(status)?;
        let exit = self.vcpu.get_exit_info();
        Ok(RawExit {
            reason: match exit.reason {
                AppleReason::CANCELED => ExitReason::Canceled,
                AppleReason::EXCEPTION => ExitReason::Exception,
                AppleReason::VTIMER_ACTIVATED => ExitReason::VtimerActivated,
                AppleReason::UNKNOWN => ExitReason::Unknown,
            },
            syndrome: exit.exception.syndrome,
            virtual_address: exit.exception.virtual_address,
            physical_address: exit.exception.physical_address,
        })
    }

    fn reg(&self, register: CoreReg) -> Result<u64, HvStatus> {
        let register = names::core(register).ok_or(HvStatus::BadArgument)?;
        self.vcpu.get_reg(register).map_err(status)
    }

    fn set_reg(&self, register: CoreReg, value: u64) -> Result<(), HvStatus> {
        let register = names::core(register).ok_or(HvStatus::BadArgument)?;
        self.vcpu.set_reg(register, value).map_err(status)
    }

    fn simd(&self, number: u8) -> Result<[u8; 16], HvStatus> {
        let register = names::simd(number).ok_or(HvStatus::BadArgument)?;
        let value = self.vcpu.get_simd_fp_reg(register).map_err(status)?;
        Ok(value.to_le_bytes())
    }

    fn set_simd(&self, number: u8, value: [u8; 16]) -> Result<(), HvStatus> {
        let register = names::simd(number).ok_or(HvStatus::BadArgument)?;
        answered(simd::set(self.vcpu.id(), register, value))
    }

    fn sys_reg(&self, register: SysReg) -> Result<u64, HvStatus> {
        let register = names::system(register).ok_or(HvStatus::Unsupported)?;
        self.vcpu.get_sys_reg(register).map_err(status)
    }

    fn set_sys_reg(&self, register: SysReg, value: u64) -> Result<(), HvStatus> {
        let register = names::system(register).ok_or(HvStatus::Unsupported)?;
        self.vcpu.set_sys_reg(register, value).map_err(status)
    }

    fn icc_reg(&self, register: SysReg) -> Result<u64, HvStatus> {
        let register = names::interface(register).ok_or(HvStatus::Unsupported)?;
        self.vcpu.get_icc_reg(register).map_err(status)
    }

    fn set_icc_reg(&self, register: SysReg, value: u64) -> Result<(), HvStatus> {
        let register = names::interface(register).ok_or(HvStatus::Unsupported)?;
        self.vcpu.set_icc_reg(register, value).map_err(status)
    }

    fn vtimer_offset(&self) -> Result<u64, HvStatus> {
        self.vcpu.get_vtimer_offset().map_err(status)
    }

    fn set_vtimer_offset(&self, offset: u64) -> Result<(), HvStatus> {
        self.vcpu.set_vtimer_offset(offset).map_err(status)
    }

    fn vtimer_mask(&self) -> Result<bool, HvStatus> {
        self.vcpu.get_vtimer_mask().map_err(status)
    }

    fn set_vtimer_mask(&self, masked: bool) -> Result<(), HvStatus> {
        self.vcpu.set_vtimer_mask(masked).map_err(status)
    }

    fn pending(&self, which: Line) -> Result<bool, HvStatus> {
        self.vcpu.get_pending_interrupt(line(which)).map_err(status)
    }

    fn set_pending(&self, which: Line, pending: bool) -> Result<(), HvStatus> {
        let set = self.vcpu.set_pending_interrupt(line(which), pending);
        set.map_err(status)
    }
}
