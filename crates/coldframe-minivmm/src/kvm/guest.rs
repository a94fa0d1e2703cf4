//! The controls of a machine on KVM, and its state by coldframe-kvm.
//!
//! Invariant: state is read and written only with the locks of all vCPUs' descriptors held.

use std::ops::DerefMut;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coldframe_hv::{Accepted, Comparison, Machine, MachineState, Thawed};

use crate::config::Shape;
use crate::digest::EndState;
use crate::error::MiniVmError;
use crate::event::{Event, Stops};
use crate::guest::Guest;
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
        let vcpus = vcpus.iter().map(|fd| &**fd);
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
        let vcpus = vcpus.iter().map(|fd| &**fd);
        self.chips
            .machine(&self.host, self.vm_fd(), vcpus)
            .restore(accepted)
            .map_err(adapter("restore the machine's state"))
    }
}

impl Guest for MiniVm {
    type Written = KvmWritten;

    fn resume(&mut self, stops: Stops) -> Result<(), MiniVmError> {
        if self.ended.is_some() {
            return Err(MiniVmError::AlreadyEnded);
        }
        let exits = self.control.ports().exits;
        let mut state = self.control.state();
        self.running = true;
        // What another vCPU did while the last event was handed out comes first.
        if state.events.is_empty() {
            self.control.set_stops(stops, exits);
            self.control.release(&mut state, |_| true);
        }
        Ok(())
    }

    fn wait(&mut self, time: Duration) -> Result<Event, MiniVmError> {
        let deadline = Instant::now().checked_add(time);
        let control = Arc::clone(&self.control);
        let mut state = control.state();
        while state.events.is_empty() && self.running {
            let left = deadline.map_or(Duration::MAX, |d| d.duration_since(Instant::now()));
            if left.is_zero() {
                break;
            }
            // A thread that has died reports nothing: look after it now and then.
            state = control.wait(state, left.min(Duration::from_secs(1)));
            self.check_threads()?;
        }
        drop(state);
        self.pause()?;
        let event = control.state().events.pop_front();
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
        let control = Arc::clone(&self.control);
        control.ask_to_park(&mut control.state());
        self.wait_until_parked()?;
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
        self.control.ports().console.clone()
    }

    fn marks(&self) -> u64 {
        self.control.ports().marks
    }

    fn exits(&self) -> u64 {
        self.control.ports().exits
    }

    fn ports(&mut self) -> impl DerefMut<Target = Ports> {
        self.control.ports()
    }

    fn device_state(&self) -> Vec<u8> {
        self.control.ports().encode()
    }

    fn restore_device(&mut self, bytes: &[u8]) -> Result<(), MiniVmError> {
        let mut ports = self.control.ports();
        ports.restore(bytes).map_err(MiniVmError::DeviceState)
    }

    fn end_state(&self) -> Result<EndState, MiniVmError> {
        let vcpus = self.vcpus()?;
        let vcpus = vcpus.iter().map(|fd| &**fd);
        let registers = self.chips.registers(&self.host, self.vm_fd(), vcpus)?;
        EndState::of(
            self.tracked.ram(),
            self.fresh,
            &registers,
            &self.control.ports().console,
        )
    }
}
