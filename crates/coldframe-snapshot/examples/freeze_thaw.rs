//! A guest on KVM, frozen twice while it runs and thawed in two new machines: all that a VMM needs
//! of coldframe, on one page.
//!
//! ```sh
//! cargo run -p coldframe-snapshot --example freeze_thaw
//! ```
//!
//! The guest is eleven bytes of machine code that count in memory and say each number on a port.
//! It runs to 12. On the way a full snapshot is taken at 4 and a diff of it at 8. Each is then
//! thawed in a machine of its own, which must count on from there to 12 as the first one did.
//!
//! | part | whose |
//! |---|---|
//! | a VM, a vCPU, the loop around `KVM_RUN` | the VMM's, with kvm-ioctls |
//! | guest memory | vm-memory's `GuestMemoryMmap`, whose regions mark what the VMM writes |
//! | which pages the guest wrote | `coldframe-kvm`: `SlotTable`, `KvmDirty` |
//! | vCPU and VM state, in the order that KVM needs | `coldframe-kvm`: `KvmHost`, `KvmMachine` |
//! | freezing and thawing | `coldframe-snapshot` |

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    if let Err(error) = kvm_ioctls::Kvm::new() {
        println!("SKIPPED: /dev/kvm cannot be opened: {error}");
        return Ok(());
    }
    vmm::main()
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn main() {
    println!("SKIPPED: this example is for KVM on x86_64");
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[allow(unsafe_code, reason = "guest memory is given to KVM")]
mod vmm {
    use std::error::Error;
    use std::path::Path;
    use std::time::Instant;

    use coldframe_dirty::{DirtyBitmap, RegionDirty};
    use coldframe_envelope::Producer;
    use coldframe_kvm::{KvmDirty, KvmHost, KvmMachine, SlotTable, Tracking, complete_pending_io};
    use coldframe_mem::MapVmMemory;
    use coldframe_snapshot::{DeviceState, DirtyTracker, Freezer, Kind, Snapshot};
    use coldframe_units::{ByteLen, GuestAddr, PageSize, RamOffset, SnapshotId};
    use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
    use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

    type Result<T> = std::result::Result<T, Box<dyn Error>>;
    type Memory = GuestMemoryMmap<RegionDirty>;

    const RAM: u64 = 2 << 20;
    const ENTRY: u64 = 0x1000;
    const COUNTER: u64 = 0x8000;
    const PORT: u16 = 0x10;
    const END: u16 = 12;

    /// Sixteen-bit real mode, at [`ENTRY`].
    const PROGRAM: [u8; 11] = [
        0xff, 0x06, 0x00, 0x80, // again: inc word [0x8000]
        0xa1, 0x00, 0x80, //            mov ax, [0x8000]
        0xe7, 0x10, //                  out 0x10, ax
        0xeb, 0xf5, //                  jmp again
    ];

    /// The machine. Fields are dropped in this order: KVM lets go of memory before it is unmapped.
    struct Vm {
        vcpu: VcpuFd,
        /// Which pages the guest wrote, united with what the VMM itself writes to `memory`.
        dirty: DirtyTracker<KvmDirty>,
        vm: VmFd,
        memory: Memory,
        host: KvmHost,
        /// The state of the VMM's only device: what was said on the port.
        said: Vec<u8>,
    }

    impl Vm {
        /// A machine with this memory, which no vCPU has run in. `baseline` is the snapshot that
        /// the memory comes from: a diff taken later is a child of it.
        fn new(memory: Memory, bitmap: DirtyBitmap, baseline: Option<SnapshotId>) -> Result<Self> {
            let kvm = Kvm::new()?;
            let host = KvmHost::probe(&kvm)?; // what a thawed guest is compared with
            let vm = kvm.create_vm()?;
            let mut slots = SlotTable::new(&vm, Tracking::Log)?;
            let mut ram = RamOffset::ZERO;
            for (slot, region) in (0..).zip(memory.iter()) {
                let addr = GuestAddr::new(region.start_addr().0);
                let len = ByteLen::new(region.len());
                // SAFETY: `memory` lives in the struct until the machine is gone, and hands out no
                // references into it.
                unsafe { slots.register(slot, ram, addr, len, region.as_ptr()) }?;
                ram = RamOffset::new(ram.get() + len.get());
            }
            let vcpu = vm.create_vcpu(0)?;
            let source = KvmDirty::new(slots, [&vcpu])?;
            let dirty = DirtyTracker::new(bitmap, source, baseline);
            let said = Vec::new();
            Ok(Self {
                vcpu,
                dirty,
                vm,
                memory,
                host,
                said,
            })
        }

        /// A new machine, ready to run [`PROGRAM`].
        fn boot() -> Result<Self> {
            let bitmap = DirtyBitmap::new(ByteLen::new(RAM), PageSize::SIZE_4K)?;
            let whole = RegionDirty::new(bitmap.clone(), RamOffset::ZERO, ByteLen::new(RAM))?;
            let mmap = vm_memory::mmap::MmapRegionBuilder::new_with_bitmap(RAM as usize, whole)
                .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
                .with_mmap_flags(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE)
                .build()?;
            let region = vm_memory::GuestRegionMmap::new(mmap, GuestAddress(0));
            let memory = Memory::from_regions(vec![region.ok_or("the region is too long")?])?;
            memory.write_slice(&PROGRAM, GuestAddress(ENTRY))?;

            let vm = Self::new(memory, bitmap, None)?;
            let mut sregs = vm.vcpu.get_sregs()?;
            (sregs.cs.base, sregs.cs.selector) = (0, 0);
            vm.vcpu.set_sregs(&sregs)?;
            let mut regs = vm.vcpu.get_regs()?;
            (regs.rip, regs.rflags) = (ENTRY, 2);
            vm.vcpu.set_regs(&regs)?;
            Ok(vm)
        }

        /// Runs the guest until it has said `number`.
        fn run_to(&mut self, number: u16) -> Result<()> {
            while self.last() < number {
                match self.vcpu.run()? {
                    VcpuExit::IoOut(PORT, bytes) => self.said.extend_from_slice(bytes),
                    other => return Err(format!("unexpected exit: {other:?}").into()),
                }
            }
            Ok(())
        }

        /// What the guest said last.
        fn last(&self) -> u16 {
            match self.said.last_chunk() {
                Some(word) => u16::from_le_bytes(*word),
                None => 0,
            }
        }

        /// Freezes the guest, which is not running now: one thread drives its only vCPU here.
        fn freeze(&mut self, dest: &Path, parent: Option<&Snapshot>) -> Result<Snapshot> {
            let kind = parent.map_or(Kind::Full, |parent| Kind::Diff { parent });
            // 1. Prepare files. The guest could still be running.
            let capture = Freezer::new(dest, Producer::new("freeze_thaw", "1")?).begin(kind)?;

            // 2. The pause. KVM may owe the guest the end of the exit that it was stopped at.
            let paused = Instant::now();
            complete_pending_io(&mut self.vcpu, |_| ())?;
            let port = DeviceState {
                kind: "port".to_owned(),
                instance: 0,
                version: 1,
                bytes: self.said.clone(),
            };
            let machine = KvmMachine::new(&self.host, &self.vm, [&self.vcpu]);
            let frozen =
                capture
                    .with_devices(vec![port])
                    .copy(&self.memory, &mut self.dirty, &machine)?;
            println!("  paused for {:?}: {:?}", paused.elapsed(), frozen.stats());

            // 3. The guest could run on from here. Hash, sync, give the snapshot its name: on an
            //    error the dirty pages are back, and nothing is there.
            Ok(frozen.publish()?)
        }

        /// Thaws a snapshot in a new machine.
        fn thaw(path: &Path) -> Result<Self> {
            let begun = Instant::now();
            // 1. Open: parents are found by id and checked by root, the state is decoded once.
            let thaw = Snapshot::open(path)?.thaw(&[])?;

            // 2. Memory: mapped, so that a page is read when it is touched.
            let ram = thaw.layers().layout().total();
            let bitmap = DirtyBitmap::new(ram, PageSize::SIZE_4K)?;
            let memory = thaw.memory(MapVmMemory::new(|offset, region| {
                RegionDirty::new(bitmap.clone(), offset, region.len())
                    .expect("each region of the layout lies inside of it")
            }))?;
            let mut vm = Self::new(memory, bitmap, Some(thaw.snapshot().id()))?;

            // 3. Compare with this host: what the guest would find different is refused by name,
            //    unless it is waived by name.
            let accepted = thaw.compare(vm.host.identity()).accept(&[])?;

            // 4. Restore vCPUs and VM, then our own device.
            let mut machine = KvmMachine::new(&vm.host, &vm.vm, [&vm.vcpu]);
            let thawed = accepted.restore(&mut machine)?;
            let port = thaw.devices().iter().find(|device| device.kind == "port");
            vm.said = port.ok_or("the snapshot has no port")?.bytes.clone();

            // 5. Two runs of one snapshot share random pools and keys: a real guest must be told
            //    (VM generation id) before it runs.
            println!(
                "  thawed in {:?} as generation {}",
                begun.elapsed(),
                thawed.generation()
            );
            Ok(vm)
        }
    }

    pub fn main() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let (full, diff) = (dir.path().join("full"), dir.path().join("diff"));

        let mut first = Vm::boot()?;
        first.run_to(4)?;
        println!("full snapshot at {}", first.last());
        let parent = first.freeze(&full, None)?;
        first.run_to(8)?;
        println!("diff at {}", first.last());
        first.freeze(&diff, Some(&parent))?;
        first.run_to(END)?;

        for path in [&full, &diff] {
            println!("thaw {}", path.display());
            let mut again = Vm::thaw(path)?;
            println!("  counts on from {}", again.last());
            again.run_to(END)?;
            assert_eq!(again.said, first.said, "the guest said something else");
            let counted: u16 = again.memory.read_obj(GuestAddress(COUNTER))?;
            assert_eq!(counted, END);
        }
        println!("both ended as the guest that was never stopped");
        Ok(())
    }
}
