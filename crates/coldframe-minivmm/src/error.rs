//! The one error type of the VMM: variants are named after the operation that failed.
//!
//! Invariant: no variant repeats its source in its own text.

use std::io;

use coldframe_units::{ByteLen, FileOffset, GuestAddr, RamLayoutError};

use crate::load::LoadError;
use crate::ports::DeviceStateError;
use crate::recording::RecordingError;

/// What went wrong in the VMM.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MiniVmError {
    /// The state was accepted for another host.
    #[error("the differences of the hosts were not accepted")]
    OtherHost(#[source] coldframe_hv::OtherHost),
    /// The machine asked for cannot be built.
    #[error("a machine of {vcpus} vCPUs needs between 1 and 32, and an irqchip for more than one")]
    Shape {
        /// The number of vCPUs asked for.
        vcpus: u8,
    },
    /// RAM is not of a size that this machine can have.
    #[error("RAM of {ram} bytes is not whole pages of at least {least} bytes")]
    RamSize {
        /// The size asked for.
        ram: ByteLen,
        /// The least size.
        least: ByteLen,
    },
    /// RAM does not make a layout.
    #[error("the RAM regions do not make a layout")]
    Layout(#[source] RamLayoutError),
    /// Guest RAM could not be allocated.
    #[error("cannot allocate {ram} bytes of guest RAM")]
    AllocateRam {
        /// The size asked for.
        ram: ByteLen,
        /// What the host said.
        #[source]
        source: io::Error,
    },
    /// Guest RAM could not be restored.
    #[error("cannot restore guest RAM")]
    RestoreRam(#[source] coldframe_mem::MemError),
    /// There can be no dirty bitmap for this RAM.
    #[error("cannot track guest RAM")]
    TrackRam(#[source] coldframe_dirty::DirtyError),
    /// The program could not be loaded.
    #[error("cannot load the guest's program")]
    Load(#[source] LoadError),
    /// Guest RAM could not be read or written by the VMM.
    #[error("cannot access guest RAM at {addr}")]
    AccessRam {
        /// The address.
        addr: GuestAddr,
        /// What vm-memory said.
        #[source]
        source: vm_memory::GuestMemoryError,
    },
    /// A call to KVM failed.
    #[error("{call} failed")]
    Kvm {
        /// The ioctl or file.
        call: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A call to KVM failed on one vCPU.
    #[error("{call} failed on vCPU {vcpu}")]
    Vcpu {
        /// The ioctl.
        call: &'static str,
        /// The vCPU's index.
        vcpu: u8,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The KVM adapter refused.
    #[cfg(all(
        target_os = "linux",
        any(target_arch = "x86_64", target_arch = "aarch64")
    ))]
    #[error("cannot {doing}")]
    Adapter {
        /// What was to be done.
        doing: &'static str,
        /// What the adapter said.
        #[source]
        source: coldframe_kvm::KvmError,
    },
    /// The thread of a vCPU could not be started.
    #[error("cannot start the thread of vCPU {vcpu}")]
    StartThread {
        /// The vCPU's index.
        vcpu: u8,
        /// What the host said.
        #[source]
        source: io::Error,
    },
    /// The thread of a vCPU is gone.
    #[error("the thread of vCPU {vcpu} has died")]
    ThreadDied {
        /// The vCPU's index.
        vcpu: u32,
    },
    /// The guest touched RAM that the host cannot give: memory marked as poisoned.
    #[error("vCPU {vcpu} touched poisoned RAM at {addr}")]
    Poisoned {
        /// The vCPU's index.
        vcpu: u8,
        /// Where.
        addr: GuestAddr,
    },
    /// A vCPU left the guest for a reason that this VMM does not handle.
    #[error("vCPU {vcpu} left the guest unexpectedly: {exit}")]
    UnexpectedExit {
        /// The vCPU's index.
        vcpu: u8,
        /// The exit, as KVM names it.
        exit: String,
    },
    /// The guest printed more than the console keeps.
    #[error("the guest printed more than {limit} bytes")]
    ConsoleFull {
        /// The most that is kept, in bytes.
        limit: usize,
    },
    /// The guest ended, but another vCPU did not halt.
    #[error("vCPU {vcpu} did not halt after the guest's end")]
    Settle {
        /// The vCPU's index.
        vcpu: u8,
    },
    /// The operation needs a paused guest.
    #[error("the guest is running; pause it first")]
    NotPaused,
    /// The guest has ended and cannot be resumed.
    #[error("the guest has ended")]
    AlreadyEnded,
    /// The saved state of the VMM's own device could not be read.
    #[error("cannot read the saved device state")]
    DeviceState(#[source] DeviceStateError),
    /// An input could not be recorded.
    #[error("cannot record what the guest was given")]
    Record(#[source] RecordingError),
    /// A replayed guest gets its inputs from its journal alone.
    #[error("a guest that is replayed takes no other input")]
    FeedReplayed,
    /// The replayed guest does not do what it did.
    #[error("the replay diverges at {offset} of the journal: there is {recorded}, not {found}")]
    Diverged {
        /// Where the entry stands that should have come next.
        offset: FileOffset,
        /// What that entry says.
        recorded: String,
        /// What the guest did.
        found: String,
    },
    /// There is no payload for this host's architecture and system.
    #[error("this build carries no payloads")]
    NoPayloads,
    /// The simulated machine runs our workloads only.
    #[error("the simulated machine runs no program but our workloads")]
    NotSimulated,
    /// The state is of another kind of machine, or damaged.
    #[error("this is no state of a simulated machine with as many vCPUs")]
    RestoreSimulated,
    /// The host has no randomness to give.
    #[error("cannot make a new generation id")]
    NewGeneration {
        /// What the host said.
        #[source]
        source: io::Error,
    },
}
