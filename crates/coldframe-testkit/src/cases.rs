//! A scenario of cases that are all known beforehand, each of which may cost a process.
//!
//! A scenario is a test of a module called `crash` that calls [`explore`]: as a test it looks at
//! some of its cases, drawn at random, and `cargo xtask crash`, which sets
//! [`crate::crash::ITERS`], has it look at all of them.

use std::fmt::Debug;
use std::time::Instant;

use crate::crash::{ITERS, SEED, attempt, message_of, setting};
use crate::report;
use crate::rng::Rng;

/// Looks at `short` of the cases, or, in the long form, at all; `check` panics if one is wrong.
///
/// # Panics
/// If one is, and says which; the long form, which takes minutes, goes on and says which all are.
#[track_caller]
pub fn explore<C: Debug>(name: &str, short: usize, cases: &[C], check: &dyn Fn(&C)) {
    let started = Instant::now();
    let mut drawn: Vec<&C> = cases.iter().collect();
    let wrong = if std::env::var_os(ITERS).is_none() {
        shuffle(&mut drawn);
        drawn.truncate(short);
        first_wrong(&drawn, check)
    } else {
        let wrong = drawn.iter().filter_map(|case| wrong(*case, check));
        let wrong: Vec<String> = wrong.collect();
        let count = format!("{} of {} cases\n", wrong.len(), drawn.len());
        (!wrong.is_empty()).then(|| count + &wrong.join("\n"))
    };
    let millis = started.elapsed().as_millis();
    match wrong {
        None => {
            let count = drawn.len();
            report::line(&format!("CRASH\t{name}\tok\t{count}\t1\t{millis}"));
        }
        Some(text) => {
            let folded = text.replace('\n', "\\n");
            report::line(&format!(
                "CRASH\t{name}\tviolation\t0\t0\t{millis}\t{folded}"
            ));
            panic!("{name}: {text}");
        }
    }
}

/// A bug that was planted: `check` finds it in one of these cases. Returns what it said.
///
/// # Panics
/// If it does not: then the check is blind.
#[track_caller]
pub fn planted<C: Debug>(name: &str, cases: &[C], check: &dyn Fn(&C)) -> String {
    let started = Instant::now();
    let all: Vec<&C> = cases.iter().collect();
    let wrong = first_wrong(&all, check);
    let millis = started.elapsed().as_millis();
    let Some(text) = wrong else {
        report::line(&format!("PLANTED\t{name}\tmissed\t0\t{millis}"));
        panic!(
            "{name}: the planted bug was not found in {} cases",
            all.len()
        );
    };
    report::line(&format!("PLANTED\t{name}\tfound\t1\t{millis}"));
    text
}

fn first_wrong<C: Debug>(cases: &[&C], check: &dyn Fn(&C)) -> Option<String> {
    cases.iter().find_map(|case| wrong(*case, check))
}

fn wrong<C: Debug>(case: &C, check: &dyn Fn(&C)) -> Option<String> {
    let panic = attempt(|| check(case)).err()?;
    Some(format!("{case:?}: {}", message_of(&*panic)))
}

fn shuffle<T>(all: &mut [T]) {
    let mut rng = Rng::new(setting(SEED, 1));
    for at in (1..all.len()).rev() {
        let other = rng.below(at as u64 + 1);
        all.swap(at, usize::try_from(other).unwrap_or(at));
    }
}
