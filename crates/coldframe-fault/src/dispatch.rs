//! The core of a driver of several threads: each takes a job, or waits for events like the others.
//!
//! The driver waits in a way that wakes one thread for each event, and that loses no event while
//! all threads are busy (an epoll(7) instance that they share, edge-triggered, is one). So a fault
//! wakes one thread, which answers it and hands nothing over, and the next fault another.
//!
//! Invariant: what was put into the core is seen by the thread that looks for work next, as both
//! are under one lock. It is held for moments: no call is made and no byte is read under it.

use std::sync::PoisonError;
use std::time::Instant;

use crate::sync::{Condvar, Mutex, MutexGuard};
use crate::{Core, Task};

/// What a thread does next.
#[derive(Debug)]
pub enum Next {
    /// A job.
    Task {
        /// The job.
        task: Task,
        /// There is more to do: one thread more is to be kicked out of its wait.
        is_more: bool,
    },
    /// It waits for events until there are some or it is kicked, applies them, and asks again.
    Wait,
    /// It ends, after it has kicked another thread, which then ends as well.
    Stop,
}

/// A core that threads share.
#[derive(Debug)]
pub struct Dispatcher {
    inner: Mutex<Inner>,
    served: Condvar,
}

#[derive(Debug)]
struct Inner {
    core: Core,
    is_over: bool,
}

impl Dispatcher {
    /// Over a core.
    #[must_use]
    pub fn new(core: Core) -> Self {
        let is_over = false;
        Self {
            inner: Mutex::new(Inner { core, is_over }),
            served: Condvar::new(),
        }
    }

    /// A thread that panicked under the lock has ended the service.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something to the core. After anything that makes work (a prefetch, filling up) one
    /// thread is to be kicked; events that were read are worked on by who has read them.
    pub fn core<T>(&self, act: impl FnOnce(&mut Core) -> T) -> T {
        act(&mut self.lock().core)
    }

    /// The next thing to do.
    pub fn next(&self) -> Next {
        let mut inner = self.lock();
        if inner.is_over {
            return Next::Stop;
        }
        match inner.core.next_task() {
            Some(task) => Next::Task {
                task,
                is_more: inner.core.has_work(),
            },
            None => Next::Wait,
        }
    }

    /// A job is over: who waits in [`Self::wait_until`] looks again.
    pub fn job_is_over(&self) {
        self.served.notify_all();
    }

    /// Ends the service. One thread is to be kicked.
    pub fn stop(&self) {
        self.lock().is_over = true;
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
