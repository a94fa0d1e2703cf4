//! Every interleaving of a pause with the vCPUs that it stops, by loom.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p coldframe-hv --release --test loom \
//!   --target-dir target/loom`
//!
//! The protocol is compiled here with loom's locks, so that no dependency on loom is in the
//! published crate. A kick that is lost, or a wake-up, is a deadlock that loom reports.
#![cfg(loom)]
#![allow(clippy::unwrap_used, dead_code, missing_docs)]

mod sync {
    pub use loom::sync::{Arc, Condvar, Mutex, MutexGuard};
}
#[path = "../src/park/lot.rs"]
mod lot;

use std::convert::Infallible;
use std::time::Duration;

use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use lot::{Parked, ParkingLot, PauseError, Seat};

/// A vCPU as KVM has it: a signal ends a run that is under way and is lost otherwise; a flag ends
/// a run before it begins.
#[derive(Default)]
struct Hardware {
    state: Mutex<Run>,
    changed: Condvar,
    /// Whether it is in the guest, for the pauser to see.
    in_guest: AtomicBool,
}

#[derive(Default)]
struct Run {
    in_guest: bool,
    signalled: bool,
    /// `immediate_exit`.
    immediate: bool,
}

impl Hardware {
    /// Runs the guest until it is kicked out.
    fn run(&self) {
        let mut run = self.state.lock().unwrap();
        if run.immediate {
            return;
        }
        self.in_guest.store(true, Ordering::SeqCst);
        (run.in_guest, run.signalled) = (true, false);
        while !run.signalled {
            run = self.changed.wait(run).unwrap();
        }
        run.in_guest = false;
        self.in_guest.store(false, Ordering::SeqCst);
    }

    fn kick(&self, sets_the_flag: bool) {
        let mut run = self.state.lock().unwrap();
        run.immediate |= sets_the_flag;
        if run.in_guest {
            run.signalled = true;
            self.changed.notify_all();
        }
    }

    fn clear(&self) {
        self.state.lock().unwrap().immediate = false;
    }
}

type Lot = ParkingLot<Arc<Hardware>, usize>;

/// The thread of a vCPU, as the adapter for KVM has it: clear the flag, then look.
fn vcpu(seat: Seat<Arc<Hardware>, usize>, hardware: Arc<Hardware>, clears_first: bool) {
    let mut held = seat.vcpu() as usize;
    while !seat.is_closed() {
        hardware.run();
        if clears_first {
            hardware.clear();
        }
        held = seat.sit(held);
        if !clears_first {
            hardware.clear();
        }
    }
    assert_eq!(held, seat.vcpu() as usize);
}

fn kick(owners: &[Arc<Hardware>], sets_the_flag: bool) -> Result<(), Infallible> {
    owners.iter().for_each(|one| one.kick(sets_the_flag));
    Ok(())
}

const PATIENCE: Duration = Duration::from_secs(3600);

struct Case {
    vcpus: u32,
    pauses: u32,
    sets_the_flag: bool,
    clears_first: bool,
    bound: usize,
}

fn check(case: &'static Case) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(case.bound);
    model.check(move || {
        let lot = Lot::new(case.vcpus);
        let hardware: Vec<_> = (0..case.vcpus)
            .map(|_| Arc::new(Hardware::default()))
            .collect();
        let threads: Vec<_> = (0..case.vcpus)
            .map(|index| {
                let one = hardware[index as usize].clone();
                let seat = lot.seat(index, one.clone()).unwrap();
                thread::spawn(move || vcpu(seat, one, case.clears_first))
            })
            .collect();
        for _ in 0..case.pauses {
            let parked = lot
                .pause(PATIENCE, |owners| kick(owners, case.sets_the_flag))
                .unwrap();
            let numbers: Vec<_> = (0..case.vcpus as usize).collect();
            assert_eq!(parked.held(), numbers);
            for one in &hardware {
                assert!(!one.in_guest.load(Ordering::SeqCst), "parked in the guest");
            }
            drop(parked);
        }
        lot.close(|owners| kick(owners, case.sets_the_flag))
            .unwrap();
        threads.into_iter().for_each(|one| one.join().unwrap());
    });
}

#[test]
fn a_pause_stops_a_vcpu_wherever_it_is() {
    check(&Case {
        vcpus: 1,
        pauses: 2,
        sets_the_flag: true,
        clears_first: true,
        bound: 3,
    });
}

#[test]
fn a_pause_stops_two_vcpus() {
    check(&Case {
        vcpus: 2,
        pauses: 1,
        sets_the_flag: true,
        clears_first: true,
        bound: 2,
    });
}

/// Names a planted case, for a child of this test.
const PLANTED: &str = "COLDFRAME_TEST_LOOM_PLANTED";

/// A signal alone can arrive between the look at the lot and the entry into the guest.
const SIGNAL_ALONE: Case = Case {
    vcpus: 1,
    pauses: 1,
    sets_the_flag: false,
    clears_first: true,
    bound: 3,
};

/// A flag that is cleared after the look may be that of the next pause.
const CLEARED_LATE: Case = Case {
    vcpus: 1,
    pauses: 2,
    sets_the_flag: true,
    clears_first: false,
    bound: 3,
};

/// What the child does, which loom ends by a panic.
#[test]
fn inner() {
    match std::env::var(PLANTED).as_deref() {
        Ok("signal alone") => check(&SIGNAL_ALONE),
        Ok("cleared late") => check(&CLEARED_LATE),
        _ => {}
    }
}

/// That loom finds an interleaving in which nobody can go on. In a process of its own, since what
/// is dropped while loom panics ends it.
#[track_caller]
fn check_found(planted: &str) {
    let mut child = coldframe_testkit::child::command(std::env::current_exe().unwrap());
    child.args(["--exact", "inner", "--nocapture"]);
    let output = child.env(PLANTED, planted).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{planted} was not found");
    assert!(text.contains("deadlock"), "{text}");
}

#[test]
fn planted_kick_by_signal_alone_is_lost() {
    check_found("signal alone");
}

#[test]
fn planted_flag_cleared_after_the_look_is_lost() {
    check_found("cleared late");
}

/// A thread that ends while a pause waits for it is named, and does not keep the pause waiting.
#[test]
fn a_thread_that_ends_is_named() {
    loom::model(|| {
        let lot = Lot::new(1);
        let seat = lot.seat(0, Arc::new(Hardware::default())).unwrap();
        let looked = Arc::new(AtomicUsize::new(0));
        let thread = thread::spawn({
            let looked = looked.clone();
            move || {
                looked.store(1, Ordering::SeqCst);
                drop(seat);
            }
        });
        let paused = lot.pause(PATIENCE, |owners| kick(owners, true));
        let gone = PauseError::VcpuGone { vcpu: 0 };
        assert_eq!(paused.map(Parked::resume), Err(gone));
        thread.join().unwrap();
    });
}
