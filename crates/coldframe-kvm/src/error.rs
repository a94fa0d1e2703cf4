//! What can go wrong between this crate and the kernel: one variant for each operation.

use std::fmt;
use std::io;
use std::time::Duration;

use coldframe_dirty::DirtyError;
use coldframe_hv::aarch64::{Aarch64Error, GicModel, RegId, register_item};
use coldframe_hv::{ItemKind, OtherHost, StateError};
use coldframe_units::{ByteLen, GuestAddr, RamOffset};

/// What an operation was done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The machine as a whole.
    Vm,
    /// One vCPU, by its position.
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
pub enum KvmError {
    /// Finding out what this host is.
    #[error("{what} of this host cannot be read")]
    Probe {
        /// What was asked for.
        what: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Reading a structure.
    #[error("{item} of {place} cannot be read")]
    GetItem {
        /// Which structure.
        item: ItemKind,
        /// Of what.
        place: Place,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Writing a structure.
    #[error("{item} of {place} cannot be set")]
    SetItem {
        /// Which structure.
        item: ItemKind,
        /// Of what.
        place: Place,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Finding out which registers a vCPU has.
    #[error("the registers of vCPU {vcpu} cannot be listed")]
    ListRegisters {
        /// Which vCPU.
        vcpu: u32,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Reading one register.
    #[error("{register} of vCPU {vcpu} cannot be read")]
    GetRegister {
        /// Which vCPU.
        vcpu: u32,
        /// Which register.
        register: RegId,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Writing one register: the kernel refused its value.
    #[error("vCPU {vcpu} refuses the saved value of {register}")]
    SetRegister {
        /// Which vCPU.
        vcpu: u32,
        /// Which register.
        register: RegId,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Registers that this kernel does not have, as an older one does not. Each can be left out by
    /// waiving the name that the message has for it.
    #[error("this kernel does not have all registers of vCPU {vcpu}: {}", names(.registers))]
    UnknownRegisters {
        /// Which vCPU.
        vcpu: u32,
        /// All that are missing.
        registers: Vec<RegId>,
    },
    /// Reading a register of the interrupt controller.
    #[error("{item} of {place} cannot be read at {attr:#x}")]
    GetGic {
        /// Which part of it.
        item: ItemKind,
        /// Of what.
        place: Place,
        /// The attribute.
        attr: u64,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Writing a register of the interrupt controller.
    #[error("{item} of {place} cannot be set at {attr:#x}")]
    SetGic {
        /// Which part of it.
        item: ItemKind,
        /// Of what.
        place: Place,
        /// The attribute.
        attr: u64,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Having the interrupt controller's tables written to guest memory, or read from it.
    #[error("the interrupt controller cannot do control operation {attr} on its tables")]
    ControlGic {
        /// Which (`KVM_DEV_ARM_VGIC_GRP_CTRL`).
        attr: u32,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Matching the interrupt controller of a state to that of the machine.
    #[error("the state's interrupt controller is {saved:?}, the machine's {here:?}")]
    MatchGic {
        /// The state's; `None` if it names none.
        saved: Option<GicModel>,
        /// The machine's.
        here: GicModel,
    },
    /// Checking what only a state of aarch64 has.
    #[error("the state is not one of an aarch64 machine")]
    CheckAarch64 {
        /// What is wrong with it.
        #[source]
        source: Aarch64Error,
    },
    /// Reading model-specific registers.
    #[error("the model-specific registers of vCPU {vcpu} cannot be read")]
    GetMsrs {
        /// Which vCPU.
        vcpu: u32,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Writing model-specific registers as such.
    #[error("the model-specific registers of vCPU {vcpu} cannot be set")]
    SetMsrs {
        /// Which vCPU.
        vcpu: u32,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Writing one model-specific register: the kernel refused this value.
    #[error("vCPU {vcpu} refuses the value {value:#x} of model-specific register {index:#x}")]
    SetMsr {
        /// Which vCPU.
        vcpu: u32,
        /// Which register.
        index: u32,
        /// The value that was saved.
        value: u64,
    },
    /// Reading model-specific registers back after all were written: one lost its value again, to a
    /// write that resets it or to a kernel that keeps only some of its bits.
    #[error(
        "vCPU {vcpu} does not keep model-specific register {index:#x}: {value:#x} was written, {} \
         is there",
        found.map_or("nothing".to_owned(), |found| format!("{found:#x}"))
    )]
    KeepMsr {
        /// Which vCPU.
        vcpu: u32,
        /// Which register.
        index: u32,
        /// The value that was saved.
        value: u64,
        /// The value that is there; `None` if it cannot be read.
        found: Option<u64>,
    },
    /// Reading a register that KVM lists (x86_64).
    #[error("register {register:#018x} of vCPU {vcpu} cannot be read")]
    GetListed {
        /// Which vCPU.
        vcpu: u32,
        /// Its number in KVM.
        register: u64,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Writing a register that KVM lists (x86_64): it has no such register, or refuses the value.
    /// It is left out if `reg.` and its number were waived.
    #[error("vCPU {vcpu} refuses the saved value of reg.{register:#018x}")]
    SetListed {
        /// Which vCPU.
        vcpu: u32,
        /// Its number in KVM.
        register: u64,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A machine has what a state cannot hold.
    #[error("this machine cannot be saved: {what} is not supported")]
    Unsupported {
        /// What it has.
        what: &'static str,
    },
    /// Checking for which host the state was accepted, before anything is written.
    #[error("the differences of the hosts were not accepted")]
    Accept {
        /// What is wrong with the accepted.
        #[source]
        source: OtherHost,
    },
    /// Telling a vCPU's watchdogs that it was stopped.
    #[error("vCPU {vcpu} cannot be told that it was stopped")]
    KvmclockCtrl {
        /// Which vCPU.
        vcpu: u32,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Finishing the I/O exit that a vCPU was stopped at.
    #[error("the pending I/O of a vCPU cannot be completed")]
    CompletePendingIo {
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Checking a state before anything is written.
    #[error("the state is not well formed")]
    CheckState {
        /// What is wrong with it.
        #[source]
        source: StateError,
    },
    /// Matching the vCPUs of a state to those of the machine.
    #[error("the state has {saved} vCPUs, the machine {here}, or their indexes differ")]
    MatchVcpus {
        /// How many were saved.
        saved: usize,
        /// How many the machine has.
        here: usize,
    },
    /// Finding a structure in a state.
    #[error("the state lacks {item} of {place}")]
    FindItem {
        /// Which structure.
        item: ItemKind,
        /// Of what.
        place: Place,
    },
    /// Matching a structure's length to the kernel's.
    #[error("{item} of {place} is {found} bytes long, the kernel's is {expected}")]
    MatchItem {
        /// Which structure.
        item: ItemKind,
        /// Of what.
        place: Place,
        /// Its length in the state.
        found: usize,
        /// Its length in this kernel.
        expected: usize,
    },
    /// The machine is paused already: who paused it first may be copying its memory.
    #[error("the machine is paused already: resume it before it is paused again")]
    AlreadyPaused,
    /// Pausing: not all vCPUs came to rest in time. Those that had go on.
    #[error("vCPUs {vcpus:?} did not come to rest within {patience:?}")]
    NotParked {
        /// Those that did not.
        vcpus: Vec<u32>,
        /// How long they were waited for.
        patience: Duration,
    },
    /// The thread of a vCPU has ended.
    #[error("the thread of vCPU {vcpu} has ended")]
    VcpuGone {
        /// Which vCPU.
        vcpu: u32,
    },
    /// A seat was taken twice, or there is none of that number.
    #[error("vCPU {vcpu} has no free seat")]
    NoSeat {
        /// Which vCPU.
        vcpu: u32,
    },
    /// Pausing a machine whose threads were told to end.
    #[error("the machine is being taken down")]
    LotClosed,
    /// Reaching the byte that keeps a vCPU from entering the guest.
    #[error("the run structure of vCPU {vcpu} cannot be mapped")]
    MapRun {
        /// Which vCPU.
        vcpu: u32,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Handling or unblocking the signal by which vCPUs are kicked.
    #[error("signal {signal} cannot be used to stop vCPUs")]
    SetSignal {
        /// Its number.
        signal: i32,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The signal has another use in this process.
    #[error("signal {signal} is handled or ignored by this program: name one of its own")]
    SignalTaken {
        /// Its number.
        signal: i32,
    },
    /// The VMM's own signal has no handler.
    #[error("signal {signal} has no handler: it would end this program, or not arrive")]
    SignalUnhandled {
        /// Its number.
        signal: i32,
    },
    /// Signalling the thread of a vCPU.
    #[error("the thread of a vCPU cannot be signalled")]
    Kick {
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// Making a new generation id.
    #[error("the system has no random bytes for a generation id")]
    NewGeneration {
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// Switching dirty tracking on.
    #[error("dirty tracking cannot be switched on ({what})")]
    EnableTracking {
        /// Which means.
        what: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Registering a memory slot that is no memory slot.
    #[error("slot {slot} at {addr} of {len} bytes is empty, taken, too large or not page-aligned")]
    CheckSlot {
        /// Number of the slot.
        slot: u32,
        /// Guest address.
        addr: GuestAddr,
        /// Length.
        len: ByteLen,
    },
    /// A slot of an address space of its own: the RAM of System Management Mode is not saved.
    #[error("slot {slot} is in another address space (SMM), which is not supported")]
    UnsupportedSlot {
        /// Number of the slot.
        slot: u32,
    },
    /// The dirty ring of a vCPU is full of entries that nobody takes.
    #[error(
        "the dirty ring of a vCPU is full and not among the {known} that are tracked: call add_vcpu"
    )]
    UnknownVcpu {
        /// How many vCPUs are tracked.
        known: usize,
    },
    /// Registering a memory slot.
    #[error("slot {slot} at {addr} of {len} bytes cannot be registered")]
    RegisterSlot {
        /// Number of the slot.
        slot: u32,
        /// Guest address.
        addr: GuestAddr,
        /// Length.
        len: ByteLen,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Reading the dirty log of a slot.
    #[error("the dirty log of slot {slot} cannot be read")]
    GetDirtyLog {
        /// Number of the slot.
        slot: u32,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Clearing part of the dirty log of a slot.
    #[error("pages {first_page} and after of the dirty log of slot {slot} cannot be cleared")]
    ClearDirtyLog {
        /// Number of the slot.
        slot: u32,
        /// First page of the part.
        first_page: u64,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Mapping the dirty ring of a vCPU.
    #[error("the dirty ring of vCPU {vcpu} cannot be mapped")]
    MapDirtyRing {
        /// Which vCPU.
        vcpu: u32,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Giving the entries of the dirty rings back to the kernel.
    #[error("the dirty rings cannot be reset")]
    ResetDirtyRings {
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A dirty ring had no free entry left: pages may be missing from it. All pages are marked.
    #[error(
        "the dirty ring of vCPU {vcpu} was overrun, all pages count as dirty: use a larger ring"
    )]
    OverrunDirtyRing {
        /// Number of the vCPU.
        vcpu: usize,
    },
    /// Reading an entry of a dirty ring that names no page of ours.
    #[error("a dirty ring names page {page} of slot {slot}, which is not registered")]
    ReadDirtyRing {
        /// Number of the slot.
        slot: u32,
        /// The page in it.
        page: u64,
    },
    /// Harvesting into a bitmap of a RAM that is too small.
    #[error("the slots end at RAM offset {end}, the bitmap's RAM has {ram} bytes")]
    MatchBitmap {
        /// Where the last slot ends.
        end: RamOffset,
        /// Length of the bitmap's RAM.
        ram: ByteLen,
    },
    /// Marking pages in the bitmap.
    #[error("dirty pages cannot be marked")]
    MarkDirty {
        /// What the bitmap says.
        #[source]
        source: DirtyError,
    },
}

/// The names by which registers are waived.
fn names(registers: &[RegId]) -> String {
    let names = registers
        .iter()
        .map(|register| register_item(register.code()));
    names.collect::<Vec<_>>().join(", ")
}
