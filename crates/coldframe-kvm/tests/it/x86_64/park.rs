//! Threads of vCPUs come to rest, whatever they were at.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use coldframe_hv::Machine;
use coldframe_kvm::{KvmError, KvmHost, KvmMachine, ParkingLot, Seat, Tracking, Woken};
use kvm_ioctls::{VcpuExit, VcpuFd};

use super::machine::{COUNTING, Guest, TestVm};

const LONG: Duration = Duration::from_secs(60);

/// Never leaves the guest by itself.
const SPIN: &[u8] = &[
    0x40, // again: inc ax
    0xeb, 0xfd, // jmp again
];

/// Halts for ever: no interrupt is let in.
const HALT: &[u8] = &[
    0xf4, // again: hlt
    0xeb, 0xfd, // jmp again
];

/// Reads numbers that rise by one from a port, and gives up on any other.
#[rustfmt::skip]
const PORTS: &[u8] = &[
    0x31, 0xdb,       // xor bx, bx
    0xe5, 0x10,       // again: in ax, 0x10
    0x43,             // inc bx
    0x39, 0xd8,       // cmp ax, bx
    0x74, 0xf9,       // je again
    0xe6, 0xf4,       // out 0xf4, al
    0xf4,             // hlt
];

/// What a thread has served.
#[derive(Default)]
struct Served {
    reads: AtomicU64,
    /// The guest gave up.
    gave_up: AtomicU64,
}

impl Served {
    fn serve(&self, exit: VcpuExit<'_>) {
        match exit {
            VcpuExit::IoIn(0x10, word) => {
                let number = self.reads.fetch_add(1, Ordering::SeqCst) + 1;
                word.copy_from_slice(&number.to_le_bytes()[..2]);
            }
            VcpuExit::IoOut(0xf4, _) => self.gave_up.store(1, Ordering::SeqCst),
            VcpuExit::Intr => {}
            exit => panic!("unexpected exit {exit:?}"),
        }
    }

    /// The loop of a VMM.
    fn run(&self, seat: &Seat, mut vcpu: VcpuFd) -> Result<(), KvmError> {
        while !seat.is_closed() {
            match vcpu.run() {
                Ok(VcpuExit::Hlt) => match seat.wait_for_interrupt(None) {
                    Woken::Pause => vcpu = seat.park(vcpu, |exit| self.serve(exit))?,
                    other => assert_eq!(other, Woken::Closed),
                },
                Ok(exit) => self.serve(exit),
                Err(error) if error.errno() == libc::EINTR => {
                    vcpu = seat.park(vcpu, |exit| self.serve(exit))?;
                }
                Err(error) => panic!("{error}"),
            }
        }
        Ok(())
    }
}

struct Running {
    lot: ParkingLot,
    served: Vec<Arc<Served>>,
    threads: Vec<JoinHandle<Result<(), KvmError>>>,
    vm: TestVm,
}

impl Running {
    fn start(code: &[u8], vcpus: u32, irqchip: bool) -> Option<Self> {
        let guest = Guest {
            code,
            vcpus: vcpus.into(),
            tracking: Tracking::Off,
            irqchip,
            ..COUNTING
        };
        let (mut vm, _) = TestVm::new(&guest)?;
        vm.boot();
        let lot = ParkingLot::new(vcpus).unwrap();
        let (mut served, mut threads) = (Vec::new(), Vec::new());
        for (index, vcpu) in (0..).zip(vm.vcpus.drain(..)) {
            let (lot, own) = (lot.clone(), Arc::new(Served::default()));
            served.push(Arc::clone(&own));
            threads.push(std::thread::spawn(move || {
                let seat = lot.seat(index, &vcpu)?;
                own.run(&seat, vcpu)
            }));
        }
        Some(Self {
            lot,
            served,
            threads,
            vm,
        })
    }

    fn end(self) {
        self.lot.close().unwrap();
        for thread in self.threads {
            thread.join().unwrap().unwrap();
        }
    }
}

/// Pauses again and again; while it is paused, nothing changes and all of it can be saved.
fn check_pauses(code: &[u8], vcpus: u32, irqchip: bool) -> Option<Running> {
    let running = Running::start(code, vcpus, irqchip)?;
    let host = KvmHost::probe(&running.vm.kvm).unwrap();
    for round in 0..20 {
        let parked = running.lot.pause(LONG).unwrap();
        assert_eq!(parked.vcpus().len(), vcpus as usize);
        let regs = || -> Vec<_> {
            let vcpus = parked.vcpus().iter();
            vcpus.map(|vcpu| vcpu.get_regs().unwrap()).collect()
        };
        let before = regs();
        if round % 7 == 0 {
            let machine = KvmMachine::new(&host, &running.vm.vm, parked.vcpus());
            assert_eq!(machine.save().unwrap().vcpus.len(), vcpus as usize);
        }
        assert_eq!(regs(), before);
        parked.resume();
    }
    Some(running)
}

#[test]
fn vcpus_that_never_leave_the_guest_are_stopped_and_go_on() {
    for vcpus in [1, 2, 4] {
        let Some(running) = check_pauses(SPIN, vcpus, true) else {
            return;
        };
        // Each still counts.
        let counts = |running: &Running| -> Vec<u64> {
            let parked = running.lot.pause(LONG).unwrap();
            let vcpus = parked.vcpus().iter();
            vcpus.map(|vcpu| vcpu.get_regs().unwrap().rax).collect()
        };
        let (first, begun) = (counts(&running), Instant::now());
        let mut moved = vec![false; first.len()];
        while moved.contains(&false) {
            assert!(begun.elapsed() < LONG, "{moved:?}");
            for (moved, (was, is)) in moved.iter_mut().zip(first.iter().zip(counts(&running))) {
                *moved |= *was != is;
            }
        }
        running.end();
    }
}

#[test]
fn vcpus_that_have_halted_are_stopped_in_the_kernel_and_outside_of_it() {
    for vcpus in [1, 2, 4] {
        let Some(running) = check_pauses(HALT, vcpus, true) else {
            return;
        };
        running.end();
    }
    check_pauses(HALT, 1, false).unwrap().end();
}

/// A pause comes at any moment of an access: each is answered once.
#[test]
fn no_answer_to_a_port_read_is_lost_or_given_twice() {
    for vcpus in [1, 2, 4] {
        let Some(running) = check_pauses(PORTS, vcpus, true) else {
            return;
        };
        let begun = Instant::now();
        let reads = |one: &Arc<Served>| one.reads.load(Ordering::SeqCst);
        while running.served.iter().any(|one| reads(one) < 500) {
            assert!(begun.elapsed() < LONG, "the guest stands still");
            let parked = running.lot.pause(LONG).unwrap();
            for (vcpu, one) in parked.vcpus().iter().zip(&running.served) {
                // The instruction is done: what was read last is in its register.
                let rax = vcpu.get_regs().unwrap().rax & 0xffff;
                let expected = reads(one) & 0xffff;
                assert!(rax == expected || expected == 0, "{rax} of {expected}");
            }
        }
        for one in &running.served {
            assert_eq!(one.gave_up.load(Ordering::SeqCst), 0, "the guest gave up");
        }
        running.end();
    }
}

/// A thread that does something else instead of running its vCPU, until it is told.
struct Elsewhere {
    lot: ParkingLot,
    threads: Vec<JoinHandle<()>>,
}

/// Two vCPUs: one that runs, one whose thread does `other` with its seat.
fn beside(
    other: impl FnOnce(Seat, VcpuFd) + Send + 'static,
) -> Option<(Elsewhere, TestVm, Receiver<()>)> {
    let guest = Guest {
        code: SPIN,
        vcpus: 2,
        ..COUNTING
    };
    let (mut vm, _) = TestVm::new(&guest)?;
    vm.boot();
    let lot = ParkingLot::new(2).unwrap();
    let (second, first) = (vm.vcpus.pop().unwrap(), vm.vcpus.pop().unwrap());
    let (seated, is_seated) = channel();
    let lots = [lot.clone(), lot.clone()];
    let [of_first, of_second] = lots;
    let threads = vec![
        std::thread::spawn(move || {
            let seat = of_first.seat(0, &first).unwrap();
            Served::default().run(&seat, first).unwrap();
        }),
        std::thread::spawn(move || {
            let seat = of_second.seat(1, &second).unwrap();
            seated.send(()).unwrap();
            other(seat, second);
        }),
    ];
    Some((Elsewhere { lot, threads }, vm, is_seated))
}

#[test]
fn a_vcpu_that_does_not_come_in_time_is_named_and_the_others_go_on() {
    let (go, gone) = channel::<()>();
    let other = move |seat: Seat, vcpu| {
        gone.recv().unwrap();
        Served::default().run(&seat, vcpu).unwrap();
    };
    let Some((one, _vm, is_seated)) = beside(other) else {
        return;
    };
    is_seated.recv().unwrap();
    let short = Duration::from_millis(50);
    for _ in 0..3 {
        let begun = Instant::now();
        // The first may be late too, on a host that is busy.
        match one.lot.pause(short).unwrap_err() {
            KvmError::NotParked { vcpus, patience } => {
                assert!(vcpus.contains(&1), "{vcpus:?}");
                assert_eq!(patience, short);
            }
            error => panic!("{error}"),
        }
        assert!(begun.elapsed() >= short);
    }
    go.send(()).unwrap();
    let parked = one.lot.pause(LONG).unwrap();
    let second = one.lot.pause(LONG);
    assert!(matches!(second, Err(KvmError::AlreadyPaused)));
    drop(parked);
    one.lot.close().unwrap();
    assert!(matches!(one.lot.pause(LONG), Err(KvmError::LotClosed)));
    one.threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
}

#[test]
fn a_thread_that_has_died_is_named_at_once() {
    let other = |_seat: Seat, _vcpu| std::panic::resume_unwind(Box::new("planted"));
    let Some((one, _vm, is_seated)) = beside(other) else {
        return;
    };
    is_seated.recv().unwrap();
    let begun = Instant::now();
    let error = one.lot.pause(LONG * 10).unwrap_err();
    assert!(matches!(error, KvmError::VcpuGone { vcpu: 1 }), "{error}");
    assert_eq!(error.to_string(), "the thread of vCPU 1 has ended");
    assert!(begun.elapsed() < LONG);
    one.lot.close().unwrap();
    let [first, second] = <[_; 2]>::try_from(one.threads).unwrap();
    first.join().unwrap();
    assert!(second.join().is_err());
}

#[test]
fn a_seat_is_taken_once_and_by_its_number() {
    let Some((vm, _)) = TestVm::new(&COUNTING) else {
        return;
    };
    let lot = ParkingLot::new(1).unwrap();
    let _seat = lot.seat(0, &vm.vcpus[0]).unwrap();
    for index in [0, 1] {
        let refused = lot.seat(index, &vm.vcpus[1]).unwrap_err();
        assert!(matches!(refused, KvmError::NoSeat { vcpu } if vcpu == index));
    }
}

/// How often the handler below ran.
static HANDLED: AtomicU32 = AtomicU32::new(0);

extern "C" fn count(_: libc::c_int) {
    HANDLED.fetch_add(1, Ordering::SeqCst);
}

/// A VMM's own signal, whatever its handler does; blocked in the thread before it takes its seat.
#[test]
fn a_vmm_can_bring_its_own_signal() {
    let signal = libc::SIGRTMIN() + 5;
    let refused = ParkingLot::with_signal(1, signal).unwrap_err();
    assert!(matches!(refused, KvmError::SignalUnhandled { signal: s } if s == signal));
    // SAFETY: all-zero bytes are a valid sigaction.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = count as *const () as libc::sighandler_t;
    // SAFETY: the handler only adds to an atomic.
    let set = unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
    assert_eq!(set, 0);
    let Some((mut vm, _)) = TestVm::new(&Guest {
        code: SPIN,
        vcpus: 1,
        ..COUNTING
    }) else {
        return;
    };
    vm.boot();
    let lot = ParkingLot::with_signal(1, signal).unwrap();
    let (seats, vcpu) = (lot.clone(), vm.vcpus.pop().unwrap());
    let thread = std::thread::spawn(move || {
        // SAFETY: all-zero bytes are a valid sigset_t.
        let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: writes to `all` alone.
        unsafe { libc::sigfillset(&raw mut all) };
        // SAFETY: reads `all`.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut()) };
        let seat = seats.seat(0, &vcpu).unwrap();
        Served::default().run(&seat, vcpu).unwrap();
    });
    for _ in 0..5 {
        lot.pause(LONG).unwrap().resume();
    }
    lot.close().unwrap();
    thread.join().unwrap();
    assert!(HANDLED.load(Ordering::SeqCst) > 0);
}

/// Two threads that pause: one has the machine at a time.
#[test]
fn two_who_pause_at_once_exclude_each_other() {
    let Some(running) = Running::start(SPIN, 2, true) else {
        return;
    };
    let inside = Mutex::new(());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut had = 0;
                while had < 20 {
                    match running.lot.pause(LONG) {
                        Ok(_parked) => {
                            let _alone = inside.try_lock().expect("the other one has it");
                            had += 1;
                        }
                        Err(KvmError::AlreadyPaused) => std::thread::yield_now(),
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    });
    running.end();
}
