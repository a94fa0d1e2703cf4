//! Measuring side by side: contestants take turns in one run, and medians are compared.
//!
//! Invariants: the first round does not count; every other round goes backwards, so that nobody
//! always follows the same neighbour; a ratio is that of two medians.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

use crate::place::Place;

/// One line of the report: a measured value, the limit it is held against, and its peers.
///
/// Ratios above 1 mean that coldframe is better.
#[derive(Debug, Serialize)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// The median of coldframe's runs.
    pub value: f64,
    /// The unit of value and limit.
    pub unit: &'static str,
    /// The same work by the plainest means, measured in the same run, or a stated bound.
    pub limit: Option<f64>,
    /// Limit against value.
    pub ratio_to_limit: Option<f64>,
    /// The quartiles of the ratio to the limit, round by round.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spread: Option<[f64; 2]>,
    /// Each peer against value.
    pub peers: BTreeMap<&'static str, f64>,
    /// What is compared with what, and what is in the timed part.
    #[serde(skip)]
    pub note: &'static str,
}

impl Row {
    /// A row of times in milliseconds: of contestant 0, against others of the same race.
    pub fn race(
        name: impl Into<String>,
        note: &'static str,
        times: &Times,
        limit: Option<usize>,
        peers: &[(&'static str, usize)],
    ) -> Self {
        let peers = peers
            .iter()
            .map(|(name, peer)| (*name, times.ratio(*peer, 0)));
        Self {
            name: name.into(),
            value: times.median_ms(0),
            unit: "ms",
            limit: limit.map(|limit| times.median_ms(limit)),
            ratio_to_limit: limit.map(|limit| times.ratio(limit, 0)),
            spread: limit.map(|limit| times.spread(limit, 0)),
            peers: peers.collect(),
            note,
        }
    }

    /// A value that is held against a stated bound.
    pub fn bound(
        name: impl Into<String>,
        note: &'static str,
        value: f64,
        unit: &'static str,
        limit: f64,
    ) -> Self {
        Self {
            name: name.into(),
            value,
            unit,
            limit: Some(limit),
            ratio_to_limit: Some(limit / value),
            spread: None,
            peers: BTreeMap::new(),
            note,
        }
    }

    /// The same, with a bound in place of a contestant as the limit.
    pub fn bounded(mut self, limit: f64) -> Self {
        self.limit = Some(limit);
        self.ratio_to_limit = Some(limit / self.value);
        self.spread = None;
        self
    }

    /// Says at once what it came to: a group may take minutes, or fail at its last row.
    pub fn told(self) -> Self {
        let ratios = self.ratio_to_limit.map(|ratio| ("the limit", ratio));
        let peers = self.peers.iter().map(|(name, ratio)| (*name, *ratio));
        let ratios = ratios.into_iter().chain(peers);
        let ratios = ratios.map(|(name, ratio)| format!("{ratio:.2} of {name}"));
        let ratios = ratios.collect::<Vec<_>>().join(", ");
        eprintln!("bench: {}: {ratios}", self.name);
        self
    }

    /// The same in microseconds, of one of `count` equal pieces of work.
    pub fn each(mut self, count: usize) -> Self {
        let scale = 1e3 / count as f64;
        self.value *= scale;
        self.limit = self.limit.map(|limit| limit * scale);
        self.unit = "us";
        self
    }
}

/// A contestant: does its work once and says how long that took.
pub type Run<'a> = Box<dyn FnMut() -> Result<Duration> + 'a>;

/// The times of each contestant, by round, in seconds.
pub struct Times(Vec<Vec<f64>>);

impl Times {
    /// Times that were measured elsewhere.
    pub const fn new(times: Vec<Vec<f64>>) -> Self {
        Self(times)
    }

    /// The median of a contestant, in milliseconds.
    pub fn median_ms(&self, contestant: usize) -> f64 {
        median(self.0[contestant].clone()) * 1e3
    }

    /// The same race, seen by another contestant: it changes places with number 0.
    pub fn leading(&self, contestant: usize) -> Self {
        let mut times = self.0.clone();
        times.swap(0, contestant);
        Self(times)
    }

    /// How many times as long as `to` did `of` take? Round by round, in the middle: what else the
    /// machine does meets both of a round.
    fn ratio(&self, of: usize, to: usize) -> f64 {
        median(self.ratios(of, to))
    }

    fn ratios(&self, of: usize, to: usize) -> Vec<f64> {
        let rounds = self.0[of].iter().zip(&self.0[to]);
        rounds.map(|(of, to)| of / to).collect()
    }

    /// The quartiles of the same.
    fn spread(&self, of: usize, to: usize) -> [f64; 2] {
        let mut ratios = self.ratios(of, to);
        ratios.sort_unstable_by(f64::total_cmp);
        let last = ratios.len() - 1;
        [ratios[last / 4], ratios[last - last / 4]]
    }

    /// How much longer than `of` contestant 0 took, round by round, in the middle; in seconds.
    pub fn excess(&self, of: usize) -> f64 {
        let rounds = self.0[0].iter().zip(&self.0[of]);
        median(rounds.map(|(ours, other)| ours - other).collect())
    }
}

/// The middle of some values; there must be one at least.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Lets all contestants do their work in turn, `rounds` times after one that does not count.
pub fn race(place: &Place, rounds: usize, runs: &mut [Run<'_>]) -> Result<Times> {
    let mut times = vec![Vec::with_capacity(rounds); runs.len()];
    for round in 0..=rounds {
        for turn in 0..runs.len() {
            let contestant = if round % 2 == 0 {
                turn
            } else {
                runs.len() - 1 - turn
            };
            let time = runs[contestant]()?;
            place.clear()?;
            if round > 0 {
                times[contestant].push(time.as_secs_f64());
            }
        }
    }
    Ok(Times(times))
}

/// How long `work` takes; what it gives is dropped after that.
pub fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<Duration> {
    let start = Instant::now();
    let result = work()?;
    let elapsed = start.elapsed();
    drop(result);
    Ok(elapsed)
}

/// Prints the rows of a group for people.
pub fn print(group: &str, rows: &[Row]) {
    println!("\n## {group}");
    let mut note = "";
    for row in rows {
        if row.note != note {
            note = row.note;
            println!("\n# {note}");
            println!(
                "{:<44} {:>14} {:>14} {:>8} {:>11}  peers (ratio)",
                "name", "value", "limit", "ratio", "quartiles"
            );
        }
        let number = |value: f64| format!("{value:.3} {}", row.unit);
        let limit = row.limit.map_or("-".into(), number);
        let ratio = row
            .ratio_to_limit
            .map_or("-".into(), |ratio| format!("{ratio:.2}"));
        let spread = row
            .spread
            .map_or("-".into(), |[low, high]| format!("{low:.2}-{high:.2}"));
        let peers = row
            .peers
            .iter()
            .map(|(name, ratio)| format!("{name} {ratio:.2}"));
        let peers = peers.collect::<Vec<_>>().join(", ");
        println!(
            "{:<44} {:>14} {limit:>14} {ratio:>8} {spread:>11}  {peers}",
            row.name,
            number(row.value)
        );
    }
}
