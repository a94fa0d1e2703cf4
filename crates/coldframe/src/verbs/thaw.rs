//! Thawing a snapshot, and the hidden verb behind `demo`: one fresh process that restores a
//! snapshot, runs the guest to its end, and prints what it came to.

use std::path::{Path, PathBuf};
use std::time::Instant;

use coldframe_hv::{Hypervisor, MachineState};
use coldframe_minivmm::{
    EndState, Event, Guest, MiniVm, MiniVmError, RamSource, Shape, SimVm, Stops, Tracking,
};
use coldframe_snapshot::Thaw;
use coldframe_units::Arch;
use serde::{Deserialize, Serialize};

use crate::cli::{self, RestoreMode};
use crate::exit::Failure;
use crate::output;
use crate::search::{exist, failure, open};
use crate::verbs::demo::{PORTS, guest_failure};
use crate::verbs::portability::{accept, this_host};

/// What the process prints, as JSON.
#[derive(Debug, Deserialize, Serialize)]
pub struct Thawed {
    /// From the start of the restore to just before the guest's first instruction.
    pub restore_us: u64,
    /// The guest at its end.
    pub end: End,
}

/// The digest of a guest at its end.
#[derive(Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct End {
    pub ram_blake3: String,
    pub regs_blake3: String,
    pub console_blake3: String,
}

impl From<&EndState> for End {
    fn from(end: &EndState) -> Self {
        Self {
            ram_blake3: end.ram_blake3.clone(),
            regs_blake3: end.regs_blake3.clone(),
            console_blake3: end.console_blake3.clone(),
        }
    }
}

/// What is done with a guest that was thawed.
pub trait Act {
    /// What comes of it.
    type Out;

    /// Does it; the guest stands before its first instruction.
    fn act<G: Guest>(self, guest: G, thawing: &Thawing<'_>) -> Result<Self::Out, Failure>;
}

/// The thawing of a snapshot.
pub struct Thawing<'a> {
    /// The snapshot.
    pub thaw: &'a Thaw,
    start: Instant,
}

impl Thawing<'_> {
    /// Microseconds since it began.
    pub fn elapsed_us(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// Restores, runs, prints.
pub fn run(args: &cli::Thaw) -> Result<(), Failure> {
    let how = How {
        search: &[],
        mode: args.mode,
        waivers: &args.waivers.names,
    };
    output::json(&thaw(&args.snapshot, how, RunToEnd)?)
}

/// Runs the guest to its end.
struct RunToEnd;

impl Act for RunToEnd {
    type Out = Thawed;

    fn act<G: Guest>(self, mut guest: G, thawing: &Thawing<'_>) -> Result<Thawed, Failure> {
        let cannot = format!("cannot run {}", thawing.thaw.snapshot().path().display());
        let went_wrong = |error: MiniVmError| guest_failure(&cannot, &error);
        let restore_us = thawing.elapsed_us();
        while !matches!(
            guest.run_until_event(Stops::NONE).map_err(went_wrong)?,
            Event::Ended(_)
        ) {}
        let end = End::from(&guest.end_state().map_err(went_wrong)?);
        Ok(Thawed { restore_us, end })
    }
}

/// How a snapshot is thawed.
#[derive(Clone, Copy)]
pub struct How<'a> {
    /// Where parents are looked for too.
    pub search: &'a [PathBuf],
    /// How its memory is restored.
    pub mode: RestoreMode,
    /// Differences of the hosts that were agreed to, by name.
    pub waivers: &'a [String],
}

/// Builds a machine in the state of the snapshot at `path`, whose parents lie beside it or where
/// `how` says, and acts on it.
pub fn thaw<A: Act>(path: &Path, how: How<'_>, act: A) -> Result<A::Out, Failure> {
    let start = Instant::now();
    let cannot = format!("cannot thaw {}", path.display());
    let went_wrong = |error: MiniVmError| guest_failure(&cannot, &error);

    exist(how.search)?;
    let thaw = open(path)?.thaw(how.search);
    let thaw = thaw.map_err(|error| failure(&cannot, &error))?;
    let machine = thaw.machine();
    if !is_of_this_program(machine) {
        // It can only be refused: say why before anything is made for it.
        let host = this_host(machine.hypervisor)?;
        accept(path, &thaw.compare(&host), how.waivers)?;
    }
    let source = match how.mode {
        RestoreMode::Map => RamSource::Map,
        RestoreMode::Copy => RamSource::Copy,
    };
    let ram = thaw.memory(source).map_err(went_wrong)?;
    let thawing = Thawing { thaw: &thaw, start };
    match machine.hypervisor {
        Hypervisor::SIMULATED => {
            let guest = SimVm::with_memory(Shape::of(machine), ram).map_err(went_wrong)?;
            act.act(restore(guest, &thaw, how.waivers)?, &thawing)
        }
        _ => {
            let guest = MiniVm::for_state(machine, Tracking::Off, ram).map_err(went_wrong)?;
            act.act(restore(guest, &thaw, how.waivers)?, &thawing)
        }
    }
}

/// Whether one of the machines here may be its.
fn is_of_this_program(machine: &MachineState) -> bool {
    let is_known = matches!(machine.hypervisor, Hypervisor::KVM | Hypervisor::SIMULATED);
    is_known && machine.arch == Arch::X86_64
}

/// Gives `guest` the state of its machine and its devices.
fn restore<G: Guest>(mut guest: G, thaw: &Thaw, waivers: &[String]) -> Result<G, Failure> {
    let path = thaw.snapshot().path();
    let cannot = format!("cannot thaw {}", path.display());
    let went_wrong = |error: MiniVmError| guest_failure(&cannot, &error);
    let accepted = accept(path, &guest.compare(thaw.machine()), waivers)?;
    let thawed = accepted.restore(&mut guest).map_err(went_wrong)?;
    if let Some(ports) = thaw.devices().iter().find(|device| device.kind == PORTS) {
        guest.restore_device(&ports.bytes).map_err(went_wrong)?;
    }
    // These guests have no device to be told by, and draw no random numbers: the id is consumed
    // here, where a VMM would hand it on.
    let generation = thawed.generation();
    tracing::info!(%generation, "guest thawed");
    Ok(guest)
}
