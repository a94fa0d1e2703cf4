//! What a host is, as far as a guest on it could tell: the two sides of a portability report.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use coldframe_units::{Arch, PageSize};

/// Who runs the guest; its code is what the files store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Hypervisor {
    /// Linux KVM, code 1.
    Kvm,
    /// Apple's Hypervisor.framework, code 2.
    Hvf,
    /// A simulated machine for tests and demonstrations, code 3.
    Simulated,
}

impl Hypervisor {
    /// The code that files store.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Kvm => 1,
            Self::Hvf => 2,
            Self::Simulated => 3,
        }
    }

    /// From the code that files store; `None` if unknown.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Kvm),
            2 => Some(Self::Hvf),
            3 => Some(Self::Simulated),
            _ => None,
        }
    }

    /// Its name in lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Hvf => "hvf",
            Self::Simulated => "simulated",
        }
    }
}

impl core::fmt::Display for Hypervisor {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

/// The name that a CPU gives itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuIdentity {
    /// Vendor, such as `GenuineIntel`; on Arm the implementer's number in hexadecimal.
    pub vendor: String,
    /// Family, with the extended family added; on Arm the architecture code.
    pub family: u32,
    /// Model, with the extended model above; on Arm the part number.
    pub model: u32,
    /// Stepping; on Arm variant and revision.
    pub stepping: u32,
    /// Marketing name, for people.
    pub brand: String,
}

/// One CPUID leaf as a hypervisor lists it (`struct kvm_cpuid_entry2`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuidLeaf {
    /// Leaf, EAX on entry.
    pub function: u32,
    /// Sub-leaf, ECX on entry, if `flags` bit 0 is set.
    pub index: u32,
    /// Bit 0: the sub-leaf counts (`KVM_CPUID_FLAG_SIGNIFCANT_INDEX`).
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

/// Everything about a host that decides whether a guest saved there can go on elsewhere.
///
/// Fields that an architecture does not have are empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostIdentity {
    /// Architecture.
    pub arch: Arch,
    /// Hypervisor.
    pub hypervisor: Hypervisor,
    /// The CPU's own name.
    pub cpu: CpuIdentity,
    /// CPUID leaves that the hypervisor can show to a guest (x86_64).
    pub cpuid: Vec<CpuidLeaf>,
    /// Values of identification registers by KVM register id (aarch64).
    pub id_registers: BTreeMap<u64, u64>,
    /// Model-specific registers that the hypervisor saves (x86_64).
    pub msr_indexes: BTreeSet<u32>,
    /// Bytes of the extended state area of a vCPU; 0 if there is none (x86_64).
    pub xsave_bytes: u32,
    /// Default TSC rate of a vCPU in kHz; `None` if unknown (x86_64).
    pub tsc_khz: Option<u32>,
    /// Rate of the generic timer in Hz (aarch64).
    pub counter_hz: Option<u64>,
    /// What the hypervisor answers for each capability asked about, by its number.
    pub capabilities: BTreeMap<u32, i64>,
    /// Release of the kernel or the operating system's build.
    pub kernel: String,
    /// Page size of the host.
    pub page_size: PageSize,
}

impl HostIdentity {
    /// An identity of which only architecture and hypervisor are known.
    #[must_use]
    pub fn bare(arch: Arch, hypervisor: Hypervisor) -> Self {
        Self {
            arch,
            hypervisor,
            cpu: CpuIdentity::default(),
            cpuid: Vec::new(),
            id_registers: BTreeMap::new(),
            msr_indexes: BTreeSet::new(),
            xsave_bytes: 0,
            tsc_khz: None,
            counter_hz: None,
            capabilities: BTreeMap::new(),
            kernel: String::new(),
            page_size: PageSize::SIZE_4K,
        }
    }
}
