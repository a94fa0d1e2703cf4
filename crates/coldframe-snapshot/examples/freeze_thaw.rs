//! A guest on KVM, frozen twice while it runs and thawed in two new machines: all that a VMM needs
//! of coldframe, on one page.
//!
//! ```sh
//! cargo run -p coldframe-snapshot --example freeze_thaw
//! ```
//!
//! The guest is eleven bytes of machine code that count in memory and say each number on a port.
//! It runs to 6,000 in a thread of its own. On the way it is paused twice, wherever it is then: for
//! a full snapshot and for a diff of it. Each is then thawed in a machine of its own, which must
//! count on from there to the end as the first one did.
//!
//! | part | whose |
//! |---|---|
//! | a VM, a vCPU, the loop around `KVM_RUN` | the VMM's, with kvm-ioctls |
//! | getting the vCPU's thread out of the guest and back | `coldframe-kvm`: `ParkingLot` |
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
    use std::sync::{Arc, Condvar, Mutex, MutexGuard};
    use std::thread::JoinHandle;
    use std::time::{Duration, Instant};

    use coldframe_dirty::{DirtyBitmap, RegionDirty};
    use coldframe_envelope::Producer;
    use coldframe_kvm::{
        KvmDirty, KvmError, KvmHost, KvmMachine, ParkingLot, Seat, SlotTable, Tracking,
    };
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
    const END: u16 = 6000;
    /// How long a vCPU is given to park: the error of a pause names those that did not.
    const PATIENCE: Duration = Duration::from_secs(10);

    /// Sixteen-bit real mode, at [`ENTRY`].
    const PROGRAM: [u8; 11] = [
        0xff, 0x06, 0x00, 0x80, // again: inc word [0x8000]
        0xa1, 0x00, 0x80, //            mov ax, [0x8000]
        0xe7, 0x10, //                  out 0x10, ax
        0xeb, 0xf5, //                  jmp again
    ];

    /// The VMM's only device: all that was said on the port.
    #[derive(Default)]
    struct Port {
        said: Mutex<Vec<u8>>,
        more: Condvar,
    }

    impl Port {
        fn said(&self) -> MutexGuard<'_, Vec<u8>> {
            self.said.lock().expect("nobody panics while having it")
        }

        fn serve(&self, exit: VcpuExit<'_>) {
            match exit {
                VcpuExit::IoOut(PORT, bytes) => {
                    self.said().extend_from_slice(bytes);
                    self.more.notify_all();
                }
                other => panic!("unexpected exit: {other:?}"),
            }
        }

        /// What was said last.
        fn last(said: &[u8]) -> u16 {
            said.last_chunk()
                .map_or(0, |word| u16::from_le_bytes(*word))
        }

        /// Waits until the guest has said `number`.
        fn wait_for(&self, number: u16) {
            let said = self.said();
            let waits = |said: &mut Vec<u8>| Self::last(said) < number;
            let waited = self.more.wait_while(said, waits);
            drop(waited.expect("nobody panics while having it"));
        }
    }

    /// The vCPU's thread. It has the vCPU, but while it is parked: then the [`Parked`] has it.
    ///
    /// [`Parked`]: coldframe_kvm::Parked
    fn run(seat: &Seat, mut vcpu: VcpuFd, port: &Port) -> std::result::Result<(), KvmError> {
        vcpu = seat.park_before_first_run(vcpu); // to be booted or thawed
        while !seat.is_closed() {
            if Port::last(&port.said()) >= END {
                vcpu = seat.park_when_wanted(vcpu, |exit| port.serve(exit))?;
                continue;
            }
            match vcpu.run() {
                Ok(exit) => port.serve(exit),
                // A signal: completes the exit that the vCPU is at, parks if that is wanted.
                Err(error) if error.errno() == libc::EINTR => {
                    vcpu = seat.park(vcpu, |exit| port.serve(exit))?;
                }
                Err(error) => panic!("KVM_RUN: {error}"),
            }
        }
        Ok(())
    }

    /// The machine.
    struct Vm {
        lot: ParkingLot,
        thread: Option<JoinHandle<std::result::Result<(), KvmError>>>,
        port: Arc<Port>,
        /// Which pages the guest wrote, united with what the VMM itself writes to `memory`.
        dirty: DirtyTracker<KvmDirty>,
        vm: VmFd,
        memory: Memory,
        host: KvmHost,
    }

    /// KVM lets go of memory before it is unmapped: the thread has the vCPU, which has the VM.
    impl Drop for Vm {
        fn drop(&mut self) {
            self.lot.close().expect("a thread of ours can be signalled");
            if let Some(thread) = self.thread.take() {
                let _ = thread.join();
            }
        }
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
            let (lot, port) = (ParkingLot::new(1)?, Arc::new(Port::default()));
            let (seats, device) = (lot.clone(), Arc::clone(&port));
            let thread = std::thread::spawn(move || {
                let seat = seats.seat(0, &vcpu)?;
                run(&seat, vcpu, &device)
            });
            Ok(Self {
                lot,
                thread: Some(thread),
                port,
                dirty,
                vm,
                memory,
                host,
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
            let parked = vm.lot.pause(PATIENCE)?;
            let vcpu = &parked.vcpus()[0];
            let mut sregs = vcpu.get_sregs()?;
            (sregs.cs.base, sregs.cs.selector) = (0, 0);
            vcpu.set_sregs(&sregs)?;
            let mut regs = vcpu.get_regs()?;
            (regs.rip, regs.rflags) = (ENTRY, 2);
            vcpu.set_regs(&regs)?;
            parked.resume();
            Ok(vm)
        }

        /// Freezes the guest, which is running: it is paused for as long as its memory is copied.
        fn freeze(&mut self, dest: &Path, parent: Option<&Snapshot>) -> Result<Snapshot> {
            let kind = parent.map_or(Kind::Full, |parent| Kind::Diff { parent });
            // 1. Prepare files. The guest is still running.
            let capture = Freezer::new(dest, Producer::new("freeze_thaw", "1")?).begin(kind)?;

            // 2. The pause: every vCPU out of the guest, with nothing pending.
            let begun = Instant::now();
            let parked = self.lot.pause(PATIENCE)?;
            let said = self.port.said().clone();
            println!("  paused at {}", Port::last(&said));
            let port = DeviceState {
                kind: "port".to_owned(),
                instance: 0,
                version: 1,
                bytes: said,
            };
            let machine = KvmMachine::new(&self.host, &self.vm, parked.vcpus());
            let frozen =
                capture
                    .with_devices(vec![port])
                    .copy(&self.memory, &mut self.dirty, &machine)?;
            parked.resume();
            println!("  for {:?}: {:?}", begun.elapsed(), frozen.stats());

            // 3. The guest runs on. Hash, sync, give the snapshot its name: on an
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
            let vm = Self::new(memory, bitmap, Some(thaw.snapshot().id()))?;

            // 3. Compare with this host: what the guest would find different is refused by name,
            //    unless it is waived by name.
            let accepted = thaw.compare(vm.host.identity()).accept(&[])?;

            // 4. Restore vCPUs and VM, then our own device.
            let parked = vm.lot.pause(PATIENCE)?;
            let mut machine = KvmMachine::new(&vm.host, &vm.vm, parked.vcpus());
            let thawed = accepted.restore(&mut machine)?;
            let port = thaw.devices().iter().find(|device| device.kind == "port");
            *vm.port.said() = port.ok_or("the snapshot has no port")?.bytes.clone();

            // 5. Two runs of one snapshot share random pools and keys: a real guest must be told
            //    (VM generation id) before it runs.
            println!(
                "  thawed in {:?} as generation {}",
                begun.elapsed(),
                thawed.generation()
            );
            parked.resume();
            Ok(vm)
        }
    }

    pub fn main() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let (full, diff) = (dir.path().join("full"), dir.path().join("diff"));

        let mut first = Vm::boot()?;
        first.port.wait_for(END / 3);
        println!("full snapshot");
        let parent = first.freeze(&full, None)?;
        first.port.wait_for(END / 3 * 2);
        println!("diff");
        first.freeze(&diff, Some(&parent))?;
        first.port.wait_for(END);

        let end = first.port.said().clone();
        for path in [&full, &diff] {
            println!("thaw {}", path.display());
            let again = Vm::thaw(path)?;
            again.port.wait_for(END);
            let said = again.port.said().clone();
            assert!(said == end, "the guest said something else");
            let counted: u16 = again.memory.read_obj(GuestAddress(COUNTER))?;
            assert_eq!(counted, END);
        }
        println!("both ended as the guest that was never stopped");
        Ok(())
    }
}
