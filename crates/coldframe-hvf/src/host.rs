//! What this host offers to a guest.

use std::collections::BTreeMap;

use coldframe_hv::aarch64::{RegId, SysReg};
use coldframe_hv::{Comparison, CpuIdentity, HostIdentity, Hypervisor, MachineState};
use coldframe_units::{Arch, PageSize};

/// The page size of Apple silicon, of the host and of stage 2.
pub(crate) const PAGE: PageSize = match PageSize::new(16 << 10) {
    Ok(size) => size,
    Err(_) => panic!("16 KiB is a page size"),
};

/// What was asked of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFacts {
    /// Marketing name of the CPU (`machdep.cpu.brand_string`).
    pub brand: String,
    /// Apple's number of the family of its cores (`hw.cpufamily`).
    pub family: u32,
    /// Build of the operating system (`kern.osversion`).
    pub build: String,
    /// Rate of the counters in Hz (`CNTFRQ_EL0`).
    pub counter_hz: u64,
    /// Identification registers that a vCPU is made with (`hv_vcpu_config_get_feature_reg`).
    pub features: Vec<(SysReg, u64)>,
}

/// A host, asked once.
#[derive(Clone, Debug)]
pub struct HvfHost {
    identity: HostIdentity,
}

impl HvfHost {
    /// From what was asked.
    #[must_use]
    pub fn new(facts: HostFacts) -> Self {
        /// Apple's number as an implementer in MIDR_EL1.
        const APPLE: &str = "0x61";
        let features = facts.features.into_iter();
        let id_registers: BTreeMap<u64, u64> = features
            .map(|(register, value)| (RegId::from_system(register).code(), value))
            .collect();
        let identity = HostIdentity {
            cpu: CpuIdentity {
                vendor: APPLE.to_owned(),
                family: facts.family,
                brand: facts.brand,
                ..CpuIdentity::default()
            },
            id_registers,
            counter_hz: Some(facts.counter_hz),
            kernel: facts.build,
            page_size: PAGE,
            ..HostIdentity::bare(Arch::Aarch64, Hypervisor::HVF)
        };
        Self { identity }
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
