//! One client, from greeting to goodbye.
//!
//! Invariants: requests are taken in order, one worker at a time (the input's lock), and replied
//! to in any order, one worker at a time (the output's lock, taken after the input's where both
//! are). There is one worker until the export turns out to be slow while requests wait, and again
//! once it was fast for long and none is stuck; one alone holds replies back while the next small
//! request is here already, so that a fast export costs one system call for many requests. Nobody
//! waits for a worker that is inside a request: see [`super::watch`]. While there are helpers,
//! nothing is held back.

use std::io;
use std::net::Shutdown;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, TryLockError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use super::budget::{Budget, Permit};
use super::buffer::{Buffer, KEEP_BYTES};
use super::channel::Channel;
use super::input::Input;
use super::outgoing::Outgoing;
use super::pace::Pace;
use super::socket::Socket;
use super::{Shared, handshake, lock};
use crate::proto::{Command, Errno, Request, Session};
use crate::{Export, ExportError};

/// Replies held back at most, in bytes.
const HELD_BYTES_MAX: usize = 64 << 10;

/// A client in the transmission phase.
pub(super) struct Connection {
    pub(super) session: Session,
    pub(super) export: Arc<dyn Export>,
    channel: Channel,
    shared: Arc<Shared>,
    budget: Arc<Budget>,
    /// What all connections of this client share.
    peer_budget: Arc<Budget>,
    input: Mutex<Input>,
    held: Mutex<Vec<u8>>,
    helpers: Mutex<Vec<JoinHandle<()>>>,
    /// Workers that wait for a request.
    idle_count: AtomicUsize,
    /// Workers beside the first.
    helper_count: AtomicUsize,
    /// Requests that were taken, and those of them that are performed.
    taken: AtomicU64,
    performed: AtomicU64,
    pace: Pace,
}

/// A request that was taken from the input.
pub(super) struct Work {
    pub(super) cookie: u64,
    pub(super) command: Result<Command, Errno>,
    /// Whether another request waits behind it.
    has_backlog: bool,
    _permits: Option<[Permit; 3]>,
}

impl Connection {
    /// Reports a failed request to the server's operator.
    pub(super) fn complain(&self, error: &ExportError) {
        let what = self.export.description();
        self.shared.complaints.hear(&what, error);
    }
}

/// What a worker uses for one request after the other.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) payload: Buffer,
    pub(super) reply: Outgoing,
}

/// Serves a client until it leaves, breaks the protocol, is too slow, or the server stops.
pub(super) fn serve(socket: Arc<Socket>, shared: Arc<Shared>) {
    let mut channel = Channel::new(socket);
    match start(&mut channel, &shared) {
        Ok(Some(session)) => transmit(channel, session, shared),
        Ok(None) => channel.close(),
        Err(error) => {
            tracing::debug!(%error, "a handshake failed");
            channel.close();
        }
    }
}

fn start(channel: &mut Channel, shared: &Shared) -> io::Result<Option<Session>> {
    let limits = &shared.limits;
    channel
        .socket()
        .set_write_timeout(limits.handshake_timeout)?;
    let deadline = Instant::now() + limits.handshake_timeout;
    let session = handshake::negotiate(channel, shared, deadline)?;
    channel.socket().set_read_timeout(limits.message_timeout)?;
    channel.socket().set_write_timeout(limits.message_timeout)?;
    Ok(session)
}

fn transmit(channel: Channel, session: Session, shared: Arc<Shared>) {
    let export = shared.exports.get(session.export.index);
    let peer = channel.socket().peer();
    let connection = Arc::new(Connection {
        peer_budget: shared.peers.budget(peer),
        export: Arc::clone(export.expect("the catalog gave this index")),
        session,
        channel,
        budget: Arc::new(Budget::new(shared.limits.in_flight_bytes_max / 4)),
        shared,
        input: Mutex::new(Input::new()),
        held: Mutex::new(Vec::new()),
        helpers: Mutex::new(Vec::new()),
        idle_count: AtomicUsize::new(0),
        helper_count: AtomicUsize::new(0),
        taken: AtomicU64::new(0),
        performed: AtomicU64::new(0),
        pace: Pace::default(),
    });
    let watched = connection.shared.watch.add(&connection);
    work(&connection, false);
    connection.shared.watch.remove(watched);
    // A helper may have called another one before it ended.
    loop {
        let Some(helper) = lock(&connection.helpers).pop() else {
            break;
        };
        join(helper);
    }
    connection.finish(connection.send_held());
    connection.channel.close();
}

fn join(helper: JoinHandle<()>) {
    if helper.join().is_err() {
        tracing::error!("a worker panicked");
    }
}

/// Serves requests until there are no more, or a helper is not needed any more.
fn work(connection: &Arc<Connection>, is_helper: bool) {
    let mut scratch = Scratch::default();
    if is_helper {
        // What the worker that is stuck held back.
        connection.finish(connection.send_held());
    }
    while let Some(work) = connection.take(&mut scratch) {
        connection.taken.fetch_add(1, Ordering::SeqCst);
        connection.shared.watch.note_work();
        let started = Instant::now();
        connection.perform(&work, &mut scratch);
        connection.performed.fetch_add(1, Ordering::SeqCst);
        let may_wait = work.command.as_ref().is_ok_and(may_wait);
        let is_slow = connection.pace.note(started.elapsed(), may_wait);
        connection.finish(connection.send(&scratch.reply));
        if is_slow && connection.needs_help(&work) {
            call_help(connection);
        }
        scratch.payload.shrink();
        scratch.reply.shrink();
        // Were another worker stuck, nobody would be left to read.
        if is_helper && connection.pace.is_calm() && !connection.progress().1 {
            return;
        }
    }
}

/// Whether a request is one that waits for the disk by its nature.
const fn may_wait(command: &Command) -> bool {
    !matches!(
        command,
        Command::Read { .. } | Command::Write { is_fua: false, .. }
    )
}

/// Starts another worker, within the limits.
pub(super) fn call_help(connection: &Arc<Connection>) {
    let mut helpers = lock(&connection.helpers);
    let all = std::mem::take(&mut *helpers);
    let (gone, there): (Vec<_>, Vec<_>) = all.into_iter().partition(JoinHandle::is_finished);
    *helpers = there;
    gone.into_iter().for_each(join);
    let thread = thread::Builder::new().name("nbd-worker".into());
    let spawned = match Helping::begin(connection) {
        Some(helping) => thread.spawn(move || work(&helping.0, true)),
        None if connection.has_held() => {
            // No more workers, but finished replies go out.
            let connection = Arc::clone(connection);
            thread.spawn(move || connection.finish(connection.send_held()))
        }
        None => return,
    };
    match spawned {
        Ok(helper) => helpers.push(helper),
        Err(error) => tracing::debug!(%error, "no thread for a worker"),
    }
}

/// A helper's place, within the limits, until it is dropped.
struct Helping(Arc<Connection>);

impl Helping {
    fn begin(connection: &Arc<Connection>) -> Option<Self> {
        let limits = &connection.shared.limits;
        // Those who begin hold the lock of the helpers.
        let count = connection.helper_count.fetch_add(1, Ordering::Relaxed) + 1;
        let extra = &connection.shared.extra_workers;
        let all = extra.fetch_add(1, Ordering::Relaxed) + 1;
        let helping = Self(Arc::clone(connection));
        let fits = count < limits.workers_per_connection_max && all <= limits.extra_workers_max;
        fits.then_some(helping)
    }
}

impl Drop for Helping {
    fn drop(&mut self) {
        self.0.helper_count.fetch_sub(1, Ordering::Relaxed);
        self.0.shared.extra_workers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connection {
    pub(super) fn socket(&self) -> &Socket {
        self.channel.socket()
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.shared.is_stopping.load(Ordering::SeqCst)
    }

    /// Requests that were taken so far, and whether one of them is being performed.
    pub(super) fn progress(&self) -> (u64, bool) {
        let performed = self.performed.load(Ordering::SeqCst);
        let taken = self.taken.load(Ordering::SeqCst);
        (taken, taken != performed)
    }

    /// Whether there is something to do, for a client that waits, and nobody to do it.
    pub(super) fn is_held_up(&self) -> bool {
        if self.has_held() {
            return true;
        }
        match self.input.try_lock() {
            Ok(input) => {
                let is_here = input.buffered() >= Request::LEN || !self.channel.is_quiet();
                is_here && !input.is_over
            }
            Err(TryLockError::Poisoned(_)) => false,
            // Somebody reads.
            Err(TryLockError::WouldBlock) => false,
        }
    }

    /// Whether replies are held back, and nobody is sending them.
    fn has_held(&self) -> bool {
        self.held.try_lock().is_ok_and(|held| !held.is_empty())
    }

    /// Whether another request waited behind this one, or came meanwhile, with nobody to take it.
    fn needs_help(&self, work: &Work) -> bool {
        let is_alone = self.idle_count.load(Ordering::Relaxed) == 0;
        is_alone && (work.has_backlog || self.channel.socket().is_readable())
    }

    /// The next request, its payload in `scratch`; none once there are no more.
    fn take(&self, scratch: &mut Scratch) -> Option<Work> {
        self.idle_count.fetch_add(1, Ordering::Relaxed);
        let mut input = lock(&self.input);
        self.idle_count.fetch_sub(1, Ordering::Relaxed);
        if input.is_over {
            return None;
        }
        let work = self.read_work(&mut input, scratch).unwrap_or_else(|error| {
            tracing::debug!(%error, "a client was cut off");
            None
        });
        input.is_over = work.is_none();
        work
    }

    fn read_work(&self, input: &mut Input, scratch: &mut Scratch) -> io::Result<Option<Work>> {
        let timeout = self.shared.limits.message_timeout;
        let is_stopping = || self.is_stopping();
        let began = input.begin(&self.channel, timeout, is_stopping, || self.send_held())?;
        let Some(header) = began else {
            return Ok(None);
        };
        let request = Request::decode(&header)
            .map_err(|violation| io::Error::new(io::ErrorKind::InvalidData, violation))?;
        let command = request.check(&self.session);
        if command == Ok(Command::Disconnect) {
            return Ok(None);
        }
        if !command.as_ref().is_ok_and(|command| !may_wait(command)) {
            // It may take long, and others' replies are not to wait for it.
            self.send_held()?;
        }
        let is_large = request.len as usize > KEEP_BYTES;
        let is_held = matches!(command, Ok(Command::Read { .. } | Command::Write { .. }));
        let permits = (is_large && is_held).then(|| {
            let len = u64::from(request.len);
            let budgets = [&self.budget, &self.peer_budget, &self.shared.budget];
            budgets.map(|budget| budget.acquire(len))
        });
        self.read_payload(&request, command.is_ok(), input, scratch)?;
        Ok(Some(Work {
            cookie: request.cookie,
            command,
            has_backlog: input.buffered() >= Request::LEN,
            _permits: permits,
        }))
    }

    fn read_payload(
        &self,
        request: &Request,
        is_wanted: bool,
        input: &mut Input,
        scratch: &mut Scratch,
    ) -> io::Result<()> {
        let len = request.payload_len();
        if len as usize > input.buffered() {
            self.send_held()?;
        }
        let deadline = Instant::now() + self.shared.limits.message_timeout;
        if is_wanted {
            let payload = scratch.payload.grow(len as usize);
            input.read_exact(payload, &self.channel, deadline)
        } else {
            input.skip(len, &self.channel, deadline)
        }
    }

    /// Sends a reply, or holds it back until the next wait.
    fn send(&self, reply: &Outgoing) -> io::Result<()> {
        let mut held = lock(&self.held);
        // Only the first worker calls the first helper, and it is here: nobody else waits.
        let is_alone = self.helper_count.load(Ordering::Relaxed) == 0;
        if let Some(bytes) = reply.as_slice()
            && is_alone
            && held.len() + bytes.len() <= HELD_BYTES_MAX
        {
            held.extend_from_slice(bytes);
            return Ok(());
        }
        let deadline = Instant::now() + self.shared.limits.message_timeout;
        let mut parts = vec![&held[..]];
        parts.extend(reply.parts());
        let sent = self.channel.write_all(&parts, deadline);
        held.clear();
        sent
    }

    /// Sends what is held back.
    fn send_held(&self) -> io::Result<()> {
        let mut held = lock(&self.held);
        if held.is_empty() {
            return Ok(());
        }
        let deadline = Instant::now() + self.shared.limits.message_timeout;
        let sent = self.channel.write_all(&[&held], deadline);
        held.clear();
        sent
    }

    /// A reply that could not be sent whole leaves nothing to be said to this client.
    fn finish(&self, sent: io::Result<()>) {
        if let Err(error) = sent {
            tracing::debug!(%error, "a client does not take its replies");
            self.channel.socket().shutdown(Shutdown::Both);
        }
    }
}
