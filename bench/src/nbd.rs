//! A disk served over NBD beside other servers: the same jobs of fio and nbdcopy, by turns.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::guest::{GIB, MIB, Random};
use crate::harness::{Row, Run, race, timed};
use crate::place::Place;
use crate::program;

mod server;

use server::{Images, Server, Who};

const ROUNDS: usize = 3;

/// Seconds that a job of fio goes on.
const RUNTIME: u64 = 2;

/// Requests that a row of fio is given for.
const REQUESTS: f64 = 10_000.0;

const NOTE: &str = "Time for 10,000 requests of one fio job of 2 s over one connection, on a dense \
                    image of 1 GiB in warm caches. The limit is the same job on the file itself \
                    (io_uring, no server). Reads: nbdkit's file plugin and its cow filter, \
                    qemu-nbd. Writes: nbdkit cow and shuru-store copy on write as we do; nbdkit \
                    file and qemu-nbd write into the image. We have room for all that is written, \
                    as they have.";

const USUAL: &str = "The same with the usual 256 MiB for changes: once half of it is full, all \
                     that was changed becomes chunks, beside the job.";

const COPY: &str = "nbdcopy of the whole image, 1 GiB, to nowhere, and from a file with a flush at \
                    the end. The limit is to read the file, or to copy it and sync the copy.";

/// One job of fio.
struct Job {
    name: &'static str,
    rw: &'static str,
    block: &'static str,
    depth: &'static str,
}

impl Job {
    fn is_read(&self) -> bool {
        self.rw.ends_with("read")
    }
}

const fn job(
    name: &'static str,
    rw: &'static str,
    block: &'static str,
    depth: &'static str,
) -> Job {
    Job {
        name,
        rw,
        block,
        depth,
    }
}

const JOBS: [Job; 6] = [
    job("nbd: 4 KiB random read, depth 1", "randread", "4k", "1"),
    job("nbd: 4 KiB random read, depth 32", "randread", "4k", "32"),
    job("nbd: 256 KiB read, depth 8", "read", "256k", "8"),
    job("nbd: 4 KiB random write, depth 1", "randwrite", "4k", "1"),
    job("nbd: 4 KiB random write, depth 32", "randwrite", "4k", "32"),
    job("nbd: 256 KiB write, depth 8", "write", "256k", "8"),
];

/// Contestants of a job, in the order of the race; the limit is the last.
const SERVERS: &[(&str, Who)] = &[
    ("coldframe", Who::Coldframe),
    ("nbdkit file", Who::NbdkitFile),
    ("nbdkit cow", Who::NbdkitCow),
    ("qemu-nbd", Who::QemuNbd),
    #[cfg(feature = "chunk-peers")]
    ("shuru-store", Who::Shuru),
];

/// All rows of the group.
pub fn run(place: &Place) -> Result<Vec<Row>> {
    let needed = ["fio", "nbdkit", "qemu-nbd", "nbdcopy", "nbdinfo"];
    if !needed.iter().all(|name| program::is_there("nbd", name)) {
        return Ok(Vec::new());
    }
    let images = images(place)?;
    let mut rows = Vec::new();
    for job in &JOBS {
        rows.push(served(place, &images, job, Who::Coldframe)?);
    }
    for job in JOBS.iter().filter(|job| !job.is_read()) {
        rows.push(served(place, &images, job, Who::ColdframeUsual)?);
    }
    for connections in [1, 4] {
        let name = format!("nbd: nbdcopy from, {connections} connections");
        rows.push(copied(place, &images, name, &|uri| {
            copy(connections, uri, "null:")
        })?);
    }
    let from = images.base.to_string_lossy().into_owned();
    let name = "nbd: nbdcopy to, with a flush".to_owned();
    rows.push(copied(place, &images, name, &|uri| copy(1, &from, uri))?);
    Ok(rows)
}

/// The image, a copy to write into, and our store, which has it.
fn images(place: &Place) -> Result<Images> {
    let images = Images::new(program::coldframe()?, place.dir());
    let file = File::create(&images.base)?;
    let (mut random, mut part) = (Random(11), vec![0; MIB as usize]);
    for at in (0..GIB).step_by(part.len()) {
        for word in part.chunks_exact_mut(8) {
            word.copy_from_slice(&random.next().to_le_bytes());
        }
        file.write_all_at(&part, at)?;
    }
    file.sync_all()?;
    fs::copy(&images.base, &images.written)?;
    Ok(images)
}

fn served(place: &Place, images: &Images, job: &Job, ours: Who) -> Result<Row> {
    let over = |who: Who| -> Run<'_> {
        Box::new(move || {
            let server = Server::start(who, images)?;
            if job.is_read() {
                // shuru-store knows one client at a time, and all bytes are in memory after it.
                copy(1, &server.uri(), "null:")?;
            }
            fio(job, &["--ioengine=nbd", &format!("--uri={}", server.uri())])
        })
    };
    let mut runs = vec![over(ours)];
    runs.extend(SERVERS[1..].iter().map(|(_, who)| over(*who)));
    let file = format!("--filename={}", images.written.display());
    runs.push(Box::new(move || {
        fio(job, &["--ioengine=io_uring", "--invalidate=0", &file])
    }));
    let times = race(place, ROUNDS, &mut runs)?;
    let peers: Vec<_> = (1..SERVERS.len()).map(|at| (SERVERS[at].0, at)).collect();
    let note = match ours {
        Who::ColdframeUsual => USUAL,
        _ => NOTE,
    };
    let limit = Some(SERVERS.len());
    Ok(Row::race(job.name, note, &times, limit, &peers).told())
}

/// Runs a job; the time that so many requests took.
fn fio(job: &Job, target: &[&str]) -> Result<Duration> {
    let mut fio = Command::new("fio");
    fio.args([
        "--name=x",
        "--size=1g",
        "--time_based",
        "--output-format=json",
    ]);
    fio.arg(format!("--runtime={RUNTIME}")).args(target);
    for (name, value) in [("rw", job.rw), ("bs", job.block), ("iodepth", job.depth)] {
        fio.arg(format!("--{name}={value}"));
    }
    let output = fio.output()?;
    let problem = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "fio: {}", problem.trim());
    // The engine writes a line of its own before the report.
    let text = String::from_utf8_lossy(&output.stdout);
    let start = text.find('{').context("fio gives no report")?;
    let report: Value = serde_json::from_str(&text[start..])?;
    let side = if job.is_read() { "read" } else { "write" };
    let job = &report["jobs"][0];
    ensure!(job["error"] == 0, "fio: {}", job["error"]);
    let rate = job[side]["iops"].as_f64().context("fio names no rate")?;
    ensure!(rate > 0.0, "fio did nothing");
    Ok(Duration::from_secs_f64(REQUESTS / rate))
}

/// A copy with each server, timed.
fn copied(
    place: &Place,
    images: &Images,
    name: String,
    copy: &dyn Fn(&str) -> Result<Duration>,
) -> Result<Row> {
    let is_read = name.contains("from");
    let over = |who: Who| -> Run<'_> {
        Box::new(move || {
            let server = Server::start(who, images)?;
            if is_read {
                copy(&server.uri())?;
            }
            copy(&server.uri())
        })
    };
    // Not shuru-store, which serves one client at a time: copies use several connections.
    let servers = &SERVERS[..4];
    let mut runs: Vec<Run<'_>> = servers.iter().map(|(_, who)| over(*who)).collect();
    runs.push(Box::new(|| plain_copy(images, is_read)));
    let times = race(place, ROUNDS, &mut runs)?;
    let peers: Vec<_> = (1..servers.len()).map(|at| (servers[at].0, at)).collect();
    Ok(Row::race(name, COPY, &times, Some(servers.len()), &peers).told())
}

fn copy(connections: u32, from: &str, to: &str) -> Result<Duration> {
    let mut nbdcopy = Command::new("nbdcopy");
    nbdcopy.arg(format!("--connections={connections}"));
    nbdcopy.args(["--flush", from, to]);
    timed(|| {
        let output = nbdcopy.output()?;
        let problem = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "nbdcopy: {}", problem.trim());
        Ok(())
    })
}

/// The same by plain means: the file read through, or copied and synced.
fn plain_copy(images: &Images, is_read: bool) -> Result<Duration> {
    let to: PathBuf = images.dir.join("copied.img");
    let result = timed(|| {
        let from = File::open(&images.base)?;
        if is_read {
            let mut part = vec![0; MIB as usize];
            for at in (0..GIB).step_by(part.len()) {
                from.read_exact_at(&mut part, at)?;
            }
            return Ok(());
        }
        fs::copy(&images.base, &to)?;
        Ok(File::open(&to)?.sync_all()?)
    });
    if !is_read {
        fs::remove_file(&to)?;
    }
    result
}
