//! Requests of up to 4 GiB that take long, and exports that never return: both end.

use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use coldframe_nbd::{
    Allocation, Export, ExportError, Extents, Limits, NbdError, NbdServer, ZeroMode,
};

use crate::client::*;
use crate::handshake::serve;
use crate::life::eventually;

const SIZE: u64 = 8 << 30;
/// The longest request of whole blocks.
const LEN: u32 = u32::MAX - 65535;
/// So long each piece takes; a whole request of any kind takes longer than a test waits.
const DELAY: Duration = Duration::from_millis(250);
const ESHUTDOWN: u32 = 108;

/// What was asked for, in order.
#[derive(Default)]
struct State {
    calls: Vec<(u16, u64, u64)>,
    flushes: u32,
    is_open: bool,
}

/// Reads hang, and so do flushes if they are told to, until it is opened.
#[derive(Default)]
struct Long {
    state: Mutex<State>,
    opened: Condvar,
    delay: Duration,
    cache_bytes_max: Option<u64>,
    flush_hangs: bool,
}

impl Long {
    fn slow() -> Arc<Self> {
        Arc::new(Self {
            delay: DELAY,
            ..Self::default()
        })
    }

    fn note(&self, command: u16, offset: u64, len: u64) -> Result<(), ExportError> {
        self.state
            .lock()
            .unwrap()
            .calls
            .push((command, offset, len));
        std::thread::sleep(self.delay);
        Ok(())
    }

    fn hang(&self) {
        let state = self.state.lock().unwrap();
        drop(
            self.opened
                .wait_while(state, |state| !state.is_open)
                .unwrap(),
        );
    }

    fn open(&self) {
        self.state.lock().unwrap().is_open = true;
        self.opened.notify_all();
    }

    fn calls(&self) -> Vec<(u16, u64, u64)> {
        self.state.lock().unwrap().calls.clone()
    }

    fn bytes(&self) -> u64 {
        self.calls().iter().map(|(.., len)| len).sum()
    }

    fn flushes(&self) -> u32 {
        self.state.lock().unwrap().flushes
    }
}

impl Export for Long {
    fn size(&self) -> u64 {
        SIZE
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<(), ExportError> {
        self.note(READ, offset, buf.len() as u64)?;
        self.hang();
        buf.fill(7);
        Ok(())
    }

    fn write_at(&self, _: &[u8], _: u64) -> Result<(), ExportError> {
        Ok(())
    }

    fn flush(&self) -> Result<(), ExportError> {
        self.state.lock().unwrap().flushes += 1;
        if self.flush_hangs {
            self.hang();
        }
        Ok(())
    }

    fn trim(&self, offset: u64, len: u64) -> Result<(), ExportError> {
        self.note(TRIM, offset, len)
    }

    fn write_zeroes(&self, offset: u64, len: u64, _: ZeroMode) -> Result<(), ExportError> {
        self.note(ZEROES, offset, len)
    }

    fn cache(&self, offset: u64, len: u64) -> Result<(), ExportError> {
        self.note(CACHE, offset, len)
    }

    fn cache_bytes_max(&self) -> u64 {
        self.cache_bytes_max.unwrap_or(u64::MAX)
    }

    fn block_status(&self, offset: u64, extents: &mut Extents) -> Result<(), ExportError> {
        self.note(STATUS, offset, extents.left().into())?;
        extents.push(SIZE, Allocation::Hole);
        Ok(())
    }
}

fn limits(grace: u64, timeout: u64) -> Limits {
    Limits {
        stop_grace: Duration::from_millis(grace),
        stop_timeout: Duration::from_millis(timeout),
        ..Limits::default()
    }
}

// Spec: NBD-17, NBD-18, NBD-20
#[test]
fn long_requests_come_in_pieces_that_are_all_of_them() {
    let export = Arc::new(Long::default());
    let site = serve(NbdServer::new(Arc::clone(&export)));
    let mut client = Client::structured(&site.path, "");
    let (offset, len) = ((1 << 20) - 512, LEN - 4096);
    for command in [CACHE, TRIM, ZEROES, STATUS] {
        let piece = match command {
            CACHE => 1 << 20,
            STATUS => 64 << 20,
            _ => 32_u64 << 20,
        };
        let before = export.calls().len();
        client.ask(0, command, offset, len);
        if command == STATUS {
            let chunks = client.chunks();
            assert_eq!(chunks.len(), 1);
            // Context, length, "hole, zero".
            assert_eq!(chunks[0].1[4..], [be(len.into(), 4), be(3, 4)].concat());
        } else {
            assert_eq!(client.reply().error(), 0);
        }
        let mut at = offset;
        for (found, start, len) in &export.calls()[before..] {
            assert_eq!((*found, *start), (command, at));
            assert!(
                *len <= piece && (start + len) % piece == 0
                    || start + len == offset + u64::from(LEN - 4096)
            );
            at += len;
        }
        assert_eq!(at, offset + u64::from(len));
    }
}

// Spec: NBD-17
#[test]
fn no_more_is_cached_than_can_be_kept() {
    let export = Arc::new(Long {
        cache_bytes_max: Some(3 << 20),
        ..Long::default()
    });
    let site = serve(NbdServer::new(Arc::clone(&export)));
    let mut client = Client::simple(&site.path, "");
    assert_eq!(client.error_of(0, CACHE, 1 << 20, LEN), 0);
    assert_eq!(export.bytes(), 3 << 20);
}

// Spec: NBD-28
#[test]
fn long_requests_end_when_their_client_leaves() {
    for command in [CACHE, TRIM, ZEROES] {
        let export = Long::slow();
        let site = serve(NbdServer::new(Arc::clone(&export)));
        let mut client = Client::simple(&site.path, "");
        client.ask(0, command, 0, LEN);
        eventually(|| !export.calls().is_empty());
        drop(client);
        eventually(|| site.handle.connection_count() == 0);
        assert!(export.bytes() < u64::from(LEN) / 2);
        site.handle.stop().unwrap();
    }
}

// Spec: NBD-28
#[test]
fn a_client_that_ended_its_side_alone_gets_its_reply() {
    let export = Arc::new(Long::default());
    let site = serve(NbdServer::new(Arc::clone(&export)));
    for command in [TRIM, ZEROES] {
        let mut client = Client::simple(&site.path, "");
        client.ask(0, command, 0, LEN);
        client.stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(client.reply().error(), 0);
        assert!(client.is_cut_off());
    }
    assert_eq!(export.bytes(), 2 * u64::from(LEN));
}

// Spec: NBD-20
#[test]
fn a_status_that_takes_long_is_answered_in_part() {
    let export = Long::slow();
    let site = serve(NbdServer::new(Arc::clone(&export)));
    let mut client = Client::structured(&site.path, "");
    client.ask(0, STATUS, 0, LEN);
    let chunks = client.chunks();
    let told = u64::from(be32(&chunks[0].1[4..]));
    assert!((64 << 20..u64::from(LEN)).contains(&told), "{told}");
    assert_eq!(told, export.bytes());
}

// Spec: NBD-26
#[test]
fn a_stopping_server_does_not_wait_for_long_requests() {
    for command in [CACHE, STATUS, TRIM, ZEROES] {
        let export = Long::slow();
        // What changes nothing ends at once; the others are given the grace.
        let grace = if [CACHE, STATUS].contains(&command) {
            30_000
        } else {
            500
        };
        let site = serve(NbdServer::new(Arc::clone(&export)).limits(limits(grace, 60_000)));
        let mut client = Client::structured(&site.path, "");
        client.ask(0, command, 0, LEN);
        eventually(|| !export.calls().is_empty());
        let began = Instant::now();
        site.handle.stop().unwrap();
        assert!(began.elapsed() < Duration::from_secs(10));
        assert_eq!(Arc::strong_count(&export), 1);
        assert!(export.bytes() < u64::from(LEN) / 2);
        match command {
            CACHE => assert_eq!(client.reply().error(), ESHUTDOWN),
            STATUS => assert_eq!(u64::from(be32(&client.chunks()[0].1[4..])), export.bytes()),
            // The grace was over: nobody takes a reply.
            _ => assert!(client.is_cut_off()),
        }
    }
}

// Spec: NBD-26
#[test]
fn an_export_that_hangs_does_not_keep_a_server_from_stopping() {
    let export = Arc::new(Long::default());
    let server = NbdServer::named("stuck", Arc::clone(&export)).unwrap();
    let other = Arc::new(Long::default());
    let server = server.export("other", Arc::clone(&other)).unwrap();
    let site = serve(server.limits(limits(100, 300)));
    let mut clients: Vec<_> = (0..2)
        .map(|_| Client::simple(&site.path, "stuck"))
        .collect();
    for client in &mut clients {
        client.ask(0, READ, 0, 512);
    }
    eventually(|| export.calls().len() == 2);
    let error = site.handle.stop().unwrap_err();
    let NbdError::RequestHangs { connections: 2, .. } = error else {
        panic!("{error}");
    };
    assert!(!site.path.exists());
    // What can be durable is.
    assert_eq!((export.flushes(), other.flushes()), (1, 1));
    assert!(clients.iter_mut().all(Client::is_cut_off));
    export.open();
    eventually(|| Arc::strong_count(&export) == 1);
}

// Spec: NBD-26
#[test]
fn a_flush_that_hangs_at_the_end_is_told() {
    let export = Arc::new(Long {
        flush_hangs: true,
        ..Long::default()
    });
    let site = serve(NbdServer::new(Arc::clone(&export)).limits(limits(100, 300)));
    let error = site.handle.stop().unwrap_err();
    assert!(matches!(error, NbdError::FlushHangs { .. }), "{error}");
    export.open();
    eventually(|| Arc::strong_count(&export) == 1);
}
