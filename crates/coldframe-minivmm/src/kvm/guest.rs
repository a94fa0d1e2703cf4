//! The controls of a machine on KVM, and its state by coldframe-kvm.
//!
//! Invariant: state is read and written only while all vCPUs are parked.

use std::ops::DerefMut;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coldframe_hv::{Accepted, Comparison, Machine, MachineState, Thawed};

use crate::config::Shape;
use crate::digest::EndState;
use crate::error::MiniVmError;
use crate::event::{Event, Stops};
use crate::guest::Guest;
use crate::kvm::arch::is_resting;
use crate::kvm::failed::vcpu_error;
use crate::kvm::tracked::{KvmWritten, adapter};
use crate::kvm::vm::MiniVm;
use crate::memory::Ram;
use crate::ports::Ports;

impl Machine for MiniVm {
    type Error = MiniVmError;

    /// # Errors
    /// [`MiniVmError::NotPaused`]; [`MiniVmError::Adapter`] naming what KVM refused.
    fn save(&self) -> Result<MachineState, MiniVmError> {
        let vcpus = self.vcpus()?;
        self.chips
            .machine(&self.host, self.vm_fd(), vcpus)
            .save()
            .map_err(adapter("save the machine's state"))
    }

    /// # Errors
    /// [`MiniVmError::NotPaused`]; [`MiniVmError::Adapter`] naming what KVM refused: drop the
    /// machine then.
    fn restore(&mut self, accepted: &Accepted) -> Result<Thawed, MiniVmError> {
        let vcpus = self.vcpus()?;
        self.chips
            .machine(&self.host, self.vm_fd(), vcpus)
            .restore(accepted)
            .map_err(adapter("restore the machine's state"))
    }
}

/// How long the other vCPUs are let run after the end, before they are looked at again.
const SETTLE_ROUND: Duration = Duration::from_millis(1);
/// How often they are until they have halted.
const SETTLE_ROUNDS: u32 = 5000;

impl MiniVm {
    /// Whether all threads are alive.
    fn check_threads(&self) -> Result<(), MiniVmError> {
        match (0..).zip(&self.threads).find(|(_, t)| t.is_finished()) {
            Some((vcpu, _)) => Err(MiniVmError::ThreadDied { vcpu }),
            None => Ok(()),
        }
    }

    /// After the end: lets the vCPUs that have not halted run until they have.
    fn settle(&mut self) -> Result<(), MiniVmError> {
        let mut awake = self.awake()?;
        for _ in 0..SETTLE_ROUNDS {
            if awake.is_empty() {
                return Ok(());
            }
            self.unpark(|index| awake.iter().any(|a| usize::from(*a) == index));
            let shared = Arc::clone(&self.shared);
            drop(shared.wait(shared.events(), SETTLE_ROUND));
            self.park()?;
            awake = self.awake()?;
        }
        match awake.first() {
            Some(&vcpu) => Err(MiniVmError::Settle { vcpu }),
            None => Ok(()),
        }
    }

    /// The vCPUs besides the first that are neither halted nor yet to be started.
    fn awake(&self) -> Result<Vec<u8>, MiniVmError> {
        let mut awake = Vec::new();
        for (index, vcpu) in (0u8..).zip(self.vcpus()?).skip(1) {
            let state = vcpu
                .get_mp_state()
                .map_err(|e| vcpu_error("KVM_GET_MP_STATE", index, e))?;
            if !is_resting(state.mp_state) {
                awake.push(index);
            }
        }
        Ok(awake)
    }
}

impl Guest for MiniVm {
    type Written = KvmWritten;

    fn resume(&mut self, stops: Stops) -> Result<(), MiniVmError> {
        if self.ended.is_some() {
            return Err(MiniVmError::AlreadyEnded);
        }
        self.running = true;
        // What another vCPU did while the last event was handed out comes first.
        if self.shared.events().is_empty() {
            let exits = self.shared.ports().exits;
            self.shared.set_stops(stops, exits);
            self.unpark(|_| true);
        }
        Ok(())
    }

    fn wait(&mut self, time: Duration) -> Result<Event, MiniVmError> {
        let deadline = Instant::now().checked_add(time);
        let shared = Arc::clone(&self.shared);
        let mut events = shared.events();
        while events.is_empty() && self.running {
            let left = deadline.map_or(Duration::MAX, |d| d.duration_since(Instant::now()));
            if left.is_zero() {
                break;
            }
            // A thread that has died reports nothing: look after it now and then.
            events = shared.wait(events, left.min(Duration::from_secs(1)));
            if events.is_empty() {
                self.check_threads()?;
            }
        }
        drop(events);
        let paused = self.pause();
        let event = self.shared.events().pop_front();
        if let Some(Err(error)) = event {
            // A thread that cannot go on says why before it ends.
            return Err(error);
        }
        paused?;
        match event {
            None => Ok(Event::TimedOut),
            Some(Ok(Event::Ended(reason))) => {
                self.ended = Some(reason);
                self.settle()?;
                Ok(Event::Ended(reason))
            }
            Some(event) => event,
        }
    }

    fn pause(&mut self) -> Result<(), MiniVmError> {
        self.park()?;
        self.running = false;
        Ok(())
    }

    fn memory(&self) -> &Ram {
        self.tracked.ram()
    }

    fn written(&self) -> KvmWritten {
        KvmWritten(Arc::clone(&self.tracked))
    }

    fn compare(&self, state: &MachineState) -> Comparison {
        self.host.compare(state)
    }

    fn shape(&self) -> Shape {
        self.shape
    }

    fn console(&self) -> Vec<u8> {
        self.shared.ports().console.clone()
    }

    fn marks(&self) -> u64 {
        self.shared.ports().marks
    }

    fn exits(&self) -> u64 {
        self.shared.ports().exits
    }

    fn ports(&mut self) -> impl DerefMut<Target = Ports> {
        self.shared.ports()
    }

    fn device_state(&self) -> Vec<u8> {
        self.shared.ports().encode()
    }

    fn restore_device(&mut self, bytes: &[u8]) -> Result<(), MiniVmError> {
        let mut ports = self.shared.ports();
        ports.restore(bytes).map_err(MiniVmError::DeviceState)
    }

    fn end_state(&self) -> Result<EndState, MiniVmError> {
        let vcpus = self.vcpus()?;
        let registers = self.chips.registers(&self.host, self.vm_fd(), vcpus)?;
        EndState::of(
            self.tracked.ram(),
            self.fresh,
            &registers,
            &self.shared.ports().console,
        )
    }
}
