//! What holds of the plans of every adapter, to be asserted by its tests one by one.

use std::fs;

use coldframe_hv::{Actor, Direction, Operation, Plan, Step, check_order};

use super::{FakeHypervisor, Rule};
use crate::golden::BLESS;

/// An adapter's two plans, and what its hypervisor is known to insist on.
#[derive(Clone, Copy, Debug)]
pub struct PlanLaws<S: 'static, R: 'static> {
    /// The order of reading.
    pub save: Plan<S>,
    /// The order of writing.
    pub restore: Plan<R>,
    /// What a restore must keep to.
    pub rules: &'static [Rule<R>],
    /// Names of the operations that only a save has.
    pub save_only: &'static [&'static str],
}

impl<S: Operation, R: Operation> PlanLaws<S, R> {
    /// # Panics
    /// If a step stands before what it needs, or the plans do not say what they are.
    #[track_caller]
    pub fn needs_come_first(&self) {
        assert_eq!(self.save.check(), Ok(()));
        assert_eq!(self.restore.check(), Ok(()));
        assert_eq!(self.save.target(), self.restore.target());
        assert_eq!(self.save.direction(), Direction::Save);
        assert_eq!(self.restore.direction(), Direction::Restore);
    }

    /// # Panics
    /// If the rules do not let the restore pass.
    #[track_caller]
    pub fn restore_is_taken(&self) {
        let fake = FakeHypervisor::new(self.rules, 3);
        assert_eq!(fake.walk(self.restore.steps()), Ok(()));
    }

    /// # Panics
    /// If two steps that a rule orders can be swapped.
    #[track_caller]
    pub fn every_rule_is_felt(&self) {
        let steps = self.restore.steps();
        for rule in self.rules {
            let at = |op| {
                let found = steps.iter().position(|step| step.op == op);
                found.unwrap_or_else(|| panic!("{}: {op:?} is in no step", rule.name))
            };
            let broken = swapped(steps, at(rule.first), at(rule.then));
            assert!(!self.runs(&broken), "{} was not caught", rule.name);
        }
    }

    /// # Panics
    /// If the rules refuse an order that the needs of the plan would allow.
    #[track_caller]
    pub fn needs_are_as_strict_as_the_rules(&self) {
        let steps = self.restore.steps();
        for left in 0..steps.len() {
            for right in left + 1..steps.len() {
                let broken = swapped(steps, left, right);
                assert!(
                    self.runs(&broken) || check_order(&broken).is_err(),
                    "{:?} and {:?} swapped break a rule that no need names",
                    steps[left].op,
                    steps[right].op,
                );
            }
        }
    }

    /// # Panics
    /// If something is read that is never written.
    #[track_caller]
    pub fn what_is_read_is_written(&self) {
        let written = self.restore.rows();
        for row in self.save.rows() {
            let is_written = written.iter().any(|other| other.op == row.op);
            let is_excused = self.save_only.contains(&row.op.as_str());
            assert!(is_written != is_excused, "{}", row.op);
        }
    }

    /// # Panics
    /// If a step gives no reason or no source.
    #[track_caller]
    pub fn every_step_says_why_and_whence(&self) {
        for row in self.save.rows().into_iter().chain(self.restore.rows()) {
            assert!(!row.why.is_empty() && !row.source.is_empty(), "{}", row.op);
            let of_a_table = [row.why, row.source].concat();
            assert!(!of_a_table.contains(['|', '\n']), "{}", row.op);
        }
        let both = [self.save.rows(), self.restore.rows()];
        let of_adapter =
            |rows: &Vec<coldframe_hv::PlanRow>| rows.iter().any(|row| row.actor == Actor::Adapter);
        assert!(both.iter().all(of_adapter));
    }

    /// The tables of the documentation, `{stem}-save.md` and `{stem}-restore.md`, are the plans:
    /// as they were when the test was built, for it may run where the sources are not. They are
    /// written anew under `COLDFRAME_BLESS=1`.
    ///
    /// # Panics
    /// If they are not.
    #[track_caller]
    pub fn documentation_has_both_tables(&self, stem: &str, [save, restore]: [&str; 2]) {
        check_table(&format!("{stem}-save.md"), save, &self.save.to_string());
        let plan = self.restore.to_string();
        check_table(&format!("{stem}-restore.md"), restore, &plan);
    }

    fn runs(&self, steps: &[Step<R>]) -> bool {
        FakeHypervisor::new(self.rules, 2).walk(steps).is_ok()
    }
}

#[track_caller]
fn check_table(path: &str, documented: &str, plan: &str) {
    if std::env::var(BLESS).is_ok_and(|value| value == "1") {
        return fs::write(path, plan).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
    assert!(
        documented == plan,
        "{path} is not the plan: run this test again with {BLESS}=1"
    );
}

fn swapped<O: Operation>(steps: &[Step<O>], left: usize, right: usize) -> Vec<Step<O>> {
    let mut steps = steps.to_vec();
    steps.swap(left, right);
    steps
}
