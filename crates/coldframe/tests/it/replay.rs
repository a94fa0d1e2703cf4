//! Time travel: a recorded demo, and what its snapshots and its journal lead to.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::support::{Home, Outcome, coldframe, command, keys, no_kvm};

/// A recorded demo on `backend`, kept, and its report.
struct Recorded {
    home: Home,
    report: Value,
}

impl Recorded {
    fn on(backend: &str) -> Self {
        let home = Home::new();
        let report = coldframe(&[
            &"demo",
            &"--record",
            &"--ram",
            &"16MiB",
            &"--diffs",
            &"2",
            &"--backend",
            &backend,
            &"--json",
            &"--dir",
            &home.at("d"),
        ])
        .done()
        .json();
        Self { home, report }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.home.at("d").join(name)
    }

    fn console(&self) -> Vec<u8> {
        fs::read(self.at("console.txt")).unwrap()
    }

    /// Replays `snapshot` with `journal`.
    fn replay(&self, snapshot: &str, journal: &Path, more: &[&str]) -> Outcome {
        let snapshot = self.at(snapshot);
        let mut args: Vec<&dyn AsRef<OsStr>> =
            vec![&"replay", &snapshot, &"--journal", &journal, &"--json"];
        args.extend(more.iter().map(|arg| arg as &dyn AsRef<OsStr>));
        coldframe(&args)
    }

    /// A copy of the journal, changed.
    fn changed(&self, change: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
        let mut bytes = fs::read(self.at("journal")).unwrap();
        change(&mut bytes);
        let path = self.home.at("changed");
        fs::write(&path, bytes).unwrap();
        path
    }
}

/// The digest of a console that has printed so many bytes of `console`.
fn digest(console: &[u8], replayed: &Value) -> String {
    let len = usize::try_from(replayed["console_bytes"].as_u64().unwrap()).unwrap();
    blake3::hash(&console[..len]).to_hex().to_string()
}

#[track_caller]
fn check_recorded_demo(backend: &str) {
    let recorded = Recorded::on(backend);
    let report = &recorded.report;
    assert_eq!(report["workload"], "input");
    assert_eq!(report["verdict"], "identical");
    assert_eq!(report["snapshots"].as_array().unwrap().len(), 3);
    let journal = recorded.at("journal");
    assert_eq!(report["journal"], journal.to_str().unwrap());
    let mode = fs::metadata(&journal).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let console = recorded.console();
    assert!(console.ends_with(b"END\n"));
    for name in ["full", "diff-1", "diff-2"] {
        let whole = recorded.replay(name, &journal, &[]).done().json();
        assert_eq!(whole["end"], report["end"]);
        assert_eq!(whole["verdict"], "identical");
        assert_eq!(whole["stopped_at"], "end");
        assert_eq!(whole["cut"], Value::Null);
        assert_eq!(
            keys(&whole),
            [
                "console_bytes",
                "cut",
                "end",
                "entries",
                "journal",
                "mark",
                "restore_us",
                "snapshot",
                "stopped_at",
                "verdict"
            ]
        );
    }
    check_marks(&recorded, &console);
    check_cuts(&recorded, &console);
    check_damage(&recorded);
}

/// Each snapshot leads to the same state at a mark, and its console is that of the recorded guest.
#[track_caller]
fn check_marks(recorded: &Recorded, console: &[u8]) {
    let journal = recorded.at("journal");
    let mut states = Vec::new();
    for name in ["full", "diff-1", "full", "diff-2"] {
        let there = recorded.replay(name, &journal, &["--to", "0x1a0"]).done();
        let there = there.json();
        assert_eq!(there["stopped_at"], "mark");
        assert_eq!(there["mark"], 416);
        assert_eq!(there["end"]["console_blake3"], digest(console, &there));
        states.push(there["end"].clone());
    }
    assert!(states.iter().all(|state| *state == states[0]));
    assert_ne!(states[0], recorded.report["end"]);
    recorded
        .replay("diff-2", &journal, &["--to", "1"])
        .fails(1, &["no mark 1 after", "go from"]);
    recorded
        .replay("diff-2", &journal, &["--to", "soon"])
        .fails(2, &["soon"]);
}

/// A cut journal is replayed to its last whole entry.
#[track_caller]
fn check_cuts(recorded: &Recorded, console: &[u8]) {
    let len = fs::metadata(recorded.at("journal")).unwrap().len() as usize;
    for cut in (0..6)
        .map(|i| i * len / 6 + i)
        .chain([len - 1, len - 143, len - 144, len - 145])
    {
        let journal = recorded.changed(|bytes| bytes.truncate(cut));
        let there = recorded.replay("diff-1", &journal, &[]).done().json();
        let at = there["cut"]["offset"].as_u64().unwrap();
        let dropped = there["cut"]["dropped_bytes"].as_u64().unwrap();
        assert_eq!(at + dropped, cut as u64);
        assert_eq!(there["end"]["console_blake3"], digest(console, &there));
        if there["stopped_at"] == "end" {
            assert_eq!(there["verdict"], "identical");
        } else {
            assert_eq!(there["stopped_at"], "cut");
            assert_eq!(there["verdict"], "consistent");
        }
    }
}

/// A damaged journal is refused with the offset, another's snapshot too.
#[track_caller]
fn check_damage(recorded: &Recorded) {
    let len = fs::metadata(recorded.at("journal")).unwrap().len() as usize;
    for at in [0, 5, 113, len / 3, len / 2, len - 200, len - 60, len - 1] {
        let journal = recorded.changed(|bytes| bytes[at] ^= 1);
        let refused = recorded.replay("full", &journal, &[]);
        refused.fails(1, &["refused at 0x"]);
    }
    let missing = recorded.home.at("missing");
    recorded
        .replay("full", &missing, &[])
        .fails(3, &["missing"]);
}

#[test]
fn a_recorded_real_guest_is_replayed_to_any_moment() {
    if !no_kvm() {
        check_recorded_demo("kvm");
    }
}

#[test]
fn a_recorded_simulated_guest_is_replayed_to_any_moment() {
    check_recorded_demo("simulated");
}

#[test]
fn a_journal_leads_from_its_own_snapshots_alone() {
    let one = Recorded::on("simulated");
    let other = Recorded::on("simulated");
    assert_ne!(one.report["end"], other.report["end"]);
    one.replay("full", &other.at("journal"), &[])
        .fails(1, &["another recording"]);
    let home = Home::new();
    let dir = home.at("d");
    let plain = ["demo", "--ram", "16MiB", "--backend", "simulated", "--dir"];
    let mut args: Vec<&dyn AsRef<OsStr>> = plain.iter().map(|arg| arg as _).collect();
    args.push(&dir);
    coldframe(&args).done();
    let full = dir.join("full");
    coldframe(&[&"replay", &full, &"--journal", &one.at("journal")])
        .fails(1, &["not of a recorded guest"]);
}

/// What a killed recorder leaves under a snapshot's final name can be replayed.
#[test]
fn every_snapshot_of_a_killed_recording_is_replayed() {
    if no_kvm() {
        return;
    }
    let mut cut = 0;
    for round in 0..4 {
        let home = Home::new();
        let dir = home.at("d");
        let last = dir.join(format!("diff-{}", 1 + round));
        let mut demo = command(&[&"demo", &"--record", &"--ram", &"16MiB", &"--dir", &dir])
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        while !last.exists() && demo.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(3));
        }
        demo.kill().unwrap();
        demo.wait().unwrap();
        let journal = dir.join("journal");
        for name in ["full", "diff-1", "diff-2", "diff-3", "diff-4", "diff-5"] {
            let snapshot = dir.join(name);
            if !snapshot.exists() {
                continue;
            }
            let there = coldframe(&[&"replay", &snapshot, &"--journal", &journal, &"--json"])
                .done()
                .json();
            let is_cut = there["stopped_at"] == "cut";
            assert_eq!(
                there["verdict"],
                ["identical", "consistent"][usize::from(is_cut)]
            );
            cut += u32::from(is_cut);
        }
    }
    assert!(cut > 0);
}
