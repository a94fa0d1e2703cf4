//! What can go wrong between this crate and Hypervisor.framework.

use std::fmt;
use std::time::Duration;

use coldframe_dirty::DirtyError;
use coldframe_hv::aarch64::{Aarch64Error, RegId, SysReg};
use coldframe_hv::{ItemKind, OtherHost, StateError};
use coldframe_units::{ByteLen, GuestAddr, RamLayoutError, RamOffset};

use crate::calls::HvStatus;

/// What an operation was done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The machine as a whole.
    Vm,
    /// One vCPU, by its index.
    Vcpu(u32),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vm => f.write_str("the VM"),
            Self::Vcpu(index) => write!(f, "vCPU {index}"),
        }
    }
}

/// An operation that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HvfError {
    /// Checking for which host the state was accepted, before anything is written.
    #[error("the differences of the hosts were not accepted")]
    Accept {
        /// What is wrong with the accepted.
        #[source]
        source: OtherHost,
    },
    /// The machine is paused already: who paused it first may be copying its memory.
    #[error("the machine is paused already: resume it before it is paused again")]
    AlreadyPaused,
    /// A call of the framework.
    #[error("{call} of {place} failed")]
    Call {
        /// Its name.
        call: &'static str,
        /// What it was done to.
        place: Place,
        /// The framework's answer.
        #[source]
        source: HvStatus,
    },
    /// Reading a system register.
    #[error("system register {register} of vCPU {vcpu} cannot be read")]
    GetSystemReg {
        /// Which register.
        register: SysReg,
        /// Which vCPU.
        vcpu: u32,
        /// The framework's answer.
        #[source]
        source: HvStatus,
    },
    /// Writing a system register.
    #[error("vCPU {vcpu} refuses the value {value:#x} of system register {register}")]
    SetSystemReg {
        /// Which register.
        register: SysReg,
        /// Which vCPU.
        vcpu: u32,
        /// The value that was saved.
        value: u64,
        /// The framework's answer.
        #[source]
        source: HvStatus,
    },
    /// A register that the framework does not have.
    #[error("vCPU {vcpu} was saved with {register}, which Hypervisor.framework does not have")]
    UnknownRegister {
        /// Which register.
        register: RegId,
        /// Which vCPU.
        vcpu: u32,
    },
    /// Checking the shape of a state.
    #[error("the state is not well formed")]
    CheckState {
        /// What is wrong with it.
        #[source]
        source: StateError,
    },
    /// Checking what is particular to aarch64.
    #[error("the state is not that of an aarch64 machine")]
    CheckAarch64 {
        /// What is wrong with it.
        #[source]
        source: Aarch64Error,
    },
    /// The state is of another hypervisor, or its interrupt controller is not Apple's.
    #[error("the state was not saved under Hypervisor.framework")]
    OtherHypervisor,
    /// Matching the vCPUs of a state to those that are parked.
    #[error("the state has {saved} vCPUs, the machine {here}, or their indexes differ")]
    MatchVcpus {
        /// How many were saved.
        saved: usize,
        /// How many are parked.
        here: usize,
    },
    /// The bytes of an item are not as long as they must be, or it is missing.
    #[error("{item} of {place} has {found} bytes, not {expected}")]
    MatchItem {
        /// Which item.
        item: ItemKind,
        /// Of what.
        place: Place,
        /// How many bytes there are.
        found: usize,
        /// How many there should be.
        expected: usize,
    },
    /// Pausing: not all vCPUs came to rest in time. Those that had go on.
    #[error("vCPUs {vcpus:?} did not come to rest within {patience:?}")]
    NotParked {
        /// Those that did not.
        vcpus: Vec<u32>,
        /// How long they were waited for.
        patience: Duration,
    },
    /// The thread of a vCPU is gone.
    #[error("the thread of vCPU {vcpu} is gone")]
    VcpuGone {
        /// Which vCPU.
        vcpu: u32,
    },
    /// Pausing a machine whose threads were told to end.
    #[error("the machine is being taken down")]
    LotClosed,
    /// A seat was taken twice, or there is none of that number.
    #[error("vCPU {vcpu} has no free seat")]
    NoSeat {
        /// Which vCPU.
        vcpu: u32,
    },
    /// Restoring into a machine that has run: its interrupt controller takes no state any more.
    #[error("vCPU {vcpu} has run already: state can only be set before")]
    AlreadyRan {
        /// Which vCPU.
        vcpu: u32,
    },
    /// Running a vCPU that is off.
    #[error("vCPU {vcpu} is not on")]
    PoweredOff {
        /// Which vCPU.
        vcpu: u32,
    },
    /// An interrupt is being handled, which the framework cannot give back. Let the guest run on
    /// for a moment and freeze again.
    #[error("vCPU {vcpu} handles an interrupt of priority {priority:#x}")]
    InterruptInService {
        /// Which vCPU.
        vcpu: u32,
        /// The running priority.
        priority: u64,
    },
    /// The guest may use SME, whose registers this version does not save. A guest that is to be
    /// frozen is booted without it: clear the field SME of ID_AA64PFR1_EL1 before its first run.
    #[error("vCPU {vcpu} offers SME to its guest, which cannot be saved")]
    SmeOffered {
        /// Which vCPU.
        vcpu: u32,
    },
    /// Two vCPUs have counters of their own.
    #[error("vCPU {vcpu} has the counter offset {found:#x}, the first one {first:#x}")]
    CounterSplit {
        /// Which vCPU.
        vcpu: u32,
        /// Its offset.
        found: u64,
        /// The first one's.
        first: u64,
    },
    /// The interrupt controller refuses the saved blob.
    #[error("the state of the interrupt controller, saved on build {saved}, is refused by {here}")]
    GicRefused {
        /// Build of the system that it was saved on.
        saved: String,
        /// Build of this system.
        here: String,
        /// The framework's answer.
        #[source]
        source: HvStatus,
    },
    /// A region of memory cannot be the guest's.
    #[error("memory at {addr} of {len} is not made of whole pages of 16 KiB")]
    CheckRegion {
        /// Where it would be in the guest.
        addr: GuestAddr,
        /// How long.
        len: ByteLen,
    },
    /// The regions make no layout.
    #[error("the regions make no guest memory")]
    Layout {
        /// What is wrong with them.
        #[source]
        source: RamLayoutError,
    },
    /// Mapping, unmapping or protecting guest memory.
    #[error("{call} of guest memory at {addr}, {len}, failed")]
    Memory {
        /// The call.
        call: &'static str,
        /// Where.
        addr: GuestAddr,
        /// How much.
        len: ByteLen,
        /// The framework's answer.
        #[source]
        source: HvStatus,
    },
    /// The contents of memory cannot be had.
    #[error("the contents of guest memory from {ram} on cannot be had")]
    Fill {
        /// Where.
        ram: RamOffset,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Marking pages.
    #[error("pages cannot be marked")]
    MarkDirty {
        /// Why.
        #[source]
        source: DirtyError,
    },
    /// An access to a device that the CPU does not describe.
    #[error("the access to {addr:#x} (syndrome {syndrome:#x}) is not described by the CPU")]
    Undecoded {
        /// Guest-physical address.
        addr: u64,
        /// The syndrome.
        syndrome: u64,
    },
    /// A generation id.
    #[error("there is no randomness for a generation id")]
    Generation {
        /// Why.
        #[source]
        source: getrandom::Error,
    },
}

impl HvfError {
    /// Whether the same may succeed a moment later, once the guest has run on.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::InterruptInService { .. } | Self::NotParked { .. }
        )
    }

    pub(crate) fn call(call: &'static str, place: Place) -> impl FnOnce(HvStatus) -> Self {
        move |source| Self::Call {
            call,
            place,
            source,
        }
    }
}
