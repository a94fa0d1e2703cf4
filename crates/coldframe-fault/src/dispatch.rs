//! Who does what: threads of a driver take jobs, take turns at waiting for events, and sleep
//! otherwise.
//!
//! Invariants:
//! - While the service goes on and no thread waits for events, none sleeps but those that were
//!   woken: whoever takes a job wakes another if the turn is free or a job is left.
//! - What was put into the core is seen by whoever looks for something to do next: both are under
//!   one lock, which is held for moments. No call is made and no byte is read under it.

use std::sync::PoisonError;
use std::time::Instant;

use crate::sync::{Condvar, Mutex, MutexGuard};
use crate::{Core, Task};

/// What a thread does next.
#[derive(Debug)]
pub enum Next {
    /// A job.
    Task(Task),
    /// It is its turn to wait for events.
    Lead,
    /// It is over.
    Stop,
}

/// The core of a driver of several threads.
#[derive(Debug)]
pub struct Dispatcher {
    inner: Mutex<Inner>,
    work: Condvar,
    served: Condvar,
}

#[derive(Debug)]
struct Inner {
    core: Core,
    is_led: bool,
    is_over: bool,
    asleep: usize,
}

impl Dispatcher {
    /// Over a core; no thread is there yet.
    #[must_use]
    pub fn new(core: Core) -> Self {
        Self {
            inner: Mutex::new(Inner {
                core,
                is_led: false,
                is_over: false,
                asleep: 0,
            }),
            work: Condvar::new(),
            served: Condvar::new(),
        }
    }

    /// A thread that panicked under the lock has ended the service.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something to the core.
    pub fn core<T>(&self, act: impl FnOnce(&mut Core) -> T) -> T {
        act(&mut self.lock().core)
    }

    /// The next thing to do, after a sleep if there is nothing. After [`Next::Lead`] the thread
    /// waits for events until there are some or it is kicked, applies them, and calls
    /// [`Self::led`].
    pub fn next(&self) -> Next {
        let mut inner = self.lock();
        loop {
            if inner.is_over {
                return Next::Stop;
            }
            if let Some(task) = inner.core.next_task() {
                let is_more = !inner.is_led || inner.core.has_work();
                if is_more && inner.asleep > 0 {
                    self.work.notify_one();
                }
                return Next::Task(task);
            }
            if !inner.is_led {
                inner.is_led = true;
                return Next::Lead;
            }
            inner.asleep += 1;
            inner = self
                .work
                .wait(inner)
                .unwrap_or_else(PoisonError::into_inner);
            inner.asleep -= 1;
        }
    }

    /// The turn is over.
    pub fn led(&self) {
        self.lock().is_led = false;
    }

    /// There is work that did not come by an event. Whoever waits for events is to be kicked as
    /// well.
    pub fn new_work(&self) {
        self.work.notify_one();
    }

    /// A job is over: who waits in [`Self::wait_until`] looks again.
    pub fn job_is_over(&self) {
        self.served.notify_all();
    }

    /// Ends the service: all threads get [`Next::Stop`]. Whoever waits for events is to be kicked
    /// as well.
    pub fn stop(&self) {
        self.lock().is_over = true;
        self.work.notify_all();
        self.served.notify_all();
    }

    /// Whether the service was ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.lock().is_over
    }

    /// Waits until `is_so` of the core, at most until `deadline`; false if it is not.
    pub fn wait_until(&self, deadline: Instant, is_so: impl Fn(&Core) -> bool) -> bool {
        let mut inner = self.lock();
        loop {
            if is_so(&inner.core) {
                return true;
            }
            let rest = deadline.saturating_duration_since(Instant::now());
            if rest.is_zero() || inner.is_over {
                return false;
            }
            let waited = self.served.wait_timeout(inner, rest);
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
