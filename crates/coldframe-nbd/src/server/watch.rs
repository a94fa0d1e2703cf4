//! Watching for connections that one slow request holds up.
//!
//! A worker that is inside a request cannot see that others wait for it: requests that nobody
//! reads, and replies that it held back before. So one thread of the server looks at all
//! connections that are at work, every millisecond, and sends a helper to one where nothing went
//! on since. It sleeps while nobody is at work; a request costs two counters and a look whether it
//! does.
//!
//! Invariant: who was removed is not looked at any more, and no thread is started for it.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use super::connection::{self, Connection};
use super::lock;

/// How often it looks: a request that takes twice as long holds nobody up.
const TICK: Duration = Duration::from_millis(1);

/// Looks without anybody at work after which it sleeps. Waking it costs a request some
/// microseconds.
const IDLE_TICKS: u32 = 50;

/// The connections in the transmission phase.
#[derive(Default)]
pub(super) struct Watch {
    table: Mutex<Table>,
    /// It sleeps, and must be woken by who begins to work.
    is_asleep: AtomicBool,
    is_over: AtomicBool,
    thread: Mutex<Option<Thread>>,
}

#[derive(Default)]
struct Table {
    next_id: u64,
    watched: HashMap<u64, Watched>,
}

struct Watched {
    connection: Arc<Connection>,
    /// Requests taken when it was looked at last.
    taken: u64,
}

impl Watch {
    /// Starts the thread that watches.
    pub(super) fn start(self: &Arc<Self>) -> io::Result<JoinHandle<()>> {
        let watch = Arc::clone(self);
        let thread = thread::Builder::new().name("nbd-watch".into());
        let handle = thread.spawn(move || watch.run())?;
        *lock(&self.thread) = Some(handle.thread().clone());
        Ok(handle)
    }

    /// Ends it; its handle can be joined then.
    pub(super) fn stop(&self) {
        self.is_over.store(true, Ordering::SeqCst);
        self.wake();
    }

    pub(super) fn add(&self, connection: &Arc<Connection>) -> u64 {
        let mut table = lock(&self.table);
        let id = table.next_id;
        table.next_id += 1;
        let connection = Arc::clone(connection);
        let taken = 0;
        table.watched.insert(id, Watched { connection, taken });
        id
    }

    pub(super) fn remove(&self, id: u64) {
        lock(&self.table).watched.remove(&id);
    }

    /// Somebody begins to work; after it was counted.
    pub(super) fn note_work(&self) {
        if self.is_asleep.load(Ordering::SeqCst) && self.is_asleep.swap(false, Ordering::SeqCst) {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(thread) = &*lock(&self.thread) {
            thread.unpark();
        }
    }

    fn run(&self) {
        let mut idle = 0;
        while !self.is_over.load(Ordering::SeqCst) {
            idle = if self.look() { 0 } else { idle + 1 };
            if idle < IDLE_TICKS {
                thread::park_timeout(TICK);
                continue;
            }
            // Who begins to work counts that before it looks whether to wake us; we look after.
            self.is_asleep.store(true, Ordering::SeqCst);
            if !self.look() && !self.is_over.load(Ordering::SeqCst) {
                thread::park();
            }
            self.is_asleep.store(false, Ordering::SeqCst);
            idle = 0;
        }
    }

    /// Looks at all connections; whether one was at work since the last time.
    fn look(&self) -> bool {
        let mut is_any = false;
        for watched in lock(&self.table).watched.values_mut() {
            let connection = &watched.connection;
            let (taken, is_busy) = connection.progress();
            is_any |= is_busy || taken != watched.taken;
            if is_busy && taken == watched.taken && connection.is_held_up() {
                connection::call_help(connection);
            }
            watched.taken = taken;
        }
        is_any
    }
}
