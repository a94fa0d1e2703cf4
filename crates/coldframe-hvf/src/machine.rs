//! A machine under Hypervisor.framework, frozen and thawed by its [`plan`](crate::plan).

use std::collections::BTreeSet;

use coldframe_hv::aarch64::{Counters, GicModel, GuestTime, PowerState, check, register_item};
use coldframe_hv::{
    Accepted, Hypervisor, ItemKind, Machine, MachineState, Op, Step, Thawed, VcpuState, VmState,
};
use coldframe_units::{Arch, GenerationId};

use crate::calls::VmCalls;
use crate::error::{HvfError, Place};
use crate::host::HvfHost;
use crate::park::Parked;
use crate::plan::{self, Controller, RESTORE, RestoreOp, RestoreVcpu, SAVE, SaveVcpu};
use crate::vcpu;

/// A machine whose vCPUs are parked.
#[derive(Debug)]
pub struct HvfMachine<'a, C: ?Sized> {
    host: &'a HvfHost,
    vm: &'a C,
    parked: &'a Parked,
    time: GuestTime,
    order: &'a [Step<RestoreOp>],
}

impl<'a, C: VmCalls + ?Sized> HvfMachine<'a, C> {
    /// The machine of `vm`, whose vCPUs are all in `parked`.
    #[must_use]
    pub fn new(host: &'a HvfHost, vm: &'a C, parked: &'a Parked) -> Self {
        Self {
            host,
            vm,
            parked,
            time: GuestTime::Continue,
            order: RESTORE.steps(),
        }
    }

    /// How the guest's counter goes on after a restore; [`GuestTime::Continue`] unless said.
    #[must_use]
    pub const fn with_time(mut self, time: GuestTime) -> Self {
        self.time = time;
        self
    }

    /// Restores in another order than the plan's: the framework's interrupt controller is opaque,
    /// and releases of the system differ. Nothing checks that the order works.
    #[must_use]
    pub const fn with_order(mut self, order: &'a [Step<RestoreOp>]) -> Self {
        self.order = order;
        self
    }

    fn hz(&self) -> u64 {
        self.host.identity().counter_hz.unwrap_or_default()
    }

    /// Saves the one offset of the counter, and what the counter shows.
    fn save_offset(&self, state: &mut MachineState) -> Result<(), HvfError> {
        let offset = self.common_offset(&state.vcpus)?;
        // One reading for the machine: all vCPUs have one counter.
        let host = self.vm.host_counter();
        Counters::new(host, offset, self.hz()).store(&mut state.vm);
        let bytes = offset.to_le_bytes().to_vec();
        state.vm.items.insert(ItemKind::HVF_VTIMER_OFFSET, bytes);
        Ok(())
    }

    fn save_blob(&self, state: &mut MachineState) -> Result<(), HvfError> {
        let blob = self.vm.gic_state();
        let blob = blob.map_err(HvfError::call("hv_gic_state_get_data", Place::Vm))?;
        let build = self.host.identity().kernel.clone().into_bytes();
        state.vm.items.insert(ItemKind::HVF_GIC, blob);
        state.vm.items.insert(ItemKind::HVF_GIC_BUILD, build);
        GicModel::Apple.store(&mut state.vm);
        Ok(())
    }

    /// Has each vCPU's thread save one step.
    fn save_vcpus(&self, op: SaveVcpu, vcpus: &mut [VcpuState]) -> Result<(), HvfError> {
        for vcpu in vcpus {
            let mut taken = std::mem::take(vcpu);
            *vcpu = self.parked.on(taken.index, move |calls, sitting| {
                vcpu::save(op, calls, sitting.power, &mut taken).map(|()| taken)
            })??;
        }
        Ok(())
    }

    /// The offset that all vCPUs have; they may not differ.
    fn common_offset(&self, vcpus: &[VcpuState]) -> Result<u64, HvfError> {
        let mut first = None;
        for vcpu in vcpus.iter().map(|vcpu| vcpu.index) {
            let found = self.parked.on(vcpu, |calls, _| calls.vtimer_offset())?;
            let call = "hv_vcpu_get_vtimer_offset";
            let found = found.map_err(HvfError::call(call, Place::Vcpu(vcpu)))?;
            let first = *first.get_or_insert(found);
            if found != first {
                return Err(HvfError::CounterSplit { vcpu, found, first });
            }
        }
        Ok(first.unwrap_or_default())
    }

    /// Everything that can be found wrong before anything is written.
    fn check(&self, state: &MachineState) -> Result<(), HvfError> {
        let checked = state.check();
        checked.map_err(|source| HvfError::CheckState { source })?;
        check(state).map_err(|source| HvfError::CheckAarch64 { source })?;
        let is_ours =
            state.hypervisor == Hypervisor::HVF && GicModel::of(&state.vm) == Some(GicModel::Apple);
        if !is_ours {
            return Err(HvfError::OtherHypervisor);
        }
        let (saved, here) = (state.vcpus.len(), self.parked.vcpus());
        let same = state.vcpus.iter().map(|vcpu| vcpu.index).eq(0..here);
        if !same {
            return Err(HvfError::MatchVcpus {
                saved,
                here: here as usize,
            });
        }
        for vcpu in 0..here {
            if self.parked.on(vcpu, |_, sitting| sitting.has_run)? {
                return Err(HvfError::AlreadyRan { vcpu });
            }
        }
        Ok(())
    }

    fn target(&self, state: &MachineState, accepted: &Accepted) -> Result<vcpu::Target, HvfError> {
        let item = ItemKind::GUEST_COUNTER;
        // At the rate that the guest knows, also where another rate of this host was waived.
        let hz = state.host.counter_hz.filter(|hz| *hz > 0);
        let hz = hz.unwrap_or_else(|| self.hz());
        let counters = Counters::of(&state.vm, hz).ok_or(HvfError::MatchItem {
            item,
            place: Place::Vm,
            found: state.vm.items.get(&item).map_or(0, Vec::len),
            expected: 8,
        })?;
        let codes = state
            .vcpus
            .iter()
            .flat_map(|vcpu| vcpu.regs.keys().copied());
        let waived: BTreeSet<u64> = codes
            .filter(|code| accepted.waives(&register_item(*code)))
            .collect();
        let host = self.vm.host_counter();
        Ok(vcpu::Target {
            offset: counters.offset_at(host, self.time),
            counters,
            host,
            time: self.time,
            waived,
        })
    }

    fn restore_blob(&self, state: &MachineState) -> Result<(), HvfError> {
        let item = |kind: ItemKind| state.vm.items.get(&kind).map_or(&[][..], Vec::as_slice);
        let set = self.vm.set_gic_state(item(ItemKind::HVF_GIC));
        set.map_err(|source| HvfError::GicRefused {
            saved: String::from_utf8_lossy(item(ItemKind::HVF_GIC_BUILD)).into_owned(),
            here: self.host.identity().kernel.clone(),
            source,
        })
    }

    /// Has each vCPU's thread do one step of a restore.
    fn restore_vcpus(
        &self,
        op: RestoreVcpu,
        target: &vcpu::Target,
        vcpus: &[VcpuState],
    ) -> Result<(), HvfError> {
        for state in vcpus {
            let (target, state) = (target.clone(), state.clone());
            self.parked.on(state.index, move |calls, sitting| {
                if op == RestoreVcpu::MpState {
                    sitting.power = PowerState::of(&state).unwrap_or(PowerState::On);
                }
                vcpu::restore(op, calls, &target, &state)
            })??;
        }
        Ok(())
    }

    /// Gives all vCPUs the one offset of the counter.
    fn restore_offset(&self, offset: u64, vcpus: &[VcpuState]) -> Result<(), HvfError> {
        for vcpu in vcpus.iter().map(|vcpu| vcpu.index) {
            let set = self
                .parked
                .on(vcpu, move |calls, _| calls.set_vtimer_offset(offset))?;
            let call = "hv_vcpu_set_vtimer_offset";
            set.map_err(HvfError::call(call, Place::Vcpu(vcpu)))?;
        }
        Ok(())
    }
}

impl<C: VmCalls + ?Sized> Machine for HvfMachine<'_, C> {
    type Error = HvfError;

    fn save(&self) -> Result<MachineState, HvfError> {
        let vcpu = |index| VcpuState {
            index,
            ..VcpuState::default()
        };
        let mut state = MachineState {
            arch: Arch::Aarch64,
            hypervisor: Hypervisor::HVF,
            host: self.host.identity().clone(),
            vm: VmState::default(),
            vcpus: (0..self.parked.vcpus()).map(vcpu).collect(),
        };
        for step in SAVE.steps() {
            match step.op {
                Op::Vmm(_) => {}
                Op::Vm(Controller::GicBlob) => self.save_blob(&mut state)?,
                Op::Vcpu(op) => self.save_vcpus(op, &mut state.vcpus)?,
                Op::AllVcpus(plan::Counters::VtimerOffset) => self.save_offset(&mut state)?,
            }
        }
        tracing::info!(vcpus = state.vcpus.len(), "machine state saved");
        Ok(state)
    }

    fn restore(&mut self, accepted: &Accepted) -> Result<Thawed, HvfError> {
        let state = accepted.state();
        self.check(state)?;
        let checked = accepted.check(self.host.identity());
        checked.map_err(|source| HvfError::Accept { source })?;
        let target = self.target(state, accepted)?;
        for step in self.order {
            match step.op {
                Op::Vmm(_) => {}
                Op::Vm(Controller::GicBlob) => self.restore_blob(state)?,
                Op::Vcpu(op) => self.restore_vcpus(op, &target, &state.vcpus)?,
                Op::AllVcpus(plan::Counters::VtimerOffset) => {
                    self.restore_offset(target.offset, &state.vcpus)?;
                }
            }
        }
        tracing::info!(vcpus = state.vcpus.len(), "machine state restored");
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|source| HvfError::Generation { source })?;
        Ok(Thawed::new(GenerationId::from_bytes(id)))
    }
}
