//! Names of state items: one stable number for each kernel structure that a snapshot keeps.
//!
//! Invariant: a number never changes its meaning and is never used again; numbers that this
//! version does not know are carried, not lost.

use core::fmt;

/// Which kernel structure an item's bytes are.
///
/// The bytes are the raw structure of the kernel's user interface, little-endian, as the ioctl
/// named in [`ItemKind::source`] fills it. Numbers up to 0xffff belong to coldframe.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemKind(u32);

impl ItemKind {
    /// `struct kvm_mp_state`: whether the vCPU runs, halts or waits for a start signal.
    pub const MP_STATE: Self = Self(0x0101);
    /// `struct kvm_regs`: general registers, instruction pointer and flags (x86_64).
    pub const REGS: Self = Self(0x0102);
    /// `struct kvm_sregs`: segments, control registers, APIC base (x86_64).
    pub const SREGS: Self = Self(0x0103);
    /// `struct kvm_sregs2`: as [`Self::SREGS`], with the page-directory pointers (x86_64).
    pub const SREGS2: Self = Self(0x0104);
    /// `struct kvm_xsave`: extended state, as long as the host's XSAVE size (x86_64).
    pub const XSAVE: Self = Self(0x0105);
    /// `struct kvm_xcrs`: extended control registers (x86_64).
    pub const XCRS: Self = Self(0x0106);
    /// `struct kvm_debugregs`: debug registers (x86_64).
    pub const DEBUGREGS: Self = Self(0x0107);
    /// `struct kvm_lapic_state`: local interrupt controller (x86_64).
    pub const LAPIC: Self = Self(0x0108);
    /// `struct kvm_vcpu_events`: pending exceptions, interrupts, NMI and SMI.
    pub const VCPU_EVENTS: Self = Self(0x0109);
    /// An array of `struct kvm_cpuid_entry2`: what the guest sees of its CPU (x86_64).
    pub const CPUID2: Self = Self(0x010a);
    /// `u32`: the guest's TSC rate in kHz (x86_64).
    pub const TSC_KHZ: Self = Self(0x010b);
    /// `u64`: what KVM adds to the host's TSC (x86_64).
    pub const TSC_OFFSET: Self = Self(0x010c);
    /// `struct kvm_nested_state`: the state of a guest inside the guest (x86_64).
    pub const NESTED_STATE: Self = Self(0x010d);
    /// `struct kvm_pit_state2`: interval timer (x86_64).
    pub const PIT2: Self = Self(0x0201);
    /// `struct kvm_clock_data`: the paravirtual clock (x86_64).
    pub const CLOCK: Self = Self(0x0202);
    /// `struct kvm_irqchip` of the first PIC (x86_64).
    pub const PIC_MASTER: Self = Self(0x0203);
    /// `struct kvm_irqchip` of the second PIC (x86_64).
    pub const PIC_SLAVE: Self = Self(0x0204);
    /// `struct kvm_irqchip` of the I/O APIC (x86_64).
    pub const IOAPIC: Self = Self(0x0205);
    /// `struct kvm_vcpu_init`: target and features of a vCPU (aarch64).
    pub const VCPU_INIT: Self = Self(0x0301);
    /// `u64`: guest address of the stolen-time record (aarch64).
    pub const PVTIME: Self = Self(0x0302);
    /// `u64`: what the guest's virtual counter showed when it was stopped (aarch64).
    pub const GUEST_COUNTER: Self = Self(0x0303);
    /// `u64`: what the guest's physical counter showed when it was stopped (aarch64).
    pub const PHYSICAL_COUNTER: Self = Self(0x0304);
    /// Rows of attribute `u64` and value `u64`: GIC distributor (aarch64).
    pub const GIC_DISTRIBUTOR: Self = Self(0x0401);
    /// Rows of attribute `u64` and value `u64`: GIC redistributor of one vCPU (aarch64).
    pub const GIC_REDISTRIBUTOR: Self = Self(0x0402);
    /// Rows of attribute `u64` and value `u64`: GIC CPU interface of one vCPU (aarch64).
    pub const GIC_CPU_INTERFACE: Self = Self(0x0403);
    /// Rows of attribute `u64` and value `u64`: interrupt translation service (aarch64).
    pub const GIC_ITS: Self = Self(0x0404);
    /// `u32`: which interrupt controller the other items of it are of (aarch64).
    pub const GIC_MODEL: Self = Self(0x0405);
    /// Rows of attribute `u64` and value `u64`: levels of the lines into the GIC (aarch64).
    pub const GIC_LINES: Self = Self(0x0406);
    /// The opaque blob of `hv_gic_state_get_data` (Hypervisor.framework).
    pub const HVF_GIC: Self = Self(0x0501);
    /// `u64`: virtual timer offset (Hypervisor.framework).
    pub const HVF_VTIMER_OFFSET: Self = Self(0x0502);
    /// `u8`: whether the virtual timer is masked (Hypervisor.framework).
    pub const HVF_VTIMER_MASK: Self = Self(0x0503);
    /// `u8`: bit 0 the pending IRQ line, bit 1 the pending FIQ line (Hypervisor.framework).
    pub const HVF_PENDING_LINES: Self = Self(0x0504);
    /// Text: build of the operating system that made [`Self::HVF_GIC`] (Hypervisor.framework).
    pub const HVF_GIC_BUILD: Self = Self(0x0505);

    /// Every kind that this version knows: number, short name, and the call that reads it.
    pub const KNOWN: &'static [(Self, &'static str, &'static str)] = &[
        (Self::MP_STATE, "mp_state", "KVM_GET_MP_STATE"),
        (Self::REGS, "regs", "KVM_GET_REGS"),
        (Self::SREGS, "sregs", "KVM_GET_SREGS"),
        (Self::SREGS2, "sregs2", "KVM_GET_SREGS2"),
        (Self::XSAVE, "xsave", "KVM_GET_XSAVE2"),
        (Self::XCRS, "xcrs", "KVM_GET_XCRS"),
        (Self::DEBUGREGS, "debugregs", "KVM_GET_DEBUGREGS"),
        (Self::LAPIC, "lapic", "KVM_GET_LAPIC"),
        (Self::VCPU_EVENTS, "vcpu_events", "KVM_GET_VCPU_EVENTS"),
        (Self::CPUID2, "cpuid2", "KVM_GET_CPUID2"),
        (Self::TSC_KHZ, "tsc_khz", "KVM_GET_TSC_KHZ"),
        (Self::TSC_OFFSET, "tsc_offset", "KVM_VCPU_TSC_OFFSET"),
        (Self::NESTED_STATE, "nested_state", "KVM_GET_NESTED_STATE"),
        (Self::PIT2, "pit2", "KVM_GET_PIT2"),
        (Self::CLOCK, "clock", "KVM_GET_CLOCK"),
        (Self::PIC_MASTER, "pic_master", "KVM_GET_IRQCHIP"),
        (Self::PIC_SLAVE, "pic_slave", "KVM_GET_IRQCHIP"),
        (Self::IOAPIC, "ioapic", "KVM_GET_IRQCHIP"),
        (Self::VCPU_INIT, "vcpu_init", "KVM_ARM_VCPU_INIT"),
        (Self::PVTIME, "pvtime", "KVM_ARM_VCPU_PVTIME_IPA"),
        (Self::GUEST_COUNTER, "guest_counter", "CNTVCT_EL0"),
        (Self::PHYSICAL_COUNTER, "physical_counter", "CNTPCT_EL0"),
        (
            Self::GIC_DISTRIBUTOR,
            "gic_distributor",
            "KVM_DEV_ARM_VGIC_GRP_DIST_REGS",
        ),
        (
            Self::GIC_REDISTRIBUTOR,
            "gic_redistributor",
            "KVM_DEV_ARM_VGIC_GRP_REDIST_REGS",
        ),
        (
            Self::GIC_CPU_INTERFACE,
            "gic_cpu_interface",
            "KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS",
        ),
        (Self::GIC_ITS, "gic_its", "KVM_DEV_ARM_VGIC_GRP_ITS_REGS"),
        (Self::GIC_MODEL, "gic_model", "KVM_CREATE_DEVICE"),
        (
            Self::GIC_LINES,
            "gic_lines",
            "KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO",
        ),
        (Self::HVF_GIC, "hvf_gic", "hv_gic_state_get_data"),
        (Self::HVF_GIC_BUILD, "hvf_gic_build", "kern.osversion"),
        (
            Self::HVF_VTIMER_OFFSET,
            "hvf_vtimer_offset",
            "hv_vcpu_get_vtimer_offset",
        ),
        (
            Self::HVF_VTIMER_MASK,
            "hvf_vtimer_mask",
            "hv_vcpu_get_vtimer_mask",
        ),
        (
            Self::HVF_PENDING_LINES,
            "hvf_pending_lines",
            "hv_vcpu_get_pending_interrupt",
        ),
    ];

    /// From the number that files store; any number is carried.
    #[must_use]
    pub const fn from_code(code: u32) -> Self {
        Self(code)
    }

    /// The number that files store.
    #[must_use]
    pub const fn code(self) -> u32 {
        self.0
    }

    /// Its short name; `None` if this version does not know it.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        self.row().map(|row| row.1)
    }

    /// The call that reads it; `None` if this version does not know it.
    #[must_use]
    pub fn source(self) -> Option<&'static str> {
        self.row().map(|row| row.2)
    }

    fn row(self) -> Option<&'static (Self, &'static str, &'static str)> {
        Self::KNOWN.iter().find(|row| row.0 == self)
    }
}

impl fmt::Display for ItemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "item {:#06x}", self.0),
        }
    }
}

impl fmt::Debug for ItemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ItemKind({self})")
    }
}
