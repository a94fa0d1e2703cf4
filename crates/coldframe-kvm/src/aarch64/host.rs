//! What this host offers to a guest.

use std::collections::BTreeMap;
use std::io;

use coldframe_hv::aarch64::{GicModel, RegClass, RegId, SysReg};
use coldframe_hv::{Comparison, CpuIdentity, HostIdentity, Hypervisor, MachineState, Offer};
use coldframe_units::{Arch, PageSize};
use kvm_bindings as kvm;
use kvm_ioctls::{Kvm, VmFd};

use super::regs;
use crate::error::KvmError;
use crate::sys;

/// Features of a vCPU that a host may lack, each with the capability that says that it has it.
const FEATURES: &[(u32, u32)] = &[
    (kvm::KVM_ARM_VCPU_PSCI_0_2, kvm::KVM_CAP_ARM_PSCI_0_2),
    (kvm::KVM_ARM_VCPU_SVE, kvm::KVM_CAP_ARM_SVE),
    (
        kvm::KVM_ARM_VCPU_PTRAUTH_ADDRESS,
        kvm::KVM_CAP_ARM_PTRAUTH_ADDRESS,
    ),
    (
        kvm::KVM_ARM_VCPU_PTRAUTH_GENERIC,
        kvm::KVM_CAP_ARM_PTRAUTH_GENERIC,
    ),
];

/// Capabilities that a guest can come to depend on. Those of dirty tracking are the VMM's affair.
const CAPABILITIES: &[u32] = &[
    kvm::KVM_CAP_IRQCHIP,
    kvm::KVM_CAP_MP_STATE,
    kvm::KVM_CAP_VCPU_EVENTS,
    kvm::KVM_CAP_VCPU_ATTRIBUTES,
    kvm::KVM_CAP_ARM_PSCI_0_2,
    kvm::KVM_CAP_ARM_PMU_V3,
    kvm::KVM_CAP_ARM_INJECT_SERROR_ESR,
    kvm::KVM_CAP_ARM_VM_IPA_SIZE,
    kvm::KVM_CAP_ARM_SVE,
    kvm::KVM_CAP_ARM_PTRAUTH_ADDRESS,
    kvm::KVM_CAP_ARM_PTRAUTH_GENERIC,
    kvm::KVM_CAP_STEAL_TIME,
    kvm::KVM_CAP_ARM_MTE,
    kvm::KVM_CAP_ARM_SYSTEM_SUSPEND,
    kvm::KVM_CAP_COUNTER_OFFSET,
];

/// This host, probed once.
#[derive(Clone, Debug)]
pub struct KvmHost {
    identity: HostIdentity,
    init: kvm::kvm_vcpu_init,
    /// `None` if the kernel was not asked.
    gics: Option<Vec<GicModel>>,
    /// Empty without SVE; `None` if the kernel was not asked.
    sve_lengths: Option<Vec<u8>>,
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
    /// Source: Documentation/virt/kvm/api.rst, `KVM_ARM_PREFERRED_TARGET`, `KVM_GET_REG_LIST`,
    /// `KVM_CHECK_EXTENSION`.
    ///
    /// # Errors
    /// [`KvmError::Probe`], [`KvmError::ListRegisters`] or [`KvmError::GetRegister`] naming what
    /// cannot be asked.
    pub fn probe(kvm: &Kvm) -> Result<Self, KvmError> {
        let vm = sys::create_vm(kvm).map_err(probe_error("a machine"))?;
        let init = features(&vm)?;
        let vcpu = vm.create_vcpu(0).map_err(probe_error("a vCPU"))?;
        vcpu.vcpu_init(&init)
            .map_err(probe_error("the features of a vCPU"))?;
        let mut sve_lengths = Vec::new();
        if init.features[0] & 1 << kvm::KVM_ARM_VCPU_SVE != 0 {
            sve_lengths = regs::get(&vcpu, 0, RegId::SVE_LENGTHS)?;
            let feature = i32::try_from(kvm::KVM_ARM_VCPU_SVE).unwrap_or(0);
            vcpu.vcpu_finalize(&feature)
                .map_err(probe_error("the vectors of a vCPU"))?;
        }
        let mut id_registers = BTreeMap::new();
        for register in regs::list(&vcpu, 0)? {
            if register.class() == RegClass::Identification {
                id_registers.insert(register.code(), regs::get_u64(&vcpu, 0, register)?);
            }
        }
        let kernel = sys::kernel_release().map_err(|source| KvmError::Probe {
            what: "the kernel's release",
            source,
        })?;
        let midr = id_registers.get(&RegId::from_system(SysReg::MIDR_EL1).code());
        let identity = HostIdentity {
            cpu: cpu_identity(midr.copied().unwrap_or(0)),
            id_registers,
            counter_hz: Some(sys::counter_hz()),
            capabilities: capabilities(&vm),
            kernel,
            page_size: PageSize::new(sys::host_page_bytes()).unwrap_or(PageSize::SIZE_4K),
            ..HostIdentity::bare(Arch::Aarch64, Hypervisor::KVM)
        };
        Ok(Self {
            identity,
            init,
            gics: Some(gics(kvm)?),
            sve_lengths: Some(sve_lengths),
        })
    }

    /// A host that was probed before and whose identity was kept: asks the kernel nothing, and so
    /// knows of no interrupt controllers and vector lengths. `init` is what vCPUs are made with.
    #[must_use]
    pub const fn from_identity(identity: HostIdentity, init: kvm::kvm_vcpu_init) -> Self {
        Self {
            identity,
            init,
            gics: None,
            sve_lengths: None,
        }
    }

    /// What the host is.
    #[must_use]
    pub const fn identity(&self) -> &HostIdentity {
        &self.identity
    }

    /// Target and features for vCPUs that have all that this host offers of PSCI, SVE and pointer
    /// authentication.
    #[must_use]
    pub const fn vcpu_init(&self) -> kvm::kvm_vcpu_init {
        self.init
    }

    /// What a guest saved in `state` would find different here.
    #[must_use]
    pub fn compare(&self, state: &MachineState) -> Comparison {
        let offer = Offer {
            identity: &self.identity,
            gics: self.gics.as_deref(),
            sve_lengths: self.sve_lengths.as_deref(),
        };
        Comparison::of(state, offer)
    }
}

/// The interrupt controllers that the kernel makes, each for a machine of its own.
fn gics(kvm: &Kvm) -> Result<Vec<GicModel>, KvmError> {
    let types = [
        (GicModel::V2, kvm::kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V2),
        (GicModel::V3, kvm::kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3),
    ];
    let mut gics = Vec::new();
    for (model, type_) in types {
        let vm = sys::create_vm(kvm).map_err(probe_error("a machine"))?;
        let mut request = kvm::kvm_create_device {
            type_,
            ..kvm::kvm_create_device::default()
        };
        match vm.create_device(&mut request) {
            Ok(_) => gics.push(model),
            Err(error) if error.errno() == libc::ENODEV => {}
            Err(error) => return Err(probe_error("an interrupt controller")(error)),
        }
    }
    Ok(gics)
}

fn features(vm: &VmFd) -> Result<kvm::kvm_vcpu_init, KvmError> {
    let mut init = kvm::kvm_vcpu_init::default();
    vm.get_preferred_target(&mut init)
        .map_err(probe_error("the preferred target"))?;
    for (feature, capability) in FEATURES {
        if vm.check_extension_raw((*capability).into()) > 0 {
            init.features[0] |= 1 << feature;
        }
    }
    Ok(init)
}

fn capabilities(vm: &VmFd) -> BTreeMap<u32, i64> {
    let ask = |number: &u32| (*number, i64::from(vm.check_extension_raw((*number).into())));
    CAPABILITIES.iter().map(ask).collect()
}

/// The CPU's name out of MIDR_EL1 (Arm DDI 0487, D19.2).
fn cpu_identity(midr: u64) -> CpuIdentity {
    let field = |shift: u32, mask: u64| u32::try_from(midr >> shift & mask).unwrap_or(0);
    CpuIdentity {
        vendor: format!("{:#04x}", field(24, 0xff)),
        family: field(16, 0xf),
        model: field(4, 0xfff),
        stepping: field(20, 0xf) << 4 | field(0, 0xf),
        brand: String::new(),
    }
}
