//! Orders of a restore broken on purpose: refused by the framework, or seen at the guest's end.

use std::sync::atomic::Ordering;

use coldframe_hv::Op::{AllVcpus, Vcpu, Vm};
use coldframe_hv::{Actor, Machine, MachineState, Operation, Step, check_order};
use coldframe_hvf::plan::{
    Controller::GicBlob, Counters::VtimerOffset, RESTORE, RestoreOp, RestoreVcpu::*,
};
use coldframe_hvf::{HvStatus, HvfError, HvfMachine, Watch};
use coldframe_testkit::hvf::Host;

use crate::support::{END, End, Start, Vmm};

/// A guest in the middle of its run with its timer set, and how it ends.
struct Frozen {
    state: MachineState,
    memory: Vec<Vec<u64>>,
    ends: Vec<End>,
}

fn freeze() -> Frozen {
    let vmm = Vmm::new(1, Host::default());
    let stage2 = vmm.stage2(Watch::DEFAULT);
    vmm.allowed.store(20, Ordering::SeqCst);
    let ((state, memory), ends) = vmm.run(&stage2, Start::Boot, || {
        vmm.wait_for(20);
        let parked = vmm.pause();
        let calls = vmm.calls();
        let state = HvfMachine::new(&vmm.host, &calls, &parked).save().unwrap();
        let words = |ram: &std::sync::Arc<coldframe_testkit::hvf::ModelRam>| {
            (0..ram.len() / 8).map(|word| ram.load(word * 8)).collect()
        };
        let memory = vmm.rams.iter().map(words).collect();
        vmm.allowed.store(END, Ordering::SeqCst);
        (state, memory)
    });
    Frozen {
        state,
        memory,
        ends,
    }
}

/// A fresh machine with the frozen memory. Its counter is far ahead of the guest's.
fn fresh(frozen: &Frozen, build: &str) -> Vmm {
    let vmm = Vmm::new(
        1,
        Host {
            counter: 1 << 50,
            build: build.to_string(),
            ..Host::default()
        },
    );
    for (ram, words) in vmm.rams.iter().zip(&frozen.memory) {
        for (word, value) in (0..).zip(words) {
            ram.store(word * 8, *value);
        }
    }
    vmm
}

fn thaw(frozen: &Frozen, order: &[Step<RestoreOp>]) -> Result<Vec<End>, HvfError> {
    let vmm = fresh(frozen, "24A335");
    let stage2 = vmm.stage2(Watch::DEFAULT);
    vmm.thaw(&stage2, &frozen.state, Some(order))
}

fn swapped(first: RestoreOp, then: RestoreOp) -> Vec<Step<RestoreOp>> {
    let mut steps = RESTORE.steps().to_vec();
    let place = |op| {
        steps
            .iter()
            .position(|step: &Step<RestoreOp>| step.op == op)
            .unwrap()
    };
    let (first, then) = (place(first), place(then));
    assert!(first < then);
    steps.swap(first, then);
    steps
}

fn without(op: RestoreOp) -> Vec<Step<RestoreOp>> {
    let steps = RESTORE.steps().iter();
    steps.filter(|step| step.op != op).copied().collect()
}

#[test]
fn the_plan_itself_ends_as_the_guest_did() {
    let frozen = freeze();
    let ends = thaw(&frozen, RESTORE.steps()).unwrap();
    assert_eq!(ends, frozen.ends);
}

// Parity: A2
#[test]
fn every_order_that_is_broken_is_refused_or_seen() {
    let frozen = freeze();
    let broken = [
        (Vcpu(Mpidr), Vm(GicBlob)),
        (Vcpu(Mpidr), Vcpu(GicCpuInterface)),
        (Vm(GicBlob), Vcpu(GicCpuInterface)),
        (AllVcpus(VtimerOffset), Vcpu(TimerRegs)),
    ];
    for (first, then) in broken {
        let order = swapped(first, then);
        assert!(check_order(&order).is_err(), "{first:?} after {then:?}");
        match thaw(&frozen, &order) {
            Ok(ends) => assert!(ends != frozen.ends, "{first:?} after {then:?} was not seen"),
            Err(error) => assert!(
                matches!(error, HvfError::Call { .. } | HvfError::GicRefused { .. }),
                "{error}"
            ),
        }
    }
}

// Parity: A2
#[test]
fn every_step_that_is_left_out_is_refused_or_seen() {
    let frozen = freeze();
    // The mask, the lines and the power have their resting values in this guest.
    let resting = [VtimerMask, PendingLines, MpState].map(Vcpu);
    let steps = RESTORE.steps().iter();
    let steps = steps.filter(|step| step.op.actor() == Actor::Adapter);
    for step in steps.filter(|step| !resting.contains(&step.op)) {
        let ends = thaw(&frozen, &without(step.op));
        assert!(
            ends.is_err() || ends.unwrap() != frozen.ends,
            "{:?}",
            step.op
        );
    }
}

#[test]
fn affinity_comes_before_the_controllers_blob() {
    let frozen = freeze();
    let error = thaw(&frozen, &swapped(Vcpu(Mpidr), Vm(GicBlob))).unwrap_err();
    let HvfError::GicRefused { source, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(source, HvStatus::BadArgument);
}

#[test]
fn interfaces_set_before_the_blob_are_lost() {
    let frozen = freeze();
    let ends = thaw(&frozen, &swapped(Vm(GicBlob), Vcpu(GicCpuInterface))).unwrap();
    // No interrupt came any more.
    assert!(ends[0][2] < frozen.ends[0][2]);
}

#[test]
fn a_compare_value_set_before_the_offset_fires_early() {
    let frozen = freeze();
    let ends = thaw(&frozen, &swapped(AllVcpus(VtimerOffset), Vcpu(TimerRegs))).unwrap();
    assert_ne!(ends, frozen.ends);
}

// Parity: A2
#[test]
fn a_machine_that_has_run_takes_no_state() {
    let frozen = freeze();
    let vmm = fresh(&frozen, "24A335");
    let stage2 = vmm.stage2(Watch::DEFAULT);
    vmm.allowed.store(20, Ordering::SeqCst);
    let (refused, _) = vmm.run(&stage2, Start::Boot, || {
        vmm.wait_for(20);
        let parked = vmm.pause();
        vmm.stop();
        let calls = vmm.calls();
        // The framework refuses by itself, too.
        assert!(vmm.framework.gic_set_state(&[]).is_err());
        let accepted = vmm.host.compare(&frozen.state).accept(&[]).unwrap();
        HvfMachine::new(&vmm.host, &calls, &parked).restore(&accepted)
    });
    assert!(matches!(refused, Err(HvfError::AlreadyRan { vcpu: 0 })));
}

// Parity: A9
#[test]
fn another_build_of_the_system_is_refused_and_named() {
    let frozen = freeze();
    let vmm = fresh(&frozen, "25A001");
    let report = vmm.host.compare(&frozen.state);
    assert_eq!(report.accept(&[]).unwrap_err().items[0].item, "kernel");
    let stage2 = vmm.stage2(Watch::DEFAULT);
    let (refused, _) = vmm.run(&stage2, Start::Thaw, || {
        let parked = vmm.pause();
        vmm.stop();
        let calls = vmm.calls();
        // Even waived, the controller has the last word.
        let accepted = report.accept(&["kernel"]).unwrap();
        HvfMachine::new(&vmm.host, &calls, &parked).restore(&accepted)
    });
    let text = refused.unwrap_err().to_string();
    assert_eq!(
        text,
        "the state of the interrupt controller, saved on build 24A335, is refused by 25A001"
    );
}
