//! Every interleaving and every allowed reordering of small programs, by loom.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p coldframe-fault --release --test loom \
//!   --target-dir target/loom`
//!
//! A page of guest memory is a relaxed atomic here, and its write protection another.
#![cfg(loom)]
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use coldframe_fault::{
    Answer, Batch, BlockIndex, Claimed, Claims, Content, Core, Dispatcher, Fault, Geometry, Next,
    Poisoning, Region, Step, Task,
};
use coldframe_units::{ByteLen, PageIndex, PageSize, RamOffset};
use loom::sync::atomic::{AtomicU64, Ordering::Relaxed};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

const BLOCK: BlockIndex = BlockIndex::new(0);
const BEFORE: u64 = 1;
const AFTER: u64 = 2;

/// Copies the block if it is this caller's. True if its protection may be lifted.
fn copy(claims: &Claims, memory: &AtomicU64, image: &AtomicU64) -> bool {
    match claims.claim(BLOCK) {
        Claimed::Mine(claim) => {
            image.store(memory.load(Relaxed), Relaxed);
            claim.copied();
            true
        }
        Claimed::InProgress => false,
        Claimed::Copied | Claimed::Cancelled => true,
    }
}

#[test]
fn a_write_that_waits_for_the_copy_is_not_in_the_image() {
    loom::model(|| {
        let claims = Arc::new(Claims::new(1));
        let memory = Arc::new(AtomicU64::new(BEFORE));
        let image = Arc::new(AtomicU64::new(0));
        let copier = thread::spawn({
            let (claims, memory, image) = (claims.clone(), memory.clone(), image.clone());
            move || copy(&claims, &memory, &image)
        });
        // The guest writes to the block: the thread that answers the fault lifts the protection
        // only if it may, and the guest goes on.
        let lifted = copy(&claims, &memory, &image);
        if lifted {
            memory.store(AFTER, Relaxed);
        }
        copier.join().unwrap();
        assert_eq!(image.load(Relaxed), BEFORE);
    });
}

#[test]
fn of_two_copiers_one_copies() {
    loom::model(|| {
        let claims = Arc::new(Claims::new(1));
        let copies = Arc::new(AtomicU64::new(0));
        let one = |claims: &Claims, copies: &AtomicU64| {
            if let Claimed::Mine(claim) = claims.claim(BLOCK) {
                copies.fetch_add(1, Relaxed);
                claim.copied();
            }
        };
        let other = thread::spawn({
            let (claims, copies) = (claims.clone(), copies.clone());
            move || one(&claims, &copies)
        });
        one(&claims, &copies);
        other.join().unwrap();
        assert_eq!(copies.load(Relaxed), 1);
        assert!(claims.is_complete());
    });
}

#[test]
fn a_removal_beside_a_copy_cancels_or_comes_after_it() {
    loom::model(|| {
        let claims = Arc::new(Claims::new(1));
        let memory = Arc::new(AtomicU64::new(BEFORE));
        let image = Arc::new(AtomicU64::new(0));
        let copier = thread::spawn({
            let (claims, memory, image) = (claims.clone(), memory.clone(), image.clone());
            move || copy(&claims, &memory, &image)
        });
        claims.removed(BLOCK);
        // The event was read: the pages go.
        memory.store(0, Relaxed);
        copier.join().unwrap();
        assert!(claims.is_cancelled() || image.load(Relaxed) == BEFORE);
    });
}

/// What threads wait with, as an edge-triggered epoll(7): what has become ready wakes one of them,
/// or is found by the next that waits, and is then ready no more.
#[derive(Default)]
struct Events {
    state: Mutex<Ready>,
    came: Condvar,
}

#[derive(Default)]
struct Ready {
    faults: Vec<u64>,
    is_fault: bool,
    is_kick: bool,
}

impl Events {
    fn fault(&self, page: u64) {
        let mut state = self.state.lock().unwrap();
        state.faults.push(page);
        state.is_fault = true;
        self.came.notify_one();
    }

    fn kick(&self) {
        self.state.lock().unwrap().is_kick = true;
        self.came.notify_one();
    }

    /// The faults that were not read, if this thread was woken by one.
    fn wait(&self) -> Vec<u64> {
        let mut state = self.state.lock().unwrap();
        while !state.is_fault && !state.is_kick {
            state = self.came.wait(state).unwrap();
        }
        if std::mem::take(&mut state.is_fault) {
            return std::mem::take(&mut state.faults);
        }
        state.is_kick = false;
        Vec::new()
    }
}

struct Service {
    dispatcher: Dispatcher,
    events: Events,
    filled: AtomicU64,
}

fn service() -> Arc<Service> {
    let region = Region {
        host: 0x10_0000,
        ram: RamOffset::ZERO,
        len: ByteLen::new(2 << 16),
    };
    let geometry = Geometry::new(vec![region], PageSize::SIZE_64K).unwrap();
    let core = Core::new(geometry, Poisoning::Available, ByteLen::new(1 << 20));
    Arc::new(Service {
        dispatcher: Dispatcher::new(core),
        events: Events::default(),
        filled: AtomicU64::new(0),
    })
}

/// A thread of the service.
fn serve(service: &Service) {
    loop {
        match service.dispatcher.next() {
            Next::Stop => {
                service.events.kick();
                return;
            }
            Next::Wait => {
                let mut batch = Batch::default();
                for page in service.events.wait() {
                    let page = PageIndex::new(page);
                    batch.fault(Fault { page, thread: 1 });
                }
                service
                    .dispatcher
                    .core(|core| core.apply(&batch, Duration::ZERO));
            }
            Next::Task { task, is_more } => {
                if is_more {
                    service.events.kick();
                }
                fill(service, task);
            }
        }
    }
}

fn fill(service: &Service, task: Task) {
    let Task::Fetch { ticket, .. } = task else {
        panic!("{task:?}");
    };
    service.dispatcher.core(|core| {
        core.fetched(&ticket, Some(Content::Data));
        let step = core.step(&ticket);
        core.answered(&ticket, step, Answer::All);
        assert_eq!(core.step(&ticket), Step::Done);
    });
    // The last of them ends the service.
    if service.filled.fetch_add(1, Relaxed) == 1 {
        service.dispatcher.stop();
        service.events.kick();
    }
}

/// Fewer switches than all: what is looked for needs one or two.
fn explore(body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(body);
}

#[test]
fn faults_beside_each_other_are_all_served_and_nobody_sleeps_on() {
    explore(|| {
        let service = service();
        let other = thread::spawn({
            let service = service.clone();
            move || serve(&service)
        });
        let guest = thread::spawn({
            let service = service.clone();
            move || {
                service.events.fault(0);
                service.events.fault(1);
            }
        });
        serve(&service);
        guest.join().unwrap();
        other.join().unwrap();
    });
}

#[test]
fn work_that_comes_without_an_event_is_seen_by_whoever_waits_or_sleeps() {
    explore(|| {
        let service = service();
        let other = thread::spawn({
            let service = service.clone();
            move || serve(&service)
        });
        let owner = thread::spawn({
            let service = service.clone();
            move || {
                service
                    .dispatcher
                    .core(|core| core.allow_fill(ByteLen::new(u64::MAX)));
                service.events.kick();
            }
        });
        serve(&service);
        owner.join().unwrap();
        other.join().unwrap();
    });
}

#[test]
fn the_end_reaches_every_thread_by_one_kick() {
    explore(|| {
        let service = service();
        let threads = [(); 2].map(|()| {
            let service = service.clone();
            thread::spawn(move || serve(&service))
        });
        service.dispatcher.stop();
        service.events.kick();
        for thread in threads {
            thread.join().unwrap();
        }
    });
}
