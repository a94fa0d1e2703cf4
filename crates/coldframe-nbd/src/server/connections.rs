//! Who is connected. Invariants: a connection is listed until its threads are gone and have let
//! go of the exports; its socket stays open as long as it is listed, so no call here can hit
//! another file under the same number.

use std::collections::HashMap;
use std::net::Shutdown;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::lock;
use super::socket::Socket;

#[derive(Default)]
struct Table {
    next_id: u64,
    sockets: HashMap<u64, Arc<Socket>>,
}

/// All connections of a server.
#[derive(Default)]
pub(super) struct Connections {
    table: Mutex<Table>,
    left: Condvar,
}

impl Connections {
    pub(super) fn len(&self) -> usize {
        lock(&self.table).sockets.len()
    }

    /// Lists a connection; none if there are `max` already.
    pub(super) fn admit(self: &Arc<Self>, socket: &Arc<Socket>, max: usize) -> Option<Admission> {
        let mut table = lock(&self.table);
        if table.sockets.len() >= max {
            return None;
        }
        let id = table.next_id;
        table.next_id += 1;
        table.sockets.insert(id, Arc::clone(socket));
        Some(Admission {
            connections: Arc::clone(self),
            id,
        })
    }

    /// Ends one or both directions of every connection.
    pub(super) fn shutdown(&self, how: Shutdown) {
        for socket in lock(&self.table).sockets.values() {
            socket.shutdown(how);
        }
    }

    /// Waits until nobody is connected; false if the time is over before.
    pub(super) fn wait_until_none(&self, timeout: Duration) -> bool {
        let table = lock(&self.table);
        let is_any = |table: &mut Table| !table.sockets.is_empty();
        let waited = self.left.wait_timeout_while(table, timeout, is_any);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

/// A place in the list, until it is dropped.
pub(super) struct Admission {
    connections: Arc<Connections>,
    id: u64,
}

impl Drop for Admission {
    fn drop(&mut self) {
        lock(&self.connections.table).sockets.remove(&self.id);
        self.connections.left.notify_all();
    }
}
