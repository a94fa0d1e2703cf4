//! The calls of Hypervisor.framework that the adapter makes, as two traits.
//!
//! Invariant: an implementation is one call of the framework for each function and decides nothing.
//! All else in this crate is above these traits, and so runs on any host against a model.
//!
//! # Safety
//! Mapping host memory into the guest is the one call that can break this process: it asks for a
//! promise. All others change the guest only.
#![allow(unsafe_code)]

use coldframe_hv::aarch64::SysReg;
use coldframe_units::{ByteLen, GuestAddr};

/// What a call of the framework answered that did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HvStatus {
    /// `HV_ERROR`.
    #[error("the operation was unsuccessful")]
    Error,
    /// `HV_BUSY`.
    #[error("the owning resource is busy")]
    Busy,
    /// `HV_BAD_ARGUMENT`.
    #[error("an argument is invalid")]
    BadArgument,
    /// `HV_ILLEGAL_GUEST_STATE`.
    #[error("the guest is in an illegal state")]
    IllegalGuestState,
    /// `HV_NO_RESOURCES`.
    #[error("the host has no resources left")]
    NoResources,
    /// `HV_NO_DEVICE`.
    #[error("there is no VM or vCPU")]
    NoDevice,
    /// `HV_DENIED`.
    #[error("the system does not allow it")]
    Denied,
    /// `HV_FAULT`.
    #[error("a fault")]
    Fault,
    /// `HV_UNSUPPORTED`.
    #[error("the hypervisor does not support it")]
    Unsupported,
    /// A code that this version does not know.
    #[error("code {0:#010x}")]
    Other(i32),
}

impl HvStatus {
    /// From the code of `hv_return_t`; `None` for success.
    ///
    /// Source: Apple Hypervisor framework, `hv_return_t`.
    #[must_use]
    pub const fn from_code(code: i32) -> Option<Self> {
        // The codes are 0xfae94001 and up, as signed numbers.
        match code.cast_unsigned() {
            0 => None,
            0xfae9_4001 => Some(Self::Error),
            0xfae9_4002 => Some(Self::Busy),
            0xfae9_4003 => Some(Self::BadArgument),
            0xfae9_4004 => Some(Self::IllegalGuestState),
            0xfae9_4005 => Some(Self::NoResources),
            0xfae9_4006 => Some(Self::NoDevice),
            0xfae9_4007 => Some(Self::Denied),
            0xfae9_4008 => Some(Self::Fault),
            0xfae9_400f => Some(Self::Unsupported),
            _ => Some(Self::Other(code)),
        }
    }

    /// Whether the framework does not have what was asked for, as against having failed.
    #[must_use]
    pub const fn is_absent(self) -> bool {
        matches!(self, Self::Unsupported | Self::Denied | Self::BadArgument)
    }
}

/// What the guest may do with memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Perms {
    /// Read and execute: writes exit.
    ReadExec,
    /// All.
    ReadWriteExec,
}

impl Perms {
    /// The bits of `hv_memory_flags_t`.
    #[must_use]
    pub const fn bits(self) -> u64 {
        match self {
            Self::ReadExec => 1 | 4,
            Self::ReadWriteExec => 1 | 2 | 4,
        }
    }
}

/// Calls that any thread may make.
pub trait VmCalls: Send + Sync {
    /// `hv_vm_map`: makes host memory the guest's.
    ///
    /// # Safety
    /// The host memory is mapped readable and writable until it is unmapped from the guest, and
    /// no Rust reference points into it.
    ///
    /// # Errors
    /// The framework's answer.
    unsafe fn map(
        &self,
        host: *mut u8,
        ipa: GuestAddr,
        len: ByteLen,
        perms: Perms,
    ) -> Result<(), HvStatus>;

    /// `hv_vm_unmap`.
    ///
    /// # Errors
    /// The framework's answer.
    fn unmap(&self, ipa: GuestAddr, len: ByteLen) -> Result<(), HvStatus>;

    /// `hv_vm_protect`. When it returns, no vCPU writes by older permissions any more.
    ///
    /// # Errors
    /// The framework's answer.
    fn protect(&self, ipa: GuestAddr, len: ByteLen, perms: Perms) -> Result<(), HvStatus>;

    /// `hv_gic_state_create`, `hv_gic_state_get_size`, `hv_gic_state_get_data`.
    ///
    /// # Errors
    /// The framework's answer.
    fn gic_state(&self) -> Result<Vec<u8>, HvStatus>;

    /// `hv_gic_set_state`.
    ///
    /// # Errors
    /// The framework's answer.
    fn set_gic_state(&self, blob: &[u8]) -> Result<(), HvStatus>;

    /// `hv_vcpus_exit`: a vCPU that does not run leaves the next `hv_vcpu_run` at once.
    ///
    /// # Errors
    /// The framework's answer.
    fn exit_vcpus(&self, vcpus: &[u64]) -> Result<(), HvStatus>;

    /// `mach_absolute_time`: the counter that the guest's is an offset of.
    fn host_counter(&self) -> u64;
}

/// Why a vCPU left the guest (`hv_exit_reason_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitReason {
    /// Somebody asked for it.
    Canceled,
    /// The guest did something that traps.
    Exception,
    /// The virtual timer fired; it is masked now.
    VtimerActivated,
    /// None of these.
    Unknown,
}

/// `hv_vcpu_exit_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawExit {
    /// Why.
    pub reason: ExitReason,
    /// ESR_EL2 of an exception.
    pub syndrome: u64,
    /// Guest-virtual address of an exception.
    pub virtual_address: u64,
    /// Guest-physical address of an exception.
    pub physical_address: u64,
}

/// A register of `hv_reg_t`, by its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoreReg(u32);

impl CoreReg {
    /// Program counter.
    pub const PC: Self = Self(31);
    /// Floating-point control.
    pub const FPCR: Self = Self(32);
    /// Floating-point status.
    pub const FPSR: Self = Self(33);
    /// Program status.
    pub const CPSR: Self = Self(34);

    /// General register `number`; `None` above 30.
    #[must_use]
    pub const fn general(number: u8) -> Option<Self> {
        match number {
            0..=30 => Some(Self(number as u32)),
            _ => None,
        }
    }

    /// Its number in `hv_reg_t`, 0 to 34.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }
}

/// An interrupt line of a vCPU (`hv_interrupt_type_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// IRQ.
    Irq,
    /// FIQ.
    Fiq,
}

/// Calls that only the thread may make that made the vCPU.
pub trait VcpuCalls {
    /// The framework's number of the vCPU.
    fn id(&self) -> u64;

    /// `hv_vcpu_run`, and what it left in the exit structure.
    ///
    /// # Errors
    /// The framework's answer.
    fn run(&self) -> Result<RawExit, HvStatus>;

    /// `hv_vcpu_get_reg`.
    ///
    /// # Errors
    /// The framework's answer.
    fn reg(&self, register: CoreReg) -> Result<u64, HvStatus>;

    /// `hv_vcpu_set_reg`.
    ///
    /// # Errors
    /// The framework's answer.
    fn set_reg(&self, register: CoreReg, value: u64) -> Result<(), HvStatus>;

    /// `hv_vcpu_get_simd_fp_reg`, register `number` below 32.
    ///
    /// # Errors
    /// The framework's answer.
    fn simd(&self, number: u8) -> Result<[u8; 16], HvStatus>;

    /// `hv_vcpu_set_simd_fp_reg`.
    ///
    /// # Errors
    /// The framework's answer.
    fn set_simd(&self, number: u8, value: [u8; 16]) -> Result<(), HvStatus>;

    /// `hv_vcpu_get_sys_reg`.
    ///
    /// # Errors
    /// The framework's answer.
    fn sys_reg(&self, register: SysReg) -> Result<u64, HvStatus>;

    /// `hv_vcpu_set_sys_reg`.
    ///
    /// # Errors
    /// The framework's answer.
    fn set_sys_reg(&self, register: SysReg, value: u64) -> Result<(), HvStatus>;

    /// `hv_gic_get_icc_reg`.
    ///
    /// # Errors
    /// The framework's answer.
    fn icc_reg(&self, register: SysReg) -> Result<u64, HvStatus>;

    /// `hv_gic_set_icc_reg`.
    ///
    /// # Errors
    /// The framework's answer.
    fn set_icc_reg(&self, register: SysReg, value: u64) -> Result<(), HvStatus>;

    /// `hv_vcpu_get_vtimer_offset`.
    ///
    /// # Errors
    /// The framework's answer.
    fn vtimer_offset(&self) -> Result<u64, HvStatus>;

    /// `hv_vcpu_set_vtimer_offset`.
    ///
    /// # Errors
    /// The framework's answer.
    fn set_vtimer_offset(&self, offset: u64) -> Result<(), HvStatus>;

    /// `hv_vcpu_get_vtimer_mask`.
    ///
    /// # Errors
    /// The framework's answer.
    fn vtimer_mask(&self) -> Result<bool, HvStatus>;

    /// `hv_vcpu_set_vtimer_mask`.
    ///
    /// # Errors
    /// The framework's answer.
    fn set_vtimer_mask(&self, masked: bool) -> Result<(), HvStatus>;

    /// `hv_vcpu_get_pending_interrupt`.
    ///
    /// # Errors
    /// The framework's answer.
    fn pending(&self, line: Line) -> Result<bool, HvStatus>;

    /// `hv_vcpu_set_pending_interrupt`.
    ///
    /// # Errors
    /// The framework's answer.
    fn set_pending(&self, line: Line, pending: bool) -> Result<(), HvStatus>;
}
