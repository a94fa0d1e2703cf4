//! Which ioctl reads and which writes each structure, and how long it is in this kernel's headers.
//!
//! Source of every number: Linux include/uapi/linux/kvm.h; of every call:
//! Documentation/virt/kvm/api.rst, in the section of that name.

use std::io;
use std::os::fd::AsRawFd;

use coldframe_hv::ItemKind;
use kvm_bindings as kvm;

use crate::error::{KvmError, Place};
use crate::sys::{self, Request};

/// How one structure is read and written.
#[derive(Clone, Copy)]
pub(super) struct Row {
    pub(super) kind: ItemKind,
    get: Request,
    set: Request,
    /// The answer that means: this machine has no such thing. 0: it always has.
    absent: i32,
    /// Bytes 0..4 that the call wants to find, to say which of several structures is meant.
    selector: u32,
}

const fn row<T>(kind: ItemKind, get: u32, set: u32) -> Row {
    Row {
        kind,
        get: Request::read(get, size_of::<T>()),
        set: Request::write(set, size_of::<T>()),
        absent: 0,
        selector: 0,
    }
}

/// `KVM_GET_IRQCHIP` and `KVM_SET_IRQCHIP`, whose directions are historic; ENXIO
/// without an in-kernel irqchip.
const fn irqchip(kind: ItemKind, selector: u32) -> Row {
    Row {
        kind,
        get: Request::read_write(0x62, size_of::<kvm::kvm_irqchip>()),
        set: Request::read(0x63, size_of::<kvm::kvm_irqchip>()),
        absent: libc::ENXIO,
        selector,
    }
}

/// `KVM_GET_MP_STATE`, `KVM_SET_MP_STATE`.
pub(super) const MP_STATE: Row = row::<kvm::kvm_mp_state>(ItemKind::MP_STATE, 0x98, 0x99);
/// `KVM_GET_REGS`, `KVM_SET_REGS`.
pub(super) const REGS: Row = row::<kvm::kvm_regs>(ItemKind::REGS, 0x81, 0x82);
/// `KVM_GET_SREGS`, `KVM_SET_SREGS`.
pub(super) const SREGS: Row = row::<kvm::kvm_sregs>(ItemKind::SREGS, 0x83, 0x84);
/// `KVM_GET_SREGS2`, `KVM_SET_SREGS2`.
pub(super) const SREGS2: Row = row::<kvm::kvm_sregs2>(ItemKind::SREGS2, 0xcc, 0xcd);
/// `KVM_GET_XCRS`, `KVM_SET_XCRS`; EINVAL on CPUs without them.
pub(super) const XCRS: Row = Row {
    absent: libc::EINVAL,
    ..row::<kvm::kvm_xcrs>(ItemKind::XCRS, 0xa6, 0xa7)
};
/// `KVM_GET_DEBUGREGS`, `KVM_SET_DEBUGREGS`.
pub(super) const DEBUGREGS: Row = row::<kvm::kvm_debugregs>(ItemKind::DEBUGREGS, 0xa1, 0xa2);
/// `KVM_GET_LAPIC`, `KVM_SET_LAPIC`; EINVAL without an in-kernel local APIC.
pub(super) const LAPIC: Row = Row {
    absent: libc::EINVAL,
    ..row::<kvm::kvm_lapic_state>(ItemKind::LAPIC, 0x8e, 0x8f)
};
/// `KVM_GET_VCPU_EVENTS`, `KVM_SET_VCPU_EVENTS`.
pub(super) const EVENTS: Row = row::<kvm::kvm_vcpu_events>(ItemKind::VCPU_EVENTS, 0x9f, 0xa0);
/// `KVM_GET_PIT2`, `KVM_SET_PIT2`; ENXIO without an in-kernel timer.
pub(super) const PIT2: Row = Row {
    absent: libc::ENXIO,
    ..row::<kvm::kvm_pit_state2>(ItemKind::PIT2, 0x9f, 0xa0)
};
/// `KVM_GET_CLOCK`, `KVM_SET_CLOCK`.
pub(super) const CLOCK: Row = row::<kvm::kvm_clock_data>(ItemKind::CLOCK, 0x7c, 0x7b);
/// The first PIC.
pub(super) const PIC_MASTER: Row = irqchip(ItemKind::PIC_MASTER, kvm::KVM_IRQCHIP_PIC_MASTER);
/// The second PIC.
pub(super) const PIC_SLAVE: Row = irqchip(ItemKind::PIC_SLAVE, kvm::KVM_IRQCHIP_PIC_SLAVE);
/// The I/O APIC.
pub(super) const IOAPIC: Row = irqchip(ItemKind::IOAPIC, kvm::KVM_IRQCHIP_IOAPIC);

/// `KVM_GET_XSAVE2` and `KVM_SET_XSAVE`.
pub(super) const XSAVE2_GET: Request = Request::read(0xcf, size_of::<kvm::kvm_xsave>());
/// `KVM_GET_XSAVE`, for kernels without `KVM_CAP_XSAVE2`.
pub(super) const XSAVE_GET: Request = Request::read(0xa4, size_of::<kvm::kvm_xsave>());
/// `KVM_SET_XSAVE`.
pub(super) const XSAVE_SET: Request = Request::write(0xa5, size_of::<kvm::kvm_xsave>());

impl Row {
    /// The structure; `None` if this machine has no such thing.
    pub(super) fn get(self, fd: &impl AsRawFd, place: Place) -> Result<Option<Vec<u8>>, KvmError> {
        let mut bytes = vec![0; self.get.bytes()];
        bytes[..4].copy_from_slice(&self.selector.to_le_bytes());
        match sys::read(fd, self.get, &mut bytes) {
            Ok(()) => Ok(Some(bytes)),
            Err(error) if self.means_absent(&error) => Ok(None),
            Err(source) => Err(KvmError::GetItem {
                item: self.kind,
                place,
                source,
            }),
        }
    }

    /// Writes the structure.
    pub(super) fn set(self, fd: &impl AsRawFd, place: Place, bytes: &[u8]) -> Result<(), KvmError> {
        if bytes.len() != self.set.bytes() {
            return Err(KvmError::MatchItem {
                item: self.kind,
                place,
                found: bytes.len(),
                expected: self.set.bytes(),
            });
        }
        sys::write(fd, self.set, bytes).map_err(|source| KvmError::SetItem {
            item: self.kind,
            place,
            source,
        })
    }

    fn means_absent(self, error: &io::Error) -> bool {
        self.absent != 0 && error.raw_os_error() == Some(self.absent)
    }
}
