//! Who is behind a connection. Invariant: all connections of one peer together hold at most three
//! quarters of the bytes in flight, so that one that begins large requests on many connections, and
//! is slow to send them, leaves room for others.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, Weak};

use super::budget::Budget;
use super::lock;

/// Who opened a connection, as far as the host says.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Peer {
    /// The process behind a Unix socket.
    Process(i32),
    /// The address behind a TCP socket.
    Address(IpAddr),
    /// The host does not say.
    Unknown,
}

/// The bytes that each peer may hold.
pub(super) struct Peers {
    max: u64,
    budgets: Mutex<HashMap<Peer, Weak<Budget>>>,
}

impl Peers {
    /// Of `all` bytes.
    pub(super) fn new(all: u64) -> Self {
        Self {
            max: all / 4 * 3,
            budgets: Mutex::default(),
        }
    }

    /// What the connections of `peer` share.
    pub(super) fn budget(&self, peer: Peer) -> Arc<Budget> {
        let mut budgets = lock(&self.budgets);
        if let Some(budget) = budgets.get(&peer).and_then(Weak::upgrade) {
            return budget;
        }
        budgets.retain(|_, budget| budget.strong_count() > 0);
        let budget = Arc::new(Budget::new(self.max));
        budgets.insert(peer, Arc::downgrade(&budget));
        budget
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn one_peer_with_many_connections_leaves_a_quarter_to_others() {
        let (all, peers) = (Arc::new(Budget::new(400)), Peers::new(400));
        let take = |process| {
            let own = peers.budget(Peer::Process(process)).acquire(100);
            (own, all.acquire(100))
        };
        let held = [take(1), take(1), take(1)];
        let (sender, taken) = mpsc::channel();
        std::thread::scope(|scope| {
            let fourth = &take;
            scope.spawn(move || {
                let permits = fourth(1);
                sender.send(()).map(|()| drop(permits))
            });
            drop(take(2));
            drop(take(2));
            assert!(taken.recv_timeout(Duration::from_millis(50)).is_err());
            drop(held);
            taken
                .recv_timeout(Duration::from_secs(30))
                .expect("there is room");
        });
    }

    #[test]
    fn a_peer_that_is_gone_is_forgotten() {
        let peers = Peers::new(400);
        for process in 0..100 {
            drop(peers.budget(Peer::Process(process)));
        }
        assert!(lock(&peers.budgets).len() <= 1);
    }
}
