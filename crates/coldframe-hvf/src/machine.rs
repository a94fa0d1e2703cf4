//! A machine under Hypervisor.framework, frozen and thawed by the plans of `coldframe-hv`.

use std::collections::BTreeSet;

use coldframe_hv::aarch64::{Counters, GicModel, GuestTime, PowerState, check, register_item};
use coldframe_hv::{
    Accepted, Actor, Hypervisor, ItemKind, Machine, MachineState, Op, Plan, Scope, Step, Target,
    Thawed, VcpuState, VmState,
};
use coldframe_units::{Arch, GenerationId};

use crate::calls::VmCalls;
use crate::error::{HvfError, Place};
use crate::host::HvfHost;
use crate::park::Parked;
use crate::vcpu;

/// A machine whose vCPUs are parked.
#[derive(Debug)]
pub struct HvfMachine<'a, C: ?Sized> {
    host: &'a HvfHost,
    vm: &'a C,
    parked: &'a Parked<'a>,
    time: GuestTime,
    order: &'a [Step],
}

impl<'a, C: VmCalls + ?Sized> HvfMachine<'a, C> {
    /// The machine of `vm`, whose vCPUs are all in `parked`.
    #[must_use]
    pub fn new(host: &'a HvfHost, vm: &'a C, parked: &'a Parked<'a>) -> Self {
        Self {
            host,
            vm,
            parked,
            time: GuestTime::Continue,
            order: Plan::restore(Target::Hvf).steps(),
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
    pub const fn with_order(mut self, order: &'a [Step]) -> Self {
        self.order = order;
        self
    }

    fn hz(&self) -> u64 {
        self.host.identity().counter_hz.unwrap_or_default()
    }

    /// One step of a save that belongs to no vCPU, or to all of them at one moment.
    fn save_machine(&self, op: Op, state: &mut MachineState) -> Result<(), HvfError> {
        match op {
            Op::VtimerOffset => {
                let offset = self.common_offset(&state.vcpus)?;
                // One reading for the machine: all vCPUs have one counter.
                let host = self.vm.host_counter();
                Counters::new(host, offset, self.hz()).store(&mut state.vm);
                let bytes = offset.to_le_bytes().to_vec();
                state.vm.items.insert(ItemKind::HVF_VTIMER_OFFSET, bytes);
            }
            Op::GicBlob => {
                let blob = self.vm.gic_state();
                let blob = blob.map_err(HvfError::call("hv_gic_state_get_data", Place::Vm))?;
                let build = self.host.identity().kernel.clone().into_bytes();
                state.vm.items.insert(ItemKind::HVF_GIC, blob);
                state.vm.items.insert(ItemKind::HVF_GIC_BUILD, build);
                GicModel::Apple.store(&mut state.vm);
            }
            _ => {}
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
            state.hypervisor == Hypervisor::Hvf && GicModel::of(&state.vm) == Some(GicModel::Apple);
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

    /// Has a vCPU's thread do one step of a restore.
    fn restore_vcpu(
        &self,
        op: Op,
        target: &vcpu::Target,
        state: &VcpuState,
    ) -> Result<(), HvfError> {
        let (target, state) = (target.clone(), state.clone());
        self.parked.on(state.index, move |calls, sitting| {
            if op == Op::MpState {
                sitting.power = PowerState::of(&state).unwrap_or(PowerState::On);
            }
            vcpu::restore(op, calls, &target, &state)
        })?
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
            hypervisor: Hypervisor::Hvf,
            host: self.host.identity().clone(),
            vm: VmState::default(),
            vcpus: (0..self.parked.vcpus()).map(vcpu).collect(),
        };
        for step in Plan::save(Target::Hvf).adapter_steps() {
            if step.scope != Scope::EachVcpu {
                self.save_machine(step.op, &mut state)?;
                continue;
            }
            for vcpu in &mut state.vcpus {
                let (op, mut taken) = (step.op, std::mem::take(vcpu));
                *vcpu = self.parked.on(taken.index, move |calls, sitting| {
                    vcpu::save(op, calls, sitting.power, &mut taken).map(|()| taken)
                })??;
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
        let order = self.order.iter();
        for step in order.filter(|step| step.actor == Actor::Adapter) {
            if step.op == Op::GicBlob {
                self.restore_blob(state)?;
                continue;
            }
            for vcpu in &state.vcpus {
                self.restore_vcpu(step.op, &target, vcpu)?;
            }
        }
        tracing::info!(vcpus = state.vcpus.len(), "machine state restored");
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|source| HvfError::Generation { source })?;
        Ok(Thawed::new(GenerationId::from_bytes(id)))
    }
}
