//! What the controller and the vCPUs' threads share: who may run, who is parked, what happened.
//!
//! Invariants: a thread is in the guest only while it is not parked; once `go` is false for a vCPU
//! its thread parks after completing the exit it is at; events are kept in the order in which they
//! happened, and none is lost.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::MiniVmError;
use crate::event::{Event, Stops};
use crate::ports::Ports;

/// Shared by the controller and all vCPUs' threads.
pub(super) struct Control {
    state: Mutex<State>,
    changed: Condvar,
    /// For each vCPU: leave the guest at the next exit. Read without the lock.
    stop: Vec<AtomicBool>,
    /// Whether a mark stops the guest.
    at_marks: AtomicBool,
    /// The number of exits at which it stops.
    at_exit: AtomicU64,
    ports: Mutex<Ports>,
}

/// What the lock guards.
pub(super) struct State {
    /// For each vCPU: whether it may run.
    pub(super) go: Vec<bool>,
    /// For each vCPU: whether its thread is out of the guest and has released its descriptor.
    pub(super) parked: Vec<bool>,
    /// What happened and was not yet handed out.
    pub(super) events: VecDeque<Result<Event, MiniVmError>>,
    /// The threads are to return.
    pub(super) quit: bool,
}

/// Locks what no panic can leave half-changed.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Control {
    /// For `vcpus` threads that are about to park.
    pub(super) fn new(vcpus: usize) -> Self {
        Self {
            state: Mutex::new(State {
                go: vec![false; vcpus],
                parked: vec![false; vcpus],
                events: VecDeque::new(),
                quit: false,
            }),
            changed: Condvar::new(),
            stop: (0..vcpus).map(|_| AtomicBool::new(true)).collect(),
            at_marks: AtomicBool::new(false),
            at_exit: AtomicU64::new(u64::MAX),
            ports: Mutex::new(Ports::default()),
        }
    }

    /// The state.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The guest's ports.
    pub(super) fn ports(&self) -> MutexGuard<'_, Ports> {
        lock(&self.ports)
    }

    /// On what to stop, `exits` having been made so far. Before the vCPUs are released.
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

    /// Waits for a change of the state, for so long at most.
    pub(super) fn wait<'a>(
        &self,
        state: MutexGuard<'a, State>,
        time: Duration,
    ) -> MutexGuard<'a, State> {
        let waited = self.changed.wait_timeout(state, time);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Lets the vCPUs for which `who` holds run.
    pub(super) fn release(&self, state: &mut State, who: impl Fn(usize) -> bool) {
        for (index, go) in state.go.iter_mut().enumerate() {
            if who(index) {
                *go = true;
                self.stop[index].store(false, Ordering::Release);
            }
        }
        self.changed.notify_all();
    }

    /// Asks all vCPUs to park; those in the guest must be kicked besides.
    pub(super) fn ask_to_park(&self, state: &mut State) {
        state.go.fill(false);
        for stop in &self.stop {
            stop.store(true, Ordering::Release);
        }
    }

    /// Asks all threads to return.
    pub(super) fn ask_to_quit(&self) {
        let mut state = self.state();
        self.ask_to_park(&mut state);
        state.quit = true;
        self.changed.notify_all();
    }

    /// For the thread of vCPU `index`: parks until it may run; false when it is to return.
    pub(super) fn park(&self, index: usize) -> bool {
        let mut state = self.state();
        state.parked[index] = true;
        self.changed.notify_all();
        while !state.go[index] && !state.quit {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        // Only here: a thread that was let go and stopped again before it woke is still parked.
        state.parked[index] = state.quit;
        !state.quit
    }

    /// For the thread of vCPU `index`: whether it is to park.
    pub(super) fn must_park(&self, index: usize) -> bool {
        self.stop[index].load(Ordering::Acquire)
    }

    /// For a vCPU's thread: something happened, and all are to park.
    pub(super) fn report(&self, event: Result<Event, MiniVmError>) {
        let mut state = self.state();
        state.events.push_back(event);
        self.ask_to_park(&mut state);
        self.changed.notify_all();
    }
}
