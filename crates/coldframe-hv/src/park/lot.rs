//! Seats, the pause, and what is handed over.
//!
//! Invariants: a [`Parked`] exists only while the thread of every vCPU is in its seat and has
//! handed over what it holds; there is one pause at a time; whatever a thread waits for is under
//! the one lock, so no wake-up is lost; a thread that ends leaves its seat, and a pause names it.

use std::sync::PoisonError;
use std::time::{Duration, Instant};
use std::vec::Vec;

use super::sync::{Arc, Condvar, Mutex, MutexGuard};

/// How long a vCPU is given to come out of the guest before it is kicked again.
const KICK_EVERY: Duration = Duration::from_millis(10);

/// A seat for each vCPU of a machine. Its clones are the same lot.
///
/// `K` is what a vCPU is kicked by, `T` what its thread hands over while it is parked.
#[derive(Debug)]
pub struct ParkingLot<K, T> {
    shared: Arc<Shared<K, T>>,
}

#[derive(Debug)]
struct Shared<K, T> {
    state: Mutex<State<K, T>>,
    changed: Condvar,
    on_resume: OnResume,
}

/// What becomes of what was handed over when the machine goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnResume {
    /// Its thread has it back: it is what the thread runs.
    GiveBack,
    /// It is dropped: it is a way to ask the thread for work, and its end tells the thread to go
    /// on.
    Drop,
}

#[derive(Debug)]
struct State<K, T> {
    pausing: bool,
    closed: bool,
    seats: Vec<SeatState<K, T>>,
}

#[derive(Debug)]
struct SeatState<K, T> {
    /// What the vCPU is kicked by whose thread has the seat.
    owner: Option<K>,
    /// The seat was left for good.
    gone: bool,
    /// The thread rests.
    sitting: bool,
    /// An interrupt came for a thread that waits, or will.
    woken: bool,
    /// What was handed over; a [`Parked`] has it while there is one.
    held: Option<T>,
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
    /// The lot was closed: the thread is to end.
    Closed,
}

/// There is no such seat to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("vCPU {vcpu} has no seat, or its seat is taken")]
pub struct SeatError {
    /// Number of the vCPU.
    pub vcpu: u32,
}

/// Why a machine was not paused. The vCPUs that were parked have gone on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PauseError<E> {
    /// It is paused already, or somebody is about to pause it.
    #[error("the machine is paused already")]
    AlreadyPaused,
    /// The lot was closed: the machine is being taken down.
    #[error("the machine is being taken down")]
    Closed,
    /// The thread of a vCPU has ended.
    #[error("the thread of vCPU {vcpu} has ended")]
    VcpuGone {
        /// Which vCPU.
        vcpu: u32,
    },
    /// Some vCPUs did not park in time.
    #[error("vCPU {} did not park within {patience:?}", Numbers(vcpus))]
    NotParked {
        /// Which vCPUs.
        vcpus: Vec<u32>,
        /// How long they were waited for.
        patience: Duration,
    },
    /// A vCPU cannot be made to leave the guest.
    #[error("a vCPU cannot be made to leave the guest")]
    Kick(E),
}

struct Numbers<'a>(&'a [u32]);

impl core::fmt::Display for Numbers<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for (position, number) in self.0.iter().enumerate() {
            let comma = if position > 0 { ", " } else { "" };
            write!(f, "{comma}{number}")?;
        }
        Ok(())
    }
}

impl<K, T> Clone for ParkingLot<K, T> {
    fn clone(&self) -> Self {
        let shared = Arc::clone(&self.shared);
        Self { shared }
    }
}

impl<K, T> ParkingLot<K, T> {
    /// For a machine of so many vCPUs, numbered from 0, whose threads have back what they hand
    /// over.
    #[must_use]
    pub fn new(vcpus: u32) -> Self {
        Self::with(vcpus, OnResume::GiveBack)
    }

    /// For a machine of so many vCPUs, numbered from 0.
    #[must_use]
    pub fn with(vcpus: u32, on_resume: OnResume) -> Self {
        let seat = |_| SeatState {
            owner: None,
            gone: false,
            sitting: false,
            woken: false,
            held: None,
        };
        let state = State {
            pausing: false,
            closed: false,
            seats: (0..vcpus).map(seat).collect(),
        };
        let shared = Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
            on_resume,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// How many seats there are.
    #[must_use]
    pub fn vcpus(&self) -> u32 {
        u32::try_from(self.shared.lock().seats.len()).unwrap_or(u32::MAX)
    }

    /// The seat of a vCPU, for its thread to keep, once. Dropping it says that the thread has
    /// ended, so a thread that panics is named by the next pause.
    ///
    /// # Errors
    /// [`SeatError`].
    pub fn seat(&self, vcpu: u32, owner: K) -> Result<Seat<K, T>, SeatError> {
        let mut state = self.shared.lock();
        match state.seats.get_mut(vcpu as usize) {
            Some(seat) if seat.owner.is_none() && !seat.gone => seat.owner = Some(owner),
            _ => return Err(SeatError { vcpu }),
        }
        drop(state);
        let lot = self.clone();
        Ok(Seat { lot, vcpu })
    }

    /// Tells a vCPU that an interrupt came; if it does not wait now, its next wait ends at once.
    pub fn wake(&self, vcpu: u32) {
        if let Some(seat) = self.shared.lock().seats.get_mut(vcpu as usize) {
            seat.woken = true;
        }
        self.shared.changed.notify_all();
    }

    /// Has all vCPUs park, and waits until they have.
    ///
    /// `kick` is given what the vCPUs are kicked by that have not parked; it is called again and
    /// again, since a thread may take its seat after the first time. There is one pause at a time:
    /// dropping the first of two would let vCPUs run under the capture of the second.
    ///
    /// # Errors
    /// [`PauseError`], and those vCPUs go on that had parked.
    pub fn pause<E>(
        &self,
        patience: Duration,
        mut kick: impl FnMut(&[K]) -> Result<(), E>,
    ) -> Result<Parked<K, T>, PauseError<E>>
    where
        K: Clone,
    {
        let begun = Instant::now();
        let mut state = self.shared.lock();
        if state.closed {
            return Err(PauseError::Closed);
        }
        if state.pausing {
            return Err(PauseError::AlreadyPaused);
        }
        state.pausing = true;
        // From here on whatever happens, dropping it lets those go on that parked.
        let mut parked = Parked {
            lot: self.clone(),
            held: Vec::new(),
        };
        self.shared.changed.notify_all();
        loop {
            let away = match state.away() {
                Ok(away) => away,
                Err(error) => {
                    drop(state);
                    return Err(error);
                }
            };
            if away.is_empty() {
                let seats = state.seats.iter_mut();
                parked.held = seats.filter_map(|seat| seat.held.take()).collect();
                drop(state);
                return Ok(parked);
            }
            let left = patience.saturating_sub(begun.elapsed());
            if left.is_zero() {
                drop(state);
                let vcpus = away;
                return Err(PauseError::NotParked { vcpus, patience });
            }
            let seats = away
                .iter()
                .filter_map(|vcpu| state.seats.get(*vcpu as usize));
            let owners: Vec<K> = seats.filter_map(|seat| seat.owner.clone()).collect();
            drop(state);
            kick(&owners).map_err(PauseError::Kick)?;
            state = self.shared.lock();
            if !state.closed && state.is_waited_for() {
                let waited = self
                    .shared
                    .changed
                    .wait_timeout(state, left.min(KICK_EVERY));
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }

    /// Has all threads end: what they wait for ends, [`Seat::is_closed`] holds from now on, and
    /// `kick` gets those out of the guest that are in it. A machine that is paused goes on to its
    /// end when the [`Parked`] is dropped.
    ///
    /// # Errors
    /// Those of `kick`.
    pub fn close<E>(&self, kick: impl FnOnce(&[K]) -> Result<(), E>) -> Result<(), E>
    where
        K: Clone,
    {
        let mut state = self.shared.lock();
        state.closed = true;
        let seats = state.seats.iter().filter(|seat| !seat.sitting);
        let owners: Vec<K> = seats.filter_map(|seat| seat.owner.clone()).collect();
        drop(state);
        self.shared.changed.notify_all();
        kick(&owners)
    }
}

impl<K, T> Shared<K, T> {
    /// Nothing that holds the lock can panic half-way, so a poisoned one is whole.
    fn lock(&self) -> MutexGuard<'_, State<K, T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K, T> State<K, T> {
    /// The vCPUs that have not parked.
    fn away<E>(&self) -> Result<Vec<u32>, PauseError<E>> {
        if self.closed {
            return Err(PauseError::Closed);
        }
        if let Some((vcpu, _)) = (0..).zip(&self.seats).find(|(_, seat)| seat.gone) {
            return Err(PauseError::VcpuGone { vcpu });
        }
        let away = (0..).zip(&self.seats).filter(|(_, seat)| !seat.sitting);
        Ok(away.map(|(vcpu, _)| vcpu).collect())
    }

    /// Whether somebody has still to park who can.
    fn is_waited_for(&self) -> bool {
        let mut seats = self.seats.iter();
        seats.all(|seat| !seat.gone) && self.seats.iter().any(|seat| !seat.sitting)
    }
}

/// The seat of one vCPU, kept by its thread.
#[derive(Debug)]
pub struct Seat<K, T> {
    lot: ParkingLot<K, T>,
    vcpu: u32,
}

impl<K, T> Seat<K, T> {
    /// Number of the vCPU.
    #[must_use]
    pub const fn vcpu(&self) -> u32 {
        self.vcpu
    }

    /// Whether the machine is to pause: bring the vCPU to rest, then sit.
    #[must_use]
    pub fn is_pause_wanted(&self) -> bool {
        self.lot.shared.lock().pausing
    }

    /// Whether the lot was closed: the thread is to end.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.lot.shared.lock().closed
    }

    /// Sits until the machine goes on, and has `held` back then. Returns at once if no pause is
    /// wanted.
    ///
    /// # Panics
    /// In a lot that drops what was handed over.
    pub fn sit(&self, held: T) -> T {
        match self.hand_over(held) {
            Err(held) => held,
            // A pause takes it, and its end gives it back: nothing else touches it meanwhile.
            Ok(()) => self.take_back().expect("what was handed over is back"),
        }
    }

    /// Sits down and hands over `held`, if a pause is wanted; otherwise `held` comes back. The
    /// thread is parked from here to [`Seat::take_back`].
    ///
    /// # Errors
    /// `held`, if no pause is wanted.
    pub fn hand_over(&self, held: T) -> Result<(), T> {
        let mut state = self.lot.shared.lock();
        let pausing = state.pausing;
        match state.seats.get_mut(self.vcpu as usize) {
            Some(seat) if pausing => {
                seat.held = Some(held);
                seat.sitting = true;
            }
            _ => return Err(held),
        }
        drop(state);
        self.lot.shared.changed.notify_all();
        Ok(())
    }

    /// Waits until the machine goes on, and has back what was handed over; `None` if nothing was.
    #[must_use]
    pub fn take_back(&self) -> Option<T> {
        let mut state = self.lot.shared.lock();
        loop {
            match state.seats.get_mut(self.vcpu as usize) {
                Some(seat) if !seat.sitting => return seat.held.take(),
                None => return None,
                Some(_) => state = self.wait(state),
            }
        }
    }

    /// Waits until a pause is wanted or the lot is closed: for a vCPU that must not run before.
    pub fn wait_for_pause(&self) {
        let mut state = self.lot.shared.lock();
        while !state.pausing && !state.closed {
            state = self.wait(state);
        }
    }

    /// Waits for an interrupt on the guest's behalf, at most for so long.
    #[must_use = "a pause that is wanted must be answered"]
    pub fn wait_for_interrupt(&self, timeout: Option<Duration>) -> Woken {
        let begun = Instant::now();
        let mut state = self.lot.shared.lock();
        loop {
            if state.pausing {
                return Woken::Pause;
            }
            if state.closed {
                return Woken::Closed;
            }
            if let Some(seat) = state.seats.get_mut(self.vcpu as usize)
                && std::mem::take(&mut seat.woken)
            {
                return Woken::Interrupt;
            }
            let Some(timeout) = timeout else {
                state = self.wait(state);
                continue;
            };
            let left = timeout.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Woken::Timeout;
            }
            let waited = self.lot.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn wait<'s>(&'s self, state: MutexGuard<'s, State<K, T>>) -> MutexGuard<'s, State<K, T>> {
        let waited = self.lot.shared.changed.wait(state);
        waited.unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K, T> Drop for Seat<K, T> {
    fn drop(&mut self) {
        if let Some(seat) = self.lot.shared.lock().seats.get_mut(self.vcpu as usize) {
            seat.owner = None;
            seat.held = None;
            seat.sitting = false;
            seat.gone = true;
        }
        self.lot.shared.changed.notify_all();
    }
}

/// A machine all of whose vCPUs are parked. Dropping it lets them go on.
#[derive(Debug)]
#[must_use = "dropping it lets the vCPUs go on"]
pub struct Parked<K, T> {
    lot: ParkingLot<K, T>,
    held: Vec<T>,
}

impl<K, T> Parked<K, T> {
    /// What each vCPU's thread handed over, in their order.
    #[must_use]
    pub fn held(&self) -> &[T] {
        &self.held
    }

    /// The same, to be changed: it is given back as it is then.
    #[must_use]
    pub fn held_mut(&mut self) -> &mut [T] {
        &mut self.held
    }

    /// The lot that the vCPUs are parked in.
    #[must_use]
    pub const fn lot(&self) -> &ParkingLot<K, T> {
        &self.lot
    }

    /// Lets the vCPUs go on.
    pub fn resume(self) {
        drop(self);
    }
}

impl<K, T> Drop for Parked<K, T> {
    fn drop(&mut self) {
        let mut state = self.lot.shared.lock();
        state.pausing = false;
        let mut held = self.held.drain(..);
        for seat in &mut state.seats {
            // After a pause that failed there is nothing to give back: it was never taken.
            if let Some(held) = held.next() {
                seat.held = Some(held);
            }
            if self.lot.shared.on_resume == OnResume::Drop {
                seat.held = None;
            }
            seat.sitting = false;
        }
        drop(state);
        self.lot.shared.changed.notify_all();
    }
}
