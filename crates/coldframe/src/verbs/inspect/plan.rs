//! `coldframe inspect --plan TARGET`: in which order a machine is read and written, and why.

use coldframe_hv::{Operation, Plan, PlanRow};
use coldframe_hvf::plan as hvf;
use coldframe_kvm::plan::{aarch64, x86_64};
use serde::Serialize;

use crate::cli::PlanTarget;
use crate::exit::Failure;
use crate::output;

/// The keys are part of the contract of the command line.
#[derive(Serialize)]
struct Report {
    target: &'static str,
    save: Vec<Step>,
    restore: Vec<Step>,
}

#[derive(Serialize)]
struct Step {
    number: usize,
    step: String,
    by: &'static str,
    on: &'static str,
    /// The steps that must stand before it.
    after: Vec<String>,
    why: &'static str,
    source: &'static str,
}

/// Prints both plans of a target.
pub fn run(target: PlanTarget, json: bool) -> Result<(), Failure> {
    let report = match target {
        PlanTarget::KvmX86_64 => Report::of(x86_64::SAVE, x86_64::RESTORE),
        PlanTarget::KvmAarch64 => Report::of(aarch64::SAVE, aarch64::RESTORE),
        PlanTarget::HvfAarch64 => Report::of(hvf::SAVE, hvf::RESTORE),
    };
    if json {
        return output::json(&report);
    }
    report.print();
    Ok(())
}

impl Report {
    fn of<S: Operation, R: Operation>(save: Plan<S>, restore: Plan<R>) -> Self {
        Self {
            target: save.target(),
            save: steps(save.rows()),
            restore: steps(restore.rows()),
        }
    }

    fn print(&self) {
        for (direction, steps) in [("save", &self.save), ("restore", &self.restore)] {
            output::say(format_args!("{}: {direction}", self.target));
            steps.iter().for_each(Step::print);
        }
    }
}

fn steps(rows: Vec<PlanRow>) -> Vec<Step> {
    let step = |(number, row): (usize, PlanRow)| Step {
        number,
        step: row.op,
        by: row.actor.name(),
        on: row.scope.name(),
        after: row.needs,
        why: row.why,
        source: row.source,
    };
    (1..).zip(rows).map(step).collect()
}

impl Step {
    fn print(&self) {
        let Self {
            number,
            step,
            by,
            on,
            after,
            why,
            source,
        } = self;
        let after = match after.as_slice() {
            [] => String::new(),
            names => format!(", after {}", names.join(", ")),
        };
        output::say(format_args!("  {number:>2}  {step}: {by}, {on}{after}"));
        output::say(format_args!("      {why} [{source}]"));
    }
}
