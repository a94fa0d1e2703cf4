//! Recorded runs with snapshots in memory, and guests thawed from these.

use std::path::PathBuf;

use coldframe_hv::MachineState;
use coldframe_minivmm::{
    Backing, Config, EndState, Event, Guest, Inputs, MiniVmError, Program, Ram, Recorder,
    Recording, RecordingError, Shape, SimVm, Stops, Workload, allocate_ram, ram_layout,
};
use coldframe_testkit::rng::Rng;
use coldframe_units::{ByteLen, SnapshotId};
use vm_memory::{Bytes, GuestAddress};

/// 16 MiB.
const RAM: usize = 16 << 20;

/// A machine that can be booted, and built on RAM that is there.
pub(super) trait Lab: Guest + Sized {
    fn boot(config: &Config) -> Result<Self, MiniVmError>;
    fn on(shape: Shape, ram: Ram) -> Result<Self, MiniVmError>;
}

impl Lab for SimVm {
    fn boot(config: &Config) -> Result<Self, MiniVmError> {
        Self::boot(config)
    }

    fn on(shape: Shape, ram: Ram) -> Result<Self, MiniVmError> {
        Self::with_memory(shape, ram)
    }
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
impl Lab for coldframe_minivmm::MiniVm {
    fn boot(config: &Config) -> Result<Self, MiniVmError> {
        Self::boot(config)
    }

    fn on(shape: Shape, ram: Ram) -> Result<Self, MiniVmError> {
        Self::with_memory(shape, coldframe_minivmm::Tracking::Off, ram)
    }
}

/// A snapshot in memory, taken at a mark.
pub(super) struct Shot {
    pub(super) id: SnapshotId,
    pub(super) mark: u32,
    /// The guest's digest at the mark.
    pub(super) at_mark: EndState,
    ram: Vec<u8>,
    shape: Shape,
    machine: MachineState,
    device: Vec<u8>,
}

/// A recorded run.
pub(super) struct Film {
    pub(super) dir: tempfile::TempDir,
    pub(super) path: PathBuf,
    pub(super) shots: Vec<Shot>,
    pub(super) end: (EndState, Vec<u8>),
}

/// Records a short run of `workload` on 16 MiB, with a snapshot at each mark.
pub(super) fn film<G: Lab>(workload: Workload) -> Film {
    let mut config = Config::for_workload(workload, ByteLen::new(RAM as u64), 7);
    if let Program::Workload(_, parameters) = &mut config.program {
        (parameters.rounds, parameters.mark_every) = (160, 16);
        parameters.pages = 512;
    }
    let dir = coldframe_testkit::scratch::on_disk();
    let path = dir.path().join("journal");
    let mut vm = <G as Lab>::boot(&config).unwrap();
    vm.ports()
        .attach(Inputs::recorded(Recorder::create(&path).unwrap()));
    let mut shots = Vec::new();
    let mut rng = Rng::new(5);
    while let Event::Mark(mark) = vm.run_until_event(Stops::MARKS).unwrap() {
        let id = SnapshotId::from_bytes([1 + mark as u8; 16]);
        let at_mark = vm.end_state().unwrap();
        // Some before the snapshot, so that they are in its state; some after it.
        type_some(&mut vm, &mut rng);
        shots.push(shoot(&vm, id, mark, at_mark));
        vm.ports().mark_snapshot(id).unwrap();
        type_some(&mut vm, &mut rng);
    }
    let end = vm.end_state().unwrap();
    vm.ports().finish_recording(&end).unwrap();
    let end = (end, vm.console());
    Film {
        dir,
        path,
        shots,
        end,
    }
}

fn type_some(vm: &mut impl Guest, rng: &mut Rng) {
    let bytes: Vec<u8> = (0..rng.below(5)).map(|_| rng.below(256) as u8).collect();
    assert_eq!(vm.ports().feed(&bytes).unwrap(), bytes.len());
}

fn shoot(vm: &impl Guest, id: SnapshotId, mark: u32, at_mark: EndState) -> Shot {
    let mut ram = vec![0; RAM];
    vm.memory().read_slice(&mut ram, GuestAddress(0)).unwrap();
    Shot {
        id,
        mark,
        at_mark,
        ram,
        shape: vm.shape(),
        machine: vm.save().unwrap(),
        device: vm.device_state(),
    }
}

/// A machine in the state of `shot`.
pub(super) fn thaw<G: Lab>(shot: &Shot) -> G {
    let layout = ram_layout(ByteLen::new(RAM as u64)).unwrap();
    let ram = allocate_ram(&layout, Backing::Anonymous).unwrap();
    ram.write_slice(&shot.ram, GuestAddress(0)).unwrap();
    let mut vm = G::on(shot.shape, ram).unwrap();
    let accepted = vm.compare(&shot.machine).accept(&[]).unwrap();
    let _ = vm.restore(&accepted).unwrap().generation();
    vm.restore_device(&shot.device).unwrap();
    assert_eq!(vm.device_state(), shot.device);
    vm
}

/// The same, with what `recording` has for it.
pub(super) fn replay<G: Lab>(
    recording: &Recording,
    shot: &Shot,
    to: Option<u32>,
) -> Result<G, RecordingError> {
    let mut vm = thaw::<G>(shot);
    let of = vm.ports().recording();
    let replayer = recording.replay(shot.id, of, to)?;
    vm.ports().attach(Inputs::replayed(replayer));
    Ok(vm)
}
