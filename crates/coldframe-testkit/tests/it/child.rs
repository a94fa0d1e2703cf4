//! What tests start and leave behind, when they are killed.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use coldframe_testkit::child::{Running, command, group};
use coldframe_testkit::scratch;

const INNER: &str = "COLDFRAME_TEST_CHILD";

/// Longer than a test waits.
const SCRIPT: &str = "sleep 600 & echo ready; wait";
const LONG: Duration = Duration::from_secs(60);

/// A process with a directory of its own and, as its child or as a child of that, one that sleeps.
fn inner(kind: &str) {
    println!("\n{}", scratch::on_disk().keep().display());
    let mut started = match kind {
        "command" => command("sleep").arg("600").spawn().unwrap(),
        _ => group("sh").args(["-c", SCRIPT]).spawn().unwrap(),
    };
    if kind == "command" {
        println!("ready");
    }
    started.wait().unwrap();
}

#[track_caller]
fn check(kind: &str) {
    if let Ok(kind) = std::env::var(INNER) {
        return inner(&kind);
    }
    let mut test = command(std::env::current_exe().unwrap());
    test.args(["--exact", "--nocapture"]);
    test.arg(format!("child::a_killed_test_leaves_nothing_of_a_{kind}"));
    let mut test = Running::start(test.env(INNER, kind).stdout(Stdio::piped()));
    let mut output = BufReader::new(test.stdout.take().unwrap());
    let mut lines = output.by_ref().lines().map(Result::unwrap);
    let directory = lines.find(|line| line.starts_with('/')).unwrap();
    assert!(Path::new(&directory).is_dir());
    assert!(lines.any(|line| line == "ready"));
    drop(lines);
    test.kill().unwrap();
    // All that it started has its standard output: there is an end once all are gone.
    let began = Instant::now();
    output.read_to_end(&mut Vec::new()).unwrap();
    while Path::new(&directory).exists() {
        assert!(began.elapsed() < LONG, "{directory} is left");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(began.elapsed() < LONG, "a {kind} is left");
}

#[test]
fn a_killed_test_leaves_nothing_of_a_command() {
    check("command");
}

#[test]
fn a_killed_test_leaves_nothing_of_a_group() {
    check("group");
}

#[test]
fn a_group_ends_as_its_program_does() {
    let run = |script: &str| group("sh").args(["-c", script]).output().unwrap();
    let ended = run("echo out; echo err >&2; read line; exit 7");
    assert_eq!(ended.status.code(), Some(7));
    assert_eq!(
        (&ended.stdout[..], &ended.stderr[..]),
        (&b"out\n"[..], &b"err\n"[..])
    );
}
