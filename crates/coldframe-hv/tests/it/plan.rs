//! The plans against fakes that know the kernels' rules but not the plans.

use coldframe_hv::{Actor, Direction, Op, Plan, PlanError, Step, Target, check_order};
use coldframe_testkit::hv::{FakeHypervisor, rules_of};

fn swapped(steps: &[Step], left: usize, right: usize) -> Vec<Step> {
    let mut steps = steps.to_vec();
    steps.swap(left, right);
    steps
}

fn position(steps: &[Step], op: Op) -> usize {
    steps.iter().position(|step| step.op == op).unwrap()
}

fn runs(target: Target, steps: &[Step]) -> bool {
    FakeHypervisor::new(target, 2).walk(steps).is_ok()
}

#[test]
fn every_plan_names_its_needs_before_they_are_needed() {
    for target in Target::ALL {
        for plan in [Plan::save(*target), Plan::restore(*target)] {
            plan.check().unwrap();
            assert_eq!(plan.target(), *target);
        }
        assert_eq!(Plan::save(*target).direction(), Direction::Save);
        assert_eq!(Plan::restore(*target).direction(), Direction::Restore);
    }
}

#[test]
fn every_restore_plan_is_taken_by_its_hypervisor() {
    for target in Target::ALL {
        let walked = FakeHypervisor::new(*target, 3).walk(Plan::restore(*target).steps());
        assert_eq!(walked, Ok(()), "{target:?}");
    }
}

#[test]
fn swapping_any_two_steps_that_a_rule_orders_is_caught() {
    for target in Target::ALL {
        let steps = Plan::restore(*target).steps();
        for rule in rules_of(*target) {
            let broken = swapped(
                steps,
                position(steps, rule.first),
                position(steps, rule.then),
            );
            assert!(
                !runs(*target, &broken),
                "{target:?} {} was not caught",
                rule.name
            );
        }
    }
}

/// The needs written in a plan are at least as strict as the hypervisor.
#[test]
#[cfg_attr(miri, ignore = "too slow under Miri")]
fn an_order_that_a_hypervisor_refuses_is_refused_by_the_check() {
    for target in Target::ALL {
        let steps = Plan::restore(*target).steps();
        for left in 0..steps.len() {
            for right in left + 1..steps.len() {
                let broken = swapped(steps, left, right);
                assert!(
                    runs(*target, &broken) || check_order(&broken).is_err(),
                    "{target:?}: {:?} and {:?} swapped break a rule that no need names",
                    steps[left].op,
                    steps[right].op,
                );
            }
        }
    }
}

#[test]
fn counters_set_one_vcpu_at_a_time_are_caught() {
    let mut fake = FakeHypervisor::new(Target::KvmX86_64, 2);
    for step in Plan::restore(Target::KvmX86_64).steps() {
        if step.op == Op::Tsc {
            break;
        }
        match step.scope {
            coldframe_hv::Scope::Vm => fake.apply(step.op, None).unwrap(),
            _ => (0..2).for_each(|vcpu| fake.apply(step.op, Some(vcpu)).unwrap()),
        }
    }
    fake.apply(Op::Tsc, Some(0)).unwrap();
    let violation = fake.apply(Op::TscDeadline, Some(0)).unwrap_err();
    assert_eq!(violation.rule, "counters_from_one_reference");
}

#[test]
fn what_a_save_plan_reads_the_restore_plan_writes() {
    // Memory is copied, I/O completed and the kernel's own tables flushed only when saving.
    let save_only = [Op::CompletePendingIo, Op::CopyMemory, Op::GicPendingTables];
    for target in Target::ALL {
        let restore = Plan::restore(*target);
        for step in Plan::save(*target).steps() {
            let written = restore.steps().iter().any(|other| other.op == step.op);
            assert!(
                written || save_only.contains(&step.op),
                "{target:?} {:?}",
                step.op
            );
        }
    }
}

#[test]
fn every_step_says_why_and_whence() {
    for target in Target::ALL {
        for plan in [Plan::save(*target), Plan::restore(*target)] {
            for step in plan.steps() {
                assert!(
                    !step.why.is_empty() && !step.source.is_empty(),
                    "{:?}",
                    step.op
                );
            }
            assert!(
                plan.adapter_steps()
                    .all(|step| step.actor == Actor::Adapter)
            );
        }
    }
}

#[test]
fn an_operation_that_is_there_twice_is_refused() {
    let steps = Plan::restore(Target::KvmX86_64).steps();
    let mut twice = steps.to_vec();
    twice.push(steps[0]);
    let refused = check_order(&twice);
    assert_eq!(refused, Err(PlanError::Twice { op: Op::CreateVm }));
}
