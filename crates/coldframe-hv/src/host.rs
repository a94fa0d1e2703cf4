//! What a host is, as far as a guest on it could tell: the two sides of a portability report.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use coldframe_units::{Arch, PageSize};

/// Which hypervisor runs the guest: the number that files store.
///
/// The set is open. The numbers below have a name here; any other but 0 is carried, compared and
/// printed as a number, so an adapter for another hypervisor needs no change in this crate. Numbers
/// from [`Hypervisor::PRIVATE_MIN`] are never given a name: an adapter that was not added to the
/// list takes one of those, and refuses by its own items a state of somebody else with the same.
///
/// ```
/// use coldframe_hv::Hypervisor;
///
/// let mine = Hypervisor::from_code(200).ok_or("0 is no hypervisor")?;
/// assert_eq!((mine.name(), mine.to_string().as_str()), (None, "hypervisor 200"));
/// assert_eq!(Hypervisor::from_code(1), Some(Hypervisor::KVM));
/// # Ok::<(), &str>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hypervisor(u8);

impl Hypervisor {
    /// Linux KVM.
    pub const KVM: Self = Self(1);
    /// Apple's Hypervisor.framework.
    pub const HVF: Self = Self(2);
    /// A simulated machine for tests and demonstrations.
    pub const SIMULATED: Self = Self(3);

    /// Every hypervisor that has a name here, with it.
    pub const KNOWN: &'static [(Self, &'static str)] = &[
        (Self::KVM, "kvm"),
        (Self::HVF, "hvf"),
        (Self::SIMULATED, "simulated"),
    ];

    /// The least number for private use.
    pub const PRIVATE_MIN: u8 = 128;

    /// The number that files store.
    #[must_use]
    pub const fn code(self) -> u8 {
        self.0
    }

    /// From the number that files store; any but 0 is carried.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => None,
            code => Some(Self(code)),
        }
    }

    /// Its name in lower case; `None` if this version does not know it.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        let row = Self::KNOWN.iter().find(|row| row.0 == self)?;
        Some(row.1)
    }
}

impl fmt::Display for Hypervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => write!(f, "hypervisor {}", self.0),
        }
    }
}

impl fmt::Debug for Hypervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hypervisor({self})")
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
