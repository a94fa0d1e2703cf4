//! Fast, slow, failing and stuck requests in any mixture, over several connections: each gets its
//! own right reply, and none of the others waits for those that are stuck.

use std::collections::HashMap;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use coldframe_nbd::{Errno, Export, ExportError, NbdServer};
use proptest::prelude::*;

use crate::client::*;
use crate::handshake::serve;

const BLOCK: u64 = 4096;
/// Of one connection in each region.
const BLOCKS: u64 = 16;
const CONNECTIONS: u64 = 4;
const REGION: u64 = CONNECTIONS * BLOCKS * BLOCK;
const DEPTH: usize = 16;
/// Fewer than a connection has workers.
const STUCK_MAX: usize = 6;

/// What a request does is decided by where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Fast,
    Slow,
    Failing,
    SlowFailing,
    Stuck,
}

const KINDS: [Kind; 5] = [
    Kind::Fast,
    Kind::Slow,
    Kind::Failing,
    Kind::SlowFailing,
    Kind::Stuck,
];

#[derive(Clone, Copy, Debug)]
struct Op {
    kind: Kind,
    block: u64,
    /// The byte to write; reads if there is none.
    write: Option<u8>,
}

impl Op {
    fn offset(&self, connection: u64) -> u64 {
        let region = KINDS.iter().position(|kind| *kind == self.kind).unwrap() as u64;
        region * REGION + (connection * BLOCKS + self.block) * BLOCK
    }

    fn fails(&self) -> bool {
        matches!(self.kind, Kind::Failing | Kind::SlowFailing)
    }
}

struct Mixed {
    bytes: Mutex<Vec<u8>>,
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Mixed {
    fn new() -> Self {
        Self {
            bytes: Mutex::new(vec![0; KINDS.len() * REGION as usize]),
            is_open: Mutex::new(false),
            opened: Condvar::new(),
        }
    }

    fn pass(&self, offset: u64) -> Result<(), ExportError> {
        let kind = KINDS[(offset / REGION) as usize];
        if matches!(kind, Kind::Slow | Kind::SlowFailing) {
            thread::sleep(Duration::from_millis(1));
        }
        if kind == Kind::Stuck {
            let is_open = self.is_open.lock().unwrap();
            drop(self.opened.wait_while(is_open, |open| !*open).unwrap());
        }
        if matches!(kind, Kind::Failing | Kind::SlowFailing) {
            return Err(ExportError::new(Errno::Io, "told to fail"));
        }
        Ok(())
    }
}

impl Export for Mixed {
    fn size(&self) -> u64 {
        KINDS.len() as u64 * REGION
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<(), ExportError> {
        self.pass(offset)?;
        buf.copy_from_slice(&self.bytes.lock().unwrap()[offset as usize..][..buf.len()]);
        Ok(())
    }

    fn write_at(&self, data: &[u8], offset: u64) -> Result<(), ExportError> {
        self.pass(offset)?;
        self.bytes.lock().unwrap()[offset as usize..][..data.len()].copy_from_slice(data);
        Ok(())
    }

    fn flush(&self) -> Result<(), ExportError> {
        Ok(())
    }
}

/// Opens the gate however a case ends.
struct Open(Arc<Mixed>);

impl Drop for Open {
    fn drop(&mut self) {
        *self.0.is_open.lock().unwrap() = true;
        self.0.opened.notify_all();
    }
}

/// A connection, and what it knows.
struct Driver {
    client: Client,
    connection: u64,
    /// The byte that each block is full of.
    model: HashMap<u64, u8>,
    in_flight: HashMap<u64, Op>,
}

impl Driver {
    fn is_busy(&self, offset: u64) -> bool {
        let mut ops = self.in_flight.values();
        ops.any(|op| op.offset(self.connection) == offset)
    }

    fn stuck(&self) -> usize {
        let ops = self.in_flight.values();
        ops.filter(|op| op.kind == Kind::Stuck).count()
    }

    fn others(&self) -> usize {
        self.in_flight.len() - self.stuck()
    }

    fn send(&mut self, cookie: u64, op: Op) {
        let offset = op.offset(self.connection);
        if op.kind == Kind::Stuck && (self.is_busy(offset) || self.stuck() == STUCK_MAX) {
            return;
        }
        while self.is_busy(offset) || self.others() == DEPTH {
            self.take_reply();
        }
        let len = BLOCK as u32;
        match op.write {
            None => self.client.send(&request(0, READ, cookie, offset, len)),
            Some(byte) => {
                let head = request(0, WRITE, cookie, offset, len);
                self.client
                    .send(&[head, vec![byte; BLOCK as usize]].concat());
            }
        }
        self.in_flight.insert(cookie, op);
    }

    fn take_reply(&mut self) {
        let reply = self.client.reply();
        let op = self.in_flight.remove(&reply.cookie());
        let op = op.expect("each request is replied to once");
        let offset = op.offset(self.connection);
        assert_eq!(reply.error(), if op.fails() { EIO } else { 0 }, "{op:?}");
        match op.write {
            _ if op.fails() => {}
            Some(byte) => {
                self.model.insert(offset, byte);
            }
            None => {
                let byte = self.model.get(&offset).copied().unwrap_or(0);
                assert_eq!(self.client.take(BLOCK as usize), vec![byte; BLOCK as usize]);
            }
        }
    }

    /// Sends all of `ops`, says so when all but the stuck ones are replied to, and waits for those.
    fn drive(mut self, ops: &[Op], done: &Sender<usize>) {
        for (op, cookie) in ops.iter().zip(0..) {
            self.send(cookie, *op);
        }
        while self.others() > 0 {
            self.take_reply();
        }
        // The other end is there until all have said it.
        done.send(self.stuck()).unwrap();
        while !self.in_flight.is_empty() {
            self.take_reply();
        }
    }
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let kind = prop_oneof![
        12 => Just(Kind::Fast),
        4 => Just(Kind::Slow),
        2 => Just(Kind::Failing),
        1 => Just(Kind::SlowFailing),
        1 => Just(Kind::Stuck),
    ];
    let op = (kind, 0..BLOCKS, any::<Option<u8>>());
    let op = op.prop_map(|(kind, block, write)| Op { kind, block, write });
    prop::collection::vec(op, 1..300)
}

fn check(connections: &[Vec<Op>]) {
    let export = Arc::new(Mixed::new());
    let site = serve(NbdServer::new(Arc::clone(&export)));
    let open = Open(Arc::clone(&export));
    let (done, all_done) = channel();
    thread::scope(|scope| {
        // Opened before the scope waits for threads, should this one panic.
        let open = open;
        for (ops, connection) in connections.iter().zip(0..) {
            let driver = Driver {
                client: Client::simple(&site.path, ""),
                connection,
                model: HashMap::new(),
                in_flight: HashMap::new(),
            };
            let done = done.clone();
            scope.spawn(move || driver.drive(ops, &done));
        }
        drop(done);
        for _ in connections {
            let stuck = all_done.recv_timeout(Duration::from_secs(60));
            stuck.expect("only stuck requests are in flight");
        }
        drop(open);
    });
    site.handle.stop().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 24,
        max_shrink_iters: 64,
        ..ProptestConfig::default()
    })]

    // Spec: NBD-15, NBD-22, NBD-24
    #[test]
    fn every_reply_is_right_and_none_waits_for_a_stuck_one(
        connections in prop::collection::vec(ops(), 1..=CONNECTIONS as usize)
    ) {
        check(&connections);
    }
}
