//! The state machine of guest memory that is filled while the guest runs. It has no thread, no
//! clock and no I/O: a driver feeds it events, and does what it says.
//!
//! # The driver's part
//! 1. Events are given to [`Core::apply`] in the batches in which they were read, all events of one
//!    read in one batch.
//! 2. [`Core::next_task`] gives a job; the driver reads the block's bytes if it is told to, reports
//!    with [`Core::fetched`], and then repeats [`Core::step`], the call that the step names, and
//!    [`Core::answered`], until the step is [`Step::Done`]. Any number of jobs may be under way,
//!    one for a block.
//! 3. **Between a step and its answer no event is read.** A page that is removed after it was
//!    chosen and before it was filled would come back to life: the kernel holds no fill back any
//!    more once the removal was read. A lock that steps share and reading excludes is enough.
//!
//! # Invariants
//! - A page is filled from the source at most until it was removed; after that with zeros only.
//! - A thread whose fault was applied is woken, by a fill or in words, or is in [`Core::waiting`].
//! - A block whose bytes cannot be had is poisoned and reported, and never filled with anything.
//! - Demand goes before prefetch, and prefetch before filling up; what goes in the background never
//!   has more bytes under way than it is allowed.

mod blocks;
mod job;
mod queue;

use std::collections::HashMap;
use std::time::Duration;

use coldframe_units::{ByteLen, PageIndex, PageRun};

use crate::geometry::{BlockIndex, Geometry, PageMask};
use blocks::{Blocks, State};
use job::{Entry, Job, Phase, Stage};
use queue::Background;

/// No such mapping (errno(3)): what is not there cannot be poisoned.
const ENOENT: i32 = 2;

/// A page that a thread waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which.
    pub page: PageIndex,
    /// Which thread, or 0.
    pub thread: u32,
}

/// The events of one read. Their order does not matter: removals are applied before faults.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    removals: Vec<PageRun>,
    faults: Vec<Fault>,
}

impl Batch {
    /// Adds a page that a thread waits for.
    pub fn fault(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    /// Adds pages that are given up.
    pub fn removal(&mut self, run: PageRun) {
        self.removals.push(run);
    }

    /// Makes it empty, and keeps its room.
    pub fn clear(&mut self) {
        self.removals.clear();
        self.faults.clear();
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.removals.is_empty() && self.faults.is_empty()
    }
}

/// Why a block is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// To have all of memory there some day.
    Fill,
    /// It is expected to be wanted soon.
    Prefetch,
    /// A thread waits for it.
    Demand,
}

/// How far a prefetch goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// The source has read it, and may keep it at hand; nothing is put into memory.
    Fetch,
    /// It is put into memory.
    Install,
}

/// A job that [`Core::next_task`] gave out: it stays valid until its step is [`Step::Done`].
#[derive(Debug, PartialEq, Eq)]
pub struct Ticket {
    block: BlockIndex,
    number: u64,
}

impl Ticket {
    /// The block that the job is about.
    #[must_use]
    pub const fn block(&self) -> BlockIndex {
        self.block
    }
}

/// A job.
#[derive(Debug, PartialEq, Eq)]
pub enum Task {
    /// The block's bytes are wanted: [`Core::fetched`] is next.
    Fetch {
        /// The job.
        ticket: Ticket,
        /// Why.
        class: Class,
    },
    /// No bytes are wanted: [`Core::step`] is next.
    Settle {
        /// The job.
        ticket: Ticket,
    },
}

/// What the source has for a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Bytes, in the driver's hands and verified.
    Data,
    /// Zeros, by what the source's tables say.
    Zero,
    /// Bytes that the memory shows by itself, as it is a mapping of what the source has filled:
    /// nothing is put into it, and who waits is woken.
    Mapped,
}

/// A call to be made, and answered with [`Core::answered`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Fill pages from the block's bytes, waking who waits there.
    Copy(PageRun),
    /// Fill pages with zeros, waking who waits there.
    Zero(PageRun),
    /// Poison pages, waking who waits there.
    Poison(PageRun),
    /// Wake who waits in these pages.
    Wake(PageRun),
    /// Let events be read, and apply them; this one needs no answer. Comes when memory is changing.
    ReadEvents,
    /// The job is over.
    Done,
}

/// What a call on a run of pages said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// All was done.
    All,
    /// So many pages from the first on were, at least one; why no more is not known.
    Part(u64),
    /// Nothing: the first page is there already.
    Present,
    /// Nothing: memory is changing, and an event waits to be read.
    Changing,
    /// Nothing: the process is gone.
    ProcessGone,
    /// Nothing, for this reason (errno(3)).
    Failed(i32),
}

/// Why a block cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The source failed.
    Source,
    /// A call of the kernel failed, with this reason (errno(3)).
    Kernel(i32),
    /// Pages that had been filled were gone, though nobody has given them up: what the guest had
    /// written there is lost.
    Vanished,
}

/// Something that the owner of the memory has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// A block cannot be had, and a thread waited for it. If it is poisoned, an access raises
    /// SIGBUS or fails; if not, the threads sleep on.
    Failed {
        /// Which.
        block: BlockIndex,
        /// Why.
        cause: Cause,
        /// Whether its pages are poisoned.
        is_poisoned: bool,
    },
    /// A block was wanted in the background, and the source failed. It is asked again when a thread
    /// waits for it.
    NotFetched {
        /// Which.
        block: BlockIndex,
    },
    /// The process whose memory it is has ended.
    ProcessGone,
    /// No block is left that the source is needed for.
    Complete,
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Faults that were applied.
    pub faults: u64,
    /// Of these, faults of pages that were there, or that another one had asked for.
    pub repeated: u64,
    /// Pages that were removed.
    pub removed_pages: u64,
    /// Blocks that were fetched because a thread waited.
    pub demanded: u64,
    /// Blocks that were fetched ahead of need.
    pub prefetched: u64,
    /// Blocks that were fetched to fill memory up.
    pub filled: u64,
    /// Blocks that failed while a thread waited.
    pub failed: u64,
    /// Calls that were answered with "memory is changing".
    pub changing: u64,
}

/// Whether memory that reads wrong can be made to fail instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poisoning {
    /// It can.
    Available,
    /// It cannot: threads that wait for a block that failed sleep on.
    Missing,
}

/// The state of guest memory.
#[derive(Debug)]
pub struct Core {
    geometry: Geometry,
    poisoning: Poisoning,
    blocks: Blocks,
    entries: HashMap<BlockIndex, Entry>,
    demand: std::collections::VecDeque<BlockIndex>,
    background: Background,
    next_ticket: u64,
    is_over: bool,
    notices: std::collections::VecDeque<Notice>,
    counts: Counts,
}

impl Core {
    /// Memory of which no page is there. `background` bytes may be under way at once for prefetch
    /// and filling up, at least one block.
    #[must_use]
    pub fn new(geometry: Geometry, poisoning: Poisoning, background: ByteLen) -> Self {
        Self {
            blocks: Blocks::new(geometry.blocks()),
            background: Background::new(background.get().max(geometry.block().bytes())),
            geometry,
            poisoning,
            entries: HashMap::new(),
            demand: std::collections::VecDeque::new(),
            next_ticket: 0,
            is_over: false,
            notices: std::collections::VecDeque::new(),
            counts: Counts::default(),
        }
    }

    /// Blocks, pages and addresses.
    #[must_use]
    pub const fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Applies what was read at `now`, by any clock that does not go back.
    pub fn apply(&mut self, batch: &Batch, now: Duration) {
        for run in &batch.removals {
            self.remove(*run);
        }
        for fault in &batch.faults {
            self.wait_for(*fault, now);
        }
        self.note_completion();
    }

    fn remove(&mut self, run: PageRun) {
        let Self {
            geometry,
            blocks,
            entries,
            demand,
            counts,
            ..
        } = self;
        geometry.blocks_in(run, |block, pages| {
            counts.removed_pages += u64::from(pages.count());
            blocks.remove(block, pages, geometry.pages_of(block));
            if let Some(entry) = entries.get_mut(&block)
                && entry.removed(pages)
            {
                demand.push_back(block);
            }
        });
    }

    fn wait_for(&mut self, fault: Fault, now: Duration) {
        let Some((block, page)) = self.geometry.locate(fault.page) else {
            return;
        };
        self.counts.faults += 1;
        let is_settled = self.blocks.state(block) != State::Absent;
        let is_known = self.entries.contains_key(&block);
        self.counts.repeated += u64::from(is_settled || is_known);
        let removed = self.blocks.removed(block);
        let entry = self.entries.entry(block).or_insert_with(|| {
            self.demand.push_back(block);
            Entry::queued(now, fault.thread)
        });
        if entry.waiters.is_empty() {
            (entry.since, entry.thread) = (now, fault.thread);
        }
        if entry.add_waiter(page, removed) {
            self.demand.push_back(block);
        }
        if let Stage::Running(job) = &mut entry.stage
            && job.class != Class::Demand
        {
            job.class = Class::Demand;
            self.background.release(self.geometry.block().bytes());
        }
    }

    /// The next job: what a thread waits for, else what is prefetched, else what fills memory up.
    /// `None` if there is nothing to do, or no more is allowed at once.
    pub fn next_task(&mut self) -> Option<Task> {
        if self.is_over {
            return None;
        }
        if let Some(block) = self.demand.pop_front() {
            return Some(self.start_demand(block));
        }
        let block_bytes = self.geometry.block().bytes();
        while let Some((block, class, depth)) = self.background.peek(block_bytes) {
            self.background.pop(block_bytes);
            if self.entries.contains_key(&block) || !self.needs_source(block) {
                continue;
            }
            self.background.acquire(block_bytes, class);
            let ticket = self.ticket(block);
            let job = Job::new(ticket.number, class, depth, Phase::Fetching);
            self.entries.insert(block, Entry::running(job));
            return Some(Task::Fetch { ticket, class });
        }
        None
    }

    fn start_demand(&mut self, block: BlockIndex) -> Task {
        let ticket = self.ticket(block);
        let removed = self.blocks.removed(block);
        let is_absent = self.blocks.state(block) == State::Absent;
        let entry = self.entries.get_mut(&block);
        let entry = entry.expect("what is in the queue has an entry");
        let needs_bytes = is_absent && !entry.waiters.without(removed).is_empty();
        let phase = if needs_bytes {
            Phase::Fetching
        } else {
            Phase::Settling
        };
        entry.stage = Stage::Running(Job::new(
            ticket.number,
            Class::Demand,
            Depth::Install,
            phase,
        ));
        if needs_bytes {
            let class = Class::Demand;
            return Task::Fetch { ticket, class };
        }
        Task::Settle { ticket }
    }

    fn ticket(&mut self, block: BlockIndex) -> Ticket {
        self.next_ticket += 1;
        Ticket {
            block,
            number: self.next_ticket,
        }
    }

    /// Whether there are pages of a block that only the source has.
    fn needs_source(&self, block: BlockIndex) -> bool {
        let all = self.geometry.pages_of(block);
        self.blocks.needs_source(block, all)
    }

    /// What the source said of a job's block.
    pub fn fetched(&mut self, ticket: &Ticket, content: Option<Content>) {
        let removed = self.blocks.removed(ticket.block);
        let Some((waiters, job)) = running(&mut self.entries, ticket) else {
            return;
        };
        match job.class {
            Class::Demand => self.counts.demanded += 1,
            Class::Prefetch => self.counts.prefetched += 1,
            Class::Fill => self.counts.filled += 1,
        }
        let is_waited_for = !waiters.without(removed).is_empty();
        let block = ticket.block;
        job.phase = match content {
            Some(_) if job.depth == Depth::Fetch && !is_waited_for => Phase::Settling,
            Some(content) => Phase::Installing(content),
            None if is_waited_for => {
                self.fail(ticket, Cause::Source);
                return;
            }
            None => {
                self.notices.push_back(Notice::NotFetched { block });
                Phase::Settling
            }
        };
    }

    /// Gives a running job up for its block.
    fn fail(&mut self, ticket: &Ticket, cause: Cause) {
        let block = ticket.block;
        let is_poisoned =
            self.poisoning == Poisoning::Available && !matches!(cause, Cause::Kernel(ENOENT));
        if let Some((_, job)) = running(&mut self.entries, ticket) {
            job.phase = if is_poisoned {
                Phase::Poisoning
            } else {
                Phase::Stuck
            };
        }
        self.blocks.set(block, State::Failed);
        self.counts.failed += 1;
        self.notices.push_back(Notice::Failed {
            block,
            cause,
            is_poisoned,
        });
    }

    /// What to do next for a job.
    pub fn step(&mut self, ticket: &Ticket) -> Step {
        let block = ticket.block;
        let removed = self.blocks.removed(block);
        let state = self.blocks.state(block);
        let (is_over, poisoning) = (self.is_over, self.poisoning);
        let Some((_, job)) = running(&mut self.entries, ticket) else {
            return Step::Done;
        };
        if is_over || job.phase == Phase::Fetching {
            self.finish(ticket);
            return Step::Done;
        }
        if std::mem::take(&mut job.is_changing) {
            return Step::ReadEvents;
        }
        let all = self.geometry.pages_of(block);
        let entry = self.entries.get_mut(&block).expect("it was just there");
        let plan = entry.plan(state, removed, all, poisoning);
        let run = |pages| self.geometry.lowest_run(block, pages);
        let step = match plan {
            job::Plan::Copy(pages) => run(pages).map(Step::Copy),
            job::Plan::Zero(pages) => run(pages).map(Step::Zero),
            job::Plan::Poison(pages) => run(pages).map(Step::Poison),
            job::Plan::Wake(pages) => self.geometry.span(block, pages).map(Step::Wake),
            job::Plan::Nothing => None,
        };
        if let Some(step) = step {
            return step;
        }
        self.finish(ticket);
        Step::Done
    }

    /// What the call of a step said. Nothing need be said of [`Step::ReadEvents`].
    pub fn answered(&mut self, ticket: &Ticket, step: Step, answer: Answer) {
        let block = ticket.block;
        let run = match step {
            Step::Copy(run) | Step::Zero(run) | Step::Poison(run) | Step::Wake(run) => run,
            Step::ReadEvents | Step::Done => return,
        };
        let Some((waiters, job)) = running(&mut self.entries, ticket) else {
            return;
        };
        let pages = match answer {
            Answer::All => self.geometry.mask_of(block, run),
            Answer::Part(count) => match PageRun::new(run.start(), count.min(run.count())) {
                Some(done) => self.geometry.mask_of(block, done),
                None => PageMask::NONE,
            },
            Answer::Present => {
                let first = PageRun::new(run.start(), 1);
                let first = first.map_or(PageMask::NONE, |run| self.geometry.mask_of(block, run));
                job.seen = job.seen.or(first);
                return;
            }
            Answer::Changing => {
                job.is_changing = true;
                self.counts.changing += 1;
                return;
            }
            Answer::ProcessGone => return self.end(),
            Answer::Failed(errno) => return self.call_failed(ticket, step, errno),
        };
        let is_check = job.phase == Phase::Settling;
        job.seen = job.seen.or(pages);
        waiters.woken(pages);
        if is_check && matches!(step, Step::Poison(_)) {
            self.fail(ticket, Cause::Vanished);
        }
    }

    fn call_failed(&mut self, ticket: &Ticket, step: Step, errno: i32) {
        let state = self.blocks.state(ticket.block);
        match (step, state) {
            // Poison cannot be had, or nobody can be woken: they sleep on, and it was said.
            (Step::Poison(_) | Step::Wake(_), State::Failed) => {
                if let Some((_, job)) = running(&mut self.entries, ticket) {
                    job.phase = Phase::Stuck;
                }
                self.notices.push_back(Notice::Failed {
                    block: ticket.block,
                    cause: Cause::Kernel(errno),
                    is_poisoned: false,
                });
            }
            _ => self.fail(ticket, Cause::Kernel(errno)),
        }
    }

    /// The process whose memory it is has ended: no more jobs, and no more calls for those under
    /// way.
    pub fn end(&mut self) {
        if !self.is_over {
            self.is_over = true;
            self.notices.push_back(Notice::ProcessGone);
        }
    }

    /// Takes a job that is over out of the books. Threads that have come to wait meanwhile, for
    /// what this job does not give, get a new one.
    fn finish(&mut self, ticket: &Ticket) {
        let block = ticket.block;
        let Some((_, job)) = running(&mut self.entries, ticket) else {
            return;
        };
        if job.class != Class::Demand {
            self.background.release(self.geometry.block().bytes());
        }
        let (phase, is_over) = (job.phase, self.is_over);
        let is_hopeless =
            phase == Phase::Stuck || job::is_hopeless(self.blocks.state(block), self.poisoning);
        match phase {
            Phase::Installing(Content::Mapped) if !is_over => {
                self.blocks.set(block, State::Mapped);
            }
            Phase::Installing(_) if !is_over => self.blocks.set(block, State::Resolved),
            _ => {}
        }
        let entry = self.entries.get_mut(&block);
        let entry = entry.expect("a running job has an entry");
        if entry.waiters.is_empty() || is_over {
            self.entries.remove(&block);
        } else if is_hopeless {
            entry.stage = Stage::Stuck;
        } else {
            entry.stage = Stage::Queued;
            self.demand.push_back(block);
        }
        self.note_completion();
    }

    fn note_completion(&mut self) {
        if self.blocks.take_completion() {
            self.notices.push_back(Notice::Complete);
        }
    }

    /// Asks for runs of blocks ahead of need, in this order, after those asked for before.
    pub fn prefetch(&mut self, runs: impl IntoIterator<Item = (BlockIndex, u64)>, depth: Depth) {
        let blocks = self.geometry.blocks();
        for (start, count) in runs {
            let end = start.get().saturating_add(count).min(blocks);
            self.background.prefetch(start.get()..end, depth);
        }
    }

    /// Forgets what was to be prefetched and is not under way.
    pub fn stop_prefetch(&mut self) {
        self.background.stop_prefetch();
    }

    /// Lets so many bytes more be fetched to fill memory up, whether or not a thread waits for
    /// them; all at once if it is [`u64::MAX`]. Nothing is until this is called.
    pub fn allow_fill(&mut self, bytes: ByteLen) {
        self.background
            .allow_fill(self.geometry.blocks(), bytes.get());
    }

    /// How many bytes may be under way at once in the background from now on, at least one block.
    pub fn limit_background(&mut self, bytes: ByteLen) {
        let block = self.geometry.block().bytes();
        self.background.limit(bytes.get().max(block));
    }

    /// Whether [`Core::next_task`] has a job, for all that can be said without looking at each
    /// block.
    #[must_use]
    pub fn has_work(&self) -> bool {
        let block = self.geometry.block().bytes();
        !self.is_over && (!self.demand.is_empty() || self.background.peek(block).is_some())
    }

    /// Calls `each` with the pages that only the source has.
    pub fn unresolved(&self, mut each: impl FnMut(PageRun)) {
        for block in (0..self.geometry.blocks()).map(BlockIndex::new) {
            if self.blocks.state(block) == State::Absent {
                let all = self.geometry.pages_of(block);
                let mut left = all.without(self.blocks.removed(block));
                while let Some(run) = self.geometry.lowest_run(block, left) {
                    each(run);
                    left = left.without(self.geometry.mask_of(block, run));
                }
            }
        }
    }

    /// The next thing that the owner has to know.
    pub fn notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// Counts since the start.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Bytes under way in the background.
    #[must_use]
    pub const fn background_bytes(&self) -> ByteLen {
        ByteLen::new(self.background.under_way())
    }

    /// How many blocks the source is still needed for.
    #[must_use]
    pub const fn remaining(&self) -> u64 {
        self.blocks.remaining()
    }

    /// Blocks that threads wait for: since when, and one of the threads.
    pub fn waiting(&self) -> impl Iterator<Item = (BlockIndex, Duration, u32)> + '_ {
        let waiting = self.entries.iter();
        waiting
            .filter(|(_, entry)| !entry.waiters.is_empty())
            .map(|(block, entry)| (*block, entry.since, entry.thread))
    }

    /// Blocks that could not be had, in no order.
    pub fn failed(&self) -> impl Iterator<Item = BlockIndex> + '_ {
        self.blocks.failed()
    }

    /// Whether a page's bytes failed, so that what was seen there was an error.
    #[must_use]
    pub fn is_failed(&self, page: PageIndex) -> bool {
        self.geometry.locate(page).is_some_and(|(block, page)| {
            self.blocks.state(block) == State::Failed
                && self.blocks.removed(block).and(page).is_empty()
        })
    }

    /// Where the bytes of a page are now, for a capture. While no call is under way, a page that
    /// the guest may have written to is never said to be in the source.
    #[must_use]
    pub fn origin(&self, page: PageIndex) -> Option<PageOrigin> {
        let (block, page) = self.geometry.locate(page)?;
        let is_removed = !self.blocks.removed(block).and(page).is_empty();
        let is_filled = || match self.entries.get(&block).map(|entry| &entry.stage) {
            Some(Stage::Running(job)) => {
                matches!(job.phase, Phase::Installing(_)) && !job.seen.and(page).is_empty()
            }
            _ => false,
        };
        Some(match self.blocks.state(block) {
            _ if is_removed => PageOrigin::Memory,
            State::Absent if is_filled() => PageOrigin::Memory,
            State::Absent => PageOrigin::Source,
            State::Resolved | State::Mapped => PageOrigin::Memory,
            State::Failed => PageOrigin::Failed,
        })
    }
}

/// Where the bytes of a page are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageOrigin {
    /// In the source, for all that is known: memory is not to be asked.
    Source,
    /// In memory; a page that is missing there is zero.
    Memory,
    /// Nowhere.
    Failed,
}

/// A job and its block's entry; `None` if the ticket is not of the job that runs.
fn running<'a>(
    entries: &'a mut HashMap<BlockIndex, Entry>,
    ticket: &Ticket,
) -> Option<(&'a mut job::Waiters, &'a mut Job)> {
    let entry = entries.get_mut(&ticket.block)?;
    match &mut entry.stage {
        Stage::Running(job) if job.number == ticket.number => Some((&mut entry.waiters, job)),
        _ => None,
    }
}
