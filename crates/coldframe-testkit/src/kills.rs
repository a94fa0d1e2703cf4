//! Loops that kill a process at random moments, and look at what it left.
//!
//! The process is the test binary itself, which runs one test with a variable in its environment
//! that makes it work until it is killed. It says on stdout what it has begun and what was
//! acknowledged, a line each; a line that was cut off does not count.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::child::tied;
use crate::crash::{SEED, setting};
use crate::report;
use crate::rng::Rng;

/// The variable with the number of kills.
pub const KILLS: &str = "COLDFRAME_KILLS";
/// The variable that tells the process where to work.
const INNER: &str = "COLDFRAME_KILLED_IN";
/// The longest that is waited for a first word.
const START_MAX: Duration = Duration::from_secs(30);

/// Where to work, if this process is the one to be killed.
#[must_use]
pub fn work_place() -> Option<PathBuf> {
    std::env::var_os(INNER).map(PathBuf::from)
}

/// Says a line at once.
///
/// # Panics
/// If nobody listens any more.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let said = writeln!(out, "kill: {line}").and_then(|()| out.flush());
    said.expect("someone listens");
}

/// Kills a process `kills` times, or as often as [`KILLS`] says; after each, `check` gets the
/// number of the round and what was said. Three of four times it is at work by then: it dies within
/// `longest` of its first word. The fourth time it dies within `longest` of its start.
///
/// # Panics
/// If `check` does, or the process dies of something else.
pub fn rounds(
    name: &str,
    test: &str,
    place: &Path,
    kills: u64,
    longest: Duration,
    mut check: impl FnMut(u64, &[String]),
) {
    let kills = setting(KILLS, kills);
    let started = Instant::now();
    let mut rng = Rng::new(setting(SEED, 9));
    let mut at_work = 0;
    for round in 0..kills {
        let micros = u64::try_from(longest.as_micros()).unwrap_or(u64::MAX);
        let time = Duration::from_micros(rng.below(micros));
        let said = run_and_kill(test, place.as_os_str(), time, round % 4 != 3);
        at_work += u64::from(!said.is_empty());
        check(round, &said);
    }
    let millis = started.elapsed().as_millis();
    report::line(&format!("KILLS\t{name}\tok\t{kills}\t{at_work}\t{millis}"));
}

fn start(test: &str, place: &OsStr) -> Child {
    let program = std::env::current_exe().expect("this program has a path");
    tied(&mut Command::new(program))
        .args(["--exact", "--nocapture", test])
        .env(INNER, place)
        .env_remove(report::REPORT)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("this program can be started")
}

fn run_and_kill(test: &str, place: &OsStr, time: Duration, at_work: bool) -> Vec<String> {
    let mut child = start(test, place);
    let stdout = child.stdout.take().expect("it is piped");
    // Read all the time: a full pipe would stop the process at the same place always.
    let (first, begun) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut said = Vec::new();
        let mut lines = BufReader::new(stdout);
        let mut line = String::new();
        while lines.read_line(&mut line).is_ok_and(|count| count > 0) {
            if let (Some((_, text)), true) = (line.split_once("kill: "), line.ends_with('\n')) {
                said.push(text.trim_end().to_owned());
                if said.len() == 1 {
                    // Nobody may be waiting for it.
                    let _ = first.send(());
                }
            }
            line.clear();
        }
        said
    });
    if at_work {
        // If it ends before it says anything, that is found out below.
        let _ = begun.recv_timeout(START_MAX);
    }
    std::thread::sleep(time);
    // Whoever is done before that has failed: it was to work until it is killed.
    let is_alive = child.try_wait().expect("it can be asked").is_none();
    child.kill().expect("it can be killed");
    child.wait().expect("it is ours");
    let said = reader.join().expect("reading does not panic");
    assert!(
        is_alive,
        "the process ended by itself after saying {said:?}"
    );
    said
}

/// The last number behind this word, or what it was before.
///
/// # Panics
/// If what is behind the word is no number.
#[must_use]
pub fn last(said: &[String], word: &str, before: u64) -> u64 {
    let mut numbers = said.iter().filter_map(|line| {
        let (found, number) = line.split_once(' ')?;
        (found == word).then(|| number.parse::<u64>().expect("a number"))
    });
    numbers.next_back().unwrap_or(before)
}
