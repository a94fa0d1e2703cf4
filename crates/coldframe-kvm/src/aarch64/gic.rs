//! The interrupt controller, by device attributes.
//!
//! Invariant: rows are read and written in the order of `coldframe-hv`. Registers that the kernel
//! keeps in guest memory (pending bits of LPIs, tables of translation services) are written there
//! by it when asked; who asks copies memory afterwards.
//!
//! Source: Linux Documentation/virt/kvm/devices/arm-vgic.rst, arm-vgic-v3.rst, arm-vgic-its.rst.

use std::io;

use coldframe_hv::ItemKind;
use coldframe_hv::aarch64::{
    GicModel, GicRow, ITS_ATTRS, ITS_CONTROL_ATTR, Mpidr, RegId, SysReg, decode_rows,
    distributor_attrs, encode_rows, interface_attrs, redistributor_attrs, restore_writes,
    v2_distributor_attrs, v2_interface_attrs,
};
use kvm_bindings as kvm;
use kvm_ioctls::DeviceFd;

use super::{KvmMachine, regs};
use crate::error::{KvmError, Place};
use crate::sys::{self, Attribute};

/// The interrupt controller of a machine, initialised.
#[derive(Clone, Debug)]
pub enum KvmGic<'a> {
    /// A GICv2.
    V2(&'a DeviceFd),
    /// A GICv3, and its translation services in the order in which they were made.
    V3 {
        /// The controller.
        gic: &'a DeviceFd,
        /// The translation services; none if there are none.
        its: Vec<&'a DeviceFd>,
    },
}

/// Bits of a row's attribute that say which translation service it is of.
const ITS_SHIFT: u32 = 32;
/// Interrupts below this belong to one vCPU.
const PRIVATE: u64 = 32;
/// Bits of an attribute of a line that say which interrupt it is of; bits 32 on have the vCPU.
const INTERRUPT: u64 = 0x3ff;
const ITS_OFFSET: u64 = (1 << ITS_SHIFT) - 1;

impl<'a> KvmGic<'a> {
    /// Which it is.
    #[must_use]
    pub const fn model(&self) -> GicModel {
        match self {
            Self::V2(_) => GicModel::V2,
            Self::V3 { .. } => GicModel::V3,
        }
    }

    const fn device(&self) -> &'a DeviceFd {
        match self {
            Self::V2(gic) | Self::V3 { gic, .. } => gic,
        }
    }

    fn services(&self) -> &[&'a DeviceFd] {
        match self {
            Self::V2(_) => &[],
            Self::V3 { its, .. } => its,
        }
    }

    /// Has the kernel write the pending bits of all LPIs into guest memory.
    pub(super) fn save_pending_tables(&self) -> Result<(), KvmError> {
        match self {
            Self::V2(_) => Ok(()),
            Self::V3 { gic, .. } => control(gic, kvm::KVM_DEV_ARM_VGIC_SAVE_PENDING_TABLES),
        }
    }

    /// Has the kernel write the tables of the translation services into guest memory.
    pub(super) fn save_its_tables(&self) -> Result<(), KvmError> {
        let each = |its: &&DeviceFd| control(its, kvm::KVM_DEV_ARM_ITS_SAVE_TABLES);
        self.services().iter().try_for_each(each)
    }

    /// Has the kernel read the tables of the translation services from guest memory.
    pub(super) fn restore_its_tables(&self) -> Result<(), KvmError> {
        let each = |its: &&DeviceFd| control(its, kvm::KVM_DEV_ARM_ITS_RESTORE_TABLES);
        self.services().iter().try_for_each(each)
    }

    /// How many interrupts it has in all, those of one vCPU included.
    fn interrupts(&self) -> Result<u64, KvmError> {
        let item = ItemKind::GIC_DISTRIBUTOR;
        get(
            self.device(),
            item,
            Place::Vm,
            kvm::KVM_DEV_ARM_VGIC_GRP_NR_IRQS,
            0,
        )
    }

    /// The distributor's rows.
    pub(super) fn distributor(&self, vcpus: usize) -> Result<Vec<u8>, KvmError> {
        let interrupts = self.interrupts()?;
        let attrs = match self {
            Self::V2(_) => v2_distributor_attrs(interrupts, vcpus as u64),
            Self::V3 { .. } => distributor_attrs(interrupts),
        };
        let group = kvm::KVM_DEV_ARM_VGIC_GRP_DIST_REGS;
        let rows = read(
            self.device(),
            ItemKind::GIC_DISTRIBUTOR,
            Place::Vm,
            group,
            &attrs,
        )?;
        Ok(encode_rows(&rows))
    }

    /// Writes the distributor's rows.
    pub(super) fn restore_distributor(&self, bytes: &[u8]) -> Result<(), KvmError> {
        let group = kvm::KVM_DEV_ARM_VGIC_GRP_DIST_REGS;
        write_banks(
            self.device(),
            ItemKind::GIC_DISTRIBUTOR,
            Place::Vm,
            group,
            bytes,
        )
    }

    /// The levels of the lines of shared interrupts and of each vCPU's private ones: what a device
    /// holds up, which the pending bits do not have.
    pub(super) fn lines(&self, vcpus: &[Mpidr]) -> Result<Option<Vec<u8>>, KvmError> {
        let Self::V3 { gic, .. } = self else {
            return Ok(None);
        };
        let shared = (PRIVATE..self.interrupts()?).step_by(32);
        let private = vcpus.iter().map(|affinity| affinity.vgic());
        let attrs: Vec<u64> = shared.chain(private).collect();
        let group = kvm::KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO;
        let rows = read(gic, ItemKind::GIC_LINES, Place::Vm, group, &attrs)?;
        Ok(Some(encode_rows(&rows)))
    }

    /// Sets the levels of the lines of shared interrupts, or of one vCPU's private ones: those
    /// after its redistributor, which says which of them have a level.
    pub(super) fn restore_lines(
        &self,
        bytes: &[u8],
        private: Option<Mpidr>,
    ) -> Result<(), KvmError> {
        let (item, place) = (ItemKind::GIC_LINES, Place::Vm);
        let group = kvm::KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO;
        for row in rows(item, place, bytes)? {
            let is_meant = match private {
                Some(affinity) => row.attr == affinity.vgic(),
                None => row.attr & INTERRUPT >= PRIVATE,
            };
            if is_meant {
                set(self.device(), item, place, group, row)?;
            }
        }
        Ok(())
    }

    /// The rows of a vCPU's redistributor; `None` if there are no such things.
    pub(super) fn redistributor(
        &self,
        vcpu: u32,
        affinity: Mpidr,
    ) -> Result<Option<Vec<u8>>, KvmError> {
        let Self::V3 { gic, .. } = self else {
            return Ok(None);
        };
        let group = kvm::KVM_DEV_ARM_VGIC_GRP_REDIST_REGS;
        let attrs = redistributor_attrs(affinity);
        let place = Place::Vcpu(vcpu);
        let rows = read(gic, ItemKind::GIC_REDISTRIBUTOR, place, group, &attrs)?;
        Ok(Some(encode_rows(&rows)))
    }

    /// Writes the rows of a vCPU's redistributor.
    pub(super) fn restore_redistributor(&self, vcpu: u32, bytes: &[u8]) -> Result<(), KvmError> {
        let group = kvm::KVM_DEV_ARM_VGIC_GRP_REDIST_REGS;
        let place = Place::Vcpu(vcpu);
        write_banks(
            self.device(),
            ItemKind::GIC_REDISTRIBUTOR,
            place,
            group,
            bytes,
        )
    }

    /// The rows of a vCPU's CPU interface.
    pub(super) fn interface(&self, vcpu: u32, affinity: Mpidr) -> Result<Vec<u8>, KvmError> {
        let (item, place) = (ItemKind::GIC_CPU_INTERFACE, Place::Vcpu(vcpu));
        let group = self.interface_group();
        let attrs = match self {
            Self::V2(_) => v2_interface_attrs(vcpu.into()),
            Self::V3 { gic, .. } => {
                let control = affinity.vgic() | u64::from(SysReg::ICC_CTLR_EL1.bits());
                let control = get(gic, item, place, group, control)?;
                // ICC_CTLR_EL1.PRIbits, bits 10 to 8: one less than there are (Arm IHI 0069).
                let priority_bits = control >> 8 & 7;
                interface_attrs(affinity, u32::try_from(priority_bits).unwrap_or(7) + 1)
            }
        };
        Ok(encode_rows(&read(
            self.device(),
            item,
            place,
            group,
            &attrs,
        )?))
    }

    /// Writes the rows of a vCPU's CPU interface.
    pub(super) fn restore_interface(&self, vcpu: u32, bytes: &[u8]) -> Result<(), KvmError> {
        let (item, place) = (ItemKind::GIC_CPU_INTERFACE, Place::Vcpu(vcpu));
        write(self.device(), item, place, self.interface_group(), bytes)
    }

    const fn interface_group(&self) -> u32 {
        match self {
            Self::V2(_) => kvm::KVM_DEV_ARM_VGIC_GRP_CPU_REGS,
            Self::V3 { .. } => kvm::KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS,
        }
    }

    /// The rows of the translation services but their control, or that alone; `None` without any.
    pub(super) fn its(&self, control: bool) -> Result<Option<Vec<u8>>, KvmError> {
        let group = kvm::KVM_DEV_ARM_VGIC_GRP_ITS_REGS;
        let attrs: &[u64] = if control {
            &[ITS_CONTROL_ATTR]
        } else {
            &ITS_ATTRS
        };
        let mut all = Vec::new();
        for (index, its) in (0..).zip(self.services()) {
            let rows = read(its, ItemKind::GIC_ITS, Place::Vm, group, attrs)?;
            all.extend(rows.into_iter().map(|row| GicRow {
                attr: row.attr | index << ITS_SHIFT,
                ..row
            }));
        }
        Ok((!self.services().is_empty()).then(|| encode_rows(&all)))
    }

    /// Writes the translation services but their control, or that alone.
    pub(super) fn restore_its(&self, control: bool, bytes: &[u8]) -> Result<(), KvmError> {
        let (item, place) = (ItemKind::GIC_ITS, Place::Vm);
        let group = kvm::KVM_DEV_ARM_VGIC_GRP_ITS_REGS;
        for row in rows(item, place, bytes)? {
            let attr = row.attr & ITS_OFFSET;
            if (attr == ITS_CONTROL_ATTR) != control {
                continue;
            }
            let index = usize::try_from(row.attr >> ITS_SHIFT).unwrap_or(usize::MAX);
            let its = self.services().get(index);
            let its = its.ok_or(KvmError::FindItem { item, place })?;
            set(its, item, place, group, GicRow { attr, ..row })?;
        }
        Ok(())
    }
}

/// The affinity by which the controller knows a vCPU, as the kernel has it.
pub(super) fn affinity(machine: &KvmMachine<'_>, vcpu: u32) -> Result<Mpidr, KvmError> {
    let fd = machine.vcpus.get(vcpu as usize);
    let fd = fd.ok_or(KvmError::MatchVcpus {
        saved: vcpu as usize,
        here: machine.vcpus.len(),
    })?;
    regs::get_u64(fd, vcpu, RegId::MPIDR_EL1).map(Mpidr::new)
}

fn control(device: &DeviceFd, attr: u32) -> Result<(), KvmError> {
    let attribute = Attribute {
        group: kvm::KVM_DEV_ARM_VGIC_GRP_CTRL,
        attr: attr.into(),
    };
    let asked = sys::set_attribute(device, attribute, 0);
    asked.map_err(|source| KvmError::ControlGic { attr, source })
}

fn get(
    device: &DeviceFd,
    item: ItemKind,
    place: Place,
    group: u32,
    attr: u64,
) -> Result<u64, KvmError> {
    let got = sys::get_attribute(device, Attribute { group, attr });
    got.map_err(|source| KvmError::GetGic {
        item,
        place,
        attr,
        source,
    })
}

fn set(
    device: &DeviceFd,
    item: ItemKind,
    place: Place,
    group: u32,
    row: GicRow,
) -> Result<(), KvmError> {
    let attr = row.attr;
    let put = sys::set_attribute(device, Attribute { group, attr }, row.value);
    put.map_err(|source: io::Error| KvmError::SetGic {
        item,
        place,
        attr,
        source,
    })
}

fn read(
    device: &DeviceFd,
    item: ItemKind,
    place: Place,
    group: u32,
    attrs: &[u64],
) -> Result<Vec<GicRow>, KvmError> {
    let row = |attr: &u64| {
        let value = get(device, item, place, group, *attr)?;
        Ok(GicRow { attr: *attr, value })
    };
    attrs.iter().map(row).collect()
}

fn rows(item: ItemKind, place: Place, bytes: &[u8]) -> Result<Vec<GicRow>, KvmError> {
    decode_rows(bytes).ok_or(KvmError::MatchItem {
        item,
        place,
        found: bytes.len(),
        expected: bytes.len().next_multiple_of(16),
    })
}

fn write(
    device: &DeviceFd,
    item: ItemKind,
    place: Place,
    group: u32,
    bytes: &[u8],
) -> Result<(), KvmError> {
    let mut rows = rows(item, place, bytes)?.into_iter();
    rows.try_for_each(|row| set(device, item, place, group, row))
}

/// As [`write`], for registers some of which only set bits.
fn write_banks(
    device: &DeviceFd,
    item: ItemKind,
    place: Place,
    group: u32,
    bytes: &[u8],
) -> Result<(), KvmError> {
    for row in rows(item, place, bytes)? {
        let (clear, row) = restore_writes(row);
        for row in clear.into_iter().chain([row]) {
            set(device, item, place, group, row)?;
        }
    }
    Ok(())
}
