//! Running the guest: once without a stop, once with snapshots on the way.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use coldframe_hv::{DeviceState, Machine};
use coldframe_minivmm::{Config, EndState, Event, Guest, MiniVm, SimVm, Stops};
use coldframe_snapshot::{DirtyTracker, Freezer, Kind, Snapshot};

use super::guest::{Choice, guest_failure};
use super::typist::Typist;
use crate::cli::Demo;
use crate::exit::Failure;
use crate::output::producer;
use crate::search::failure;

/// The name of the section in which the VMM's own ports are saved.
pub const PORTS: &str = "minivmm.ports";

/// A run from the beginning to the end.
pub struct Run {
    /// What the guest came to.
    pub end: EndState,
    /// All that the guest printed.
    pub console: Vec<u8>,
    marks: u64,
    exits: u64,
}

/// One snapshot that was taken.
pub struct Shot {
    /// Its directory's name.
    pub name: String,
    /// Its directory.
    pub path: PathBuf,
    /// The name of the snapshot it is a child of.
    pub parent: Option<String>,
    /// Pages with data.
    pub pages: u64,
    /// Bytes written in the pause.
    pub bytes_written: u64,
    /// How long the guest stood still.
    pub pause_us: u64,
    /// From the end of the pause until the snapshot had its name.
    pub publish_us: u64,
}

/// Runs the guest to its end.
pub fn uninterrupted(choice: Choice, config: &Config, typist: Typist) -> Result<Run, Failure> {
    match choice {
        Choice::Kvm => whole(boot(MiniVm::boot(config))?, typist),
        Choice::Simulated => whole(boot(SimVm::boot(config))?, typist),
    }
}

/// Runs the guest to its end with a full snapshot and some diffs on the way.
pub fn frozen_on_the_way(
    choice: Choice,
    config: &Config,
    args: &Demo,
    whole: &Run,
    home: &Path,
    typist: Typist,
) -> Result<(Vec<Shot>, Run), Failure> {
    let points = Points::spread(whole, u64::from(args.diffs) + 1)?;
    match choice {
        Choice::Kvm => shoot(boot(MiniVm::boot(config))?, &points, home, typist),
        Choice::Simulated => shoot(boot(SimVm::boot(config))?, &points, home, typist),
    }
}

fn boot<G>(booted: Result<G, coldframe_minivmm::MiniVmError>) -> Result<G, Failure> {
    booted.map_err(|error| guest_failure("cannot boot the guest", &error))
}

fn ran<T>(result: Result<T, coldframe_minivmm::MiniVmError>) -> Result<T, Failure> {
    result.map_err(|error| guest_failure("the guest went wrong", &error))
}

fn whole<G: Guest>(mut guest: G, typist: Typist) -> Result<Run, Failure> {
    typist.rehearse(&mut guest);
    finish(&mut guest, typist)
}

/// Lets the guest run until it ends by itself.
fn finish<G: Guest>(guest: &mut G, mut typist: Typist) -> Result<Run, Failure> {
    while !matches!(ran(guest.run_until_event(typist.stops()))?, Event::Ended(_)) {
        ran(typist.type_some(guest))?;
    }
    Ok(Run {
        end: ran(guest.end_state())?,
        console: guest.console(),
        marks: guest.marks(),
        exits: guest.exits(),
    })
}

/// Where in the guest's course snapshots are taken: at marks, or where it makes none, at exits.
enum Points {
    Marks(Vec<u64>),
    Exits(Vec<u64>),
}

impl Points {
    fn spread(whole: &Run, count: u64) -> Result<Self, Failure> {
        let spread = |of: u64| (1..=count).map(|i| i * of / (count + 1)).collect();
        if whole.marks > count {
            Ok(Self::Marks(spread(whole.marks)))
        } else if whole.exits > count {
            Ok(Self::Exits(spread(whole.exits)))
        } else {
            let (marks, exits) = (whole.marks, whole.exits);
            Err(Failure::Usage(format!(
                "the guest makes {marks} marks and {exits} exits: too few for {count} snapshots, \
                 ask for fewer --diffs"
            )))
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Marks(points) | Self::Exits(points) => points.len(),
        }
    }

    /// Where a guest that runs on while its snapshot is published stops: at the next point, not
    /// beyond it, or it might have ended before its next snapshot.
    fn stops_after(&self, index: usize, exits: u64) -> Stops {
        match self {
            Self::Marks(_) => Stops::MARKS,
            Self::Exits(points) => Stops {
                exits: points
                    .get(index + 1)
                    .map(|point| point.saturating_sub(exits)),
                ..Stops::NONE
            },
        }
    }

    /// Runs the guest up to point `index`; it is paused there.
    fn run_to<G: Guest>(
        &self,
        index: usize,
        guest: &mut G,
        typist: &mut Typist,
    ) -> Result<(), Failure> {
        loop {
            let (reached, stops) = match self {
                Self::Marks(points) => (guest.marks() >= points[index], Stops::MARKS),
                Self::Exits(points) => {
                    let left = points[index].saturating_sub(guest.exits());
                    (
                        left == 0,
                        Stops {
                            exits: Some(left),
                            ..Stops::NONE
                        },
                    )
                }
            };
            if reached {
                return Ok(());
            }
            if let Event::Ended(reason) = ran(guest.run_until_event(stops))? {
                return Err(Failure::Wanting(format!(
                    "the guest ended ({reason:?}) before its snapshots were taken"
                )));
            }
            ran(typist.type_some(guest))?;
        }
    }
}

/// Takes the snapshots, then lets the guest run to its end.
fn shoot<G: Guest + Machine>(
    mut guest: G,
    points: &Points,
    home: &Path,
    mut typist: Typist,
) -> Result<(Vec<Shot>, Run), Failure> {
    ran(typist.begin(&mut guest))?;
    let mut tracker = DirtyTracker::new(guest.dirty().clone(), guest.written(), None);
    let mut shots: Vec<Shot> = Vec::new();
    let mut last: Option<Snapshot> = None;
    for index in 0..points.len() {
        let name = if index == 0 {
            "full".to_string()
        } else {
            format!("diff-{index}")
        };
        let cannot = format!("cannot take snapshot {name}");
        let path = home.join(&name);
        let kind = last
            .as_ref()
            .map_or(Kind::Full, |parent| Kind::Diff { parent });
        let capture = Freezer::new(&path, producer())
            .begin(kind)
            .map_err(|error| failure(&cannot, &error))?;
        points.run_to(index, &mut guest, &mut typist)?;

        let pause = Instant::now();
        let ports = DeviceState {
            kind: PORTS.to_string(),
            instance: 0,
            version: 1,
            bytes: guest.device_state(),
        };
        let id = capture.id();
        let frozen = capture
            .with_devices(vec![ports])
            .copy(guest.memory(), &mut tracker, &guest)
            .map_err(|error| failure(&cannot, &error))?;
        ran(guest.ports().mark_snapshot(id))?;
        ran(guest.resume(points.stops_after(index, guest.exits())))?;
        let pause = pause.elapsed();

        let publish = Instant::now();
        let stats = frozen.stats();
        // A snapshot that has its name can be replayed.
        ran(guest.ports().flush_recording())?;
        let snapshot = frozen.publish().map_err(|error| failure(&cannot, &error))?;
        let publish = publish.elapsed();
        ran(guest.pause())?;
        shots.push(Shot {
            name,
            path,
            parent: shots.last().map(|shot| shot.name.clone()),
            pages: stats.data_pages,
            bytes_written: stats.bytes_written,
            pause_us: micros(pause),
            publish_us: micros(publish),
        });
        last = Some(snapshot);
    }
    let run = finish(&mut guest, typist)?;
    ran(guest.ports().finish_recording(&run.end))?;
    Ok((shots, run))
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
