//! One thing that cannot be read, and stays so: every thing of a place that is filled at random,
//! every way in which it cannot be read, every operation.
//!
//! A scenario is a test of a module called `crash` that calls [`explore`], so that
//! `cargo xtask crash` runs it in its long form; [`crate::crash::ITERS`] in the environment says
//! how many cases are looked at, [`crate::crash::SEED`] where places are drawn from.

use std::fmt::Debug;
use std::time::Instant;

use crate::crash::{ITERS, SEED, attempt, message_of, setting};
use crate::fault::EIO;
use crate::report;
use crate::rng::Rng;

/// "Permission denied", on every Unix (errno(3)).
pub const EACCES: i32 = 13;
/// "Stale file handle" of the host (errno(3)).
pub const ESTALE: i32 = libc::ESTALE;

/// A way in which a thing cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ailment {
    /// Looking at it and reading it fail with this error number. A service that refuses (403)
    /// fails as [`EACCES`] does.
    Errno(i32),
    /// It is listed, but not found when it is read (ENOENT, 404).
    ListedNotFound,
    /// It is left out of the listing, and can be read by its name.
    LeftOut,
}

/// All of them.
pub const AILMENTS: [Ailment; 5] = [
    Ailment::Errno(EIO),
    Ailment::Errno(EACCES),
    Ailment::Errno(ESTALE),
    Ailment::ListedNotFound,
    Ailment::LeftOut,
];

/// A place that can be filled, and what must be true of it while one thing cannot be read.
pub trait World {
    /// A place that is filled.
    type Place;
    /// A thing that may be unreadable.
    type Thing: Clone + Debug;
    /// What is done with the place.
    type Operation: Copy + Debug;

    /// Fills a place.
    fn draw(&self, rng: &mut Rng) -> Self::Place;

    /// What is in it.
    fn things(&self, place: &Self::Place) -> Vec<Self::Thing>;

    /// All operations.
    fn operations(&self) -> Vec<Self::Operation>;

    /// Does the operation on a copy of the place while the thing ails.
    ///
    /// # Panics
    /// If something needed was deleted, something else cannot be read any more, or what went wrong
    /// does not name the thing.
    fn check(
        &self,
        place: &Self::Place,
        thing: &Self::Thing,
        ailment: Ailment,
        operation: Self::Operation,
    );
}

/// What was wrong, and where.
#[derive(Debug)]
pub struct Violation {
    /// The place, the thing, the ailment and the operation.
    pub case: String,
    /// What the check said.
    pub message: String,
}

/// Looks at all cases of one place after the other until `cases` were looked at; returns how many
/// cases and places there were.
///
/// # Errors
/// The first violation.
pub fn find<W: World>(world: &W, seed: u64, cases: u64) -> Result<(u64, u64), Violation> {
    let (mut count, mut places) = (0, 0);
    let mut seeds = Rng::new(seed);
    while count < cases {
        let drawn = seeds.next_u64();
        let place = world.draw(&mut Rng::new(drawn));
        places += 1;
        for thing in world.things(&place) {
            for ailment in AILMENTS {
                for operation in world.operations() {
                    let check = || world.check(&place, &thing, ailment, operation);
                    count += 1;
                    attempt(check).map_err(|panic| Violation {
                        case: format!("place {drawn}: {thing:?}: {ailment:?}: {operation:?}"),
                        message: message_of(&*panic),
                    })?;
                }
            }
        }
    }
    Ok((count, places))
}

/// Looks at `cases` cases of one place that are drawn at random; returns how many there were.
///
/// # Errors
/// The first violation.
pub fn sample<W: World>(world: &W, seed: u64, cases: u64) -> Result<(u64, u64), Violation> {
    let mut rng = Rng::new(seed);
    let drawn = rng.next_u64();
    let place = world.draw(&mut Rng::new(drawn));
    let (things, operations) = (world.things(&place), world.operations());
    for _ in 0..cases {
        let thing = pick(&mut rng, &things);
        let (ailment, operation) = (*pick(&mut rng, &AILMENTS), *pick(&mut rng, &operations));
        attempt(|| world.check(&place, thing, ailment, operation)).map_err(|panic| Violation {
            case: format!("place {drawn}: {thing:?}: {ailment:?}: {operation:?}"),
            message: message_of(&*panic),
        })?;
    }
    Ok((cases, 1))
}

fn pick<'a, T>(rng: &mut Rng, all: &'a [T]) -> &'a T {
    let at = rng.below(all.len() as u64);
    &all[usize::try_from(at).expect("an index")]
}

/// Runs a scenario whose cases cost a process each: `cases` of them drawn at random, or, in the
/// long form, all of one place.
///
/// # Panics
/// If there is a violation.
#[track_caller]
pub fn explore_sampled<W: World>(name: &str, cases: u64, world: &W) {
    let started = Instant::now();
    let seed = setting(SEED, 1);
    let result = match std::env::var_os(ITERS) {
        Some(_) => all_of_one(world, seed),
        None => sample(world, seed, cases),
    };
    tell(name, result, started);
}

/// Looks at all cases of one place, and goes on after a violation: such a run takes minutes, and
/// tells of all that it found.
fn all_of_one<W: World>(world: &W, seed: u64) -> Result<(u64, u64), Violation> {
    let drawn = Rng::new(seed).next_u64();
    let place = world.draw(&mut Rng::new(drawn));
    let (mut count, mut violations) = (0, Vec::new());
    for thing in world.things(&place) {
        for ailment in AILMENTS {
            for operation in world.operations() {
                count += 1;
                let check = || world.check(&place, &thing, ailment, operation);
                if let Err(panic) = attempt(check) {
                    let message = message_of(&*panic);
                    violations.push(format!("{thing:?}: {ailment:?}: {operation:?}: {message}"));
                }
            }
        }
    }
    if violations.is_empty() {
        return Ok((count, 1));
    }
    Err(Violation {
        case: format!("place {drawn}: {} of {count} cases", violations.len()),
        message: violations.join("\n"),
    })
}

/// Runs a scenario: at least `cases` cases, or as many as [`ITERS`] says, and reports them.
///
/// # Panics
/// If there is a violation.
#[track_caller]
pub fn explore<W: World>(name: &str, cases: u64, world: &W) {
    let started = Instant::now();
    let result = find(world, setting(SEED, 1), setting(ITERS, cases));
    tell(name, result, started);
}

/// Reports how a scenario ended.
#[track_caller]
fn tell(name: &str, result: Result<(u64, u64), Violation>, started: Instant) {
    let millis = started.elapsed().as_millis();
    match result {
        Ok((count, places)) => {
            report::line(&format!("CRASH\t{name}\tok\t{count}\t{places}\t{millis}"));
        }
        Err(violation) => {
            let text = format!("{}: {}", violation.case, violation.message).replace('\n', "\\n");
            report::line(&format!("CRASH\t{name}\tviolation\t0\t0\t{millis}\t{text}"));
            panic!("{name}: {}: {}", violation.case, violation.message);
        }
    }
}

/// A bug that was planted in `world`: it is found.
///
/// # Panics
/// If it is not found within `cases` cases: then the check is blind.
#[track_caller]
pub fn planted<W: World>(name: &str, cases: u64, world: &W) -> Violation {
    let started = Instant::now();
    found(name, find(world, setting(SEED, 1), cases), started)
}

/// The same for a scenario whose cases are drawn at random, as [`explore_sampled`] does.
///
/// # Panics
/// If it is not found in `cases` cases.
#[track_caller]
pub fn planted_sampled<W: World>(name: &str, cases: u64, world: &W) -> Violation {
    let started = Instant::now();
    found(name, sample(world, setting(SEED, 1), cases), started)
}

/// Reports how the search for a planted bug ended.
#[track_caller]
fn found(name: &str, result: Result<(u64, u64), Violation>, started: Instant) -> Violation {
    let millis = started.elapsed().as_millis();
    match result {
        Ok((count, places)) => {
            report::line(&format!("PLANTED\t{name}\tmissed\t0\t{millis}"));
            panic!("{name}: the planted bug was not found in {count} cases of {places} places");
        }
        Err(violation) => {
            report::line(&format!("PLANTED\t{name}\tfound\t1\t{millis}"));
            violation
        }
    }
}
