//! What each thread of a server does.

use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use coldframe_uffd::{Event, EventBuffer, Filled, HostRange, Uffd, UffdError, Wake};
use coldframe_units::{BLOCK_BYTES, ByteLen, PageIndex, PageRun, RamOffset};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::calls::{Calls, Patience};
use super::{BlockFailure, LazyEvent, range};
use crate::{
    Batch, BlockIndex, BlockReader, BlockSource, Cause, Class, Content, Core, Dispatcher, Fault,
    FaultError, Geometry, Next, Notice, PageOrigin, Poisoning, Step, Task, Ticket,
};

/// What a thread was woken by.
const FAULTS: u64 = 0;
const KICK: u64 = 1;
const PROCESS: u64 = 2;

/// Events in one read.
const EVENTS: usize = 64;
/// Longest wait for a thread that gives up memory to go on after its event was read.
const CHANGING_PAUSE_MAX: Duration = Duration::from_millis(1);
/// Longest time that the end takes to poison what is missing while memory is changing.
const END_MAX: Duration = Duration::from_secs(1);

/// What reading events needs.
#[derive(Debug)]
struct Reading {
    buffer: EventBuffer,
    batch: Batch,
}

/// What is asked of the kernel, and of whom.
#[derive(Debug)]
pub(super) struct Kernel {
    pub(super) uffd: Uffd,
    /// The other process, if it is not this one's memory.
    pub(super) process: Option<OwnedFd>,
    /// Whether it fills with zeros by itself.
    pub(super) has_zeropage: bool,
    pub(super) poisoning: Poisoning,
}

type Callback<E> = Box<dyn Fn(LazyEvent<E>) + Send + Sync>;

pub(super) struct Server<S: BlockSource> {
    pub(super) hub: Dispatcher,
    pub(super) geometry: Geometry,
    kernel: Kernel,
    /// What threads wait with; all of them at once.
    events: Epoll,
    kick: EventFd,
    settle: RwLock<Reading>,
    source: S,
    started: Instant,
    on_event: Callback<S::Error>,
}

impl<S: BlockSource> std::fmt::Debug for Server<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("uffd", &self.kernel.uffd)
            .finish_non_exhaustive()
    }
}

/// A thread's own.
struct Own<'a, S: BlockSource + 'a> {
    reader: Option<S::Reader<'a>>,
    data: Vec<u8>,
}

impl<S: BlockSource> Server<S> {
    pub(super) fn new(
        kernel: Kernel,
        geometry: Geometry,
        source: S,
        on_event: impl Fn(LazyEvent<S::Error>) + Send + Sync + 'static,
    ) -> Result<Self, FaultError> {
        let wait_error = |errno: Errno| FaultError::Wait {
            source: errno.into(),
        };
        let kick = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK);
        let kick = kick.map_err(wait_error)?;
        let events = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(wait_error)?;
        // Edge-triggered: what one thread was woken for wakes no other.
        let on = |what| EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, what);
        events.add(&kernel.uffd, on(FAULTS)).map_err(wait_error)?;
        events.add(&kick, on(KICK)).map_err(wait_error)?;
        if let Some(process) = &kernel.process {
            events.add(process, on(PROCESS)).map_err(wait_error)?;
        }
        Ok(Self {
            hub: Dispatcher::new(Core::new(
                geometry.clone(),
                Poisoning::Available,
                ByteLen::ZERO,
            )),
            geometry,
            kernel,
            events,
            kick,
            settle: RwLock::new(Reading {
                buffer: EventBuffer::new(EVENTS),
                batch: Batch::default(),
            }),
            source,
            started: Instant::now(),
            on_event: Box::new(on_event),
        })
    }

    /// A thread, from its start to its end.
    pub(super) fn run(&self) {
        let served = catch_unwind(AssertUnwindSafe(|| self.serve()));
        if served.is_err() {
            let _ = catch_unwind(AssertUnwindSafe(|| self.fail()));
        }
    }

    fn serve(&self) {
        let len = usize::try_from(self.geometry.block().bytes()).unwrap_or(0);
        let mut own = Own {
            reader: None,
            data: vec![0; len],
        };
        loop {
            match self.hub.next() {
                Next::Stop => {
                    self.kick();
                    return;
                }
                Next::Wait => self.wait(),
                Next::Task { task, is_more } => {
                    if is_more {
                        self.kick();
                    }
                    match task {
                        Task::Fetch { ticket, class } => {
                            self.serve_block(&ticket, class, &mut own);
                        }
                        Task::Settle { ticket } => self.carry_out(&ticket, &mut own.data),
                    }
                }
            }
        }
    }

    fn serve_block<'a>(&'a self, ticket: &Ticket, class: Class, own: &mut Own<'a, S>) {
        let started = Instant::now();
        let (content, error) = match self.fetch(ticket, own) {
            Ok(content) => (Some(content), None),
            Err(error) => (None, Some(error)),
        };
        let fetched = started.elapsed();
        self.with_core(error, |core| core.fetched(ticket, content));
        self.carry_out(ticket, &mut own.data);
        tracing::debug!(
            block = ticket.block().get(),
            ?class,
            ?content,
            fetch_us = fetched.as_micros() as u64,
            duration_us = started.elapsed().as_micros() as u64,
            "block served"
        );
    }

    /// Reads all hash blocks of a block.
    fn fetch<'a>(
        &'a self,
        ticket: &Ticket,
        own: &mut Own<'a, S>,
    ) -> Result<Content, BlockFailure<S::Error>> {
        let len = usize::try_from(self.geometry.block_len(ticket.block()).get()).unwrap_or(0);
        let data = own.data.get_mut(..len).unwrap_or_default();
        let parts = data.chunks_mut(BLOCK_BYTES as usize);
        let first = ticket.block().get() * self.geometry.hash_blocks_per_block();
        let read = catch_unwind(AssertUnwindSafe(|| {
            let reader = match &mut own.reader {
                Some(reader) => reader,
                empty => empty.insert(self.source.reader()?),
            };
            let mut all = Content::Zero;
            for (block, part) in (first..).zip(parts) {
                match reader.read(block, part)? {
                    Content::Data => all = Content::Data,
                    Content::Mapped => all = Content::Mapped,
                    Content::Zero => part.fill(0),
                }
            }
            Ok(all)
        }));
        match read {
            Ok(read) => read.map_err(BlockFailure::Source),
            Err(_) => {
                // What it left behind is not used again.
                own.reader = None;
                Err(BlockFailure::Panicked)
            }
        }
    }

    /// Makes the calls of a job until it is over.
    fn carry_out(&self, ticket: &Ticket, data: &mut [u8]) {
        let calls = Calls {
            uffd: &self.kernel.uffd,
            geometry: &self.geometry,
            has_zeropage: self.kernel.has_zeropage,
        };
        let mut patience = Patience::default();
        let mut pause = Duration::from_micros(20);
        loop {
            let settled = self.settle.read().unwrap_or_else(PoisonError::into_inner);
            let step = self.hub.core(|core| core.step(ticket));
            match step {
                Step::Done => break,
                Step::ReadEvents => {
                    drop(settled);
                    match self.read_events() {
                        Ok(true) => {}
                        Ok(false) => {
                            // Who gives memory up has not gone on yet.
                            std::thread::sleep(pause);
                            pause = (pause * 2).min(CHANGING_PAUSE_MAX);
                        }
                        Err(_) => break,
                    }
                    if self.hub.is_over() {
                        break;
                    }
                    continue;
                }
                _ => {}
            }
            let answer = calls.make(ticket.block(), step, data);
            let answer = match (answer, answer.is_none().then(|| patience.next()).flatten()) {
                (Some(answer), _) => answer,
                (None, Some(pause)) => {
                    drop(settled);
                    std::thread::sleep(pause);
                    continue;
                }
                (None, None) => crate::Answer::Failed(libc::ENOMEM),
            };
            self.hub.core(|core| core.answered(ticket, step, answer));
            drop(settled);
            self.tell();
        }
        self.tell();
        self.hub.job_is_over();
    }

    /// Waits for events, and reads them. For each, one thread is woken; one that comes while none
    /// waits is found by the next that does.
    fn wait(&self) {
        let mut ready = [EpollEvent::empty(); 3];
        // An error is a signal: whoever has nothing to do waits again.
        let count = self
            .events
            .wait(&mut ready, EpollTimeout::NONE)
            .unwrap_or(0);
        for event in ready.iter().take(count) {
            match event.data() {
                FAULTS if self.read_events().is_err() => self.fail(),
                PROCESS => self.with_core(None, Core::end),
                // A kick says that there is something to do, and has nothing to be read.
                _ => {}
            }
        }
    }

    /// The service cannot go on, whatever state the core is in: nobody may find zeros.
    fn fail(&self) {
        self.stop();
        self.poison_what_is_missing();
        (self.on_event)(LazyEvent::ServerFailed);
    }

    /// Reads what events there are, and applies them; false if there are none.
    fn read_events(&self) -> Result<bool, UffdError> {
        let mut is_any = false;
        loop {
            let count = {
                let mut reading = self.settle.write().unwrap_or_else(PoisonError::into_inner);
                let Reading { buffer, batch } = &mut *reading;
                batch.clear();
                let events = self.kernel.uffd.read(buffer)?;
                let count = events.len();
                events.for_each(|event| self.add(event, batch));
                let now = self.started.elapsed();
                self.hub.core(|core| core.apply(batch, now));
                count
            };
            is_any |= count > 0;
            if count < EVENTS {
                break;
            }
        }
        self.tell();
        Ok(is_any)
    }

    fn add(&self, event: Event, batch: &mut Batch) {
        match event {
            Event::PageFault(fault) => {
                if let Some(page) = self.geometry.page_at(fault.addr.get()) {
                    let thread = fault.thread;
                    batch.fault(Fault { page, thread });
                }
            }
            Event::Remove(gone) | Event::Unmap(gone) => {
                let (start, end) = (gone.start().get(), gone.end().get());
                self.geometry.pages_in(start, end, |run| batch.removal(run));
            }
            // Not asked for; a descriptor in it is closed.
            _ => {}
        }
    }

    /// Does something to the core, and tells what comes of it. `error` is of the block that this
    /// thread has fetched.
    fn with_core(&self, error: Option<BlockFailure<S::Error>>, act: impl FnOnce(&mut Core)) {
        let notices: Vec<Notice> = self.hub.core(|core| {
            act(core);
            std::iter::from_fn(|| core.notice()).collect()
        });
        self.tell_all(notices, error);
    }

    /// Tells what has come of what was done to the core under the other lock.
    fn tell(&self) {
        self.with_core(None, |_| ());
    }

    fn tell_all(&self, notices: Vec<Notice>, mut error: Option<BlockFailure<S::Error>>) {
        for notice in notices {
            let event = match notice {
                Notice::Failed {
                    block,
                    cause,
                    is_poisoned,
                } => LazyEvent::BlockFailed {
                    block,
                    ram: self.ram_of(block),
                    failure: failure(cause, &mut error),
                    is_poisoned,
                },
                Notice::NotFetched { block } => LazyEvent::NotFetched {
                    block,
                    failure: failure(Cause::Source, &mut error),
                },
                Notice::ProcessGone => {
                    self.stop();
                    LazyEvent::ProcessGone
                }
                Notice::Complete => LazyEvent::Complete,
            };
            if let LazyEvent::BlockFailed { block, failure, .. }
            | LazyEvent::NotFetched { block, failure } = &event
            {
                tracing::warn!(block = block.get(), %failure, "block cannot be had");
            }
            (self.on_event)(event);
        }
    }

    const fn ram_of(&self, block: BlockIndex) -> RamOffset {
        RamOffset::new(block.get() * self.geometry.block().bytes())
    }

    /// One thread that waits, or the next that does, looks for something to do.
    pub(super) fn kick(&self) {
        // It is never read, and full after 2^64 kicks.
        let _ = self.kick.write(1);
    }

    pub(super) fn stop(&self) {
        self.hub.stop();
        self.kick();
    }

    pub(super) fn quiesce(&self, deadline: Instant) -> Result<(), FaultError> {
        // Events that were not read yet are of threads that wait, too. What cannot be read, the
        // threads of the service will find.
        let _ = self.read_events();
        self.kick();
        if self
            .hub
            .wait_until(deadline, |core| core.waiting().next().is_none())
        {
            return Ok(());
        }
        let longest = self
            .waiting()
            .into_iter()
            .max_by_key(|(_, waited, _)| *waited);
        match longest {
            Some((block, waited, thread)) => Err(FaultError::StillWaiting {
                block,
                waited,
                thread,
            }),
            None => Ok(()),
        }
    }

    pub(super) fn zero_page(&self, page: HostRange) -> Result<bool, UffdError> {
        loop {
            match self.kernel.uffd.zeropage(page, Wake::Yes)? {
                Filled::All | Filled::Part { .. } => return Ok(true),
                Filled::Present => return Ok(false),
                // Another thread gives memory up; the service reads its event.
                Filled::Changing => std::thread::yield_now(),
            }
        }
    }

    pub(super) fn origins(&self, pages: PageRun) -> Vec<Option<PageOrigin>> {
        // Nothing is between a choice and its answer.
        let _settled = self.settle.write().unwrap_or_else(PoisonError::into_inner);
        let pages = (pages.start().get()..pages.end().get()).map(PageIndex::new);
        let origins = pages.map(|page| (page, self.hub.core(|core| core.origin(page))));
        origins
            .map(|(page, origin)| match origin {
                // It may have been written to without a fault.
                Some(PageOrigin::Source) if self.is_mapped(page) => Some(PageOrigin::Memory),
                origin => origin,
            })
            .collect()
    }

    /// Whether memory shows the page's bytes by itself.
    fn is_mapped(&self, page: PageIndex) -> bool {
        let offset = page.get() * self.geometry.page().bytes();
        self.source.is_mapped(offset / BLOCK_BYTES)
    }

    pub(super) fn waiting(&self) -> Vec<(BlockIndex, Duration, u32)> {
        let now = self.started.elapsed();
        self.hub.core(|core| {
            let waiting = core.waiting();
            waiting
                .map(|(block, since, thread)| (block, now.saturating_sub(since), thread))
                .collect()
        })
    }

    /// Poisons all pages that only the source has. Nothing else is under way.
    pub(super) fn poison_what_is_missing(&self) {
        if self.kernel.poisoning == Poisoning::Missing {
            return;
        }
        let until = Instant::now() + END_MAX;
        let mut runs: Vec<PageRun> = Vec::new();
        self.hub.core(|core| core.unresolved(|run| runs.push(run)));
        runs.retain(|run| !self.is_mapped(run.start()));
        for run in runs {
            let mut next = run.start().get();
            while next < run.end().get() && Instant::now() < until {
                let rest = PageRun::new(PageIndex::new(next), run.end().get() - next);
                match rest.map(|rest| self.poison(rest)) {
                    Some(Some(0)) => {
                        // Memory is changing: nobody else reads events now.
                        if self.read_events().is_err() {
                            return;
                        }
                        std::thread::yield_now();
                    }
                    Some(Some(pages)) => next += pages,
                    _ => return,
                }
            }
        }
    }

    /// How many pages are done with; `None` if that is of no use any more.
    fn poison(&self, run: PageRun) -> Option<u64> {
        let page = self.geometry.page().bytes();
        let start = self.geometry.host_of(run.start())?;
        let filled = self
            .kernel
            .uffd
            .poison(range(start, run.count() * page)?, Wake::Yes);
        Some(match filled.ok()? {
            Filled::All => run.count(),
            Filled::Part { bytes } => bytes.get() / page,
            Filled::Present => 1,
            Filled::Changing => 0,
        })
    }
}

fn failure<E: std::error::Error + 'static>(
    cause: Cause,
    error: &mut Option<BlockFailure<E>>,
) -> BlockFailure<E> {
    match cause {
        Cause::Source => error.take().unwrap_or(BlockFailure::Panicked),
        Cause::Kernel(errno) => BlockFailure::Fill(std::io::Error::from_raw_os_error(errno)),
        Cause::Vanished => BlockFailure::Vanished,
    }
}
