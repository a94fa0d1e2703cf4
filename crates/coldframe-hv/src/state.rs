//! The state of a paused machine, keyed by the kernel's own stable numbers.
//!
//! Invariant after [`MachineState::check`]: 1 to [`VCPU_COUNT_MAX`] vCPUs, in rising index, none
//! twice, each with at least one register or item; host and state agree on the architecture.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use coldframe_units::Arch;

use crate::{HostIdentity, Hypervisor, ItemKind};

/// The most vCPUs that a state may hold; what the state file can hold too.
pub const VCPU_COUNT_MAX: usize = 1024;

/// A machine at rest, without its memory and without the VMM's own devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineState {
    /// The guest's architecture.
    pub arch: Arch,
    /// Who ran it.
    pub hypervisor: Hypervisor,
    /// The host that it was saved on.
    pub host: HostIdentity,
    /// State that belongs to no vCPU.
    pub vm: VmState,
    /// Each vCPU, in rising index.
    pub vcpus: Vec<VcpuState>,
}

/// State that belongs to the whole machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VmState {
    /// Raw kernel structures.
    pub items: BTreeMap<ItemKind, Vec<u8>>,
}

/// State of one vCPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VcpuState {
    /// The number that the vCPU was created with.
    pub index: u32,
    /// Raw kernel structures.
    pub items: BTreeMap<ItemKind, Vec<u8>>,
    /// Model-specific registers by index (x86_64); those that could not be read are absent.
    pub msrs: BTreeMap<u32, u64>,
    /// Registers by the number of [`RegId`](crate::aarch64::RegId) (aarch64), or by KVM's own
    /// number where KVM lists some (x86_64).
    pub regs: BTreeMap<u64, Vec<u8>>,
}

impl VcpuState {
    /// Model-specific registers that `host` lists but that could not be read when saving.
    #[must_use]
    pub fn omitted_msrs(&self, host: &HostIdentity) -> BTreeSet<u32> {
        let listed = host.msr_indexes.iter().copied();
        listed
            .filter(|index| !self.msrs.contains_key(index))
            .collect()
    }
}

/// The state of one device of the VMM: opaque to coldframe, byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceState {
    /// What kind of device, in the VMM's own words.
    pub kind: String,
    /// Which one of its kind.
    pub instance: u32,
    /// Version of the bytes, in the VMM's own counting.
    pub version: u16,
    /// The state.
    pub bytes: Vec<u8>,
}

/// A state that is no machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// There is no vCPU, or there are too many.
    #[error("a machine has 1 to {max} vCPUs, this state has {found}")]
    VcpuCount {
        /// How many there are.
        found: usize,
        /// How many there may be.
        max: usize,
    },
    /// Two vCPUs have one index, or they stand in falling order.
    #[error("vCPU {next} follows vCPU {previous}, indexes must rise")]
    VcpuOrder {
        /// Index of the earlier one.
        previous: u32,
        /// Index of the one after it.
        next: u32,
    },
    /// A vCPU has neither an item nor a register.
    #[error("vCPU {index} has no state at all")]
    VcpuEmpty {
        /// Its index.
        index: u32,
    },
    /// State and host identity name different architectures.
    #[error("the state is of {state}, its host of {host}")]
    ArchMismatch {
        /// The state's.
        state: Arch,
        /// The host's.
        host: Arch,
    },
    /// State and host identity name different hypervisors.
    #[error("the state is of {state}, its host ran {host}")]
    HypervisorMismatch {
        /// The state's.
        state: Hypervisor,
        /// The host's.
        host: Hypervisor,
    },
    /// Two devices have the same kind and instance.
    #[error("device {kind} number {instance} is there twice")]
    DuplicateDevice {
        /// The kind.
        kind: String,
        /// The instance.
        instance: u32,
    },
}

impl MachineState {
    /// Checks the shape of the state; contents are checked by the restore.
    ///
    /// # Errors
    /// [`StateError`] naming the first thing that is wrong.
    pub fn check(&self) -> Result<(), StateError> {
        if self.arch != self.host.arch {
            return Err(StateError::ArchMismatch {
                state: self.arch,
                host: self.host.arch,
            });
        }
        if self.hypervisor != self.host.hypervisor {
            return Err(StateError::HypervisorMismatch {
                state: self.hypervisor,
                host: self.host.hypervisor,
            });
        }
        let found = self.vcpus.len();
        if found == 0 || found > VCPU_COUNT_MAX {
            return Err(StateError::VcpuCount {
                found,
                max: VCPU_COUNT_MAX,
            });
        }
        for (previous, next) in self.vcpus.iter().zip(self.vcpus.iter().skip(1)) {
            if previous.index >= next.index {
                return Err(StateError::VcpuOrder {
                    previous: previous.index,
                    next: next.index,
                });
            }
        }
        match self
            .vcpus
            .iter()
            .find(|vcpu| vcpu.items.is_empty() && vcpu.regs.is_empty())
        {
            Some(vcpu) => Err(StateError::VcpuEmpty { index: vcpu.index }),
            None => Ok(()),
        }
    }
}

/// Checks that no two devices have the same kind and instance.
///
/// # Errors
/// [`StateError::DuplicateDevice`] naming the first that is there twice.
pub fn check_devices(devices: &[DeviceState]) -> Result<(), StateError> {
    let mut seen = BTreeSet::new();
    for device in devices {
        if !seen.insert((device.kind.as_str(), device.instance)) {
            return Err(StateError::DuplicateDevice {
                kind: device.kind.clone(),
                instance: device.instance,
            });
        }
    }
    Ok(())
}
