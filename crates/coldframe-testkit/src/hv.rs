//! Fake hypervisors that enforce the ordering rules of real ones, written down apart from the
//! plans so that the plans can be tested against them.
//!
//! Invariant: a fake knows nothing of `coldframe_hv::Plan`; each rule has a name and the reason in
//! the kernel for which it exists.

mod machine;
mod rules;

use std::collections::BTreeSet;

use coldframe_hv::{Op, Scope, Step, Target};

pub use machine::{FakeMachine, FakeMachineError, sample_state};
pub use rules::{Breach, Rule, rules_of};

/// A rule that was broken, and by which operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{op:?} breaks the rule {rule}")]
pub struct Violation {
    /// Name of the rule.
    pub rule: &'static str,
    /// The operation that was refused, or whose effect was lost.
    pub op: Op,
}

/// A hypervisor that takes operations and keeps account of which of them still hold.
#[derive(Clone, Debug)]
pub struct FakeHypervisor {
    rules: &'static [Rule],
    vcpus: u32,
    done: BTreeSet<Done>,
    lost: Vec<(Done, Violation)>,
    together: Option<(u16, u32)>,
}

/// An operation and the vCPU it was done to; operations have no order, so their number stands in.
type Done = (u16, Option<u32>);

impl FakeHypervisor {
    /// A fake of `target` with `vcpus` vCPUs.
    #[must_use]
    pub fn new(target: Target, vcpus: u32) -> Self {
        Self {
            rules: rules_of(target),
            vcpus,
            done: BTreeSet::new(),
            lost: Vec::new(),
            together: None,
        }
    }

    /// Does one operation, to the whole machine (`None`) or to one vCPU.
    ///
    /// # Errors
    /// The rule by which a real hypervisor refuses it now.
    pub fn apply(&mut self, op: Op, vcpu: Option<u32>) -> Result<(), Violation> {
        self.check_together(op)?;
        for rule in self.rules {
            let broken = match rule.breach {
                Breach::Refused => rule.then == op && !self.is_done(rule.first, vcpu),
                Breach::Closed => rule.first == op && self.was_begun(rule.then),
                Breach::Undone => false,
            };
            if broken {
                return Err(Violation {
                    rule: rule.name,
                    op,
                });
            }
        }
        self.lose_what_it_undoes(op, vcpu);
        self.lost.retain(|(done, _)| *done != (op as u16, vcpu));
        self.done.insert((op as u16, vcpu));
        Ok(())
    }

    /// Lets the guest run: whatever was undone and not done again is found now.
    ///
    /// # Errors
    /// The first rule by which an effect was lost.
    pub fn finish(&self) -> Result<(), Violation> {
        self.lost
            .first()
            .map_or(Ok(()), |(_, violation)| Err(*violation))
    }

    /// Does all steps in the order given, each to what its scope says, and lets the guest run.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn walk(mut self, steps: &[Step]) -> Result<(), Violation> {
        for step in steps {
            match step.scope {
                Scope::Vm => self.apply(step.op, None)?,
                Scope::EachVcpu | Scope::AllVcpusTogether => {
                    for vcpu in 0..self.vcpus {
                        self.apply(step.op, Some(vcpu))?;
                    }
                }
            }
        }
        self.finish()
    }

    /// Counters are set on all vCPUs in one go: nothing else may come between.
    fn check_together(&mut self, op: Op) -> Result<(), Violation> {
        let code = op as u16;
        self.together = match self.together {
            Some((open, count)) if open == code => Some((open, count + 1)),
            Some((_, count)) if count < self.vcpus => {
                return Err(Violation {
                    rule: "counters_from_one_reference",
                    op,
                });
            }
            _ if matches!(op, Op::Tsc | Op::VtimerOffset) => Some((code, 1)),
            _ => None,
        };
        Ok(())
    }

    /// Whether `first` was done to whatever `vcpu` is: the machine counts for each vCPU, and all
    /// vCPUs together count for the machine.
    fn is_done(&self, first: Op, vcpu: Option<u32>) -> bool {
        let code = first as u16;
        let done = |vcpu| self.done.contains(&(code, vcpu));
        done(None)
            || match vcpu {
                Some(vcpu) => done(Some(vcpu)),
                None => (0..self.vcpus).all(|vcpu| done(Some(vcpu))),
            }
    }

    /// Whether `op` was done to anything at all.
    fn was_begun(&self, op: Op) -> bool {
        self.done.iter().any(|done| done.0 == op as u16)
    }

    fn lose_what_it_undoes(&mut self, op: Op, vcpu: Option<u32>) {
        for rule in self.rules {
            if rule.first != op || rule.breach != Breach::Undone {
                continue;
            }
            let code = rule.then as u16;
            let touched = |done: &&Done| {
                done.0 == code && (done.1.is_none() || vcpu.is_none() || done.1 == vcpu)
            };
            let violation = Violation {
                rule: rule.name,
                op: rule.then,
            };
            let found: Vec<_> = self.done.iter().filter(touched).copied().collect();
            self.lost
                .extend(found.into_iter().map(|done| (done, violation)));
        }
    }
}
