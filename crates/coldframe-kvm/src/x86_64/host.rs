//! What this host offers to a guest.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use coldframe_hv::{Comparison, CpuIdentity, CpuidLeaf, HostIdentity, Hypervisor, MachineState};
use coldframe_units::{Arch, PageSize};
use kvm_bindings as kvm;
use kvm_ioctls::{Kvm, VcpuFd, VmFd};

use super::wide;
use crate::error::KvmError;
use crate::sys;

/// Capabilities that a guest can come to depend on. Those of dirty tracking are the VMM's affair.
const CAPABILITIES: &[u32] = &[
    kvm::KVM_CAP_IRQCHIP,
    kvm::KVM_CAP_MP_STATE,
    kvm::KVM_CAP_PIT2,
    kvm::KVM_CAP_PIT_STATE2,
    kvm::KVM_CAP_ADJUST_CLOCK,
    kvm::KVM_CAP_VCPU_EVENTS,
    kvm::KVM_CAP_INTR_SHADOW,
    kvm::KVM_CAP_DEBUGREGS,
    kvm::KVM_CAP_XCRS,
    kvm::KVM_CAP_TSC_CONTROL,
    kvm::KVM_CAP_GET_TSC_KHZ,
    kvm::KVM_CAP_TSC_DEADLINE_TIMER,
    kvm::KVM_CAP_KVMCLOCK_CTRL,
    kvm::KVM_CAP_X86_SMM,
    kvm::KVM_CAP_HYPERV_SYNIC,
    kvm::KVM_CAP_VCPU_ATTRIBUTES,
    kvm::KVM_CAP_NESTED_STATE,
    kvm::KVM_CAP_SREGS2,
];

/// This host, probed once.
#[derive(Clone, Debug)]
pub struct KvmHost {
    identity: HostIdentity,
    /// `KVM_GET_MSR_FEATURE_INDEX_LIST`: registers that come before all others.
    feature_msrs: BTreeSet<u32>,
}

fn probe_error(what: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> KvmError {
    move |error| KvmError::Probe {
        what,
        source: io::Error::from_raw_os_error(error.errno()),
    }
}

impl KvmHost {
    /// Asks the kernel what it offers. Makes an empty machine of one vCPU for the questions that
    /// only such a one answers, and drops it. Opens no file.
    ///
    /// Source: Documentation/virt/kvm/api.rst, `KVM_GET_SUPPORTED_CPUID`,
    /// `KVM_GET_MSR_INDEX_LIST`, `KVM_CHECK_EXTENSION`, `KVM_GET_TSC_KHZ`.
    ///
    /// # Errors
    /// [`KvmError::Probe`] naming what cannot be asked.
    pub fn probe(kvm: &Kvm) -> Result<Self, KvmError> {
        let vm = sys::create_vm(kvm).map_err(probe_error("a machine"))?;
        let vcpu = vm.create_vcpu(0).map_err(probe_error("a vCPU"))?;
        vcpu.set_cpuid2(&supported(kvm)?)
            .map_err(probe_error("a vCPU with the CPUID"))?;
        Self::probe_on(kvm, &vm, &vcpu)
    }

    /// As [`Self::probe`], on a machine and a vCPU that exist: a VMM may not be allowed to make
    /// another.
    ///
    /// The vCPU's TSC rate is taken for the host's: give one whose rate was not set. What it shows
    /// to its guest is taken for something that the host can show, since some kernels show more
    /// than they list: give one that was not shown more than that.
    ///
    /// # Errors
    /// [`KvmError::Probe`] naming what cannot be asked.
    pub fn probe_on(kvm: &Kvm, vm: &VmFd, vcpu: &VcpuFd) -> Result<Self, KvmError> {
        let mut cpuid: Vec<_> = supported(kvm)?.as_slice().iter().map(leaf).collect();
        let shown = vcpu
            .get_cpuid2(kvm::KVM_MAX_CPUID_ENTRIES)
            .map_err(probe_error("the CPUID of a vCPU"))?;
        let shown: Vec<_> = shown.as_slice().iter().map(leaf).collect();
        cpuid.iter_mut().for_each(|leaf| add_shown(leaf, &shown));
        let cpuid: Vec<_> = cpuid.into_iter().map(of_any_cpu).collect();
        let msrs = kvm
            .get_msr_index_list()
            .map_err(probe_error("the list of model-specific registers"))?;
        let kernel = sys::kernel_release().map_err(|source| KvmError::Probe {
            what: "the kernel's release",
            source,
        })?;
        let identity = HostIdentity {
            arch: Arch::X86_64,
            hypervisor: Hypervisor::KVM,
            cpu: cpu_identity(&cpuid),
            cpuid,
            id_registers: BTreeMap::new(),
            msr_indexes: msrs.as_slice().iter().copied().collect::<BTreeSet<_>>(),
            xsave_bytes: u32::try_from(wide::xsave_bytes(vm)).unwrap_or(u32::MAX),
            tsc_khz: vcpu.get_tsc_khz().ok().filter(|rate| *rate > 0),
            counter_hz: None,
            capabilities: capabilities(vm),
            kernel,
            page_size: PageSize::new(sys::host_page_bytes()).unwrap_or(PageSize::SIZE_4K),
        };
        let feature_msrs = feature_msrs(kvm)?;
        Ok(Self {
            identity,
            feature_msrs,
        })
    }

    /// A host that was probed before and whose identity was kept: asks the kernel nothing. The
    /// registers of features are then those of
    /// [`FEATURES`](coldframe_hv::x86_64::msr::FEATURES).
    #[must_use]
    pub const fn from_identity(identity: HostIdentity) -> Self {
        Self {
            identity,
            feature_msrs: BTreeSet::new(),
        }
    }

    pub(super) const fn feature_msrs(&self) -> &BTreeSet<u32> {
        &self.feature_msrs
    }

    /// What the host is.
    #[must_use]
    pub const fn identity(&self) -> &HostIdentity {
        &self.identity
    }

    /// What a guest saved in `state` would find different here.
    #[must_use]
    pub fn compare(&self, state: &MachineState) -> Comparison {
        Comparison::of(state, (&self.identity).into())
    }
}

fn supported(kvm: &Kvm) -> Result<kvm::CpuId, KvmError> {
    kvm.get_supported_cpuid(kvm::KVM_MAX_CPUID_ENTRIES)
        .map_err(probe_error("the CPUID"))
}

/// Adds the feature bits that a vCPU shows beyond the list: where guests execute CPUID on the
/// hardware (software KVM without VMX and SVM), the kernel puts the hardware's own bits into each
/// vCPU, whatever it was given.
fn add_shown(leaf: &mut CpuidLeaf, shown: &[CpuidLeaf]) {
    let mut same = shown.iter();
    let key = (leaf.function, leaf.index);
    let Some(vcpu) = same.find(|other| (other.function, other.index) == key) else {
        return;
    };
    match key {
        (1 | 0x8000_0001, 0) => {
            leaf.ecx |= vcpu.ecx;
            leaf.edx |= vcpu.edx;
        }
        (7, _) => {
            if leaf.index > 0 {
                leaf.eax |= vcpu.eax;
            }
            leaf.ebx |= vcpu.ebx;
            leaf.ecx |= vcpu.ecx;
            leaf.edx |= vcpu.edx;
        }
        (0xd, 0) => {
            leaf.eax |= vcpu.eax;
            leaf.edx |= vcpu.edx;
        }
        (0xd, 1) => leaf.eax |= vcpu.eax,
        _ => {}
    }
}

/// A kernel without the call has no such list (`KVM_CAP_GET_MSR_FEATURES`, Linux 4.17).
fn feature_msrs(kvm: &Kvm) -> Result<BTreeSet<u32>, KvmError> {
    match kvm.get_msr_feature_index_list() {
        Ok(list) => Ok(list.as_slice().iter().copied().collect()),
        Err(error) if matches!(error.errno(), libc::EINVAL | libc::ENOTTY) => Ok(BTreeSet::new()),
        Err(error) => Err(probe_error("the list of feature registers")(error)),
    }
}

fn capabilities(vm: &VmFd) -> BTreeMap<u32, i64> {
    let ask = |number: &u32| (*number, i64::from(vm.check_extension_raw((*number).into())));
    CAPABILITIES.iter().map(ask).collect()
}

fn leaf(entry: &kvm::kvm_cpuid_entry2) -> CpuidLeaf {
    CpuidLeaf {
        function: entry.function,
        index: entry.index,
        flags: entry.flags,
        eax: entry.eax,
        ebx: entry.ebx,
        ecx: entry.ecx,
        edx: entry.edx,
    }
}

/// A leaf without what tells the CPUs of a host from each other, which is that of whichever asked:
/// APIC, compute unit and node ids (Intel SDM volume 2, CPUID; AMD APM volume 3, E.3 and E.4).
const fn of_any_cpu(mut leaf: CpuidLeaf) -> CpuidLeaf {
    match leaf.function {
        1 => leaf.ebx &= 0x00ff_ffff,
        0xb | 0x1f => leaf.edx = 0,
        0x8000_001e => {
            leaf.eax = 0;
            leaf.ebx &= !0xff;
            leaf.ecx &= !0xff;
        }
        _ => {}
    }
    leaf
}

/// The CPU's name out of leaves 0, 1 and 0x80000002 to 4 (Intel SDM volume 2, CPUID).
fn cpu_identity(cpuid: &[CpuidLeaf]) -> CpuIdentity {
    let find = |function| {
        let found = cpuid.iter().find(|leaf| leaf.function == function);
        found.copied().unwrap_or_default()
    };
    let text = |registers: &[u32]| {
        let bytes: Vec<u8> = registers
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        text.trim_matches(|c: char| c == '\0' || c.is_whitespace())
            .to_string()
    };
    let vendor = find(0);
    let signature = find(1).eax;
    let base_family = signature >> 8 & 0xf;
    let extended_family = if base_family == 0xf {
        signature >> 20 & 0xff
    } else {
        0
    };
    let mut brand = Vec::new();
    for function in 0x8000_0002..=0x8000_0004 {
        let leaf = find(function);
        brand.extend([leaf.eax, leaf.ebx, leaf.ecx, leaf.edx]);
    }
    CpuIdentity {
        vendor: text(&[vendor.ebx, vendor.edx, vendor.ecx]),
        family: base_family + extended_family,
        model: (signature >> 12 & 0xf0) | (signature >> 4 & 0xf),
        stepping: signature & 0xf,
        brand: text(&brand),
    }
}
