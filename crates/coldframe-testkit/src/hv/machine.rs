//! A machine without a hypervisor: it keeps a state and gives it back.

use coldframe_hv::{
    Accepted, HostIdentity, Hypervisor, ItemKind, Machine, MachineState, OtherHost, StateError,
    Thawed, VcpuState, VmState,
};
use coldframe_units::{Arch, GenerationId};

/// What a fake machine refuses.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FakeMachineError {
    /// The state is no machine.
    #[error("the state is not well formed")]
    State {
        /// What is wrong with it.
        #[source]
        source: StateError,
    },
    /// The state was accepted for another host.
    #[error("the differences of the hosts were not accepted")]
    Accept {
        /// What it is of.
        #[source]
        source: OtherHost,
    },
    /// The extended state does not have this host's length.
    #[error("vCPU {vcpu} brings {found} bytes of extended state, this host takes {expected}")]
    XsaveSize {
        /// Which vCPU.
        vcpu: u32,
        /// How many bytes it brings.
        found: usize,
        /// How many bytes the host takes.
        expected: usize,
    },
}

/// A machine that holds a state in memory.
#[derive(Clone, Debug)]
pub struct FakeMachine {
    state: MachineState,
    restores: u64,
}

impl FakeMachine {
    /// A machine in this state.
    #[must_use]
    pub const fn new(state: MachineState) -> Self {
        Self { state, restores: 0 }
    }

    /// The state it is in.
    #[must_use]
    pub const fn state(&self) -> &MachineState {
        &self.state
    }
}

impl Machine for FakeMachine {
    type Error = FakeMachineError;

    fn save(&self) -> Result<MachineState, FakeMachineError> {
        Ok(self.state.clone())
    }

    fn restore(&mut self, accepted: &Accepted) -> Result<Thawed, FakeMachineError> {
        let state = accepted.state();
        state
            .check()
            .map_err(|source| FakeMachineError::State { source })?;
        accepted
            .check(&self.state.host)
            .map_err(|source| FakeMachineError::Accept { source })?;
        let expected = self.state.host.xsave_bytes as usize;
        for vcpu in &state.vcpus {
            let found = vcpu.items.get(&ItemKind::XSAVE).map_or(expected, Vec::len);
            if found != expected {
                return Err(FakeMachineError::XsaveSize {
                    vcpu: vcpu.index,
                    found,
                    expected,
                });
            }
        }
        let host = self.state.host.clone();
        self.state = state.clone();
        self.state.host = host;
        self.restores += 1;
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.restores.to_le_bytes());
        Ok(Thawed::new(GenerationId::from_bytes(id)))
    }
}

/// A small state with `vcpus` vCPUs, made of numbers that show where they belong.
#[must_use]
pub fn sample_state(vcpus: u32) -> MachineState {
    let mut host = HostIdentity::bare(Arch::X86_64, Hypervisor::SIMULATED);
    host.xsave_bytes = 576;
    host.msr_indexes = [0x10, 0x1b, 0xc000_0080].into();
    let vcpu = |index: u32| {
        let mark = index.to_le_bytes()[0];
        VcpuState {
            index,
            items: [
                (ItemKind::REGS, vec![mark; 144]),
                (ItemKind::XSAVE, vec![mark ^ 0xff; 576]),
            ]
            .into(),
            msrs: [(0x10, u64::from(index) << 32), (0xc000_0080, 0xd01)].into(),
            regs: [].into(),
        }
    };
    MachineState {
        arch: Arch::X86_64,
        hypervisor: Hypervisor::SIMULATED,
        host,
        vm: VmState {
            items: [(ItemKind::CLOCK, vec![7; 48])].into(),
        },
        vcpus: (0..vcpus).map(vcpu).collect(),
    }
}
