//! Memory of this process (proc_pid_status(5), proc_pid_clear_refs(5)).

use std::fs;

use anyhow::{Context, Result};

/// What the kernel counts in, in KiB: no growth is told apart from one page.
const PAGE_KIB: f64 = 4.0;

/// By how many KiB the process's resident memory was larger, at its peak during `work`.
pub fn peak_growth_kib(work: impl FnOnce() -> Result<()>) -> Result<f64> {
    fs::write("/proc/self/clear_refs", "5").context("resetting the peak of resident memory")?;
    let before = status("VmRSS:")?;
    work()?;
    Ok((status("VmHWM:")? - before).max(PAGE_KIB))
}

fn status(field: &str) -> Result<f64> {
    let text = fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let value = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(value
        .with_context(|| format!("no {field} in /proc/self/status"))?
        .parse()?)
}
