//! What can be found wrong with the state of an aarch64 machine before a hypervisor is called.

use alloc::collections::BTreeMap;

use super::{GicModel, Mpidr, PowerState, RegClass, RegId, decode_rows};
use crate::{ItemKind, MachineState, VcpuState};

/// A state that no aarch64 machine can be made of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Aarch64Error {
    /// A vCPU has no affinity register.
    #[error("vCPU {vcpu} has no MPIDR_EL1")]
    NoAffinity {
        /// Which vCPU.
        vcpu: u32,
    },
    /// Two vCPUs have one affinity.
    #[error("vCPUs {first} and {second} both have the affinity {affinity}")]
    SameAffinity {
        /// The one vCPU.
        first: u32,
        /// The other.
        second: u32,
        /// What they share.
        affinity: Mpidr,
    },
    /// A value is not as long as the register's number says.
    #[error("{register} of vCPU {vcpu} has {found} bytes, its number says {expected}")]
    RegisterLength {
        /// Which vCPU.
        vcpu: u32,
        /// Which register.
        register: RegId,
        /// How many bytes there are.
        found: usize,
        /// How many there should be.
        expected: usize,
    },
    /// A number names no register of aarch64.
    #[error("vCPU {vcpu} has a register {code:#018x}, which is none of aarch64")]
    NoRegister {
        /// Which vCPU.
        vcpu: u32,
        /// The number.
        code: u64,
    },
    /// There are vectors, but not how long they may be.
    #[error("vCPU {vcpu} has SVE registers and no vector lengths")]
    NoVectorLengths {
        /// Which vCPU.
        vcpu: u32,
    },
    /// It is not said whether a vCPU is on, or in words that aarch64 does not have.
    #[error("vCPU {vcpu} has no power state that aarch64 knows")]
    Power {
        /// Which vCPU.
        vcpu: u32,
    },
    /// It is not said which interrupt controller the machine has, or it is unknown.
    #[error("the state names no interrupt controller that this version knows")]
    NoGic,
    /// The state of another interrupt controller than the one named.
    #[error("{item} does not belong to an interrupt controller {model:?}")]
    OtherGic {
        /// The item.
        item: ItemKind,
        /// The controller that is named.
        model: GicModel,
    },
    /// State of the interrupt controller is missing.
    #[error("an interrupt controller {model:?} has no {item}")]
    GicItem {
        /// The item.
        item: ItemKind,
        /// The controller.
        model: GicModel,
    },
    /// The bytes of a group of registers are not whole rows.
    #[error("{item} is not made of whole rows")]
    GicRows {
        /// The item.
        item: ItemKind,
    },
}

/// Checks what [`MachineState::check`] does not know of: affinities, lengths of registers, power
/// states, and that there is one interrupt controller, whole.
///
/// # Errors
/// [`Aarch64Error`] naming the first thing that is wrong.
pub fn check(state: &MachineState) -> Result<(), Aarch64Error> {
    let mut seen: BTreeMap<u64, u32> = BTreeMap::new();
    for vcpu in &state.vcpus {
        check_vcpu(vcpu)?;
        let affinity = affinity_of(vcpu)?;
        if let Some(first) = seen.insert(affinity.affinity(), vcpu.index) {
            return Err(Aarch64Error::SameAffinity {
                first,
                second: vcpu.index,
                affinity,
            });
        }
    }
    check_gic(state)
}

fn affinity_of(vcpu: &VcpuState) -> Result<Mpidr, Aarch64Error> {
    let value = vcpu.reg(RegId::MPIDR_EL1);
    let index = vcpu.index;
    value
        .map(Mpidr::new)
        .ok_or(Aarch64Error::NoAffinity { vcpu: index })
}

fn check_vcpu(state: &VcpuState) -> Result<(), Aarch64Error> {
    let vcpu = state.index;
    let mut has_vectors = false;
    for (code, value) in &state.regs {
        let register = RegId::from_code(*code);
        let Some(expected) = register.bytes() else {
            return Err(Aarch64Error::NoRegister { vcpu, code: *code });
        };
        if value.len() != expected {
            return Err(Aarch64Error::RegisterLength {
                vcpu,
                register,
                found: value.len(),
                expected,
            });
        }
        has_vectors |= register.class() == RegClass::Vector;
    }
    if has_vectors && !state.regs.contains_key(&RegId::SVE_LENGTHS.code()) {
        return Err(Aarch64Error::NoVectorLengths { vcpu });
    }
    match PowerState::of(state) {
        Some(_) => Ok(()),
        None => Err(Aarch64Error::Power { vcpu }),
    }
}

fn check_gic(state: &MachineState) -> Result<(), Aarch64Error> {
    const OF_THE_MACHINE: [ItemKind; 5] = [
        ItemKind::GIC_DISTRIBUTOR,
        ItemKind::GIC_ITS,
        ItemKind::GIC_LINES,
        ItemKind::HVF_GIC,
        ItemKind::HVF_GIC_BUILD,
    ];
    const OF_A_VCPU: [ItemKind; 2] = [ItemKind::GIC_REDISTRIBUTOR, ItemKind::GIC_CPU_INTERFACE];
    let model = GicModel::of(&state.vm).ok_or(Aarch64Error::NoGic)?;
    let owners = core::iter::once((&state.vm.items, &OF_THE_MACHINE[..]));
    let owners = owners.chain(state.vcpus.iter().map(|vcpu| (&vcpu.items, &OF_A_VCPU[..])));
    for (items, kinds) in owners {
        for item in kinds.iter().copied() {
            let found = items.get(&item);
            match (model.wants(item), found) {
                (Wanted::Never, Some(_)) => return Err(Aarch64Error::OtherGic { item, model }),
                (Wanted::Always, None) => return Err(Aarch64Error::GicItem { item, model }),
                _ => {}
            }
            let is_opaque = matches!(item, ItemKind::HVF_GIC | ItemKind::HVF_GIC_BUILD);
            if found.is_some_and(|bytes| !is_opaque && decode_rows(bytes).is_none()) {
                return Err(Aarch64Error::GicRows { item });
            }
        }
    }
    Ok(())
}

enum Wanted {
    Never,
    Maybe,
    Always,
}

impl GicModel {
    /// Which controller the state of a machine is of; `None` if it does not say.
    #[must_use]
    pub fn of(vm: &crate::VmState) -> Option<Self> {
        let bytes = vm.items.get(&ItemKind::GIC_MODEL)?.as_slice();
        Self::from_code(u32::from_le_bytes(bytes.try_into().ok()?))
    }

    /// Says it of the state of a machine.
    pub fn store(self, vm: &mut crate::VmState) {
        let bytes = self.code().to_le_bytes().to_vec();
        vm.items.insert(ItemKind::GIC_MODEL, bytes);
    }

    const fn wants(self, item: ItemKind) -> Wanted {
        match (self, item) {
            (Self::V2 | Self::V3, ItemKind::GIC_DISTRIBUTOR)
            | (Self::V3, ItemKind::GIC_REDISTRIBUTOR)
            | (Self::Apple, ItemKind::HVF_GIC | ItemKind::HVF_GIC_BUILD)
            | (_, ItemKind::GIC_CPU_INTERFACE) => Wanted::Always,
            (Self::V3, ItemKind::GIC_ITS | ItemKind::GIC_LINES) => Wanted::Maybe,
            _ => Wanted::Never,
        }
    }
}
