//! The bodies of version 1. Frozen: a change is a new file beside this one, never an edit.
//!
//! Invariant of a decoded or encoded body: every keyed list rises strictly by its key, every count
//! is within [`crate::limits`], and no list holds elements of size zero. No `Option` or enumeration
//! wraps a large array, so the codec's demand for memory stays in proportion to its input.

use alloc::string::String;
use alloc::vec::Vec;

#[cfg(feature = "bitcode")]
use bitcode::{Decode, Encode};

/// Section `HOST`: the host that the machine was saved on, as far as a guest could tell.
///
/// Fields that an architecture does not have are empty.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "bitcode", derive(Encode, Decode))]
pub struct HostV1 {
    /// Code of the hypervisor: 1 KVM, 2 Hypervisor.framework, 3 simulated, others open; not 0.
    pub hypervisor: u8,
    /// CPU vendor.
    pub vendor: String,
    /// CPU family, with the extended family added.
    pub family: u32,
    /// CPU model, with the extended model above.
    pub model: u32,
    /// CPU stepping.
    pub stepping: u32,
    /// Marketing name of the CPU.
    pub brand: String,
    /// CPUID leaves that the hypervisor can show to a guest, in the order in which it lists them.
    pub cpuid: Vec<CpuidRowV1>,
    /// Values of identification registers by register id, rising.
    pub id_registers: Vec<(u64, u64)>,
    /// Model-specific registers that the hypervisor saves, rising.
    pub msr_indexes: Vec<u32>,
    /// Bytes of a vCPU's extended state area; 0 if there is none.
    pub xsave_bytes: u32,
    /// Default TSC rate of a vCPU in kHz.
    pub tsc_khz: Option<u32>,
    /// Rate of the generic timer in Hz.
    pub counter_hz: Option<u64>,
    /// Answers of the hypervisor by capability number, rising.
    pub capabilities: Vec<(u32, i64)>,
    /// Release of the kernel or the operating system's build.
    pub kernel: String,
    /// Base-2 logarithm of the host's page size in bytes.
    pub page_size_log2: u8,
}

/// One CPUID leaf as a hypervisor lists it (`struct kvm_cpuid_entry2`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "bitcode", derive(Encode, Decode))]
pub struct CpuidRowV1 {
    /// Leaf, EAX on entry.
    pub function: u32,
    /// Sub-leaf, ECX on entry, if `flags` bit 0 is set.
    pub index: u32,
    /// `KVM_CPUID_FLAG_*`.
    pub flags: u32,
    /// EAX on return.
    pub eax: u32,
    /// EBX on return.
    pub ebx: u32,
    /// ECX on return.
    pub ecx: u32,
    /// EDX on return.
    pub edx: u32,
}

/// Section `MACH`: state that belongs to no vCPU.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "bitcode", derive(Encode, Decode))]
pub struct MachineV1 {
    /// Code of the architecture; equal to the header's.
    pub arch: u8,
    /// Code of the hypervisor; equal to the host's.
    pub hypervisor: u8,
    /// Raw kernel structures by item number, rising.
    pub items: Vec<(u32, Vec<u8>)>,
}

/// Section `VCPU`: the state of one vCPU.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "bitcode", derive(Encode, Decode))]
pub struct VcpuV1 {
    /// The number that the vCPU was created with; equal to the section's instance.
    pub index: u32,
    /// Raw kernel structures by item number, rising.
    pub items: Vec<(u32, Vec<u8>)>,
    /// Model-specific registers by index, rising.
    pub msrs: Vec<(u32, u64)>,
    /// Registers by the hypervisor's register id, rising.
    pub regs: Vec<(u64, Vec<u8>)>,
}

/// Section `DEVC`: the state of one device of the VMM, opaque byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "bitcode", derive(Encode, Decode))]
pub struct DeviceV1 {
    /// What kind of device, in the VMM's own words: 1 to 64 printable ASCII bytes.
    pub kind: String,
    /// Which one of its kind.
    pub instance: u32,
    /// Version of the bytes, in the VMM's own counting.
    pub version: u16,
    /// The state.
    pub bytes: Vec<u8>,
}

/// Section `META`: what the guest's metadata service held.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "bitcode", derive(Encode, Decode))]
pub struct MetadataV1 {
    /// JSON text; carried as it is, not parsed here.
    pub json: String,
    /// How long a session token lives, in seconds; absent stays absent.
    pub token_ttl_seconds: Option<u32>,
}
