//! Fake hypervisors that enforce the ordering rules of real ones, written down apart from the
//! plans so that the plans can be tested against them.
//!
//! Invariant: a fake knows nothing of a `coldframe_hv::Plan`; the rules are in an adapter's tests,
//! and each has a name and the reason in the kernel for which it exists.

mod laws;
mod machine;
mod rules;

use coldframe_hv::{Operation, Scope, Step};

pub use laws::PlanLaws;
pub use machine::{FakeMachine, FakeMachineError, sample_state};
pub use rules::{Breach, Rule, closed, refused, undone};

/// A rule that was broken, and by which operation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{op} breaks the rule {rule}")]
pub struct Violation {
    /// Name of the rule.
    pub rule: &'static str,
    /// The operation that was refused, or whose effect was lost.
    pub op: String,
}

impl Violation {
    fn of<O: Operation>(rule: &'static str, op: O) -> Self {
        let op = op.name();
        Self { rule, op }
    }
}

/// A hypervisor that takes operations and keeps account of which of them still hold.
#[derive(Clone, Debug)]
pub struct FakeHypervisor<O: 'static> {
    rules: &'static [Rule<O>],
    vcpus: u32,
    done: Vec<Done<O>>,
    lost: Vec<(Done<O>, Violation)>,
    together: Option<(O, u32)>,
}

/// An operation and the vCPU it was done to.
type Done<O> = (O, Option<u32>);

impl<O: Operation> FakeHypervisor<O> {
    /// A fake with these rules and `vcpus` vCPUs.
    #[must_use]
    pub const fn new(rules: &'static [Rule<O>], vcpus: u32) -> Self {
        Self {
            rules,
            vcpus,
            done: Vec::new(),
            lost: Vec::new(),
            together: None,
        }
    }

    /// Does one operation, to the whole machine (`None`) or to one vCPU.
    ///
    /// # Errors
    /// The rule by which a real hypervisor refuses it now.
    pub fn apply(&mut self, op: O, vcpu: Option<u32>) -> Result<(), Violation> {
        self.check_together(op)?;
        for rule in self.rules {
            let broken = match rule.breach {
                Breach::Refused => rule.then == op && !self.is_done(rule.first, vcpu),
                Breach::Closed => rule.first == op && self.was_begun(rule.then),
                Breach::Undone => false,
            };
            if broken {
                return Err(Violation::of(rule.name, op));
            }
        }
        self.lose_what_it_undoes(op, vcpu);
        self.lost.retain(|(done, _)| *done != (op, vcpu));
        if !self.done.contains(&(op, vcpu)) {
            self.done.push((op, vcpu));
        }
        Ok(())
    }

    /// Lets the guest run: whatever was undone and not done again is found now.
    ///
    /// # Errors
    /// The first rule by which an effect was lost.
    pub fn finish(&self) -> Result<(), Violation> {
        match self.lost.first() {
            Some((_, violation)) => Err(violation.clone()),
            None => Ok(()),
        }
    }

    /// Does all steps in the order given, each to what its scope says, and lets the guest run.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn walk(mut self, steps: &[Step<O>]) -> Result<(), Violation> {
        for step in steps {
            self.take(step)?;
        }
        self.finish()
    }

    /// Does one step to what its scope says.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn take(&mut self, step: &Step<O>) -> Result<(), Violation> {
        match step.op.scope() {
            Scope::Vm => self.apply(step.op, None),
            Scope::EachVcpu | Scope::AllVcpusTogether => {
                (0..self.vcpus).try_for_each(|vcpu| self.apply(step.op, Some(vcpu)))
            }
        }
    }

    /// Counters are set on all vCPUs in one go: nothing else may come between.
    fn check_together(&mut self, op: O) -> Result<(), Violation> {
        self.together = match self.together {
            Some((open, count)) if open == op => Some((open, count + 1)),
            Some((_, count)) if count < self.vcpus => {
                return Err(Violation::of("counters_from_one_reference", op));
            }
            _ if op.scope() == Scope::AllVcpusTogether => Some((op, 1)),
            _ => None,
        };
        Ok(())
    }

    /// Whether `first` was done to whatever `vcpu` is: the machine counts for each vCPU, and all
    /// vCPUs together count for the machine.
    fn is_done(&self, first: O, vcpu: Option<u32>) -> bool {
        let done = |vcpu| self.done.contains(&(first, vcpu));
        done(None)
            || match vcpu {
                Some(vcpu) => done(Some(vcpu)),
                None => (0..self.vcpus).all(|vcpu| done(Some(vcpu))),
            }
    }

    /// Whether `op` was done to anything at all.
    fn was_begun(&self, op: O) -> bool {
        self.done.iter().any(|done| done.0 == op)
    }

    fn lose_what_it_undoes(&mut self, op: O, vcpu: Option<u32>) {
        for rule in self.rules {
            if rule.first != op || rule.breach != Breach::Undone {
                continue;
            }
            let touched = |done: &&Done<O>| {
                done.0 == rule.then && (done.1.is_none() || vcpu.is_none() || done.1 == vcpu)
            };
            let found: Vec<_> = self.done.iter().filter(touched).copied().collect();
            let lost = found.into_iter();
            self.lost
                .extend(lost.map(|done| (done, Violation::of(rule.name, rule.then))));
        }
    }
}
