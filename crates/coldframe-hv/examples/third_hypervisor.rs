//! An adapter for a hypervisor that coldframe has never heard of, and a guest of it that freezes
//! and thaws like any other: nothing here is in a list of `coldframe-hv`.
//!
//! ```sh
//! cargo run -p coldframe-hv --example third_hypervisor
//! ```
//!
//! | what an adapter brings | here |
//! |---|---|
//! | its number, one for private use | [`KESTREL`] |
//! | the numbers of its state items | [`CORE`], [`TIMER`], [`FIRMWARE`] |
//! | its operations, and their order | [`SAVE`], [`RESTORE`] |
//! | what differs between two of its hosts | [`Host::compare`] |
//! | reading and writing a machine | `impl Machine for Board` |
//! | which pages the guest wrote | `impl DirtySource for PageLog` |
//!
//! The hypervisor, "Kestrel", is made up and small: one machine word of registers for each vCPU, a
//! timer, and a release of its firmware without which the timer's bytes mean nothing.

use std::error::Error;
use std::path::Path;
use std::sync::{Arc, Mutex};

use coldframe_dirty::{DirtyBitmap, DirtyError};
use coldframe_envelope::Producer;
use coldframe_hv::Op::{self, Vcpu, Vm, Vmm};
use coldframe_hv::VmmOp::{CreateVm, Devices, MapMemory, NotifyGeneration, Run};
use coldframe_hv::{
    Accepted, Comparison, Difference, Direction, DirtySource, HostIdentity, Hypervisor, ItemKind,
    Machine, MachineState, OtherHost, Plan, StateError, Step, Thawed, VcpuState, Verdict, VmState,
    step,
};
use coldframe_mem::MapVmMemory;
use coldframe_snapshot::{DirtyTracker, Freezer, Kind, Snapshot};
use coldframe_units::{Arch, ByteLen, GenerationId, PageIndex, PageSize, SnapshotId};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// What the state file has for the hypervisor: from 128 on numbers are for private use.
const KESTREL: u8 = 200;

fn kestrel() -> Hypervisor {
    Hypervisor::from_code(KESTREL).expect("only 0 is no hypervisor")
}

// Item numbers above 0xffff are the adapter's own.
const CORE: ItemKind = ItemKind::from_code(0x4b53_0001);
const TIMER: ItemKind = ItemKind::from_code(0x4b53_0002);
const FIRMWARE: ItemKind = ItemKind::from_code(0x4b53_0003);

/// An operation on the machine.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Chip {
    Timer,
}

/// An operation on a vCPU.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cpu {
    Core,
}

const MANUAL: &str = "Kestrel reference manual, section 4";

/// The order of reading.
const SAVE: Plan<Op<Chip, Cpu>> = {
    const STEPS: &[Step<Op<Chip, Cpu>>] = &[
        step(Vmm(Devices), &[], "what they finish sets the timer", MANUAL),
        step(Vcpu(Cpu::Core), &[], "no order of its own", MANUAL),
        step(
            Vm(Chip::Timer),
            &[Vmm(Devices)],
            "no vCPU can set it any more",
            MANUAL,
        ),
    ];
    Plan::new("kestrel", Direction::Save, STEPS)
};

/// The order of writing.
const RESTORE: Plan<Op<Chip, Cpu>> = {
    const STEPS: &[Step<Op<Chip, Cpu>>] = &[
        step(Vmm(CreateVm), &[], "all else is a part of it", MANUAL),
        step(
            Vmm(MapMemory),
            &[Vmm(CreateVm)],
            "before any vCPU runs",
            MANUAL,
        ),
        step(
            Vm(Chip::Timer),
            &[Vmm(CreateVm)],
            "resets the vCPUs",
            MANUAL,
        ),
        step(
            Vcpu(Cpu::Core),
            &[Vm(Chip::Timer)],
            "the timer would reset it",
            MANUAL,
        ),
        step(
            Vmm(NotifyGeneration),
            &[Vcpu(Cpu::Core)],
            "by an interrupt",
            MANUAL,
        ),
        step(
            Vmm(Run),
            &[Vmm(NotifyGeneration), Vmm(MapMemory)],
            "all is in place",
            MANUAL,
        ),
    ];
    Plan::new("kestrel", Direction::Restore, STEPS)
};

/// A host of this hypervisor.
#[derive(Clone, Debug)]
struct Host {
    identity: HostIdentity,
    firmware: u32,
}

impl Host {
    /// A host whose firmware has this release.
    fn new(firmware: u32) -> Self {
        let identity = HostIdentity::bare(Arch::X86_64, kestrel());
        Self { identity, firmware }
    }

    /// What `state` would find different here: all that coldframe compares, and one item more.
    fn compare(&self, state: &MachineState) -> Comparison {
        let saved = match state.vm.items.get(&FIRMWARE).map(Vec::as_slice) {
            Some([release]) => release.to_string(),
            _ => String::new(),
        };
        let host = self.firmware.to_string();
        let verdict = match saved == host {
            true => Verdict::Same,
            false => Verdict::MustBeWaived,
        };
        let item = "kestrel.firmware".to_owned();
        Comparison::of(state, (&self.identity).into()).with([Difference {
            item,
            saved,
            host,
            verdict,
        }])
    }
}

/// The pages that guests wrote, as this hypervisor logs them.
#[derive(Clone, Debug, Default)]
struct PageLog(Arc<Mutex<Vec<u64>>>);

impl PageLog {
    fn push(&self, page: u64) {
        self.0.lock().expect("nothing panics in here").push(page);
    }
}

impl DirtySource for PageLog {
    type Error = DirtyError;

    fn harvest(&mut self, into: &DirtyBitmap) -> Result<(), DirtyError> {
        let mut log = self.0.lock().expect("nothing panics in here");
        for page in log.drain(..) {
            into.mark_page(PageIndex::new(page))?;
        }
        Ok(())
    }
}

/// What this adapter refuses.
#[derive(Debug, thiserror::Error)]
enum BoardError {
    #[error("the differences of the hosts were not accepted")]
    Accept(#[from] OtherHost),
    #[error("the state is not well formed")]
    State(#[from] StateError),
    /// Somebody else's, also if it has the same number.
    #[error("{0} of the state is missing or of another length")]
    Item(ItemKind),
}

/// A machine: a counter in each vCPU, and a timer that all of them advance.
struct Board {
    host: Host,
    cores: Vec<u64>,
    timer: u64,
}

impl Board {
    fn word(bytes: Option<&Vec<u8>>, item: ItemKind) -> Result<u64, BoardError> {
        let bytes = bytes.and_then(|bytes| bytes.first_chunk());
        let bytes = bytes.ok_or(BoardError::Item(item))?;
        Ok(u64::from_le_bytes(*bytes))
    }
}

impl Machine for Board {
    type Error = BoardError;

    fn save(&self) -> Result<MachineState, BoardError> {
        let vcpu = |index| VcpuState {
            index,
            ..VcpuState::default()
        };
        let mut state = MachineState {
            arch: Arch::X86_64,
            hypervisor: kestrel(),
            host: self.host.identity.clone(),
            vm: VmState::default(),
            vcpus: (0..)
                .zip(&self.cores)
                .map(|(index, _)| vcpu(index))
                .collect(),
        };
        let release = self.host.firmware.to_le_bytes()[0];
        state.vm.items.insert(FIRMWARE, vec![release]);
        for step in SAVE.steps() {
            // Every arm is an operation of a save: there is none to be refused at run time.
            match step.op {
                Op::Vmm(_) => {}
                Op::Vm(Chip::Timer) => {
                    let bytes = self.timer.to_le_bytes().to_vec();
                    state.vm.items.insert(TIMER, bytes);
                }
                Op::Vcpu(Cpu::Core) => {
                    for (vcpu, core) in state.vcpus.iter_mut().zip(&self.cores) {
                        vcpu.items.insert(CORE, core.to_le_bytes().to_vec());
                    }
                }
                Op::AllVcpus(none) => match none {},
            }
        }
        Ok(state)
    }

    fn restore(&mut self, accepted: &Accepted) -> Result<Thawed, BoardError> {
        let state = accepted.state();
        state.check()?;
        accepted.check(&self.host.identity)?;
        for step in RESTORE.steps() {
            match step.op {
                Op::Vmm(_) => {}
                Op::Vm(Chip::Timer) => {
                    self.timer = Self::word(state.vm.items.get(&TIMER), TIMER)?;
                    self.cores = vec![0; state.vcpus.len()];
                }
                Op::Vcpu(Cpu::Core) => {
                    for (core, vcpu) in self.cores.iter_mut().zip(&state.vcpus) {
                        *core = Self::word(vcpu.items.get(&CORE), CORE)?;
                    }
                }
                Op::AllVcpus(none) => match none {},
            }
        }
        // A real adapter draws it from the system's generator: it must never have been used.
        let id = std::process::id().to_le_bytes();
        let mut generation = [0; 16];
        generation[..4].copy_from_slice(&id);
        generation[4..12].copy_from_slice(&self.timer.to_le_bytes());
        Ok(Thawed::new(GenerationId::from_bytes(generation)))
    }
}

type Memory = GuestMemoryMmap<()>;

/// All that there is of a guest: memory, vCPUs, timer.
type End = (Vec<u8>, Vec<u64>, u64);

const PAGES: u64 = 64;
const PAGE: u64 = 4096;

/// A VMM: memory, a board, and a guest whose every step depends on all before it.
struct Guest {
    memory: Memory,
    board: Board,
    log: PageLog,
    dirty: DirtyTracker<PageLog>,
}

impl Guest {
    fn new(memory: Memory, host: Host, baseline: Option<SnapshotId>) -> Result<Self, DirtyError> {
        let bitmap = DirtyBitmap::new(ByteLen::new(PAGES * PAGE), PageSize::SIZE_4K)?;
        let log = PageLog::default();
        Ok(Self {
            memory,
            board: Board {
                host,
                cores: vec![1, 2],
                timer: 0,
            },
            dirty: DirtyTracker::new(bitmap, log.clone(), baseline),
            log,
        })
    }

    fn boot(host: Host) -> Result<Self, Box<dyn Error>> {
        let bytes = usize::try_from(PAGES * PAGE)?;
        let memory = Memory::from_ranges(&[(GuestAddress(0), bytes)])?;
        Ok(Self::new(memory, host, None)?)
    }

    /// Runs each vCPU in turn, so many times.
    fn run(&mut self, steps: u64) -> Result<(), Box<dyn Error>> {
        for _ in 0..steps {
            for core in &mut self.board.cores {
                self.board.timer += 1;
                let addr = (*core * 8) % (PAGES * PAGE);
                let was: u64 = self.memory.read_obj(GuestAddress(addr))?;
                *core = (*core ^ was ^ self.board.timer).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 3;
                self.memory.write_obj(*core, GuestAddress(addr))?;
                self.log.push(addr / PAGE);
            }
        }
        Ok(())
    }

    fn end(&self) -> Result<End, Box<dyn Error>> {
        let mut ram = vec![0; usize::try_from(PAGES * PAGE)?];
        self.memory.read_slice(&mut ram, GuestAddress(0))?;
        Ok((ram, self.board.cores.clone(), self.board.timer))
    }

    fn freeze(
        &mut self,
        dest: &Path,
        parent: Option<&Snapshot>,
    ) -> Result<Snapshot, Box<dyn Error>> {
        let kind = parent.map_or(Kind::Full, |parent| Kind::Diff { parent });
        let capture = Freezer::new(dest, Producer::new("kestrel", "1")?).begin(kind)?;
        let frozen = capture.copy(&self.memory, &mut self.dirty, &self.board)?;
        Ok(frozen.publish()?)
    }

    fn thaw(path: &Path, host: Host, waivers: &[&str]) -> Result<Self, Box<dyn Error>> {
        let thaw = Snapshot::open(path)?.thaw(&[])?;
        let accepted = host.compare(thaw.machine()).accept(waivers)?;
        let memory = thaw.memory(MapVmMemory::new(|_, _| ()))?;
        let mut guest = Self::new(memory, host, Some(thaw.snapshot().id()))?;
        let thawed = accepted.restore(&mut guest.board)?;
        println!("  thawed as generation {}", thawed.generation());
        Ok(guest)
    }
}

/// Runs all of it; a test does too.
pub fn main() -> Result<(), Box<dyn Error>> {
    SAVE.check()?;
    RESTORE.check()?;
    println!("{RESTORE}");

    let dir = tempfile::tempdir()?;
    let (full, diff) = (dir.path().join("full"), dir.path().join("diff"));
    let mut guest = Guest::boot(Host::new(7))?;
    guest.run(1000)?;
    let parent = guest.freeze(&full, None)?;
    guest.run(20)?;
    let child = guest.freeze(&diff, Some(&parent))?;
    guest.run(500)?;
    let end = guest.end()?;

    let saved = child.machine()?;
    println!("saved under {}", saved.hypervisor);
    assert_eq!(saved.hypervisor.code(), KESTREL);
    for (path, left) in [(&full, 520), (&diff, 500)] {
        let mut again = Guest::thaw(path, Host::new(7), &[])?;
        again.run(left)?;
        assert!(again.end()? == end, "the thawed guest ended elsewhere");
    }
    println!("both ended as the guest that was never stopped");

    // Another release of the firmware is refused by name, and taken when waived by it.
    let refused = Host::new(8).compare(&saved).accept(&[]);
    let refused = refused.expect_err("other firmware");
    println!("on other firmware: {refused}");
    assert_eq!(refused.items[0].item, "kestrel.firmware");
    let mut again = Guest::thaw(&full, Host::new(8), &["kestrel.firmware"])?;
    again.run(520)?;
    assert!(again.end()? == end, "the thawed guest ended elsewhere");

    // Under any other hypervisor it can never be thawed.
    let kvm = HostIdentity::bare(Arch::X86_64, Hypervisor::KVM);
    let refused = Comparison::of(&saved, (&kvm).into()).accept(&["hypervisor"]);
    let refused = refused.expect_err("another hypervisor");
    println!("on KVM: {refused}");
    assert_eq!(refused.items[0].item, "hypervisor");
    assert_eq!(refused.items[0].verdict, Verdict::Impossible);
    Ok(())
}
