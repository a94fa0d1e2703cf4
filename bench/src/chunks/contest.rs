//! The contest: each store in turn takes both versions of the image and gives the second back.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::image::{BLOCK, BLOCKS, Images};
use crate::harness::{Times, timed};
use crate::place::Place;

const IMAGE_BYTES: u64 = (BLOCK * BLOCKS) as u64;

/// A store that takes part.
pub trait Contestant {
    /// Its name in the report.
    fn name(&self) -> &'static str;
    /// Rounds that count, at most; one with 1 has no round that does not count.
    fn rounds(&self) -> usize {
        usize::MAX
    }
    /// Makes an empty store in `dir/repo`; not timed.
    fn prepare(&self, dir: &Path) -> Result<()>;
    /// Keeps an image under a name, durably where the store promises it.
    fn ingest(&self, dir: &Path, image: &Path, name: &str) -> Result<()>;
    /// Writes the image of that name to a new file.
    fn restore(&self, dir: &Path, name: &str, out: &Path) -> Result<()>;
}

/// The parts of the contest.
#[derive(Clone, Copy)]
pub enum Part {
    First,
    Second,
    /// The second version once more: nothing is new.
    Again,
    Restore,
}

/// What came out.
pub struct Results {
    times: [Vec<Vec<f64>>; 4],
    /// Bytes of the store after the first version, and what the second added.
    pub sizes: Vec<(u64, u64)>,
}

impl Results {
    /// The times of one part, by contestant.
    pub fn times(&self, part: Part) -> Times {
        Times::new(self.times[part as usize].clone())
    }
}

/// Lets all of them do everything, `rounds` times after one that does not count.
pub fn run(
    place: &Place,
    images: &Images,
    rounds: usize,
    contestants: &[Box<dyn Contestant>],
) -> Result<Results> {
    let mut results = Results {
        times: std::array::from_fn(|_| vec![Vec::new(); contestants.len()]),
        sizes: vec![(0, 0); contestants.len()],
    };
    for round in 0..=rounds {
        for turn in 0..contestants.len() {
            let number = match round % 2 {
                0 => turn,
                _ => contestants.len() - 1 - turn,
            };
            let contestant = &*contestants[number];
            let is_single = contestant.rounds() == 1;
            if is_single && round != 1 || round > contestant.rounds() {
                continue;
            }
            eprintln!("bench: chunks: round {round}: {}", contestant.name());
            let done = all_parts(place, images, contestant);
            let (times, sizes) = done.with_context(|| contestant.name().to_owned())?;
            results.sizes[number] = sizes;
            if round > 0 {
                for (part, time) in times.iter().enumerate() {
                    results.times[part][number].push(time.as_secs_f64());
                }
            }
        }
    }
    Ok(results)
}

fn all_parts(
    place: &Place,
    images: &Images,
    contestant: &dyn Contestant,
) -> Result<([Duration; 4], (u64, u64))> {
    let (dir, out) = (place.path("contest"), place.path("out.img"));
    fs::create_dir(&dir)?;
    let repo = dir.join("repo");
    contestant.prepare(&dir)?;
    settle(place)?;
    let first = timed(|| contestant.ingest(&dir, &images.first, "v1"))?;
    settle(place)?;
    let size = bytes_in(&repo)?;
    let second = timed(|| contestant.ingest(&dir, &images.second, "v2"))?;
    settle(place)?;
    let added = bytes_in(&repo)? - size;
    let again = timed(|| contestant.ingest(&dir, &images.second, "v3"))?;
    settle(place)?;
    let restore = timed(|| contestant.restore(&dir, "v2", &out))?;
    ensure!(is_equal(&out, &images.second)?, "it gave back other bytes");
    fs::remove_file(&out)?;
    fs::remove_dir_all(&dir)?;
    Ok(([first, second, again, restore], (size, added)))
}

/// What others left to write is written before the clock starts, and there are pages for what is
/// written next.
fn settle(place: &Place) -> Result<()> {
    ensure!(Command::new("sync").status()?.success());
    place.warm(IMAGE_BYTES)
}

fn bytes_in(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        bytes += match entry.file_type()?.is_dir() {
            true => bytes_in(&entry.path())?,
            false => entry.metadata()?.len(),
        };
    }
    Ok(bytes)
}

fn is_equal(one: &Path, other: &Path) -> Result<bool> {
    let (mut one, mut other) = (File::open(one)?, File::open(other)?);
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    let (mut left, mut right) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    for _ in (0..one.metadata()?.len()).step_by(left.len()) {
        one.read_exact(&mut left)?;
        other.read_exact(&mut right)?;
        if left != right {
            return Ok(false);
        }
    }
    Ok(true)
}
