//! All checks, in order, whether or not one before has failed. One line for each, and as the very
//! last line `N passed, N failed, N skipped`: tests count one each, all other steps too.

use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;

use crate::findings::Findings;
use crate::tree::Tree;
use crate::verdict::Verdict;
use crate::{fuzz, hosts, layers, layout, release, spec, steps, tidy, toolchain, unsafe_code};

struct Step {
    name: &'static str,
    /// Whether `--fast` runs it too.
    fast: bool,
    run: Run,
}

enum Run {
    Check(fn(&Tree) -> Result<Findings>),
    Program(fn(&Tree) -> Result<Verdict>),
    Tests,
}

const STEPS: &[Step] = &[
    step("fmt", true, Run::Program(steps::fmt)),
    step("locks", true, Run::Program(steps::locks)),
    step("clippy", true, Run::Program(steps::clippy)),
    step("tidy", true, Run::Check(tidy::check)),
    step("layers", true, Run::Check(layers::check)),
    step("spec", true, Run::Check(spec::check)),
    step("layout", true, Run::Check(layout::check)),
    step("compat", true, Run::Program(steps::compat)),
    step("unsafe", true, Run::Check(unsafe_code::check)),
    step("test", true, Run::Tests),
    step("hosts", false, Run::Program(hosts::quick)),
    step("features", false, Run::Program(steps::features)),
    step("docs", false, Run::Program(steps::docs)),
    step("deny", false, Run::Program(steps::deny)),
    step("bare-metal", false, Run::Program(steps::bare_metal)),
    step("other-targets", false, Run::Program(steps::other_targets)),
    step("musl", false, Run::Program(steps::musl)),
    step("loom", false, Run::Program(steps::loom)),
    step("release", true, Run::Check(release::check_all)),
    step("rust-version", true, Run::Check(toolchain::check)),
    step("regressions", true, Run::Check(fuzz::check_regressions)),
    step("fuzz", false, Run::Program(steps::fuzz)),
];

const fn step(name: &'static str, fast: bool, run: Run) -> Step {
    Step { name, fast, run }
}

/// Runs the steps; false if one failed. The tests are counted from the output of a run just made if
/// there is one.
pub fn run(tree: &Tree, fast: bool, tested: Option<&Path>) -> Result<bool> {
    let mut total = Verdict::default();
    let mut steps_skipped = Vec::new();
    let mut steps_failed = Vec::new();
    for step in STEPS.iter().filter(|step| step.fast || !fast) {
        print!("{:<14}", step.name);
        std::io::stdout().flush()?;
        let start = Instant::now();
        let verdict = run_step(tree, step, tested);
        let secs = start.elapsed().as_secs_f64();
        println!("{:<8}{secs:>7.1} s{}", verdict.word(), counts(&verdict));
        for line in verdict.detail.lines() {
            println!("    {line}");
        }
        match verdict.word() {
            "FAILED" => steps_failed.push(step.name),
            "SKIPPED" => steps_skipped.push(step.name),
            _ => {}
        }
        total.add(&verdict);
    }
    println!();
    for (word, names) in [("failed", steps_failed), ("skipped", steps_skipped)] {
        if !names.is_empty() {
            println!("steps {word}: {}", names.join(", "));
        }
    }
    let (passed, failed, skipped) = (total.passed, total.failed, total.skipped);
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    Ok(failed == 0)
}

/// A step that cannot even run is one that failed.
fn run_step(tree: &Tree, step: &Step, tested: Option<&Path>) -> Verdict {
    let verdict = match step.run {
        Run::Check(check) => check(tree).map(|findings| Verdict::of_findings(&findings)),
        Run::Program(program) => program(tree),
        Run::Tests => tested.map_or_else(|| steps::test(tree), steps::tested),
    };
    verdict.unwrap_or_else(|error| Verdict::of(false, format!("{error:#}\n")))
}

fn counts(verdict: &Verdict) -> String {
    let (passed, failed, skipped) = (verdict.passed, verdict.failed, verdict.skipped);
    if passed + failed + skipped == 1 {
        return String::new();
    }
    format!("  {passed} passed, {failed} failed, {skipped} skipped")
}
