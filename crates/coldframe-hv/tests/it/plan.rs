//! The law of plans, on a plan of operations that nobody here knows.

use coldframe_hv::Op::{self, AllVcpus, Vcpu, Vm, Vmm};
use coldframe_hv::{
    Actor, Direction, Operation, Plan, PlanError, Scope, Step, VmmOp, VmmOperation, check_order,
    step,
};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Chip {
    Timer,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Cpu {
    Registers,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum All {
    Counter,
}

/// A step of the VMM that is none of those that have a name here.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Own {
    Plug,
    Start,
}

impl VmmOperation for Own {
    fn scope(&self) -> Scope {
        match self {
            Self::Plug => Scope::Vm,
            Self::Start => Scope::EachVcpu,
        }
    }
}

type Foreign = Op<Chip, Cpu, All, Own>;

const STEPS: &[Step<Foreign>] = &[
    step(Vmm(Own::Plug), &[], "first", "a"),
    step(Vcpu(Cpu::Registers), &[Vmm(Own::Plug)], "second", "b"),
    step(
        AllVcpus(All::Counter),
        &[Vcpu(Cpu::Registers)],
        "third",
        "c",
    ),
    step(
        Vm(Chip::Timer),
        &[AllVcpus(All::Counter), Vmm(Own::Plug)],
        "fourth",
        "d",
    ),
    step(Vmm(Own::Start), &[Vm(Chip::Timer)], "last", "e"),
];
const PLAN: Plan<Foreign> = Plan::new("foreign", Direction::Restore, STEPS);

#[test]
fn who_and_what_follow_from_the_type_of_the_operation() {
    let of = |step: &Step<Foreign>| (step.op.actor(), step.op.scope());
    let found: Vec<_> = PLAN.steps().iter().map(of).collect();
    let expected = [
        (Actor::Vmm, Scope::Vm),
        (Actor::Adapter, Scope::EachVcpu),
        (Actor::Adapter, Scope::AllVcpusTogether),
        (Actor::Adapter, Scope::Vm),
        (Actor::Vmm, Scope::EachVcpu),
    ];
    assert_eq!(found, expected);
    assert_eq!(VmmOp::CreateVcpus.scope(), Scope::EachVcpu);
    assert_eq!(VmmOp::MapMemory.scope(), Scope::Vm);
}

#[test]
fn an_order_is_checked_by_its_needs() {
    assert_eq!(PLAN.check(), Ok(()));
    for (left, right) in [(0, 1), (1, 2), (2, 3), (3, 4)] {
        let mut steps = STEPS.to_vec();
        steps.swap(left, right);
        let refused = check_order(&steps).unwrap_err();
        assert!(
            matches!(refused, PlanError::NeedNotBefore { .. }),
            "{refused}"
        );
    }
    let need = PlanError::NeedNotBefore {
        op: "Registers".into(),
        need: "Plug".into(),
    };
    assert_eq!(check_order(&STEPS[1..]), Err(need));
}

#[test]
fn an_operation_that_is_there_twice_is_refused() {
    let mut twice = STEPS.to_vec();
    twice.push(STEPS[0]);
    let op = "Plug".into();
    assert_eq!(check_order(&twice), Err(PlanError::Twice { op }));
}

#[test]
fn a_plan_is_printed_as_a_table() {
    let table = PLAN.to_string();
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines.len(), 2 + STEPS.len());
    assert_eq!(lines[0], "| | step | by | on | after | why | source |");
    assert_eq!(lines[2], "| 1 | Plug | VMM | VM |  | first | a |");
    let fourth = "| 4 | Timer | adapter | VM | Counter, Plug | fourth | d |";
    assert_eq!(lines[5], fourth);
    assert_eq!(PLAN.rows()[2].scope.name(), "all vCPUs at once");
}
