//! Guest memory that is filled while the guest runs: [`Core`] driven by threads over a userfaultfd.
//!
//! All threads that have nothing to do wait for events; each event wakes one, which reads what
//! there is and does it. So a fault is answered by the thread that it has woken, without being
//! handed over, and a slow source keeps nobody from reading events.
//!
//! # Locks, in this order
//! 1. `settle`: held for reading from the choice of a call to its answer, for writing while events
//!    are read and applied. See [`Core`].
//! 2. That of the [`Dispatcher`](crate::Dispatcher): the core, for moments: no call is made and no
//!    byte is read under it.
//!
//! # When it ends
//! However it ends, by a drop, a panic of a thread, or the end of the process whose memory it is,
//! no page that is not there may be read as zeros. So before the userfaultfd is closed, all pages
//! that only the source has are poisoned.

mod calls;
mod worker;

use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use coldframe_uffd::{
    Features, HostAddr, HostRange, Ioctls, Mapping, Modes, Origin, Support, Uffd, UffdError,
};
use coldframe_units::{ByteLen, PageRun, RamOffset};

use crate::{
    BlockIndex, BlockSource, Core, Counts, Depth, FaultError, Geometry, PageOrigin, Poisoning,
    Region,
};
use worker::{Kernel, Server};

/// How faults are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LazyOptions {
    /// Threads that fetch and fill. A source that waits for a network wants as many as requests it
    /// can have under way.
    pub threads: NonZero<usize>,
    /// Bytes that may be under way at once for prefetch and filling up.
    pub background: ByteLen,
    /// Whose faults are served: those of KVM are the kernel's.
    pub origin: Origin,
}

impl Default for LazyOptions {
    fn default() -> Self {
        Self {
            threads: const { NonZero::new(4).expect("it is not zero") },
            background: ByteLen::new(8 << 20),
            origin: Origin::UserAndKernel,
        }
    }
}

/// Why a block failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlockFailure<E: std::error::Error + 'static> {
    /// The source has no such bytes, or they are not the right ones.
    #[error("the source failed")]
    Source(#[source] E),
    /// The source panicked.
    #[error("the source panicked")]
    Panicked,
    /// The kernel did not fill it.
    #[error("memory cannot be filled")]
    Fill(#[source] std::io::Error),
    /// Memory that had been filled is gone, and nobody gave it up.
    #[error("memory that had been filled is gone")]
    Vanished,
}

/// Something that a VMM has to know, from a thread of the server's.
#[derive(Debug)]
#[non_exhaustive]
pub enum LazyEvent<E: std::error::Error + 'static> {
    /// A block cannot be had, and a thread needs it: its pages fail from now on, and read as
    /// nothing. The guest cannot go on rightly.
    BlockFailed {
        /// Which.
        block: BlockIndex,
        /// Where it is in RAM.
        ram: RamOffset,
        /// Why.
        failure: BlockFailure<E>,
        /// Whether its pages are poisoned. If not, the threads sleep on.
        is_poisoned: bool,
    },
    /// A block that nobody needs yet could not be fetched. It is asked for again when it is needed.
    NotFetched {
        /// Which.
        block: BlockIndex,
        /// Why.
        failure: BlockFailure<E>,
    },
    /// The process whose memory it is has ended.
    ProcessGone,
    /// No block is left that the source is needed for.
    Complete,
    /// The server cannot go on: all that is not there fails from now on.
    ServerFailed,
}

/// Guest memory that is filled while the guest runs. Dropping it ends the service: what is not
/// there yet **fails** from then on, and is not zero.
#[derive(Debug)]
pub struct Lazy<S: BlockSource + 'static> {
    server: Arc<Server<S>>,
    threads: Vec<JoinHandle<()>>,
    /// Kept mapped while they are served.
    _memory: Vec<Arc<Mapping>>,
}

/// All that is needed to serve: none of it can be done without.
const NEEDED: Features = Features::EVENT_REMOVE
    .and(Features::THREAD_ID)
    .and(Features::POISON)
    .and(Features::MISSING_SHMEM)
    .and(Features::MISSING_HUGETLBFS);

impl<S: BlockSource + 'static> Lazy<S> {
    /// Serves memory of this process: mappings in the order of RAM, each the next region, all of
    /// one page size, of which no page is there yet.
    ///
    /// # Errors
    /// [`FaultError::Uffd`]: no userfaultfd, or one that lacks what is needed, by name;
    /// [`FaultError::Geometry`]; [`FaultError::Spawn`].
    pub fn new(
        memory: Vec<Arc<Mapping>>,
        source: S,
        options: LazyOptions,
        on_event: impl Fn(LazyEvent<S::Error>) + Send + Sync + 'static,
    ) -> Result<Self, FaultError> {
        let geometry = geometry_of(&memory)?;
        let uffd = Uffd::open(NEEDED, options.origin).map_err(uffd_error)?;
        let mut calls = Ioctls::from_bits(u64::MAX);
        for mapping in &memory {
            let takes = uffd.register(mapping, Modes::MISSING).map_err(uffd_error)?;
            calls = Ioctls::from_bits(calls.bits() & takes.bits());
        }
        let kernel = Kernel {
            uffd,
            process: None,
            has_zeropage: calls.contains(Ioctls::ZEROPAGE),
            poisoning: Poisoning::Available,
        };
        let server = Server::new(kernel, geometry, source, on_event)?;
        Self::start(server, memory, options)
    }

    /// Serves memory that is registered already, for missing pages, with a userfaultfd that reports
    /// removals: that of another process, which has sent it here, or memory of this one that is
    /// mapped by other means ([`Uffd::register_range`]). `process` is the other's pidfd
    /// ([`pidfd_of`](coldframe_uffd::pidfd_of)), by which its end is noticed.
    ///
    /// On a kernel without `UFFDIO_POISON` (before 6.6) threads that wait for a block that failed
    /// sleep on: `is_poisoned` of the event says so. When this is dropped there, or when this
    /// process ends, what is not there becomes **zeros** unless the other has kept a descriptor of
    /// the userfaultfd: its process has to be ended first.
    ///
    /// # Errors
    /// [`FaultError::Uffd`] if it was opened here without what is needed; [`FaultError::Spawn`];
    /// [`FaultError::Wait`].
    pub fn serve(
        uffd: Uffd,
        process: Option<OwnedFd>,
        geometry: Geometry,
        source: S,
        options: LazyOptions,
        on_event: impl Fn(LazyEvent<S::Error>) + Send + Sync + 'static,
    ) -> Result<Self, FaultError> {
        if let Some(present) = uffd.features() {
            let missing = Features::EVENT_REMOVE.without(present);
            if !missing.is_empty() {
                return Err(uffd_error(UffdError::MissingFeatures { missing, present }));
            }
        }
        // The kernel is the same for all, and lets everybody ask.
        let poisoning = match Support::probe(Origin::UserModeOnly) {
            Ok(support) if support.features.contains(Features::POISON) => Poisoning::Available,
            _ => Poisoning::Missing,
        };
        let kernel = Kernel {
            uffd,
            process,
            has_zeropage: geometry.page() == coldframe_uffd::host_page(),
            poisoning,
        };
        let server = Server::new(kernel, geometry, source, on_event)?;
        Self::start(server, Vec::new(), options)
    }

    fn start(
        server: Server<S>,
        memory: Vec<Arc<Mapping>>,
        options: LazyOptions,
    ) -> Result<Self, FaultError> {
        server
            .hub
            .core(|core| core.limit_background(options.background));
        // Dropped on an error below: the threads that run are ended.
        let mut lazy = Self {
            server: Arc::new(server),
            threads: Vec::new(),
            _memory: memory,
        };
        for number in 0..options.threads.get() {
            let server = Arc::clone(&lazy.server);
            let thread = std::thread::Builder::new()
                .name(format!("coldframe-fault-{number}"))
                .spawn(move || server.run())
                .map_err(|source| FaultError::Spawn { source })?;
            lazy.threads.push(thread);
        }
        Ok(lazy)
    }

    /// Asks for runs of blocks ahead of need, after those asked for before. Demand goes first.
    pub fn prefetch(&self, runs: impl IntoIterator<Item = (BlockIndex, u64)>, depth: Depth) {
        self.server.hub.core(|core| core.prefetch(runs, depth));
        self.server.kick();
    }

    /// Forgets what was to be prefetched and is not under way.
    pub fn stop_prefetch(&self) {
        self.server.hub.core(Core::stop_prefetch);
    }

    /// Lets so many bytes more be fetched that nobody has asked for; all the rest for
    /// [`u64::MAX`]. Without this, nothing is fetched that was not asked for.
    pub fn allow_fill(&self, bytes: ByteLen) {
        self.server.hub.core(|core| core.allow_fill(bytes));
        self.server.kick();
    }

    /// Waits until no thread waits for a block, for a pause of all vCPUs: those that sleep in a
    /// fault cannot be stopped. The service goes on meanwhile, and has to.
    ///
    /// # Errors
    /// [`FaultError::StillWaiting`] names the block that has been waited for longest, and a thread,
    /// when `timeout` has passed.
    pub fn quiesce(&self, timeout: Duration) -> Result<(), FaultError> {
        self.server.quiesce(Instant::now() + timeout)
    }

    /// Blocks that threads wait for, for how long, and one of the threads.
    #[must_use]
    pub fn waiting(&self) -> Vec<(BlockIndex, Duration, u32)> {
        self.server.waiting()
    }

    /// Blocks that failed, in rising order.
    #[must_use]
    pub fn failed(&self) -> Vec<BlockIndex> {
        self.server.hub.core(|core| core.failed().collect())
    }

    /// Whether an address is in a block that failed. SIGBUS, `EFAULT`, `EHWPOISON`, or an exit of
    /// KVM for memory-mapped I/O in RAM may all come of one; this says whether it did.
    #[must_use]
    pub fn is_failed_at(&self, host: HostAddr) -> bool {
        let page = self.server.geometry.page_at(host.get());
        page.is_some_and(|page| self.server.hub.core(|core| core.is_failed(page)))
    }

    /// Fills one page with zeros, if it is not there; false if it is.
    ///
    /// # Errors
    /// [`FaultError::Uffd`].
    pub(crate) fn zero_page(&self, page: HostRange) -> Result<bool, FaultError> {
        self.server.zero_page(page).map_err(uffd_error)
    }

    /// Where the bytes of pages are, for a capture of memory that is not all there: at one moment,
    /// at which no page is being filled. The guest is paused.
    #[must_use]
    pub fn origins(&self, pages: PageRun) -> Vec<Option<PageOrigin>> {
        self.server.origins(pages)
    }

    /// How many blocks the source is still needed for.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.server.hub.core(|core| core.remaining())
    }

    /// Counts since the start.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.server.hub.core(|core| core.counts())
    }

    /// Ends the service of memory that is all there: it is ordinary memory after that, which may
    /// get huge pages, and in which pages that are given up become zeros by the kernel.
    ///
    /// # Errors
    /// [`FaultError::NotComplete`] gives it back, if the source is still needed.
    pub fn finish(self) -> Result<(), (FaultError, Self)> {
        let remaining = self.remaining();
        let failed = self.failed().len() as u64;
        if remaining > 0 || failed > 0 {
            return Err((FaultError::NotComplete { remaining, failed }, self));
        }
        Ok(())
    }
}

impl<S: BlockSource + 'static> Drop for Lazy<S> {
    fn drop(&mut self) {
        self.server.stop();
        for thread in self.threads.drain(..) {
            // Its panic was caught and told.
            let _ = thread.join();
        }
        self.server.poison_what_is_missing();
    }
}

fn uffd_error(source: coldframe_uffd::UffdError) -> FaultError {
    FaultError::Uffd { source }
}

fn geometry_of(memory: &[Arc<Mapping>]) -> Result<Geometry, FaultError> {
    let mut next = RamOffset::ZERO;
    let mut regions = Vec::new();
    let page = memory
        .first()
        .map_or_else(coldframe_uffd::host_page, |first| first.page());
    for mapping in memory {
        let (ram, len) = (next, mapping.len());
        let host = mapping.addr().get();
        // Mappings of other pages are not whole pages of this one's, or not its own.
        if mapping.page() != page {
            return Err(FaultError::Geometry {
                host,
                ram,
                len,
                page,
            });
        }
        regions.push(Region { host, ram, len });
        next = next.checked_add(len).ok_or(FaultError::NoRegions)?;
    }
    Geometry::new(regions, page)
}

/// Whether this host can serve faults at all, of the kernel's too.
///
/// # Errors
/// [`FaultError::Uffd`] says what is missing.
pub fn probe(origin: Origin) -> Result<(), FaultError> {
    let support = Support::probe(origin).map_err(uffd_error)?;
    support.require(NEEDED).map_err(uffd_error)
}

fn range(start: u64, len: u64) -> Option<HostRange> {
    HostRange::new(HostAddr::new(start), ByteLen::new(len))
}
