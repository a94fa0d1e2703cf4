//! One request that takes long, and what else the same client asks for.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use coldframe_nbd::{Export, ExportError, Limits, NbdServer};

use crate::client::*;
use crate::handshake::{Site, serve};

const LEN: u32 = 512;
/// So long a request at 0 takes if it is not let go: longer than any test waits.
const STUCK: Duration = Duration::from_secs(20);

/// Reads at offset 0 take until they are let go; so many others take a moment first.
#[derive(Default)]
struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
    stuck: AtomicU32,
    slow: AtomicU32,
}

impl Gate {
    fn open(&self) {
        *self.is_open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    fn is_stuck(&self) -> bool {
        self.stuck.load(Ordering::SeqCst) > 0
    }

    /// Waits until a request is stuck.
    fn wait_until_stuck(&self) {
        while !self.is_stuck() {
            thread::yield_now();
        }
    }
}

impl Export for Gate {
    fn size(&self) -> u64 {
        1 << 20
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<(), ExportError> {
        buf.fill(7);
        if offset == 0 {
            self.stuck.fetch_add(1, Ordering::SeqCst);
            let is_open = self.is_open.lock().unwrap();
            drop(
                self.opened
                    .wait_timeout_while(is_open, STUCK, |open| !*open)
                    .unwrap(),
            );
            self.stuck.fetch_sub(1, Ordering::SeqCst);
        } else if self.slow.load(Ordering::SeqCst) > 0 {
            self.slow.fetch_sub(1, Ordering::SeqCst);
            thread::sleep(Duration::from_micros(300));
        }
        Ok(())
    }

    fn read_shared(&self, _: u32, _: u64) -> Result<Option<Vec<Bytes>>, ExportError> {
        Ok(None)
    }

    fn write_at(&self, _: &[u8], _: u64) -> Result<(), ExportError> {
        Ok(())
    }

    fn flush(&self) -> Result<(), ExportError> {
        Ok(())
    }
}

fn serve_gate(limits: Limits) -> (Arc<Gate>, Site, Client) {
    let gate = Arc::new(Gate::default());
    let site = serve(NbdServer::new(Arc::clone(&gate)).limits(limits));
    let client = Client::simple(&site.path, "");
    (gate, site, client)
}

fn read_of(cookie: u64, offset: u64) -> Vec<u8> {
    request(0, READ, cookie, offset, LEN)
}

/// The request that is replied to next.
#[track_caller]
fn replied(client: &mut Client) -> u64 {
    let reply = client.reply();
    assert_eq!(reply.error(), 0);
    assert_eq!(client.take(LEN as usize), [7; LEN as usize]);
    reply.cookie()
}

// Spec: NBD-24
#[test]
fn a_finished_reply_does_not_wait_for_the_next_request() {
    let alone = Limits {
        workers_per_connection_max: 1,
        ..Limits::default()
    };
    for limits in [Limits::default(), alone] {
        let (gate, _site, mut client) = serve_gate(limits);
        client.send(&[read_of(1, 4096), read_of(2, 0)].concat());
        assert_eq!(replied(&mut client), 1);
        gate.wait_until_stuck();
        gate.open();
        assert_eq!(replied(&mut client), 2);
    }
}

// Spec: NBD-24
#[test]
fn requests_are_served_beside_one_that_is_stuck() {
    let (gate, _site, mut client) = serve_gate(Limits::default());
    client.send(&read_of(1, 0));
    gate.wait_until_stuck();
    for cookie in 2..40 {
        client.send(&read_of(cookie, 4096));
    }
    let mut replies: Vec<_> = (2..40).map(|_| replied(&mut client)).collect();
    replies.sort_unstable();
    assert!(replies.into_iter().eq(2..40));
    assert!(gate.is_stuck());
    gate.open();
    assert_eq!(replied(&mut client), 1);
}

// Spec: NBD-24
#[test]
fn helpers_stay_while_a_worker_is_stuck() {
    let (gate, _site, mut client) = serve_gate(Limits::default());
    // Slow at first, so that helpers are called.
    gate.slow.store(400, Ordering::SeqCst);
    for cookie in 0..32 {
        client.send(&read_of(cookie, 4096));
    }
    for _ in 0..500 {
        let cookie = replied(&mut client);
        client.send(&read_of(cookie, 4096));
    }
    client.send(&read_of(100, 0));
    // Far more fast ones than those after which helpers leave.
    for _ in 0..10_000 {
        let cookie = replied(&mut client);
        client.send(&read_of(cookie, 4096));
    }
    assert!(gate.is_stuck());
    gate.open();
    let mut replies: Vec<_> = (0..33).map(|_| replied(&mut client)).collect();
    replies.sort_unstable();
    assert_eq!(replies.last(), Some(&100));
}

// Spec: NBD-24
#[test]
fn every_worker_but_one_may_be_stuck() {
    let limits = Limits {
        workers_per_connection_max: 4,
        ..Limits::default()
    };
    let (gate, _site, mut client) = serve_gate(limits);
    for cookie in 1..4 {
        client.send(&read_of(cookie, 0));
        while u64::from(gate.stuck.load(Ordering::SeqCst)) < cookie {
            thread::yield_now();
        }
    }
    for cookie in 10..5000 {
        client.send(&read_of(cookie, 4096));
        assert_eq!(replied(&mut client), cookie);
    }
    assert!(gate.is_stuck());
    gate.open();
    let mut replies: Vec<_> = (0..3).map(|_| replied(&mut client)).collect();
    replies.sort_unstable();
    assert_eq!(replies, [1, 2, 3]);
}

// Spec: NBD-26, NBD-28
#[test]
fn a_client_that_leaves_while_a_request_is_stuck_is_noticed_when_it_ends() {
    let (gate, site, mut client) = serve_gate(Limits::default());
    client.send(&[read_of(1, 0), read_of(2, 4096)].concat());
    gate.wait_until_stuck();
    assert_eq!(replied(&mut client), 2);
    drop(client);
    gate.open();
    while site.handle.connection_count() > 0 {
        thread::yield_now();
    }
    site.handle.stop().unwrap();
}
