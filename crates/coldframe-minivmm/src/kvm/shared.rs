//! What the controller and the vCPUs' threads share: what happened, on what to stop, the ports.
//!
//! Invariants: events are kept in the order in which they happened, and none is lost; a vCPU that
//! reported one does not enter the guest before it is released.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::MiniVmError;
use crate::event::{Event, Stops};
use crate::ports::Ports;

/// What happened and was not yet handed out.
pub(super) type Events = VecDeque<Result<Event, MiniVmError>>;

/// Shared by the controller and all vCPUs' threads.
pub(super) struct Shared {
    events: Mutex<Events>,
    changed: Condvar,
    /// For each vCPU: it waits for the next pause instead of entering the guest.
    resting: Vec<AtomicBool>,
    /// Whether a mark stops the guest.
    at_marks: AtomicBool,
    /// The number of exits at which it stops.
    at_exit: AtomicU64,
    ports: Mutex<Ports>,
}

/// Locks what no panic can leave half-changed.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// For `vcpus` threads.
    pub(super) fn new(vcpus: u8) -> Self {
        Self {
            events: Mutex::new(VecDeque::new()),
            changed: Condvar::new(),
            resting: (0..vcpus).map(|_| AtomicBool::new(false)).collect(),
            at_marks: AtomicBool::new(false),
            at_exit: AtomicU64::new(u64::MAX),
            ports: Mutex::new(Ports::default()),
        }
    }

    /// What happened.
    pub(super) fn events(&self) -> MutexGuard<'_, Events> {
        lock(&self.events)
    }

    /// Waits for something to happen, for so long at most.
    pub(super) fn wait<'a>(
        &self,
        events: MutexGuard<'a, Events>,
        time: Duration,
    ) -> MutexGuard<'a, Events> {
        let waited = self.changed.wait_timeout(events, time);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// The guest's ports.
    pub(super) fn ports(&self) -> MutexGuard<'_, Ports> {
        lock(&self.ports)
    }

    /// On what to stop, `exits` having been made so far. Before the vCPUs go on.
    pub(super) fn set_stops(&self, stops: Stops, exits: u64) {
        let at = stops
            .exits
            .map_or(u64::MAX, |more| exits.saturating_add(more));
        self.at_marks.store(stops.marks, Ordering::Relaxed);
        self.at_exit.store(at, Ordering::Relaxed);
    }

    /// Whether a mark stops the guest.
    pub(super) fn stops_at_marks(&self) -> bool {
        self.at_marks.load(Ordering::Relaxed)
    }

    /// Whether the guest stops at this many exits.
    pub(super) fn stops_at_exit(&self, exits: u64) -> bool {
        exits == self.at_exit.load(Ordering::Relaxed)
    }

    /// Which vCPUs run when the machine goes on. While they are parked.
    pub(super) fn release(&self, who: impl Fn(usize) -> bool) {
        for (index, resting) in self.resting.iter().enumerate() {
            resting.store(!who(index), Ordering::Release);
        }
    }

    /// For the thread of vCPU `index`: whether it is to stay out of the guest.
    pub(super) fn rests(&self, index: u8) -> bool {
        self.resting[usize::from(index)].load(Ordering::Acquire)
    }

    /// For the thread of vCPU `index`: something happened, and it rests.
    pub(super) fn report(&self, index: u8, event: Result<Event, MiniVmError>) {
        self.resting[usize::from(index)].store(true, Ordering::Release);
        self.events().push_back(event);
        self.changed.notify_all();
    }
}
