//! The one way to run a crash scenario: workloads that are drawn, a power cut at every moment of
//! each, a check of every state; and, of what is wrong, the smallest list of operations.
//!
//! A scenario is a test of a module called `crash` that calls [`explore`]; that is all it takes for
//! `cargo xtask crash` to run it. [`SEED`] and [`ITERS`] in the environment say how far it goes.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use crate::crash::cuts::{Cuts, Found};
use crate::crash::violation::{Violation, attempt, message_of};
use crate::report;
use crate::rng::Rng;

/// The variable with the seed; 1 if it is not set.
pub const SEED: &str = "COLDFRAME_CRASH_SEED";
/// The variable with the number of states to check in each scenario.
pub const ITERS: &str = "COLDFRAME_CRASH_ITERS";

/// The longest that is spent on making a list of operations smaller.
const SHRINK: Duration = Duration::from_secs(60);
/// States at each moment, of each sector size.
const STATES_PER_MOMENT: usize = 24;

/// Something that writes, and what must be true of what it wrote.
pub trait World {
    /// An operation of the workload.
    type Step: Clone + Debug;

    /// A workload.
    fn draw(&self, rng: &mut Rng) -> Vec<Self::Step>;

    /// Runs a workload, whatever steps are left of it, and has `cuts` check every moment.
    ///
    /// # Panics
    /// If something is wrong.
    fn run(&self, steps: &[Self::Step], cuts: &mut Cuts);
}

/// What was looked at without finding anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Explored {
    /// Workloads that ran.
    pub workloads: u64,
    /// States that were checked.
    pub states: u64,
}

/// Looks for a violation until `iters` states are checked.
///
/// # Errors
/// The violation, made small.
///
/// # Panics
/// If a workload has no state at all.
pub fn find<W: World>(world: &W, seed: u64, iters: u64) -> Result<Explored, Box<Violation>> {
    let mut explored = Explored::default();
    let mut seeds = Rng::new(seed);
    while explored.states < iters {
        let workload = seeds.next_u64();
        let steps = world.draw(&mut Rng::new(workload));
        let mut cuts = Cuts::new(workload, STATES_PER_MOMENT, iters - explored.states);
        if let Err(found) = run(world, &steps, &mut cuts) {
            return Err(Box::new(shrink(world, seed, workload, &steps, found)));
        }
        assert!(cuts.states() > 0, "a workload without a power cut");
        explored.workloads += 1;
        explored.states += cuts.states();
    }
    Ok(explored)
}

/// Runs a scenario: `states` states, or as many as [`ITERS`] says, and reports them.
///
/// # Panics
/// If there is a violation.
#[track_caller]
pub fn explore<W: World>(name: &str, states: u64, world: &W) {
    let (seed, iters) = (setting(SEED, 1), setting(ITERS, states));
    let started = Instant::now();
    let result = find(world, seed, iters);
    let millis = started.elapsed().as_millis();
    match result {
        Ok(Explored { workloads, states }) => {
            report::line(&format!(
                "CRASH\t{name}\tok\t{states}\t{workloads}\t{millis}"
            ));
        }
        Err(violation) => {
            let text = violation.to_string().replace('\n', "\\n");
            report::line(&format!("CRASH\t{name}\tviolation\t0\t0\t{millis}\t{text}"));
            panic!("{name}: {violation}");
        }
    }
}

/// A bug that was planted in `world`: it is found.
///
/// # Panics
/// If it is not found within `states` states: then the simulator, or the check, is blind.
#[track_caller]
pub fn planted<W: World>(name: &str, states: u64, world: &W) -> Violation {
    let started = Instant::now();
    let result = find(world, setting(SEED, 1), states);
    let millis = started.elapsed().as_millis();
    match result {
        Ok(explored) => {
            report::line(&format!("PLANTED\t{name}\tmissed\t0\t{millis}"));
            panic!("{name}: the planted bug was not found in {explored:?}");
        }
        Err(violation) => {
            let steps = violation.steps.0.len();
            report::line(&format!("PLANTED\t{name}\tfound\t{steps}\t{millis}"));
            println!("{name}: {violation}\n");
            *violation
        }
    }
}

/// A number from the environment.
///
/// # Panics
/// If there is something else.
#[must_use]
pub fn setting(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{variable}={text} is no number"))
    })
}

fn run<W: World>(world: &W, steps: &[W::Step], cuts: &mut Cuts) -> Result<(), Found> {
    attempt(|| world.run(steps, cuts)).map_err(|panic| match panic.downcast::<Found>() {
        Ok(found) => *found,
        // Not a state, but the workload itself went wrong.
        Err(panic) => Found {
            cut: None,
            message: message_of(&*panic),
        },
    })
}

/// Takes steps away, many at first, as long as something is still found.
fn shrink<W: World>(
    world: &W,
    seed: u64,
    workload: u64,
    steps: &[W::Step],
    found: Found,
) -> Violation {
    let deadline = Instant::now() + SHRINK;
    let (mut least, mut found) = (steps.to_vec(), found);
    let mut size = least.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        let mut is_smaller = false;
        while at < least.len() && Instant::now() < deadline {
            let mut fewer = least.clone();
            fewer.drain(at..(at + size).min(fewer.len()));
            // More states than before: with other steps the same ones are drawn elsewhere.
            let mut cuts = Cuts::new(workload, 4 * STATES_PER_MOMENT, u64::MAX);
            match run(world, &fewer, &mut cuts) {
                Err(again) => (least, found, is_smaller) = (fewer, again, true),
                Ok(()) => at += size,
            }
        }
        if size == 1 && !is_smaller || Instant::now() >= deadline {
            break;
        }
        size = if size > 1 { size.div_ceil(2) } else { 1 };
        if size == 2 && least.len() < 2 {
            size = 1;
        }
    }
    let shown = least.iter().map(|step| format!("{step:?}")).collect();
    Violation {
        seed,
        steps: (shown, steps.len()),
        cut: found.cut,
        message: found.message,
    }
}
