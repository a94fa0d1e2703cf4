//! Any order of accesses, removals, reads of events, fetches and calls: the guest sees what it may
//! see, nobody sleeps for ever, and what cannot be had is poisoned. A driver that does not keep to
//! its part is found out.

use std::time::Duration;

use coldframe_fault::{
    Answer, Batch, BlockIndex, Class, Content, Core, Depth, Fault, Geometry, PageOrigin, Poisoning,
    Region, Step, Task, Ticket,
};
use coldframe_units::{ByteLen, PageIndex, PageRun, PageSize, RamOffset};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use crate::kernel::{Access, Event, Kernel, Page};

/// Two and a half blocks; the second is in two regions.
const PAGES: usize = 40;
const FIRST_REGION: usize = 21;
const WORKERS: usize = 3;
/// Blocks in the background at once.
const BACKGROUND: u64 = 2;

/// A rule of the driver's that it breaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sabotage {
    None,
    /// Nobody is woken by words.
    NoWake,
    /// Events are read between a step and its answer.
    ReadsBetween,
    /// "Memory is changing" is taken for done.
    ChangingIsDone,
    /// Of a batch with a removal, only the faults are applied.
    NoRemovals,
    /// Part of a run is taken for all of it.
    PartIsAll,
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Read(usize),
    Write(usize, u32),
    Disturb(usize),
    Appear(usize),
    Remove(usize, usize),
    Proceed,
    Pump(usize),
    Work(usize),
    Prefetch(u64, u64, bool),
    Fill(u64),
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        4 => (0..PAGES).prop_map(Action::Read),
        3 => (0..PAGES, 1..100_u32).prop_map(|(page, value)| Action::Write(page, value)),
        1 => (0..4_usize).prop_map(Action::Disturb),
        1 => (0..PAGES).prop_map(Action::Appear),
        2 => (0..PAGES, 1..20_usize).prop_map(|(start, count)| Action::Remove(start, count)),
        4 => Just(Action::Proceed),
        5 => (1..4_usize).prop_map(Action::Pump),
        12 => (0..WORKERS).prop_map(Action::Work),
        1 => (0..3_u64, 1..4_u64, any::<bool>()).prop_map(|(a, b, c)| Action::Prefetch(a, b, c)),
        1 => (0..4_u64).prop_map(Action::Fill),
    ];
    vec(action, 1..150)
}

/// What the world is like at the start.
#[derive(Clone, Debug)]
struct Start {
    /// Written before the guest ran.
    present: Vec<usize>,
    /// For each block: 0 and 1 data, 2 zeros, 3 fails at first, 4 always fails, 5 comes by itself.
    contents: [u8; 3],
    poisoning: bool,
}

fn start() -> impl Strategy<Value = Start> {
    let contents = prop::array::uniform3(0..6_u8);
    (vec(0..PAGES, 0..6), contents, prop::bool::weighted(0.8)).prop_map(
        |(present, contents, poisoning)| Start {
            present,
            contents,
            poisoning,
        },
    )
}

enum Worker {
    Idle,
    Fetching(Ticket),
    Running(Ticket),
    /// Chosen, and not called yet.
    Issued(Ticket, Step),
}

struct World {
    core: Core,
    kernel: Kernel,
    workers: Vec<Worker>,
    contents: [u8; 3],
    fetches: [u32; 3],
    sabotage: Sabotage,
    is_poisoning: bool,
    /// Pages that came by another way than a call of the driver's.
    present: Vec<usize>,
}

impl World {
    fn new(start: &Start, sabotage: Sabotage) -> Self {
        let page = PageSize::SIZE_4K;
        let len = |pages: usize| ByteLen::new(pages as u64 * page.bytes());
        let regions = vec![
            Region {
                host: 0x10_0000,
                ram: RamOffset::ZERO,
                len: len(FIRST_REGION),
            },
            Region {
                host: 0x90_0000,
                ram: RamOffset::new(len(FIRST_REGION).get()),
                len: len(PAGES - FIRST_REGION),
            },
        ];
        let geometry = Geometry::new(regions, page).unwrap();
        let of = |kind: u8| -> Vec<usize> {
            let pages = 0..PAGES;
            pages
                .filter(|page| start.contents[page / 16] == kind)
                .collect()
        };
        let poisoning = if start.poisoning {
            Poisoning::Available
        } else {
            Poisoning::Missing
        };
        let mut kernel = Kernel::new(PAGES, &start.present, &of(3), &of(4));
        kernel.zero_source(&of(2));
        Self {
            core: Core::new(geometry, poisoning, ByteLen::new(BACKGROUND << 16)),
            kernel,
            workers: (0..WORKERS).map(|_| Worker::Idle).collect(),
            contents: start.contents,
            fetches: [0; 3],
            sabotage,
            is_poisoning: start.poisoning,
            present: start.present.clone(),
        }
    }

    fn act(&mut self, action: Action) -> Result<(), String> {
        match action {
            Action::Read(page) => self.kernel.access(page, Access::Read)?,
            Action::Write(page, value) => self.kernel.access(page, Access::Write(value))?,
            Action::Disturb(which) => self.kernel.disturb(which),
            Action::Appear(page) => {
                self.kernel.appear(page);
                self.present.push(page);
            }
            Action::Remove(start, count) => {
                self.kernel.remove(start..(start + count).min(PAGES));
            }
            Action::Proceed => {
                self.kernel.proceed();
            }
            Action::Pump(count) => {
                self.pump(count);
            }
            Action::Work(worker) => {
                self.work(worker)?;
            }
            Action::Prefetch(block, count, is_deep) => {
                let depth = if is_deep {
                    Depth::Install
                } else {
                    Depth::Fetch
                };
                self.core.prefetch([(BlockIndex::new(block), count)], depth);
            }
            Action::Fill(blocks) => self.core.allow_fill(ByteLen::new(blocks << 16)),
        }
        self.check_origins()?;
        let under_way = self.core.background_bytes().get();
        if under_way > BACKGROUND << 16 {
            return Err(format!("{under_way} bytes are under way"));
        }
        Ok(())
    }

    /// While no call is under way, nothing that the guest has written is said to be in the source.
    fn check_origins(&self) -> Result<(), String> {
        if self
            .workers
            .iter()
            .any(|worker| matches!(worker, Worker::Issued(..)))
        {
            return Ok(());
        }
        for page in 0..PAGES {
            let is_written = matches!(self.kernel.page(page), Page::Written(1..));
            let origin = self.core.origin(PageIndex::new(page as u64));
            let was_there = self.present.contains(&page);
            if is_written && !was_there && origin == Some(PageOrigin::Source) {
                return Err(format!(
                    "page {page} was written, and is said to be in the source"
                ));
            }
        }
        Ok(())
    }

    /// Reads events, if the driver may now; false if there were none.
    fn pump(&mut self, count: usize) -> bool {
        let is_between = |worker: &Worker| matches!(worker, Worker::Issued(..));
        if self.workers.iter().any(is_between) && self.sabotage != Sabotage::ReadsBetween {
            return false;
        }
        let mut batch = Batch::default();
        let events = self.kernel.read(count);
        let is_any = !events.is_empty();
        for event in events {
            match event {
                Event::Fault(page) => batch.fault(Fault {
                    page: PageIndex::new(page as u64),
                    thread: 1,
                }),
                Event::Remove(_) if self.sabotage == Sabotage::NoRemovals => {}
                Event::Remove(pages) => {
                    let first = PageIndex::new(pages.start as u64);
                    batch.removal(PageRun::new(first, pages.len() as u64).unwrap());
                }
            }
        }
        self.core.apply(&batch, Duration::ZERO);
        is_any
    }

    /// One worker goes one step on; false if it has nothing to do.
    fn work(&mut self, which: usize) -> Result<bool, String> {
        let worker = std::mem::replace(&mut self.workers[which], Worker::Idle);
        self.workers[which] = match worker {
            Worker::Idle => match self.core.next_task() {
                Some(Task::Fetch { ticket, .. }) => Worker::Fetching(ticket),
                Some(Task::Settle { ticket }) => Worker::Running(ticket),
                None => return Ok(false),
            },
            Worker::Fetching(ticket) => {
                let content = self.fetch(ticket.block());
                self.core.fetched(&ticket, content);
                Worker::Running(ticket)
            }
            Worker::Running(ticket) => match self.core.step(&ticket) {
                Step::Done => Worker::Idle,
                Step::ReadEvents => Worker::Running(ticket),
                step => Worker::Issued(ticket, step),
            },
            Worker::Issued(ticket, step) => {
                let answer = self.call(step)?;
                self.core.answered(&ticket, step, answer);
                Worker::Running(ticket)
            }
        };
        Ok(true)
    }

    fn fetch(&mut self, block: BlockIndex) -> Option<Content> {
        let index = usize::try_from(block.get()).unwrap();
        self.fetches[index] += 1;
        match self.contents[index] {
            2 => Some(Content::Zero),
            5 => {
                for page in (index * 16..PAGES).take(16) {
                    self.kernel.appear(page);
                    self.present.push(page);
                }
                Some(Content::Mapped)
            }
            3 if self.fetches[index] == 1 => None,
            4 => None,
            _ => Some(Content::Data),
        }
    }

    fn call(&mut self, step: Step) -> Result<Answer, String> {
        let answer = match step {
            Step::Copy(run) => self.kernel.fill(run, Page::Source)?,
            Step::Zero(run) => self.kernel.fill(run, Page::Zero)?,
            Step::Poison(run) if self.is_poisoning => self.kernel.fill(run, Page::Poison)?,
            Step::Poison(_) => return Err("poison is not to be had".to_owned()),
            Step::Wake(_) if self.sabotage == Sabotage::NoWake => Answer::All,
            Step::Wake(run) => self.kernel.wake(run)?,
            Step::ReadEvents | Step::Done => unreachable!("these are no calls"),
        };
        Ok(match answer {
            Answer::Changing if self.sabotage == Sabotage::ChangingIsDone => Answer::All,
            Answer::Part(_) if self.sabotage == Sabotage::PartIsAll => Answer::All,
            answer => answer,
        })
    }

    /// Everybody goes on until there is nothing left to do.
    fn settle(&mut self) -> Result<(), String> {
        for _ in 0..2000 {
            let mut is_busy = false;
            for worker in 0..WORKERS {
                while self.work(worker)? {
                    is_busy = true;
                    if matches!(self.workers[worker], Worker::Running(_)) {
                        break;
                    }
                }
            }
            is_busy |= self.pump(8);
            is_busy |= self.kernel.proceed();
            let is_idle = |worker: &Worker| matches!(worker, Worker::Idle);
            if !is_busy && self.kernel.is_quiet() && self.workers.iter().all(is_idle) {
                return Ok(());
            }
        }
        Err("there is no end to it".to_owned())
    }

    /// Nobody sleeps but who waits for what cannot be had, nor poisoned.
    fn check_settled(&self) -> Result<(), String> {
        let may_fail = |page: &usize| matches!(self.contents[page / 16], 3 | 4);
        let may_sleep = |page: &usize| !self.is_poisoning && may_fail(page);
        let asleep = self.kernel.asleep();
        if let Some(page) = asleep.iter().find(|page| !may_sleep(page)) {
            return Err(format!("somebody sleeps in page {page} for ever"));
        }
        let waiting = self.core.waiting().count();
        if waiting > 0 && asleep.is_empty() {
            return Err(format!("{waiting} blocks are waited for by nobody"));
        }
        if self.core.background_bytes() != ByteLen::ZERO {
            return Err("bytes are under way, and nobody is".to_owned());
        }
        Ok(())
    }

    fn run(&mut self, actions: &[Action]) -> Result<(), String> {
        for action in actions {
            self.act(*action)?;
        }
        self.settle()?;
        self.check_settled()?;
        for page in 0..PAGES {
            self.kernel.access(page, Access::Read)?;
        }
        self.settle()?;
        self.check_settled()?;
        for page in 0..PAGES {
            let is_failed = self.core.is_failed(PageIndex::new(page as u64));
            if self.kernel.page(page) == Page::Poison && !is_failed {
                return Err(format!("page {page} is poisoned, and said to be sound"));
            }
        }
        Ok(())
    }
}

#[test]
fn the_guest_sees_what_it_may_see_and_nobody_sleeps_for_ever() {
    let mut runner = TestRunner::new(Config {
        cases: if cfg!(debug_assertions) { 3000 } else { 20000 },
        failure_persistence: None,
        ..Config::default()
    });
    let run = |(start, actions): (Start, Vec<Action>)| {
        let mut world = World::new(&start, Sabotage::None);
        world.run(&actions).map_err(TestCaseError::fail)
    };
    if let Err(error) = runner.run(&(start(), actions()), run) {
        panic!("{error}");
    }
}

#[test]
fn a_driver_that_breaks_a_rule_is_found_out() {
    for sabotage in [
        Sabotage::NoWake,
        Sabotage::ReadsBetween,
        Sabotage::ChangingIsDone,
        Sabotage::NoRemovals,
        Sabotage::PartIsAll,
    ] {
        let config = Config {
            cases: 20000,
            max_shrink_iters: 0,
            failure_persistence: None,
            ..Config::default()
        };
        let mut runner = TestRunner::new(config);
        let run = |(start, actions): (Start, Vec<Action>)| {
            let mut world = World::new(&start, sabotage);
            world.run(&actions).map_err(TestCaseError::fail)
        };
        let found = runner.run(&(start(), actions()), run);
        assert!(found.is_err(), "{sabotage:?} was not found");
    }
}

#[test]
fn demand_goes_before_prefetch_and_prefetch_before_filling_up() {
    let start = Start {
        present: Vec::new(),
        contents: [0; 3],
        poisoning: true,
    };
    let mut world = World::new(&start, Sabotage::None);
    world.core.allow_fill(ByteLen::new(u64::MAX));
    world
        .core
        .prefetch([(BlockIndex::new(1), 1)], Depth::Install);
    world.kernel.access(40 - 1, Access::Read).unwrap();
    world.pump(1);
    let order: Vec<(u64, Class)> = std::iter::from_fn(|| world.core.next_task())
        .map(|task| match task {
            Task::Fetch { ticket, class } => (ticket.block().get(), class),
            Task::Settle { .. } => panic!("nothing is there to be settled"),
        })
        .collect();
    assert_eq!(
        order,
        [(2, Class::Demand), (1, Class::Prefetch), (0, Class::Fill)]
    );
}
