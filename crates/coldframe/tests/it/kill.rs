//! The whole VMM is killed at random moments: what it has published can be trusted.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use coldframe_testkit::child::Running;
use coldframe_testkit::rng::Rng;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::{Home, coldframe, command, names, no_kvm};

const GUEST: [&str; 8] = [
    "--ram",
    "8MiB",
    "--workload",
    "idle",
    "--seed",
    "3",
    "--diffs",
    "8",
];

fn demo(backend: &str, dir: &Path) -> Child {
    command(&[&"demo", &"--backend", &backend, &"--dir", &dir])
        .args(GUEST)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// The end of the guest that is not killed.
fn whole(backend: &str) -> Value {
    let whole = command(&[&"demo", &"--backend", &backend, &"--json"])
        .args(GUEST)
        .output()
        .unwrap();
    serde_json::from_slice::<Value>(&whole.stdout).unwrap()["end"].clone()
}

/// Waits until the first capture is under way, then so long more, and kills.
fn kill(mut demo: Child, dir: &Path, time: Duration) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let captures = |dir: &Path| names(dir).iter().any(|name| name.contains("full"));
    while !(dir.exists() && captures(dir)) {
        assert!(Instant::now() < deadline, "no capture has begun");
        std::thread::sleep(Duration::from_micros(200));
    }
    std::thread::sleep(time);
    demo.kill().unwrap();
    demo.wait().unwrap();
}

/// Kills `rounds` times; every snapshot under a final name is sound, and the last one thaws.
#[track_caller]
fn check(backend: &str, rounds: u32, longest: Duration) {
    let end = whole(backend);
    let mut rng = Rng::new(u64::from(rounds));
    let mut in_the_middle = 0;
    // Goes on, within limits, until a capture was hit: how long one takes is up to the machine.
    for round in 0..10 * rounds {
        if round >= rounds && in_the_middle > 0 {
            break;
        }
        let home = Home::new();
        let dir = home.at("kept");
        let micros = u64::try_from(longest.as_micros()).unwrap();
        let time = Duration::from_micros(rng.below(micros));
        kill(demo(backend, &dir), &dir, time);
        let left = names(&dir);
        in_the_middle += u32::from(left.iter().any(|name| name.starts_with('.')));
        let published: Vec<_> = left
            .iter()
            .filter(|name| *name == "full" || name.starts_with("diff-"))
            .map(|name| dir.join(name))
            .collect();
        if published.is_empty() {
            continue;
        }
        let verify = command(&[&"verify", &"--deep"]).args(&published).output();
        assert!(verify.as_ref().unwrap().status.success(), "{verify:?}");
        let last = published.len() - 1;
        let name = if last == 0 {
            "full".into()
        } else {
            format!("diff-{last}")
        };
        let thawed = coldframe(&[&"thaw", &dir.join(name)]).done();
        assert_eq!(thawed.json()["end"], end);
    }
    assert!(
        in_the_middle > 0,
        "none was killed in the middle of a capture"
    );
}

#[test]
fn what_a_killed_vmm_has_published_thaws_to_the_same_end() {
    check("simulated", 30, Duration::from_millis(120));
}

// Parity: F8
#[test]
fn what_a_killed_vmm_has_published_thaws_to_the_same_end_on_kvm() {
    if !no_kvm() {
        check("kvm", 8, Duration::from_millis(1500));
    }
}

/// Ended by a signal in the middle of an import: its exit says so, and nothing is left behind.
#[test]
fn a_signal_removes_what_is_not_published() {
    let home = Home::new();
    let dump = home.at("dump");
    std::fs::write(&dump, Rng::new(5).bytes(32 << 20)).unwrap();
    let dir = home.at("d");
    std::fs::create_dir(&dir).unwrap();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let mut import = command(&[&"import", &"raw", &dump, &"-o", &dir.join("x")]);
        let mut import = Running::start(import.stderr(Stdio::piped()));
        let deadline = Instant::now() + Duration::from_secs(60);
        while names(&dir).is_empty() {
            assert!(Instant::now() < deadline, "no import has begun");
            std::thread::sleep(Duration::from_millis(1));
        }
        let pid = Pid::from_raw(i32::try_from(import.id()).unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
        let ended = import.wait().unwrap();
        // Unless it was faster than the signal.
        if ended.code() != Some(0) {
            assert_eq!(ended.signal(), Some(signal as i32));
            assert!(names(&dir).is_empty(), "{signal}: {:?}", names(&dir));
        } else {
            assert_eq!(names(&dir), ["x"]);
            std::fs::remove_dir_all(dir.join("x")).unwrap();
        }
    }
}
