//! The machine: built, booted, taken down.
//!
//! Invariant: while `running` is false, every vCPU's thread is parked.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use coldframe_hv::{HostIdentity, MachineState};
use coldframe_kvm::{KvmError, KvmHost, Parked, ParkingLot};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};

use crate::config::{Config, Shape, Tracking};
use crate::error::MiniVmError;
use crate::event::EndReason;
use crate::kvm::arch::Chips;
use crate::kvm::failed::kvm_error;
use crate::kvm::shared::Shared;
use crate::kvm::tracked::{Tracked, adapter};
use crate::kvm::vcpu::Runner;
use crate::load;
use crate::memory::{Ram, allocate_ram, ram_layout};

/// How long the vCPUs are given to come out of the guest: far more than any takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A machine on KVM.
pub struct MiniVm {
    pub(super) threads: Vec<JoinHandle<()>>,
    lot: ParkingLot,
    parked: Option<Parked>,
    pub(super) shared: Arc<Shared>,
    pub(super) ended: Option<EndReason>,
    pub(super) running: bool,
    /// RAM was allocated here, empty.
    pub(super) fresh: bool,
    pub(super) shape: Shape,
    pub(super) host: KvmHost,
    pub(super) chips: Chips,
    vm: VmFd,
    kvm: Kvm,
    pub(super) tracked: Arc<Tracked>,
}

impl MiniVm {
    /// Allocates RAM, builds the machine, loads the program. It stands before its first
    /// instruction.
    ///
    /// # Errors
    /// [`MiniVmError`] of any step; `Kvm` with `/dev/kvm` where there is no usable KVM.
    pub fn boot(config: &Config) -> Result<Self, MiniVmError> {
        let layout = ram_layout(config.ram)?;
        let ram = allocate_ram(&layout, config.backing)?;
        let start = load::load(&ram, &config.program)?;
        let mut vm = Self::with_memory(config.shape, config.tracking, ram)?;
        vm.fresh = true;
        {
            let vcpus = vm.vcpus()?;
            vm.chips.set_start(vcpus, start)?;
        }
        Ok(vm)
    }

    /// Builds a machine on RAM that is there already, for a restore: its vCPUs are in their reset
    /// state, and its devices have seen nothing.
    ///
    /// # Errors
    /// [`MiniVmError::Shape`]; `Kvm`, `Vcpu`, `Adapter` and `StartThread` of each step.
    pub fn with_memory(shape: Shape, tracking: Tracking, ram: Ram) -> Result<Self, MiniVmError> {
        Self::build(shape, tracking, ram, None)
    }

    /// As [`Self::with_memory`], of the shape of `state` and with what must be in place before the
    /// machine has memory: its wall clock, which KVM would write into it.
    ///
    /// # Errors
    /// As [`Self::with_memory`].
    pub fn for_state(
        state: &MachineState,
        tracking: Tracking,
        ram: Ram,
    ) -> Result<Self, MiniVmError> {
        Self::build(Shape::of(state), tracking, ram, Some(state))
    }

    fn build(
        shape: Shape,
        tracking: Tracking,
        ram: Ram,
        state: Option<&MachineState>,
    ) -> Result<Self, MiniVmError> {
        let Shape { vcpus, irqchip } = shape;
        if vcpus == 0 || vcpus > 32 || (vcpus > 1 && !irqchip) {
            return Err(MiniVmError::Shape { vcpus });
        }
        let lot = ParkingLot::new(vcpus.into()).map_err(adapter("stop vCPUs by a signal"))?;
        let kvm = Kvm::new().map_err(|e| kvm_error("/dev/kvm", e))?;
        let host = KvmHost::probe(&kvm).map_err(adapter("probe this host"))?;
        let vm = kvm.create_vm().map_err(|e| kvm_error("KVM_CREATE_VM", e))?;
        let slots = Tracked::slots(&vm, tracking)?;
        Chips::before_vcpus(&vm, shape)?;
        let fds = (0..vcpus)
            .map(|index| Chips::new_vcpu(&kvm, &vm, &host, index))
            .collect::<Result<Vec<VcpuFd>, _>>()?;
        let chips = Chips::after_vcpus(&vm, &host, vcpus)?;
        if let Some(state) = state {
            chips.before_memory(&host, &vm, &fds, state)?;
        }
        let slots = Tracked::register(slots, &ram)?;
        let tracked = Arc::new(Tracked::new(slots, &fds, ram)?);
        let mut machine = Self {
            threads: Vec::new(),
            lot,
            parked: None,
            shared: Arc::new(Shared::new(vcpus)),
            ended: None,
            running: false,
            fresh: false,
            shape,
            host,
            chips,
            vm,
            kvm,
            tracked,
        };
        for (index, fd) in (0..vcpus).zip(fds) {
            machine.start_thread(index, fd)?;
        }
        machine.park()?;
        Ok(machine)
    }

    /// Starts the thread of vCPU `index`, which parks.
    fn start_thread(&mut self, index: u8, vcpu: VcpuFd) -> Result<(), MiniVmError> {
        let runner = Runner {
            index,
            lot: self.lot.clone(),
            shared: Arc::clone(&self.shared),
            tracked: Arc::clone(&self.tracked),
            irqchip: self.shape.irqchip,
        };
        let thread = std::thread::Builder::new()
            .name(format!("vcpu{index}"))
            .spawn(move || runner.run(vcpu))
            .map_err(|source| MiniVmError::StartThread {
                vcpu: index,
                source,
            })?;
        self.threads.push(thread);
        Ok(())
    }

    /// The VM's descriptor.
    #[must_use]
    pub const fn vm_fd(&self) -> &VmFd {
        &self.vm
    }

    /// `/dev/kvm`.
    #[must_use]
    pub const fn kvm(&self) -> &Kvm {
        &self.kvm
    }

    /// This host, as KVM describes it.
    #[must_use]
    pub const fn host(&self) -> &HostIdentity {
        self.host.identity()
    }

    /// The vCPUs' descriptors, in order.
    ///
    /// # Errors
    /// [`MiniVmError::NotPaused`].
    pub fn vcpus(&self) -> Result<&[VcpuFd], MiniVmError> {
        match &self.parked {
            Some(parked) if !self.running => Ok(parked.vcpus()),
            _ => Err(MiniVmError::NotPaused),
        }
    }

    /// Gets all vCPUs out of the guest, unless they are.
    pub(super) fn park(&mut self) -> Result<(), MiniVmError> {
        if self.parked.is_some() {
            return Ok(());
        }
        let parked = self.lot.pause(PATIENCE).map_err(|error| match error {
            KvmError::VcpuGone { vcpu } => MiniVmError::ThreadDied { vcpu },
            error => adapter("stop the vCPUs")(error),
        })?;
        self.parked = Some(parked);
        Ok(())
    }

    /// Lets those vCPUs run for which `who` holds.
    pub(super) fn unpark(&mut self, who: impl Fn(usize) -> bool) {
        self.shared.release(who);
        self.parked = None;
    }
}

impl Drop for MiniVm {
    fn drop(&mut self) {
        // A thread that cannot be signalled is not there any more.
        drop(self.lot.close());
        self.parked = None;
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so already.
            drop(thread.join());
        }
    }
}

/// What this host is to guests on KVM.
///
/// # Errors
/// [`MiniVmError::Kvm`] where there is no usable KVM, `Adapter` if it does not answer.
pub fn probe_host() -> Result<HostIdentity, MiniVmError> {
    let kvm = Kvm::new().map_err(|e| kvm_error("/dev/kvm", e))?;
    let host = KvmHost::probe(&kvm).map_err(adapter("probe this host"))?;
    Ok(host.identity().clone())
}

/// Whether KVM can be used here.
///
/// # Errors
/// [`MiniVmError::Kvm`] with the reason.
pub fn check_kvm() -> Result<(), MiniVmError> {
    let kvm = Kvm::new().map_err(|e| kvm_error("/dev/kvm", e))?;
    kvm.create_vm().map_err(|e| kvm_error("KVM_CREATE_VM", e))?;
    Ok(())
}
