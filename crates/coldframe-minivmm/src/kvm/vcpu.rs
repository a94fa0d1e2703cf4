//! The thread of one vCPU: runs the guest, serves its exits, parks when asked.
//!
//! Invariant: before it parks, the exit it is at is completed in KVM (the instruction that caused
//! it has retired), so that what a saver reads is a state between two instructions.

use std::sync::Arc;

use coldframe_kvm::{KvmError, ParkingLot, Seat, is_ring_full};
use coldframe_units::GuestAddr;
use kvm_bindings::{KVM_SYSTEM_EVENT_RESET, KVM_SYSTEM_EVENT_SHUTDOWN};
use kvm_ioctls::{VcpuExit, VcpuFd};
use vm_memory::{GuestAddress, GuestMemoryBackend};

use crate::error::MiniVmError;
use crate::event::{EndReason, Event};
use crate::kvm::arch::port_at;
use crate::kvm::failed::vcpu_error;
use crate::kvm::shared::Shared;
use crate::kvm::tracked::{Tracked, adapter};
use crate::ports::{Effect, Ports};

/// What the thread of a vCPU needs.
pub(super) struct Runner {
    /// Its index.
    pub(super) index: u8,
    /// Where it parks.
    pub(super) lot: ParkingLot,
    /// Shared with the controller.
    pub(super) shared: Arc<Shared>,
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
    /// The body of the thread: returns when the machine is taken down, or cannot go on.
    pub(super) fn run(self, vcpu: VcpuFd) {
        let seat = match self.lot.seat(self.index.into(), &vcpu) {
            Ok(seat) => seat,
            Err(error) => {
                let error = adapter("take the seat of a vCPU")(error);
                return self.shared.report(self.index, Err(error));
            }
        };
        // The seat outlives the report: who finds the thread gone finds out why.
        if let Err(error) = self.run_seated(&seat, vcpu) {
            let error = adapter("park a vCPU")(error);
            self.shared.report(self.index, Err(error));
        }
    }

    /// Runs the guest, but for pauses and while it rests.
    fn run_seated(&self, seat: &Seat, mut vcpu: VcpuFd) -> Result<(), KvmError> {
        vcpu = seat.park_before_first_run(vcpu);
        while !seat.is_closed() {
            if self.shared.rests(self.index) {
                vcpu = seat.park_when_wanted(vcpu, |exit| self.complete(exit))?;
                continue;
            }
            match self.enter(&mut vcpu) {
                Ok(Served::Continue) => {}
                Ok(Served::Interrupted) => vcpu = seat.park(vcpu, |exit| self.complete(exit))?,
                Ok(Served::Stop(event)) => self.shared.report(self.index, Ok(event)),
                Err(error) => self.shared.report(self.index, Err(error)),
            }
        }
        Ok(())
    }

    /// Serves what the exit that the vCPU is at still asks for.
    fn complete(&self, exit: VcpuExit<'_>) {
        match self.serve(exit) {
            Ok(Served::Continue | Served::Interrupted) => {}
            Ok(Served::Stop(event)) => self.shared.report(self.index, Ok(event)),
            Err(error) => self.shared.report(self.index, Err(error)),
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
            let mut ports = self.shared.ports();
            (serve(&mut ports)?, ports.exits)
        };
        match effect {
            Effect::End(reason) => Ok(Served::Stop(Event::Ended(reason))),
            Effect::Replayed => Ok(Served::Stop(Event::Replayed)),
            Effect::Mark(mark) if self.shared.stops_at_marks() => {
                Ok(Served::Stop(Event::Mark(mark)))
            }
            _ if self.shared.stops_at_exit(exits) => Ok(Served::Stop(Event::Exits(exits))),
            _ => Ok(Served::Continue),
        }
    }
}
