//! The interrupt controller, kept as KVM's register groups or as Apple's opaque blob.
//!
//! Invariants: a group is rows of attribute and value, 16 bytes each, little-endian, in the order
//! in which they are read and written. The attribute is KVM's, so a row says whose it is. GICv2,
//! GICv3 and the blob do not turn into each other.
//!
//! Source of offsets and orders: Arm IHI 0048 and 0069; Linux Documentation/virt/kvm/devices/
//! arm-vgic.rst, arm-vgic-v3.rst and arm-vgic-its.rst.

use alloc::vec::Vec;

use super::{Mpidr, SysReg};

/// Which interrupt controller a machine has; its code is what files store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GicModel {
    /// GICv2 in KVM, code 2.
    V2,
    /// GICv3 in KVM, code 3; with or without a translation service.
    V3,
    /// GICv3 in Hypervisor.framework, an opaque blob, code 0x103.
    Apple,
}

impl GicModel {
    /// The code that files store.
    #[must_use]
    pub const fn code(self) -> u32 {
        match self {
            Self::V2 => 2,
            Self::V3 => 3,
            Self::Apple => 0x103,
        }
    }

    /// From the code that files store; `None` if unknown.
    #[must_use]
    pub const fn from_code(code: u32) -> Option<Self> {
        match code {
            2 => Some(Self::V2),
            3 => Some(Self::V3),
            0x103 => Some(Self::Apple),
            _ => None,
        }
    }

    /// Its name, as tools print it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::V2 => "GICv2",
            Self::V3 => "GICv3",
            Self::Apple => "Apple's",
        }
    }
}

/// One register of an interrupt controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GicRow {
    /// KVM's attribute: whose register, and which.
    pub attr: u64,
    /// Its value.
    pub value: u64,
}

const ROW_BYTES: usize = 16;

/// The bytes of an item of rows.
#[must_use]
pub fn encode_rows(rows: &[GicRow]) -> Vec<u8> {
    let words = rows.iter().flat_map(|row| [row.attr, row.value]);
    words.flat_map(u64::to_le_bytes).collect()
}

/// The rows of an item; `None` if the bytes are not whole rows.
#[must_use]
pub fn decode_rows(bytes: &[u8]) -> Option<Vec<GicRow>> {
    if !bytes.len().is_multiple_of(ROW_BYTES) {
        return None;
    }
    let word = |bytes: &[u8]| Some(u64::from_le_bytes(bytes.try_into().ok()?));
    let row = |bytes: &[u8]| {
        let (attr, value) = bytes.split_at_checked(8)?;
        Some(GicRow {
            attr: word(attr)?,
            value: word(value)?,
        })
    };
    bytes.chunks(ROW_BYTES).map(row).collect()
}

/// Registers with a field for each interrupt.
struct Bank {
    offset: u64,
    bits: u64,
}

const GROUP: Bank = bank(0x080, 1);
const ENABLE: Bank = bank(0x100, 1);
const PENDING: Bank = bank(0x200, 1);
const ACTIVE: Bank = bank(0x300, 1);
const PRIORITY: Bank = bank(0x400, 8);
const TARGET: Bank = bank(0x800, 8);
const CONFIG: Bank = bank(0xc00, 2);
/// Pending bits of software interrupts by the vCPU that sent them (GICv2).
const SENDERS: Bank = bank(0xf20, 8);
const ROUTE: Bank = bank(0x6000, 64);

const fn bank(offset: u64, bits: u64) -> Bank {
    Bank { offset, bits }
}

impl Bank {
    /// The offsets of its words of 32 bits for these interrupts.
    fn words(&self, interrupts: core::ops::Range<u64>) -> impl Iterator<Item = u64> + use<> {
        let (offset, bits) = (self.offset, self.bits);
        let (start, end) = (interrupts.start * bits / 32, interrupts.end * bits / 32);
        (start..end).map(move |word| offset + word * 4)
    }
}

/// Interrupts below this belong to one vCPU.
const PRIVATE: u64 = 32;

const GICD_CTLR: u64 = 0x0;
const GICD_IIDR: u64 = 0x8;
const GICD_STATUSR: u64 = 0x10;
const GICR_CTLR: u64 = 0x0;
const GICR_STATUSR: u64 = 0x10;
const GICR_WAKER: u64 = 0x14;
const GICR_PROPBASER: u64 = 0x70;
const GICR_PENDBASER: u64 = 0x78;
/// The second frame of a redistributor, with the banks of private interrupts.
const GICR_SGI_FRAME: u64 = 0x1_0000;

/// Attributes of a GICv3's distributor with `interrupts` interrupts in all, in order.
///
/// The implementer's register comes first: it confirms which behaviour the others have. Control
/// comes before the banks, whose meaning follows affinity routing.
pub fn distributor_attrs(interrupts: u64) -> Vec<u64> {
    let shared = PRIVATE..interrupts;
    let banks = [GROUP, ROUTE, CONFIG, PRIORITY, ENABLE, PENDING, ACTIVE];
    let words = banks
        .into_iter()
        .flat_map(|bank| bank.words(shared.clone()));
    [GICD_IIDR, GICD_CTLR, GICD_STATUSR]
        .into_iter()
        .chain(words)
        .collect()
}

/// Attributes of the redistributor of one vCPU, in order. Its tables come before its control,
/// which makes them read-only once it switches LPIs on.
pub fn redistributor_attrs(vcpu: Mpidr) -> Vec<u64> {
    let registers = [
        GICR_STATUSR,
        GICR_WAKER,
        GICR_PROPBASER,
        GICR_PROPBASER + 4,
        GICR_PENDBASER,
        GICR_PENDBASER + 4,
        GICR_CTLR,
    ];
    let banks = [GROUP, CONFIG, PRIORITY, ENABLE, PENDING, ACTIVE];
    let words = banks.into_iter().flat_map(|bank| bank.words(0..PRIVATE));
    let words = words.map(|offset| GICR_SGI_FRAME + offset);
    let all = registers.into_iter().chain(words);
    all.map(|offset| vcpu.vgic() | offset).collect()
}

/// Registers of a CPU interface in the order of writing: how it is reached, then how it judges,
/// what it judged, and what it lets through last. `priority_bits` is 5 to 7 (ICC_CTLR_EL1.PRIbits
/// plus one): it decides how many registers of active priorities there are.
#[must_use]
pub fn interface_order(priority_bits: u32) -> Vec<SysReg> {
    let counts = 1 << priority_bits.clamp(5, 7).saturating_sub(5);
    let active = |first: SysReg| (0..counts).map(move |n| SysReg::from_bits(first.bits() + n));
    let head = [
        SysReg::ICC_SRE_EL1,
        SysReg::ICC_CTLR_EL1,
        SysReg::ICC_PMR_EL1,
        SysReg::ICC_BPR0_EL1,
        SysReg::ICC_BPR1_EL1,
    ];
    let tail = [SysReg::ICC_IGRPEN0_EL1, SysReg::ICC_IGRPEN1_EL1];
    head.into_iter()
        .chain(active(SysReg::ICC_AP0R0_EL1))
        .chain(active(SysReg::ICC_AP1R0_EL1))
        .chain(tail)
        .collect()
}

/// Attributes of the CPU interface of one vCPU, in order (`KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS`).
#[must_use]
pub fn interface_attrs(vcpu: Mpidr, priority_bits: u32) -> Vec<u64> {
    let registers = interface_order(priority_bits).into_iter();
    registers
        .map(|register| vcpu.vgic() | u64::from(register.bits()))
        .collect()
}

/// Attributes of a translation service but for its control, in the order of writing: the base of
/// the command queue resets where it is read, so that comes after it.
pub const ITS_ATTRS: [u64; 12] = [
    0x04, 0x80, 0x90, 0x88, 0x100, 0x108, 0x110, 0x118, 0x120, 0x128, 0x130, 0x138,
];

/// Attribute of a translation service's control, which is written after its tables.
pub const ITS_CONTROL_ATTR: u64 = 0x0;

/// Attributes of a GICv2's distributor with `interrupts` interrupts in all: what is shared, then
/// what each of `vcpus` vCPUs has of its own. Bits 39 to 32 say whose.
#[must_use]
pub fn v2_distributor_attrs(interrupts: u64, vcpus: u64) -> Vec<u64> {
    let shared = PRIVATE..interrupts;
    let banks = [GROUP, CONFIG, PRIORITY, TARGET, ENABLE, PENDING, ACTIVE];
    let own = [GROUP, CONFIG, PRIORITY, ENABLE, PENDING, ACTIVE];
    let mut attrs = alloc::vec![GICD_IIDR, GICD_CTLR];
    attrs.extend(
        banks
            .into_iter()
            .flat_map(|bank| bank.words(shared.clone())),
    );
    for vcpu in 0..vcpus {
        let words = own.iter().flat_map(|bank| bank.words(0..PRIVATE));
        let words = words.chain(SENDERS.words(0..16));
        attrs.extend(words.map(|offset| vcpu << 32 | offset));
    }
    attrs
}

/// Attributes of a GICv2's CPU interface (`KVM_DEV_ARM_VGIC_GRP_CPU_REGS`): priority mask, binary
/// points, active priorities, and control last.
#[must_use]
pub fn v2_interface_attrs(vcpu: u64) -> Vec<u64> {
    let registers = [0x04, 0x08, 0x1c, 0xd0, 0xd4, 0xd8, 0xdc, 0x00];
    registers.map(|offset| vcpu << 32 | offset).to_vec()
}

/// The writes that give a register of a distributor or redistributor its value. Where a register
/// can only set bits, its counterpart clears them all before: a fresh controller has some set.
///
/// The pending bits need no such thing: a write by the VMM replaces them.
#[must_use]
pub fn restore_writes(row: GicRow) -> (Option<GicRow>, GicRow) {
    const CLEAR_DISTANCE: u64 = 0x80;
    let offset = row.attr & 0xffff;
    let only_sets = (0x100..0x180).contains(&offset) || (0x300..0x380).contains(&offset);
    let clear = only_sets.then_some(GicRow {
        attr: row.attr + CLEAR_DISTANCE,
        value: u64::from(u32::MAX),
    });
    (clear, row)
}
