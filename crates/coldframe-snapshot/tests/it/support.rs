//! A guest without vCPUs: memory of vm-memory, a dirty bitmap, a machine that keeps its state.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use coldframe_dirty::{DirtyBitmap, RegionDirty};
use coldframe_envelope::Producer;
use coldframe_hv::{Accepted, DirtySource, Machine, MachineState, Thawed};
use coldframe_mem::{CopyOptions, MapOptions, Target, Verify, restore_copy, restore_map_vm_memory};
use coldframe_snapshot::verify::{Depth, Verified, Verifier};
use coldframe_snapshot::{Chain, DirtyTracker, Freezer, Kind, Snapshot, SnapshotError};
use coldframe_testkit::hv::{FakeMachine, FakeMachineError, sample_state};
use coldframe_units::{ByteLen, PageSize, RamOffset};
use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap, GuestRegionMmap};

pub const PAGE: u64 = 4096;

/// Memory that marks what is written through it.
pub type Memory = GuestMemoryMmap<RegionDirty>;

/// A source that knows of no page, or fails.
#[derive(Debug, Default)]
pub struct Source {
    pub fails: bool,
}

impl DirtySource for Source {
    type Error = io::Error;

    fn harvest(&mut self, _into: &DirtyBitmap) -> io::Result<()> {
        if self.fails {
            return Err(io::Error::other("the log is gone"));
        }
        Ok(())
    }
}

/// A machine whose state may not be readable.
pub struct Cpu {
    pub machine: FakeMachine,
    pub fails: bool,
}

impl Machine for Cpu {
    type Error = FakeMachineError;

    fn save(&self) -> Result<MachineState, FakeMachineError> {
        if self.fails {
            let source = coldframe_hv::StateError::VcpuCount {
                found: 0,
                max: coldframe_hv::VCPU_COUNT_MAX,
            };
            return Err(FakeMachineError::State { source });
        }
        self.machine.save()
    }

    fn restore(&mut self, accepted: &Accepted) -> Result<Thawed, FakeMachineError> {
        self.machine.restore(accepted)
    }
}

/// The whole guest.
pub struct Vm {
    pub memory: Memory,
    pub bitmap: DirtyBitmap,
    pub dirty: DirtyTracker<Source>,
    pub cpu: Cpu,
    pub ram: u64,
}

impl Vm {
    /// A guest of `pages` pages, all zero.
    pub fn new(pages: u64) -> Self {
        let ram = ByteLen::new(pages * PAGE);
        Self::over(DirtyBitmap::new(ram, PageSize::SIZE_4K).unwrap())
    }

    /// Memory of another length: what is new is zero, and the marks are as they were.
    pub fn grow(&mut self, pages: u64) {
        let before = self.read();
        self.ram = pages * PAGE;
        self.memory = memory(self.ram, &self.bitmap);
        let dirty = self.bitmap.peek();
        let kept = before.len().min(usize::try_from(self.ram).unwrap());
        self.memory
            .write_slice(&before[..kept], GuestAddress(0))
            .unwrap();
        let mut copied = self.bitmap.peek();
        copied.subtract(&dirty).unwrap();
        self.bitmap.forget(&copied);
    }

    /// A guest of as many pages as `bitmap` tracks.
    pub fn over(bitmap: DirtyBitmap) -> Self {
        let ram = bitmap.ram().get();
        Self {
            memory: memory(ram, &bitmap),
            dirty: DirtyTracker::new(bitmap.clone(), Source::default(), None),
            bitmap,
            cpu: Cpu {
                machine: FakeMachine::new(sample_state(2)),
                fails: false,
            },
            ram,
        }
    }

    /// Fills a page, as a device does.
    pub fn fill(&self, page: u64, byte: u8) {
        let at = GuestAddress(page * PAGE);
        self.memory.write_slice(&[byte; 4096], at).unwrap();
    }

    pub fn read(&self) -> Vec<u8> {
        read(&self.memory, self.ram)
    }

    /// Takes a snapshot.
    pub fn freeze(&mut self, dest: &Path, kind: Kind<'_>) -> Result<Snapshot, SnapshotError> {
        let capture = Freezer::new(dest, producer()).begin(kind)?;
        capture
            .copy(&self.memory, &mut self.dirty, &self.cpu)?
            .publish()
    }

    #[track_caller]
    pub fn full(&mut self, dest: &Path) -> Snapshot {
        self.freeze(dest, Kind::Full).unwrap()
    }

    #[track_caller]
    pub fn diff(&mut self, dest: &Path, parent: &Snapshot) -> Snapshot {
        self.freeze(dest, Kind::Diff { parent }).unwrap()
    }
}

/// Memory of one region from guest address 0 on.
pub fn memory(ram: u64, bitmap: &DirtyBitmap) -> Memory {
    let marks = RegionDirty::new(bitmap.clone(), RamOffset::ZERO, ByteLen::new(ram)).unwrap();
    let len = usize::try_from(ram).unwrap();
    let mapping = MmapRegionBuilder::new_with_bitmap(len, marks)
        .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
        .with_mmap_flags(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE)
        .build()
        .unwrap();
    let region = GuestRegionMmap::new(mapping, GuestAddress(0)).unwrap();
    Memory::from_regions(vec![region]).unwrap()
}

pub fn read(memory: &Memory, ram: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(ram).unwrap()];
    memory.read_slice(&mut bytes, GuestAddress(0)).unwrap();
    bytes
}

pub fn producer() -> Producer {
    Producer::new("test", "1.0").unwrap()
}

/// A directory, and names in it.
pub struct Home(tempfile::TempDir);

impl Home {
    pub fn new() -> Self {
        Self(coldframe_testkit::scratch::on_disk())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// All names in it, hidden ones too.
    pub fn names(&self) -> Vec<String> {
        names(self.path())
    }
}

/// All names in a directory, hidden ones too.
pub fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The chain of a snapshot, its parents beside it.
pub fn open_chain(path: &Path) -> Result<Chain, SnapshotError> {
    Chain::of(Snapshot::open(path)?, &[])
}

/// The memory of a snapshot, restored by copy and by map: both ways must agree.
#[track_caller]
pub fn thawed_memory(path: &Path) -> Vec<u8> {
    let chain = open_chain(path).unwrap().memory().unwrap();
    let ram = chain.layout().total();
    let bitmap = DirtyBitmap::new(ram, PageSize::SIZE_4K).unwrap();
    let copied = memory(ram.get(), &bitmap);
    let options = CopyOptions {
        target: Target::Zeroed,
        verify: Verify::Yes,
    };
    restore_copy(&chain, &copied, options).unwrap();
    let mapped = restore_map_vm_memory(&chain, MapOptions::default(), |offset, region| {
        RegionDirty::new(bitmap.clone(), offset, region.len()).unwrap()
    })
    .unwrap();
    let bytes = read(&mapped, ram.get());
    assert!(read(&copied, ram.get()) == bytes, "copy and map differ");
    bytes
}

/// All that is wrong, down to the last byte.
#[track_caller]
pub fn verify(path: &Path) -> Verified {
    let mut verifier = Verifier::new(Depth::Deep, Vec::new());
    verifier.check(path, &mut |_| ()).unwrap();
    verifier.finish()
}

#[track_caller]
pub fn assert_sound(path: &Path) {
    assert_eq!(verify(path).damages, []);
}

/// Copies a snapshot directory.
pub fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}
