//! Pause and thaw of the demo's guest beside Firecracker's own, on the same kernel and RAM.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::firecracker::Firecracker;
use crate::harness::{Row, Times};
use crate::place::Place;
use crate::program;

const ROUNDS: usize = 5;
const RAM_MIB: u32 = 128;

/// The guest dirties all of its 8 MiB between any two points where it is frozen.
const KERNEL: [&str; 2] = ["-DROUNDS=4096u", "-DMARK=64u"];
/// Lines that the guest has printed when Firecracker freezes it.
const FULL_AT: usize = 8;
const DIFF_AT: usize = 24;

const NOTE: &str = "The same kernel in 128 MiB, 8 MiB of it in use and dirty. Pause: from stopping \
                    the guest until it runs again, as `coldframe demo` reports it, against PUT \
                    snapshot/create alone. Thaw: opening the snapshot up to the first instruction, \
                    in a fresh process, against PUT snapshot/load with resume_vm.";

/// All rows of the group.
pub fn run(place: &Place) -> Result<Vec<Row>> {
    let Some(firecracker) = folder("COLDFRAME_FIRECRACKER") else {
        return Ok(Vec::new());
    };
    let Some(kernel) = folder("COLDFRAME_TINY_KERNEL") else {
        return Ok(Vec::new());
    };
    let coldframe = program::coldframe()?;
    let program = firecracker.join("firecracker");
    let built = Command::new(kernel.join("build.sh"))
        .arg(place.path("kernel.elf"))
        .args(KERNEL)
        .status()
        .context("building the guest kernel")?;
    ensure!(built.success(), "the guest kernel does not build");

    let mut rounds = Vec::new();
    for round in 0..=ROUNDS {
        let both = [ours(&coldframe, place)?, theirs(&program, place)?];
        if round > 0 {
            rounds.push(both);
        }
    }
    let names = ["demo: pause, full", "demo: pause, diff", "demo: thaw, full"];
    let rows = names.into_iter().enumerate().map(|(index, name)| {
        let times = |who: usize| rounds.iter().map(|both| both[who][index]).collect();
        let times = Times::new(vec![times(0), times(1)]);
        Row::race(name, NOTE, &times, None, &[("Firecracker", 1)])
    });
    Ok(rows.collect())
}

fn folder(variable: &str) -> Option<PathBuf> {
    let folder = env::var_os(variable).map(PathBuf::from);
    if folder.is_none() {
        eprintln!("bench: demo is left out: {variable} names no folder");
    }
    folder
}

#[derive(Deserialize)]
struct Report {
    backend: String,
    verdict: String,
    snapshots: Vec<Snapshot>,
}

#[derive(Deserialize)]
struct Snapshot {
    pause_us: f64,
    restore_us: f64,
}

/// Seconds: pause for a Full, for a Diff, thaw.
type Seconds = [f64; 3];

fn ours(coldframe: &Path, place: &Place) -> Result<Seconds> {
    let dir = place.path("snapshots");
    let output = Command::new(coldframe)
        .args([
            "demo",
            "--backend",
            "kvm",
            "--diffs",
            "1",
            "--json",
            "--payload",
        ])
        .arg(place.path("kernel.elf"))
        .args(["--ram", &format!("{RAM_MIB}MiB"), "--dir"])
        .arg(&dir)
        .output()?;
    let problem = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "coldframe demo: {}",
        problem.trim()
    );
    fs::remove_dir_all(&dir)?;
    let report: Report = serde_json::from_slice(&output.stdout)?;
    ensure!(
        report.backend == "kvm" && report.verdict == "identical",
        "the demo went wrong"
    );
    let [full, diff] = &report.snapshots[..] else {
        anyhow::bail!("the demo took no diff")
    };
    Ok([full.pause_us, diff.pause_us, full.restore_us].map(|micros| micros / 1e6))
}

fn theirs(program: &Path, place: &Place) -> Result<Seconds> {
    let config = format!(
        r#"{{"boot-source":{{"kernel_image_path":"kernel.elf","boot_args":"console=ttyS0"}},
            "drives":[],"machine-config":{{"vcpu_count":1,"mem_size_mib":{RAM_MIB},
            "track_dirty_pages":true}}}}"#
    );
    let guest = Firecracker::start(program, place.dir(), Some(&config))?;
    let freeze = |kind: &str, at: usize| {
        guest.wait_for_lines(at)?;
        guest.request("PATCH", "vm", r#"{"state":"Paused"}"#)?;
        let body = format!(
            r#"{{"snapshot_type":"{kind}","snapshot_path":"{kind}.snap",
                "mem_file_path":"{kind}.mem"}}"#
        );
        let time = guest.request("PUT", "snapshot/create", &body)?;
        guest.request("PATCH", "vm", r#"{"state":"Resumed"}"#)?;
        anyhow::Ok(time.as_secs_f64())
    };
    let full = freeze("Full", FULL_AT)?;
    let diff = freeze("Diff", DIFF_AT)?;
    drop(guest);
    let fresh = Firecracker::start(program, place.dir(), None)?;
    let body = r#"{"snapshot_path":"Full.snap","mem_backend":
                  {"backend_type":"File","backend_path":"Full.mem"},"resume_vm":true}"#;
    let thaw = fresh.request("PUT", "snapshot/load", body)?;
    Ok([full, diff, thaw.as_secs_f64()])
}
