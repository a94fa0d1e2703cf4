//! Where the threads of vCPUs come to rest while the machine is frozen or thawed.
//!
//! The framework answers for a vCPU only to the thread that made it, so a parked thread does the
//! work of freezing and thawing itself, as it is told to through its seat.
//!
//! Invariants: a [`Parked`] exists only while every vCPU sits in its seat with nothing pending (it
//! came with a [`Ready`]); a thread that waits for an interrupt on the guest's behalf waits here,
//! where a pause wakes it: `hv_vcpus_exit` does not reach a thread outside of `hv_vcpu_run`.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use coldframe_hv::aarch64::PowerState;
use coldframe_hv::park::{self, OnResume, PauseError};

use crate::calls::{VcpuCalls, VmCalls};
use crate::error::{HvfError, Place};
use crate::run::Ready;

pub use coldframe_hv::park::Woken;

/// How to tell a thread that sits what to do.
type Jobs = Sender<Job>;

type Job = Box<dyn FnOnce(&dyn VcpuCalls, &mut Sitting) + Send>;

/// What is known of a vCPU that sits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sitting {
    pub power: PowerState,
    pub has_run: bool,
}

/// A seat for each vCPU of a machine. Its clones are the same lot.
#[derive(Clone, Debug)]
pub struct ParkingLot {
    lot: park::ParkingLot<u64, Jobs>,
}

impl ParkingLot {
    /// For a machine of so many vCPUs, numbered from 0.
    #[must_use]
    pub fn new(vcpus: u32) -> Self {
        let lot = park::ParkingLot::with(vcpus, OnResume::Drop);
        Self { lot }
    }

    /// The seat of a vCPU, for its thread to keep; `id` is the framework's number of the vCPU.
    ///
    /// # Errors
    /// [`HvfError::NoSeat`].
    pub fn seat(&self, index: u32, id: u64) -> Result<Seat, HvfError> {
        let seat = self.lot.seat(index, id);
        let seat = seat.map_err(|refused| HvfError::NoSeat { vcpu: refused.vcpu })?;
        Ok(Seat { seat })
    }

    /// Tells a vCPU that an interrupt came; if it does not wait now, its next wait ends at once.
    pub fn wake(&self, index: u32) {
        self.lot.wake(index);
    }

    /// Has all vCPUs park, and waits until they have.
    ///
    /// There is one pause at a time: dropping the first of two would let vCPUs run under the
    /// capture of the second.
    ///
    /// # Errors
    /// [`HvfError::AlreadyPaused`] while an earlier [`Parked`] lives, or is being waited for;
    /// [`HvfError::NotParked`] after `patience`; those that parked go on then.
    /// [`HvfError::VcpuGone`], [`HvfError::LotClosed`], [`HvfError::Call`].
    pub fn pause<C: VmCalls + ?Sized>(
        &self,
        vm: &C,
        patience: Duration,
    ) -> Result<Parked, HvfError> {
        let begun = Instant::now();
        let parked = self.lot.pause(patience, |running| vm.exit_vcpus(running));
        let parked = parked.map_err(|error| match error {
            PauseError::AlreadyPaused => HvfError::AlreadyPaused,
            PauseError::VcpuGone { vcpu } => HvfError::VcpuGone { vcpu },
            PauseError::NotParked { vcpus, patience } => HvfError::NotParked { vcpus, patience },
            PauseError::Kick(source) => HvfError::call("hv_vcpus_exit", Place::Vm)(source),
            _ => HvfError::LotClosed,
        })?;
        tracing::debug!(
            vcpus = parked.held().len(),
            duration_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX),
            "vCPUs parked"
        );
        Ok(Parked { parked })
    }

    /// Has the threads end: [`Seat::is_closed`] holds from now on, they are kicked out of the
    /// guest, and whatever they wait for in their seats ends.
    ///
    /// # Errors
    /// [`HvfError::Call`].
    pub fn close<C: VmCalls + ?Sized>(&self, vm: &C) -> Result<(), HvfError> {
        let closed = self.lot.close(|running| vm.exit_vcpus(running));
        closed.map_err(HvfError::call("hv_vcpus_exit", Place::Vm))
    }
}

/// The seat of one vCPU, kept by its thread.
#[derive(Debug)]
pub struct Seat {
    seat: park::Seat<u64, Jobs>,
}

impl Seat {
    /// Whether the machine is to pause: bring the vCPU to rest, then park.
    #[must_use]
    pub fn is_pause_wanted(&self) -> bool {
        self.seat.is_pause_wanted()
    }

    /// Whether the lot was [closed](ParkingLot::close): the thread is to end.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.seat.is_closed()
    }

    /// Sits until the machine goes on, and does what freezing or thawing asks for meanwhile.
    ///
    /// Returns at once if no pause is wanted. After a thaw [`Ready::power`] is what was saved.
    pub fn park<'v, V: VcpuCalls>(&self, mut ready: Ready<'v, V>) -> Ready<'v, V> {
        let (sender, jobs): (_, Receiver<Job>) = channel();
        if self.seat.hand_over(sender).is_err() {
            return ready;
        }
        let mut sitting = Sitting {
            power: ready.power,
            has_run: ready.has_run,
        };
        for job in jobs {
            job(ready.vcpu, &mut sitting);
        }
        let _ = self.seat.take_back();
        ready.power = sitting.power;
        ready
    }

    /// Waits until a pause is wanted, then sits as [`Seat::park`]: for a vCPU that was just made
    /// and is to be thawed before it runs. Returns too when the lot is closed.
    pub fn park_when_wanted<'v, V: VcpuCalls>(&self, ready: Ready<'v, V>) -> Ready<'v, V> {
        self.seat.wait_for_pause();
        self.park(ready)
    }

    /// Waits for an interrupt on the guest's behalf, at most until its timer is due.
    #[must_use = "a pause that is wanted must be answered"]
    pub fn wait_for_interrupt(&self, timeout: Option<Duration>) -> Woken {
        self.seat.wait_for_interrupt(timeout)
    }
}

/// A machine all of whose vCPUs sit with nothing pending. Dropping it lets them go on.
#[derive(Debug)]
#[must_use = "dropping it lets the vCPUs go on"]
pub struct Parked {
    parked: park::Parked<u64, Jobs>,
}

impl Parked {
    /// How many vCPUs sit.
    #[must_use]
    pub fn vcpus(&self) -> u32 {
        self.parked.held().len() as u32
    }

    /// Lets the vCPUs go on.
    pub fn resume(self) {
        drop(self);
    }

    /// Has the thread of a vCPU do something, and waits for it.
    pub(crate) fn on<R: Send + 'static>(
        &self,
        index: u32,
        work: impl FnOnce(&dyn VcpuCalls, &mut Sitting) -> R + Send + 'static,
    ) -> Result<R, HvfError> {
        let gone = HvfError::VcpuGone { vcpu: index };
        let (answer, result) = channel();
        let job: Job = Box::new(move |vcpu, sitting| {
            // Nobody listens any more if the asker panicked.
            let _ = answer.send(work(vcpu, sitting));
        });
        let jobs = self.parked.held().get(index as usize);
        if jobs.is_none_or(|jobs| jobs.send(job).is_err()) {
            return Err(gone);
        }
        result.recv().map_err(|_| gone)
    }
}
