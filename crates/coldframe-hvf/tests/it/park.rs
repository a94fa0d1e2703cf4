//! Threads of vCPUs come to rest, whatever they were at.

use std::time::{Duration, Instant};

use coldframe_hv::aarch64::PowerState;
use coldframe_hvf::{Exit, HvfError, ParkingLot, Ready, Resolved, Watch, Woken};
use coldframe_testkit::hvf::Host;

use crate::calls::ModelVcpu;
use crate::support::Vmm;

const LONG: Duration = Duration::from_secs(60);

fn vcpu(vmm: &Vmm) -> ModelVcpu {
    let framework = vmm.framework.clone();
    let id = framework.vcpu_create().unwrap();
    ModelVcpu { framework, id }
}

// Parity: A6
#[test]
fn a_thread_that_waits_for_an_interrupt_is_woken_by_a_pause() {
    let (vmm, lot) = (Vmm::new(1, Host::default()), ParkingLot::new(1));
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let vcpu = vcpu(&vmm);
            let seat = lot.seat(0, 0).unwrap();
            let ready = Ready::fresh(&vcpu, 0, PowerState::On);
            // No timeout: nothing but the pause ends it.
            assert_eq!(seat.wait_for_interrupt(None), Woken::Pause);
            let _ready = seat.park(ready);
        });
        let parked = lot.pause(&vmm.calls(), LONG).unwrap();
        assert_eq!(parked.vcpus(), 1);
        parked.resume();
        thread.join().unwrap();
    });
}

#[test]
fn an_interrupt_before_the_wait_is_not_forgotten() {
    let lot = ParkingLot::new(2);
    let seat = lot.seat(1, 7).unwrap();
    lot.wake(1);
    assert_eq!(seat.wait_for_interrupt(Some(LONG)), Woken::Interrupt);
    let started = Instant::now();
    let short = Duration::from_millis(20);
    assert_eq!(seat.wait_for_interrupt(Some(short)), Woken::Timeout);
    assert!(started.elapsed() >= short);
    // A vCPU that there is not is nobody's interrupt.
    lot.wake(9);
}

#[test]
fn a_running_vcpu_is_kicked_out_of_the_guest() {
    let (vmm, lot) = (Vmm::new(1, Host::default()), ParkingLot::new(1));
    let stage2 = vmm.stage2(Watch::DEFAULT);
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let vcpu = vcpu(&vmm);
            let seat = lot.seat(0, vcpu.id).unwrap();
            vcpu.framework.set_reg(vcpu.id, 21, 0x4000_0000).unwrap();
            vcpu.framework.set_reg(vcpu.id, 22, 4096).unwrap();
            let mut ready = Ready::fresh(&vcpu, 0, PowerState::On);
            loop {
                ready = match ready.run().unwrap() {
                    Exit::Canceled(ready) => {
                        let before = seat.is_pause_wanted();
                        let _ready = seat.park(ready);
                        return before;
                    }
                    Exit::Abort(abort) => match abort.resolve(&stage2).unwrap() {
                        Resolved::Again(ready) => ready,
                        Resolved::Mmio(access) => access.answer(1).unwrap(),
                    },
                    Exit::System(access) => access.answer(1).unwrap(),
                    Exit::Wait(ready) | Exit::Call(ready) | Exit::Vtimer(ready) => ready,
                    Exit::Other { syndrome, .. } => panic!("{syndrome:#x}"),
                };
            }
        });
        lot.pause(&vmm.calls(), LONG).unwrap().resume();
        assert!(thread.join().unwrap());
    });
}

#[test]
fn vcpus_that_do_not_come_are_named_and_the_others_go_on() {
    let (vmm, lot) = (Vmm::new(2, Host::default()), ParkingLot::new(2));
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let vcpu = vcpu(&vmm);
            let seat = lot.seat(0, vcpu.id).unwrap();
            let ready = Ready::fresh(&vcpu, 0, PowerState::On);
            let _ready = seat.park_when_wanted(ready);
        });
        let refused = lot.pause(&vmm.calls(), Duration::from_millis(200));
        let error = refused.unwrap_err();
        let HvfError::NotParked { vcpus, .. } = &error else {
            panic!("{error}");
        };
        assert!(vcpus.contains(&1));
        assert!(error.is_retryable());
        // Whether or not it sat down in time, it does not sit for ever.
        while !thread.is_finished() {
            let _ = lot.pause(&vmm.calls(), Duration::from_millis(10));
        }
        thread.join().unwrap();
    });
}

#[test]
fn a_thread_that_is_gone_is_named() {
    let (vmm, lot) = (Vmm::new(1, Host::default()), ParkingLot::new(1));
    drop(lot.seat(0, 0).unwrap());
    let refused = lot.pause(&vmm.calls(), LONG).unwrap_err();
    assert!(matches!(
        refused,
        HvfError::VcpuGone { vcpu: 0 } | HvfError::Call { .. }
    ));
    assert!(matches!(lot.seat(0, 0), Err(HvfError::NoSeat { vcpu: 0 })));
}

#[test]
fn a_seat_is_taken_once() {
    let lot = ParkingLot::new(1);
    let _seat = lot.seat(0, 0).unwrap();
    assert!(matches!(lot.seat(0, 1), Err(HvfError::NoSeat { vcpu: 0 })));
    assert!(matches!(lot.seat(5, 1), Err(HvfError::NoSeat { vcpu: 5 })));
}

/// What two pauses at once would let happen: the first is dropped, and vCPUs run under the second.
#[test]
fn a_second_pause_is_refused_until_the_first_is_over() {
    let (vmm, lot) = (Vmm::new(0, Host::default()), ParkingLot::new(0));
    let first = lot.pause(&vmm.calls(), LONG).unwrap();
    let second = lot.pause(&vmm.calls(), LONG);
    assert!(matches!(second, Err(HvfError::AlreadyPaused)));
    first.resume();
    lot.pause(&vmm.calls(), LONG).unwrap().resume();
}
