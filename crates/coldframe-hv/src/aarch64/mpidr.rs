//! Affinity: the address of a vCPU, by which the interrupt controller knows it.

use core::fmt;

/// A value of MPIDR_EL1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mpidr(u64);

impl Mpidr {
    /// From the register's value; bits that are no affinity are kept.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The register's value.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Affinity levels 3 to 0, and nothing else: what must differ between vCPUs.
    #[must_use]
    pub const fn affinity(self) -> u64 {
        self.0 & 0xff_00ff_ffff
    }

    /// The affinity as it stands in the upper half of the attribute that names a register of
    /// this vCPU in KVM's GICv3.
    ///
    /// Source: Linux Documentation/virt/kvm/devices/arm-vgic-v3.rst, `mpidr`: Aff3 | Aff2 | Aff1 |
    /// Aff0 in bits 63 to 32.
    #[must_use]
    pub const fn vgic(self) -> u64 {
        ((self.0 >> 8 & 0xff00_0000) | (self.0 & 0xff_ffff)) << 32
    }
}

impl fmt::Display for Mpidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = |shift: u32| self.0 >> shift & 0xff;
        write!(f, "{}.{}.{}.{}", level(32), level(16), level(8), level(0))
    }
}
