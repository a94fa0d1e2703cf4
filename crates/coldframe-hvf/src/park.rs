//! Where the threads of vCPUs come to rest while the machine is frozen or thawed.
//!
//! The framework answers for a vCPU only to the thread that made it, so a parked thread does the
//! work of freezing and thawing itself, as it is told to through its seat.
//!
//! Invariants: a [`Parked`] exists only while every vCPU sits in its seat with nothing pending (it
//! came with a [`Ready`]); a thread that waits for an interrupt on the guest's behalf waits here,
//! where a pause wakes it: `hv_vcpus_exit` does not reach a thread outside of `hv_vcpu_run`.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use coldframe_hv::aarch64::PowerState;

use crate::calls::{VcpuCalls, VmCalls};
use crate::error::{HvfError, Place};
use crate::run::Ready;

/// How long a vCPU is given to come out of the guest before it is asked again.
const KICK_EVERY: Duration = Duration::from_millis(10);

/// A seat for each vCPU of a machine.
#[derive(Debug)]
pub struct ParkingLot {
    lot: Mutex<Lot>,
    changed: Condvar,
}

#[derive(Debug)]
struct Lot {
    pausing: bool,
    seats: Vec<SeatState>,
}

#[derive(Debug, Default)]
struct SeatState {
    /// The framework's number of the vCPU whose thread has the seat.
    owner: Option<u64>,
    /// The seat was left for good.
    gone: bool,
    /// An interrupt came for a thread that waits, or will.
    woken: bool,
    /// How to tell the thread that sits what to do.
    jobs: Option<Sender<Job>>,
}

type Job = Box<dyn FnOnce(&dyn VcpuCalls, &mut Sitting) + Send>;

/// What is known of a vCPU that sits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sitting {
    pub power: PowerState,
    pub has_run: bool,
}

/// Why a wait for an interrupt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// [`ParkingLot::wake`] was called.
    Interrupt,
    /// The machine is to pause: park.
    Pause,
    /// The time is over.
    Timeout,
}

impl ParkingLot {
    /// For a machine of so many vCPUs, numbered from 0.
    #[must_use]
    pub fn new(vcpus: u32) -> Self {
        let seats = (0..vcpus).map(|_| SeatState::default()).collect();
        Self {
            lot: Mutex::new(Lot {
                pausing: false,
                seats,
            }),
            changed: Condvar::new(),
        }
    }

    /// The seat of a vCPU, for its thread to keep; `id` is the framework's number of the vCPU.
    ///
    /// # Errors
    /// [`HvfError::NoSeat`].
    pub fn seat(&self, index: u32, id: u64) -> Result<Seat<'_>, HvfError> {
        let mut lot = self.lock();
        let seat = lot.seats.get_mut(index as usize);
        match seat {
            Some(seat) if seat.owner.is_none() && !seat.gone => seat.owner = Some(id),
            _ => return Err(HvfError::NoSeat { vcpu: index }),
        }
        drop(lot);
        Ok(Seat { lot: self, index })
    }

    /// Tells a vCPU that an interrupt came; if it does not wait now, its next wait ends at once.
    pub fn wake(&self, index: u32) {
        if let Some(seat) = self.lock().seats.get_mut(index as usize) {
            seat.woken = true;
        }
        self.changed.notify_all();
    }

    /// Has all vCPUs park, and waits until they have.
    ///
    /// There is one pause at a time: dropping the first of two would let vCPUs run under the
    /// capture of the second.
    ///
    /// # Errors
    /// [`HvfError::AlreadyPaused`] while an earlier [`Parked`] lives, or is being waited for;
    /// [`HvfError::NotParked`] after `patience`; those that parked go on then.
    /// [`HvfError::VcpuGone`], [`HvfError::Call`].
    pub fn pause<C: VmCalls + ?Sized>(
        &self,
        vm: &C,
        patience: Duration,
    ) -> Result<Parked<'_>, HvfError> {
        let started = Instant::now();
        let mut lot = self.lock();
        if lot.pausing {
            return Err(HvfError::AlreadyPaused);
        }
        lot.pausing = true;
        // From here on whatever happens, dropping it lets those go on that parked.
        let parked = Parked { lot: self };
        self.changed.notify_all();
        loop {
            if let Some(vcpu) = lot.seats.iter().position(|seat| seat.gone) {
                drop(lot);
                return Err(HvfError::VcpuGone { vcpu: vcpu as u32 });
            }
            let away: Vec<(u32, Option<u64>)> = (0..)
                .zip(&lot.seats)
                .filter(|(_, seat)| seat.jobs.is_none())
                .map(|(index, seat)| (index, seat.owner))
                .collect();
            if away.is_empty() {
                break;
            }
            let left = patience.saturating_sub(started.elapsed());
            if left.is_zero() {
                drop(lot);
                let vcpus = away.into_iter().map(|(index, _)| index).collect();
                return Err(HvfError::NotParked { vcpus });
            }
            // Again and again: a thread may take its seat after the first time.
            let running: Vec<u64> = away.iter().filter_map(|(_, owner)| *owner).collect();
            drop(lot);
            let kicked = vm.exit_vcpus(&running);
            kicked.map_err(HvfError::call("hv_vcpus_exit", Place::Vm))?;
            lot = self.lock();
            if lot
                .seats
                .iter()
                .any(|seat| seat.jobs.is_none() && !seat.gone)
            {
                let waited = self.changed.wait_timeout(lot, left.min(KICK_EVERY));
                lot = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
        let vcpus = lot.seats.len();
        drop(lot);
        tracing::debug!(
            vcpus,
            duration_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
            "vCPUs parked"
        );
        Ok(parked)
    }

    /// Nothing that holds the lock can panic half-way, so a poisoned one is whole.
    fn lock(&self) -> MutexGuard<'_, Lot> {
        self.lot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The seat of one vCPU, kept by its thread.
#[derive(Debug)]
pub struct Seat<'l> {
    lot: &'l ParkingLot,
    index: u32,
}

impl Seat<'_> {
    /// Whether the machine is to pause: bring the vCPU to rest, then park.
    #[must_use]
    pub fn is_pause_wanted(&self) -> bool {
        self.lot.lock().pausing
    }

    /// Sits until the machine goes on, and does what freezing or thawing asks for meanwhile.
    ///
    /// Returns at once if no pause is wanted. After a thaw [`Ready::power`] is what was saved.
    pub fn park<'v, V: VcpuCalls>(&self, mut ready: Ready<'v, V>) -> Ready<'v, V> {
        let mut lot = self.lot.lock();
        if !lot.pausing {
            return ready;
        }
        let (sender, jobs): (_, Receiver<Job>) = channel();
        if let Some(seat) = lot.seats.get_mut(self.index as usize) {
            seat.jobs = Some(sender);
        }
        drop(lot);
        self.lot.changed.notify_all();
        let mut sitting = Sitting {
            power: ready.power,
            has_run: ready.has_run,
        };
        for job in jobs {
            job(ready.vcpu, &mut sitting);
        }
        ready.power = sitting.power;
        ready
    }

    /// Waits until a pause is wanted, then sits as [`Seat::park`]: for a vCPU that was just made
    /// and is to be thawed before it runs.
    pub fn park_when_wanted<'v, V: VcpuCalls>(&self, ready: Ready<'v, V>) -> Ready<'v, V> {
        let mut lot = self.lot.lock();
        while !lot.pausing {
            let waited = self.lot.changed.wait(lot);
            lot = waited.unwrap_or_else(PoisonError::into_inner);
        }
        drop(lot);
        self.park(ready)
    }

    /// Waits for an interrupt on the guest's behalf, at most until its timer is due.
    #[must_use = "a pause that is wanted must be answered"]
    pub fn wait_for_interrupt(&self, timeout: Option<Duration>) -> Woken {
        let started = Instant::now();
        let mut lot = self.lot.lock();
        loop {
            if lot.pausing {
                return Woken::Pause;
            }
            if let Some(seat) = lot.seats.get_mut(self.index as usize)
                && std::mem::take(&mut seat.woken)
            {
                return Woken::Interrupt;
            }
            let changed = &self.lot.changed;
            let Some(timeout) = timeout else {
                let waited = changed.wait(lot);
                lot = waited.unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = timeout.saturating_sub(started.elapsed());
            if left.is_zero() {
                return Woken::Timeout;
            }
            let waited = changed.wait_timeout(lot, left);
            lot = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        if let Some(seat) = self.lot.lock().seats.get_mut(self.index as usize) {
            seat.owner = None;
            seat.jobs = None;
            seat.gone = true;
        }
        self.lot.changed.notify_all();
    }
}

/// A machine all of whose vCPUs sit with nothing pending. Dropping it lets them go on.
#[derive(Debug)]
#[must_use = "dropping it lets the vCPUs go on"]
pub struct Parked<'l> {
    lot: &'l ParkingLot,
}

impl Parked<'_> {
    /// How many vCPUs sit.
    #[must_use]
    pub fn vcpus(&self) -> u32 {
        self.lot.lock().seats.len() as u32
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
        let sent = match self.lot.lock().seats.get(index as usize) {
            Some(SeatState {
                jobs: Some(jobs), ..
            }) => jobs.send(job).is_ok(),
            _ => false,
        };
        if !sent {
            return Err(gone);
        }
        result.recv().map_err(|_| gone)
    }
}

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        let mut lot = self.lot.lock();
        lot.pausing = false;
        for seat in &mut lot.seats {
            seat.jobs = None;
        }
        drop(lot);
        self.lot.changed.notify_all();
    }
}
