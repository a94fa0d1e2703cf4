//! A simulated kernel: pages, threads that access them, removals that wait to be read. It answers
//! calls as userfaultfd does, and lets nobody see a page that the guest could not have seen.
//!
//! What may be seen is kept beside the pages, by the guest's own history: what the source has until
//! a page was written or removed, zeros after a removal has returned, either of both meanwhile.

use std::collections::VecDeque;

use coldframe_fault::Answer;
use coldframe_units::PageRun;

/// What a page holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Page {
    Missing,
    /// The source's bytes.
    Source,
    Zero,
    Written(u32),
    Poison,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    Read,
    Write(u32),
}

/// A thread that sleeps in a fault.
#[derive(Clone, Copy, Debug)]
struct Sleeper {
    page: usize,
    access: Access,
}

/// How far madvise(2) has come. The event is read before anything is removed, and other calls are
/// possible again before that too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Sent,
    Read,
    MayFill,
    Removed,
}

#[derive(Debug)]
struct Removal {
    pages: std::ops::Range<usize>,
    stage: Stage,
}

#[derive(Debug)]
pub struct Kernel {
    pages: Vec<Page>,
    /// What may be seen in each page.
    allowed: Vec<Vec<Page>>,
    sleepers: Vec<Sleeper>,
    /// Pages of faults that were not read.
    faults: VecDeque<usize>,
    removal: Option<Removal>,
    /// Pages whose source fails, for ever or at first.
    failing: Vec<bool>,
}

/// An event, as read.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    Fault(usize),
    Remove(std::ops::Range<usize>),
}

impl Kernel {
    /// `present` were written before anything was registered; the source of `failing` may fail, and
    /// that of `lost` always does.
    pub fn new(count: usize, present: &[usize], failing: &[usize], lost: &[usize]) -> Self {
        let mut allowed = vec![vec![Page::Source]; count];
        let mut pages = vec![Page::Missing; count];
        for page in failing {
            allowed[*page] = vec![Page::Source, Page::Poison];
        }
        for page in lost {
            allowed[*page] = vec![Page::Poison];
        }
        for page in present {
            pages[*page] = Page::Written(0);
            allowed[*page] = vec![Page::Written(0)];
        }
        let failing = (0..count).map(|page| lost.contains(&page)).collect();
        Self {
            pages,
            allowed,
            sleepers: Vec::new(),
            faults: VecDeque::new(),
            removal: None,
            failing,
        }
    }

    /// What the source has for these pages is zeros.
    pub fn zero_source(&mut self, pages: &[usize]) {
        for page in pages {
            if self.allowed[*page] == [Page::Source] {
                self.allowed[*page] = vec![Page::Zero];
            }
        }
    }

    /// A thread accesses a page: it goes on, or sleeps.
    pub fn access(&mut self, page: usize, access: Access) -> Result<(), String> {
        match self.pages[page] {
            Page::Missing => {
                self.sleepers.push(Sleeper { page, access });
                self.faults.push_back(page);
                Ok(())
            }
            seen => self.complete(page, access, seen),
        }
    }

    fn complete(&mut self, page: usize, access: Access, seen: Page) -> Result<(), String> {
        if !self.allowed[page].contains(&seen) {
            let allowed = &self.allowed[page];
            return Err(format!(
                "page {page}: {seen:?} was seen, not one of {allowed:?}"
            ));
        }
        if let Access::Write(value) = access
            && seen != Page::Poison
        {
            let written = Page::Written(value);
            self.pages[page] = written;
            let is_going = self
                .removal
                .as_ref()
                .is_some_and(|removal| removal.pages.contains(&page));
            if !is_going {
                self.allowed[page].clear();
            }
            self.allowed[page].push(written);
        }
        Ok(())
    }

    /// A signal takes a thread out of its sleep and back in: one more event.
    pub fn disturb(&mut self, which: usize) {
        if let Some(sleeper) = self.sleepers.get(which) {
            self.faults.push_back(sleeper.page);
        }
    }

    /// Another mapping of the same memory gets the page: it is there, and nobody is woken.
    pub fn appear(&mut self, page: usize) {
        let is_gone = self.removal.as_ref().is_some_and(|removal| {
            removal.stage == Stage::Removed && removal.pages.contains(&page)
        });
        let is_sound = self.allowed[page].contains(&Page::Source) && !is_gone;
        if is_sound && self.pages[page] == Page::Missing {
            self.pages[page] = Page::Source;
        }
    }

    /// A thread gives up pages; one at a time does.
    pub fn remove(&mut self, pages: std::ops::Range<usize>) {
        if self.removal.is_some() || pages.is_empty() {
            return;
        }
        for page in pages.clone() {
            self.allowed[page].push(Page::Zero);
        }
        let stage = Stage::Sent;
        self.removal = Some(Removal { pages, stage });
    }

    /// The thread that gives up pages goes on, unless its event was not read yet.
    pub fn proceed(&mut self) -> bool {
        let Some(removal) = &mut self.removal else {
            return false;
        };
        let pages = removal.pages.clone();
        match removal.stage {
            Stage::Sent => return false,
            Stage::Read => removal.stage = Stage::MayFill,
            Stage::MayFill => {
                removal.stage = Stage::Removed;
                self.pages[pages].fill(Page::Missing);
            }
            Stage::Removed => {
                self.removal = None;
                for page in pages {
                    // What was written while it went on may have come before or after.
                    let kept = self.pages[page];
                    self.allowed[page] = vec![Page::Zero];
                    if matches!(kept, Page::Written(_)) {
                        self.allowed[page].push(kept);
                    }
                }
            }
        }
        true
    }

    /// Up to `count` events: faults first, as the kernel has it.
    pub fn read(&mut self, count: usize) -> Vec<Event> {
        let mut events: Vec<Event> = Vec::new();
        while events.len() < count {
            if let Some(page) = self.faults.pop_front() {
                events.push(Event::Fault(page));
                continue;
            }
            match &mut self.removal {
                Some(removal) if removal.stage == Stage::Sent => {
                    removal.stage = Stage::Read;
                    events.push(Event::Remove(removal.pages.clone()));
                }
                _ => break,
            }
        }
        events
    }

    fn is_changing(&self) -> bool {
        let removal = self.removal.as_ref();
        removal.is_some_and(|removal| matches!(removal.stage, Stage::Sent | Stage::Read))
    }

    /// A call that fills pages, all with the same.
    pub fn fill(&mut self, run: PageRun, with: Page) -> Result<Answer, String> {
        if self.is_changing() {
            return Ok(Answer::Changing);
        }
        let range = range(run);
        let free = range
            .clone()
            .take_while(|page| self.pages[*page] == Page::Missing);
        let count = free.count();
        if count == 0 {
            return Ok(Answer::Present);
        }
        let filled = range.start..range.start + count;
        if with == Page::Source && filled.clone().any(|page| self.failing[page]) {
            return Err(format!(
                "{filled:?} filled with what the source does not have"
            ));
        }
        self.pages[filled.clone()].fill(with);
        self.wake_range(&filled)?;
        Ok(if count == range.len() {
            Answer::All
        } else {
            Answer::Part(count as u64)
        })
    }

    pub fn wake(&mut self, run: PageRun) -> Result<Answer, String> {
        self.wake_range(&range(run))?;
        Ok(Answer::All)
    }

    /// Threads that sleep there try again; events of theirs that were not read are gone.
    fn wake_range(&mut self, range: &std::ops::Range<usize>) -> Result<(), String> {
        self.faults.retain(|page| !range.contains(page));
        let (woken, asleep): (Vec<Sleeper>, Vec<Sleeper>) = self
            .sleepers
            .drain(..)
            .partition(|sleeper| range.contains(&sleeper.page));
        self.sleepers = asleep;
        for sleeper in woken {
            self.access(sleeper.page, sleeper.access)?;
        }
        Ok(())
    }

    /// Pages that threads sleep in.
    pub fn asleep(&self) -> Vec<usize> {
        self.sleepers.iter().map(|sleeper| sleeper.page).collect()
    }

    pub fn is_quiet(&self) -> bool {
        self.faults.is_empty() && self.removal.is_none()
    }

    pub fn page(&self, page: usize) -> Page {
        self.pages[page]
    }
}

fn range(run: PageRun) -> std::ops::Range<usize> {
    let index = |page: coldframe_units::PageIndex| usize::try_from(page.get()).unwrap();
    index(run.start())..index(run.end())
}
