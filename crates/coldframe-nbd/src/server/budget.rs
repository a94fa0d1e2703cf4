//! Bounded bytes in flight. Invariants: never more than the maximum in use, but for one request
//! that alone is larger; who holds bytes never waits for more of the same budget.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::lock;

/// Bytes that requests may hold at a time.
pub(super) struct Budget {
    max: u64,
    used: Mutex<u64>,
    freed: Condvar,
}

impl Budget {
    pub(super) fn new(max: u64) -> Self {
        Self {
            max,
            used: Mutex::new(0),
            freed: Condvar::new(),
        }
    }

    /// Waits until `len` bytes may be held.
    pub(super) fn acquire(self: &Arc<Self>, len: u64) -> Permit {
        let guard = lock(&self.used);
        let is_over = |used: &mut u64| *used > 0 && used.saturating_add(len) > self.max;
        let mut used = self
            .freed
            .wait_while(guard, is_over)
            .unwrap_or_else(PoisonError::into_inner);
        *used += len;
        Permit {
            budget: Arc::clone(self),
            len,
        }
    }
}

/// Bytes held until it is dropped.
pub(super) struct Permit {
    budget: Arc<Budget>,
    len: u64,
}

impl Drop for Permit {
    fn drop(&mut self) {
        *lock(&self.budget.used) -= self.len;
        self.budget.freed.notify_all();
    }
}
