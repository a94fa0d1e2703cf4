//! The main job, on each machine there is.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::time::Duration;

use coldframe_testkit::child;
use serde_json::Value;

use crate::support::{Home, Outcome, assert_sound, coldframe, command, keys, names, no_kvm};

/// The keys are exactly those of the contract, and the verdict is as it must be.
#[track_caller]
fn check_report(report: &Value, backend: &str, workload: &str, diffs: usize) {
    assert_eq!(
        keys(report),
        [
            "backend",
            "end",
            "ram_bytes",
            "seed",
            "snapshots",
            "verdict",
            "workload"
        ]
    );
    assert_eq!(
        keys(&report["end"]),
        ["console_blake3", "ram_blake3", "regs_blake3"]
    );
    assert_eq!(report["backend"], backend);
    assert_eq!(report["workload"], workload);
    assert_eq!(report["verdict"], "identical");
    for hash in report["end"].as_object().unwrap().values() {
        assert_eq!(hash.as_str().unwrap().len(), 64);
    }
    let snapshots = report["snapshots"].as_array().unwrap();
    assert_eq!(snapshots.len(), diffs + 1);
    let mut parent = Value::Null;
    for (index, snapshot) in snapshots.iter().enumerate() {
        assert_eq!(
            keys(snapshot),
            [
                "bytes_written",
                "identical",
                "kind",
                "name",
                "pages",
                "parent",
                "pause_us",
                "publish_us",
                "restore_us"
            ]
        );
        assert_eq!(snapshot["kind"], ["full", "diff"][index.min(1)]);
        assert_eq!(snapshot["parent"], parent);
        assert_eq!(snapshot["identical"], true);
        assert!(snapshot["pages"].as_u64().unwrap() > 0);
        assert!(snapshot["pause_us"].as_u64().unwrap() > 0);
        parent = snapshot["name"].clone();
    }
}

#[track_caller]
fn check_kvm(workload: &str, diffs: usize) {
    if no_kvm() {
        return;
    }
    let count = diffs.to_string();
    let demo = coldframe(&[
        &"demo",
        &"--backend",
        &"kvm",
        &"--ram",
        &"16MiB",
        &"--diffs",
        &count,
        &"--seed",
        &"7",
        &"--workload",
        &workload,
        &"--json",
    ]);
    let report = demo.done().json();
    check_report(&report, "kvm", workload, diffs);
    assert_eq!(report["ram_bytes"], 16 << 20);
    assert_eq!(report["seed"], 7);
}

#[test]
fn hash_ends_identical_on_kvm() {
    check_kvm("hash", 2);
}

#[test]
fn stride_ends_identical_on_kvm() {
    check_kvm("stride", 1);
}

#[test]
fn random_ends_identical_on_kvm() {
    check_kvm("random", 1);
}

#[test]
fn zeroing_ends_identical_on_kvm() {
    check_kvm("zeroing", 2);
}

#[test]
fn idle_ends_identical_on_kvm() {
    check_kvm("idle", 5);
}

// Parity: D18
#[test]
fn smp_ends_identical_on_kvm() {
    check_kvm("smp", 1);
}

fn simulated(more: &[&str]) -> Outcome {
    let mut demo = command(&[&"demo", &"--backend", &"simulated", &"--ram", &"16MiB"]);
    demo.args(more).output().unwrap().into()
}

#[test]
fn every_workload_ends_identical_on_the_simulated_machine() {
    for workload in ["hash", "stride", "random", "zeroing", "idle", "smp"] {
        let demo = simulated(&["--diffs", "3", "--workload", workload, "--json"]);
        check_report(&demo.done().json(), "simulated", workload, 3);
    }
}

#[test]
fn one_full_snapshot_without_diffs_is_a_demonstration_too() {
    let demo = simulated(&["--diffs", "0", "--json"]).done();
    check_report(&demo.json(), "simulated", "hash", 0);
}

#[test]
fn equal_seeds_end_equal_and_others_do_not() {
    let end = |seed| {
        let demo = simulated(&["--diffs", "0", "--seed", seed, "--json"]).done();
        demo.json()["end"].clone()
    };
    assert_eq!(end("5"), end("5"));
    assert_ne!(end("5"), end("6"));
}

#[test]
fn the_table_has_a_row_for_each_snapshot_and_a_verdict() {
    let demo = simulated(&["--diffs", "2"]).done();
    let lines: Vec<_> = demo.stdout.lines().collect();
    assert!(lines[0].contains("simulated"), "{demo:#?}");
    for word in [
        "name",
        "kind",
        "pages",
        "written",
        "pause",
        "publish",
        "restore",
        "identical",
    ] {
        assert!(lines[1].contains(word), "{demo:#?}");
    }
    for (line, name) in lines[2..].iter().zip(["full", "diff-1", "diff-2", "total"]) {
        assert!(line.starts_with(name), "{demo:#?}");
    }
    assert_eq!(*lines.last().unwrap(), "verdict: identical");
}

#[test]
fn the_snapshots_and_the_console_are_kept_where_asked() {
    let home = Home::new();
    let dir = home.at("kept");
    let asked = dir.to_str().unwrap();
    simulated(&["--diffs", "1", "--dir", asked]).done();
    assert_eq!(names(&dir), ["console.txt", "diff-1", "full"]);
    assert_sound(&dir.join("diff-1"));
    let console = fs::read_to_string(dir.join("console.txt")).unwrap();
    assert!(console.ends_with("END\n"), "{console}");
    // What is in there now is not written over.
    simulated(&["--dir", asked]).fails(2, &["not empty", asked]);
    assert_eq!(names(&dir), ["console.txt", "diff-1", "full"]);
}

#[test]
fn both_ways_of_restoring_end_the_same() {
    let home = Home::new();
    let dir = home.at("kept");
    let demo = simulated(&["--diffs", "2", "--json", "--dir", dir.to_str().unwrap()]).done();
    for name in ["full", "diff-1", "diff-2"] {
        for mode in ["map", "copy"] {
            let thawed = coldframe(&[&"thaw", &dir.join(name), &"--mode", &mode]).done();
            assert_eq!(thawed.json()["end"], demo.json()["end"], "{name} {mode}");
        }
    }
}

#[test]
fn both_ways_of_restoring_end_the_same_on_kvm() {
    if no_kvm() {
        return;
    }
    let home = Home::new();
    let dir = home.at("kept");
    let demo = coldframe(&[
        &"demo",
        &"--backend",
        &"kvm",
        &"--ram",
        &"16MiB",
        &"--diffs",
        &"2",
        &"--workload",
        &"idle",
        &"--json",
        &"--dir",
        &dir,
    ]);
    let end = demo.done().json()["end"].clone();
    for name in ["full", "diff-2"] {
        let thawed = coldframe(&[&"thaw", &dir.join(name), &"--mode", &"copy"]).done();
        assert_eq!(thawed.json()["end"], end, "{name}");
    }
}

/// Runs the command where there is no /dev/kvm; `None` if that cannot be had.
fn without_kvm(args: &[&str]) -> Option<Outcome> {
    // A directory with nothing but `null` in the place of /dev.
    const HIDE: &str = "mkdir \"$0\" && : >\"$0/null\" && mount --bind /dev/null \"$0/null\" \
                        && mount --rbind \"$0\" /dev && exec \"$@\"";
    let home = Home::new();
    let mut hidden = child::mounting(HIDE)?;
    hidden
        .arg(home.at("dev"))
        .arg(env!("CARGO_BIN_EXE_coldframe"));
    let output = hidden.args(args).env("TMPDIR", home.path()).output();
    Some(output.unwrap().into())
}

#[test]
fn without_kvm_it_is_refused_or_simulated_and_says_so() {
    let Some(demo) = without_kvm(&["demo", "--backend", "kvm", "--ram", "8MiB"]) else {
        return;
    };
    demo.fails(3, &["KVM cannot be used here", "--backend simulated"]);

    let demo = without_kvm(&["demo", "--ram", "8MiB", "--diffs", "1", "--json"]).unwrap();
    assert_eq!(demo.code, 0, "{demo:#?}");
    assert_eq!(demo.stderr.lines().count(), 1, "{demo:#?}");
    assert!(demo.stderr.contains("simulated"), "{demo:#?}");
    check_report(&demo.json(), "simulated", "hash", 1);

    // It is no machine for other people's programs: one line says so, and not that it is used.
    let home = Home::new();
    let payload = home.at("payload");
    fs::write(&payload, [0xf4]).unwrap();
    let payload = payload.to_str().unwrap();
    let flat = ["--load-at", "0x1000", "--entry", "real"];
    let demo = without_kvm(&[&["demo", "--payload", payload][..], &flat].concat()).unwrap();
    demo.fails(3, &["KVM cannot be used here", "payload"]);
    let demo = without_kvm(&["demo", "--payload", payload]).unwrap();
    demo.fails(2, &["not an ELF64 image"]);
}

#[test]
fn what_cannot_be_is_wrong_usage() {
    simulated(&["--diffs", "100000"]).fails(2, &["fewer --diffs"]);
    for ram in ["3", "12345", "1MiB", "0"] {
        let demo = coldframe(&[&"demo", &"--backend", &"simulated", &"--ram", &ram]);
        demo.fails(2, &["RAM of", "4194304"]);
    }
    let demo = coldframe(&[&"demo", &"--ram", &"many"]);
    demo.fails(2, &["--ram", "many"]);
}

#[test]
fn the_command_may_be_replaced_while_it_runs() {
    let home = Home::new();
    let program = home.at("coldframe");
    fs::copy(env!("CARGO_BIN_EXE_coldframe"), &program).unwrap();
    let mut demo = child::command(&program);
    demo.args([
        "demo",
        "--backend",
        "simulated",
        "--ram",
        "8MiB",
        "--diffs",
        "1",
        "--json",
    ]);
    let demo = demo.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    fs::remove_file(&program).unwrap();
    let demo = Outcome::from(demo.unwrap().wait_with_output().unwrap());
    check_report(&demo.done().json(), "simulated", "hash", 1);
}

/// Others may be able to write where the snapshots were asked for: what they put there under the
/// name of the console's file is neither followed nor replaced.
#[test]
fn a_link_under_the_name_of_the_console_is_not_followed() {
    let home = Home::new();
    let dir = home.at("kept");
    let victim = home.at("victim");
    fs::create_dir(&dir).unwrap();
    fs::write(&victim, "mine").unwrap();
    let demo = ["demo", "--backend", "simulated", "--ram", "8MiB"];
    let mut demo = command(&[])
        .args(demo)
        .arg("--dir")
        .arg(&dir)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Not before it begins, or the directory would not be empty.
    while names(&dir).is_empty() {
        assert!(
            demo.try_wait().unwrap().is_none(),
            "it ended without a snapshot"
        );
        std::thread::sleep(Duration::from_micros(100));
    }
    std::os::unix::fs::symlink(&victim, dir.join("console.txt")).unwrap();
    let outcome = Outcome::from(demo.wait_with_output().unwrap());
    outcome.fails(3, &["console.txt", "exists"]);
    assert_eq!(fs::read_to_string(&victim).unwrap(), "mine");
}

/// A directory that nobody asked for is this process's alone, and gone afterwards.
#[test]
fn its_own_directory_is_private_and_new() {
    let home = Home::new();
    let mut demo = command(&[&"demo", &"--backend", &"simulated", &"--ram", &"8MiB"]);
    let mut demo = demo
        .env("TMPDIR", home.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    while names(home.path()).is_empty() {
        assert!(
            demo.try_wait().unwrap().is_none(),
            "it ended without a directory"
        );
        std::thread::sleep(Duration::from_micros(100));
    }
    let made = names(home.path());
    let metadata = fs::symlink_metadata(home.at(&made[0])).unwrap();
    assert!(metadata.is_dir(), "{made:?}");
    assert_eq!(metadata.permissions().mode() & 0o777, 0o700);
    assert!(demo.wait().unwrap().success());
    assert!(names(home.path()).is_empty(), "{:?}", names(home.path()));
}
