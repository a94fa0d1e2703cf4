//! The heading: what the numbers were measured on.

use std::fs;
use std::process::Command;

use anyhow::Result;

use crate::place::Place;

/// Processor, kernel, file system, commit.
pub fn describe(place: &Place) -> Result<String> {
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let model = model.unwrap_or("?").trim_start_matches([' ', '\t', ':']);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let cores = std::thread::available_parallelism()?;
    let load = fs::read_to_string("/proc/loadavg")?;
    let load = load.split(' ').next().unwrap_or("?");
    Ok(format!(
        "coldframe bench, commit {}\n{cores} cores of {model}, Linux {}, {}, load {load}\n\
         Medians of several rounds by turns. Ratios above 1: coldframe is better.",
        commit(),
        kernel.trim(),
        file_system(place)?,
    ))
}

fn commit() -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).output().ok()?;
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else {
        return "unknown".into();
    };
    match git(&["status", "--porcelain", "--untracked-files=no"]) {
        Some(changes) if changes.is_empty() => commit,
        _ => commit + " with changes",
    }
}

/// The type of the mount with the longest path above ours (proc_pid_mounts(5)).
fn file_system(place: &Place) -> Result<String> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (path, kind) = (fields.next()?, fields.next()?);
        place.dir().starts_with(path).then_some((path.len(), kind))
    });
    let longest = mounts.max_by_key(|(len, _)| *len);
    Ok(longest
        .map_or("an unknown file system", |(_, kind)| kind)
        .to_owned())
}
