//! A VMM that dies at any moment leaves nothing that looks like a snapshot and is none.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use coldframe_snapshot::Snapshot;
use coldframe_storage::sweep_stale;
use coldframe_testkit::child;
use coldframe_testkit::rng::Rng;

use crate::support::{Home, PAGE, Vm, assert_sound, thawed_memory};

const INNER: &str = "COLDFRAME_TEST_CAPTURE_INTO";
const PAGES: u64 = 512;

/// The pages that are written before snapshot `step` is taken, and what with.
fn writes(step: u64) -> impl Iterator<Item = (u64, u8)> {
    let mut rng = Rng::new(step);
    (0..64).map(move |_| (rng.below(PAGES), rng.below(4) as u8))
}

/// The memory of snapshot `step`.
fn memory_of(step: u64) -> Vec<u8> {
    let mut memory = vec![0; (PAGES * PAGE) as usize];
    for step in 0..=step {
        for (page, byte) in writes(step) {
            let start = (page * PAGE) as usize;
            memory[start..start + PAGE as usize].fill(byte);
        }
    }
    memory
}

/// Takes snapshots until it is killed; says each name when it is published.
fn capture_for_ever(dir: &Path) -> ! {
    let mut vm = Vm::new(PAGES);
    let mut last: Option<Snapshot> = None;
    for step in 0.. {
        for (page, byte) in writes(step) {
            vm.fill(page, byte);
        }
        let dest = dir.join(format!("s{step:04}"));
        let snapshot = match &last {
            // A full one now and then: the next chain begins there.
            Some(parent) if step % 7 != 0 => vm.diff(&dest, parent),
            _ => vm.full(&dest),
        };
        println!("published {step}");
        std::io::stdout().flush().unwrap();
        last = Some(snapshot);
    }
    unreachable!("it is killed before it has counted so far")
}

fn start(dir: &Path) -> Child {
    child::command(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg("kill::what_is_under_a_final_name_is_whole_whenever_the_process_is_killed")
        .env(INNER, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Lets it run until after its first snapshot and a random time more, then kills it; returns the
/// last step that it said was published.
fn run_and_kill(dir: &Path, time: Duration) -> Option<u64> {
    let mut child = start(dir);
    let lines = BufReader::new(child.stdout.take().unwrap());
    let mut steps = lines.lines().map_while(Result::ok).filter_map(|line| {
        let (_, step) = line.split_once("published ")?;
        step.parse().ok()
    });
    let first: u64 = steps.next().unwrap();
    std::thread::sleep(time);
    child.kill().unwrap();
    child.wait().unwrap();
    steps.last().or(Some(first))
}

// Parity: D6, F7, F8, F65
#[test]
fn what_is_under_a_final_name_is_whole_whenever_the_process_is_killed() {
    if let Some(dir) = std::env::var_os(INNER) {
        capture_for_ever(&PathBuf::from(dir));
    }
    let mut rng = Rng::new(9);
    let mut leftovers = 0;
    for round in 0..200 {
        let home = Home::new();
        let time = Duration::from_micros(rng.below(30_000));
        let told = run_and_kill(home.path(), time).unwrap();

        leftovers += sweep_stale(home.path()).unwrap().len();
        let names = home.names();
        for (step, name) in (0u64..).zip(&names) {
            assert_eq!(*name, format!("s{step:04}"), "round {round}: {names:?}");
            assert_sound(&home.at(name));
        }
        let last = names.len() as u64 - 1;
        assert!(last == told || last == told + 1, "{told}: {names:?}");
        assert!(thawed_memory(&home.at(&names[last as usize])) == memory_of(last));
    }
    assert!(leftovers > 20, "only {leftovers} were killed in the middle");
}
