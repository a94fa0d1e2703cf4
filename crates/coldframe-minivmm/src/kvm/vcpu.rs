//! The thread of one vCPU: runs the guest, serves its exits, parks when asked.
//!
//! Invariant: before it parks, the exit it is at is completed in KVM (the instruction that caused
//! it has retired), so that what a saver reads is a state between two instructions.

use std::sync::{Arc, Mutex};

use coldframe_kvm::{complete_pending_io, is_ring_full};
use coldframe_units::GuestAddr;
use kvm_bindings::{KVM_SYSTEM_EVENT_RESET, KVM_SYSTEM_EVENT_SHUTDOWN};
use kvm_ioctls::{VcpuExit, VcpuFd};
use vm_memory::{GuestAddress, GuestMemoryBackend};

use crate::error::MiniVmError;
use crate::event::{EndReason, Event};
use crate::kvm::arch::port_at;
use crate::kvm::control::{Control, lock};
use crate::kvm::failed::vcpu_error;
use crate::kvm::tracked::{Tracked, adapter};
use crate::ports::{Effect, Ports};

/// A vCPU's descriptor, shared by its thread and the controller.
pub(super) type SharedVcpu = Arc<Mutex<VcpuFd>>;

/// What the thread of a vCPU needs.
pub(super) struct Runner {
    /// Its index.
    pub(super) index: u8,
    /// Its descriptor.
    pub(super) fd: SharedVcpu,
    /// Shared with the controller.
    pub(super) control: Arc<Control>,
    /// Guest RAM, to tell devices' addresses from poisoned RAM, and for full dirty rings.
    pub(super) tracked: Arc<Tracked>,
    /// Whether KVM models the interrupt controllers, so that a halted vCPU can be woken.
    pub(super) irqchip: bool,
}

/// What an exit asks for.
enum Served {
    /// To go on.
    Continue,
    /// To go on when KVM_RUN was interrupted: see whether to park.
    Interrupted,
    /// To stop, and say why.
    Stop(Event),
}

impl Runner {
    /// The body of the thread.
    pub(super) fn run(self) {
        let index = usize::from(self.index);
        while self.control.park(index) {
            let mut fd = lock(&self.fd);
            self.run_until_parked(&mut fd);
            self.complete_exit(&mut fd);
        }
    }

    /// Runs the guest until the controller, or an event, asks to park.
    fn run_until_parked(&self, fd: &mut VcpuFd) {
        while !self.control.must_park(usize::from(self.index)) {
            match self.enter(fd) {
                Ok(Served::Continue | Served::Interrupted) => {}
                Ok(Served::Stop(event)) => self.control.report(Ok(event)),
                Err(error) => self.control.report(Err(error)),
            }
        }
    }

    /// Completes the exit that the vCPU is at.
    fn complete_exit(&self, fd: &mut VcpuFd) {
        let completed = complete_pending_io(fd, |exit| match self.serve(exit) {
            Ok(Served::Continue | Served::Interrupted) => {}
            Ok(Served::Stop(event)) => self.control.report(Ok(event)),
            Err(error) => self.control.report(Err(error)),
        });
        if let Err(error) = completed.map_err(adapter("complete the exit of a vCPU")) {
            self.control.report(Err(error));
        }
    }

    /// One KVM_RUN, and what its exit asks for.
    fn enter(&self, fd: &mut VcpuFd) -> Result<Served, MiniVmError> {
        match fd.run() {
            Ok(exit) => self.serve(exit),
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {
                Ok(Served::Interrupted)
            }
            Err(error) => Err(vcpu_error("KVM_RUN", self.index, error)),
        }
    }

    /// Serves an exit, and says what it asks for.
    fn serve(&self, exit: VcpuExit<'_>) -> Result<Served, MiniVmError> {
        if is_ring_full(&exit) {
            self.tracked.harvest()?;
            return Ok(Served::Continue);
        }
        match exit {
            VcpuExit::IoOut(port, data) => self.act(|ports| ports.write(port, data)),
            VcpuExit::IoIn(port, data) => self.act(|ports| ports.read(self.index, port, data)),
            VcpuExit::MmioRead(addr, data) => {
                if let Some(port) = port_at(addr) {
                    return self.act(|ports| ports.read(self.index, port, data));
                }
                data.fill(0xff);
                self.check_mmio(addr)?;
                self.act(Ports::pass)
            }
            VcpuExit::MmioWrite(addr, data) => {
                if let Some(port) = port_at(addr) {
                    return self.act(|ports| ports.write(port, data));
                }
                self.check_mmio(addr)?;
                self.act(Ports::pass)
            }
            VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_SHUTDOWN, _) => {
                self.act(|ports| ports.end(EndReason::Halted))
            }
            VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_RESET, _) => {
                self.act(|ports| ports.end(EndReason::Reset))
            }
            VcpuExit::Hlt if !self.irqchip => self.act(|ports| ports.end(EndReason::Halted)),
            VcpuExit::Shutdown => self.act(|ports| ports.end(EndReason::TripleFault)),
            VcpuExit::Intr => Ok(Served::Interrupted),
            exit => Err(MiniVmError::UnexpectedExit {
                vcpu: self.index,
                exit: format!("{exit:?}"),
            }),
        }
    }

    /// An MMIO exit inside RAM is RAM that the host could not give.
    fn check_mmio(&self, addr: u64) -> Result<(), MiniVmError> {
        if self.tracked.ram().address_in_range(GuestAddress(addr)) {
            return Err(MiniVmError::Poisoned {
                vcpu: self.index,
                addr: GuestAddr::new(addr),
            });
        }
        Ok(())
    }

    /// Lets the ports serve an exit, and says whether to stop.
    fn act(
        &self,
        serve: impl FnOnce(&mut Ports) -> Result<Effect, MiniVmError>,
    ) -> Result<Served, MiniVmError> {
        let (effect, exits) = {
            let mut ports = self.control.ports();
            (serve(&mut ports)?, ports.exits)
        };
        match effect {
            Effect::End(reason) => Ok(Served::Stop(Event::Ended(reason))),
            Effect::Replayed => Ok(Served::Stop(Event::Replayed)),
            Effect::Mark(mark) if self.control.stops_at_marks() => {
                Ok(Served::Stop(Event::Mark(mark)))
            }
            _ if self.control.stops_at_exit(exits) => Ok(Served::Stop(Event::Exits(exits))),
            _ => Ok(Served::Continue),
        }
    }
}
