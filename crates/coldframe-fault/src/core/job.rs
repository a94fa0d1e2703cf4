//! One block that something goes on with: who waits, and how far its job has come.

use std::time::Duration;

use super::blocks::State;
use super::{Class, Content, Depth, Poisoning};
use crate::geometry::PageMask;

/// Pages that threads may sleep in.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Waiters(PageMask);

impl Waiters {
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) const fn without(&self, pages: PageMask) -> PageMask {
        self.0.without(pages)
    }

    /// A call has woken who slept in these pages. No fault was applied since it was chosen (the
    /// driver's part), so nobody has come since.
    pub(crate) const fn woken(&mut self, pages: PageMask) {
        self.0 = self.0.without(pages);
    }
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) waiters: Waiters,
    pub(crate) stage: Stage,
    /// When the first of the waiters came, and which thread it was.
    pub(crate) since: Duration,
    pub(crate) thread: u32,
}

#[derive(Debug)]
pub(crate) enum Stage {
    /// In the queue of what threads wait for.
    Queued,
    Running(Job),
    /// Threads wait for what they will never get.
    Stuck,
}

#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) number: u64,
    pub(crate) class: Class,
    pub(crate) depth: Depth,
    pub(crate) phase: Phase,
    /// Pages that are there for all that this job knows: filled, or found.
    pub(crate) seen: PageMask,
    pub(crate) is_changing: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// The driver reads the bytes.
    Fetching,
    /// They are put into memory.
    Installing(Content),
    /// Only who waits is helped: with zeros where pages were removed, by being woken where they are
    /// there.
    Settling,
    /// The block has failed.
    Poisoning,
    /// It has, and cannot even be poisoned.
    Stuck,
}

/// The next call for a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Plan {
    Copy(PageMask),
    Zero(PageMask),
    Poison(PageMask),
    Wake(PageMask),
    Nothing,
}

impl Job {
    pub(crate) const fn new(number: u64, class: Class, depth: Depth, phase: Phase) -> Self {
        Self {
            number,
            class,
            depth,
            phase,
            seen: PageMask::NONE,
            is_changing: false,
        }
    }
}

impl Entry {
    pub(crate) fn queued(since: Duration, thread: u32) -> Self {
        Self {
            waiters: Waiters::default(),
            stage: Stage::Queued,
            since,
            thread,
        }
    }

    pub(crate) fn running(job: Job) -> Self {
        Self {
            waiters: Waiters::default(),
            stage: Stage::Running(job),
            since: Duration::ZERO,
            thread: 0,
        }
    }

    /// A thread waits for a page. Zeros that were seen where pages were removed may have gone with
    /// the removal, which comes after its event. True if the block is to be queued again.
    pub(crate) fn add_waiter(&mut self, page: PageMask, removed: PageMask) -> bool {
        self.waiters.0 = self.waiters.0.or(page);
        self.unsee(page.and(removed))
    }

    /// Pages go: what was seen there is no more. True if the block is to be queued again.
    pub(crate) fn removed(&mut self, pages: PageMask) -> bool {
        let waited_for = self.waiters.0.and(pages);
        self.unsee(pages) && !waited_for.is_empty()
    }

    /// Who waits in removed pages can be helped, also in a block that has failed.
    fn unsee(&mut self, pages: PageMask) -> bool {
        match &mut self.stage {
            Stage::Running(job) => {
                job.seen = job.seen.without(pages);
                false
            }
            Stage::Queued => false,
            Stage::Stuck if pages.is_empty() => false,
            Stage::Stuck => {
                self.stage = Stage::Queued;
                true
            }
        }
    }

    /// The next call, for a block of `all` pages.
    pub(crate) fn plan(
        &self,
        state: State,
        removed: PageMask,
        all: PageMask,
        poisoning: Poisoning,
    ) -> Plan {
        let Stage::Running(job) = &self.stage else {
            return Plan::Nothing;
        };
        let waiters = self.waiters.0.and(all);
        let kept = all.without(removed).without(job.seen);
        let fill = match job.phase {
            Phase::Installing(Content::Data) => Plan::Copy(kept),
            Phase::Installing(Content::Zero) => Plan::Zero(kept),
            Phase::Poisoning => Plan::Poison(kept),
            // They are there, and this changes nothing; or the memory fails from here on.
            Phase::Settling
                if matches!(state, State::Resolved | State::Failed)
                    && poisoning == Poisoning::Available =>
            {
                Plan::Poison(kept.and(waiters))
            }
            Phase::Installing(Content::Mapped)
            | Phase::Settling
            | Phase::Fetching
            | Phase::Stuck => Plan::Nothing,
        };
        let zeros = waiters.and(removed).without(job.seen);
        let awake = match job.phase {
            // Those that wait for what the source has, or for nothing at all, sleep on.
            Phase::Settling if state == State::Absent => waiters.and(removed),
            Phase::Stuck => waiters.and(removed),
            _ if is_hopeless(state, poisoning) => waiters.and(removed),
            _ => waiters,
        };
        [fill, Plan::Zero(zeros), Plan::Wake(awake)]
            .into_iter()
            .find(|plan| plan.has_pages())
            .unwrap_or(Plan::Nothing)
    }
}

/// Nothing can be done for who waits in such a block.
pub(crate) fn is_hopeless(state: State, poisoning: Poisoning) -> bool {
    state == State::Failed && poisoning == Poisoning::Missing
}

impl Plan {
    const fn has_pages(self) -> bool {
        match self {
            Self::Copy(pages) | Self::Zero(pages) | Self::Poison(pages) | Self::Wake(pages) => {
                !pages.is_empty()
            }
            Self::Nothing => false,
        }
    }
}
