//! A small machine whose guest counts in memory and says so on a port.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed};

use coldframe_kvm::{KvmMachine, SlotTable, Tracking, complete_pending_io};
use coldframe_testkit::require;
use coldframe_units::{ByteLen, GuestAddr, RamOffset};
use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, kvm_mp_state, kvm_pit_config, kvm_regs};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};

/// Guest memory: 2 MiB, so that each vCPU has a segment of its own.
pub const RAM_BYTES: usize = 2 << 20;
pub const PAGE_BYTES: usize = 4096;
const CODE: u64 = 0x1000;
const MARK_PORT: u16 = 0xf0;
const END_PORT: u16 = 0xf4;

/// 16-bit real mode; ax counts, bx walks, dx is the port.
#[rustfmt::skip]
const COUNT: &[u8] = &[
    0x40,                   // again: inc ax
    0x01, 0x07,             // add [bx], ax
    0x83, 0xc3, 0x07,       // add bx, 7
    0x81, 0xe3, 0xff, 0x7f, // and bx, 0x7fff
    0x81, 0xcb, 0x00, 0x20, // or bx, 0x2000
    0xef,                   // out dx, ax
    0x3d, 0xe8, 0x03,       // cmp ax, 1000
    0x75, 0xec,             // jne again
    0xb0, 0x2a,             // mov al, 42
    0xe6, 0xf4,             // out 0xf4, al
    0xf4,                   // hlt
];

/// As above, for whoever has its own idea of what the guest does.
pub struct Guest<'a> {
    pub code: &'a [u8],
    pub vcpus: u64,
    pub tracking: Tracking,
    pub irqchip: bool,
    pub ram_bytes: usize,
    /// Where the data segment of the first vCPU begins.
    pub data: u64,
}

pub const COUNTING: Guest<'static> = Guest {
    code: COUNT,
    vcpus: 2,
    tracking: Tracking::Off,
    irqchip: true,
    ram_bytes: RAM_BYTES,
    data: 0,
};

pub struct TestVm {
    pub vcpus: Vec<VcpuFd>,
    pub vm: VmFd,
    pub kvm: Kvm,
    ram: *mut u8,
    ram_bytes: usize,
    data: u64,
}

/// `None` after saying that the test is skipped.
pub fn open() -> Option<Kvm> {
    let opened = Kvm::new();
    if let Err(error) = &opened {
        require::skipped("kvm", &format!("/dev/kvm: {error}"));
    }
    opened.ok()
}

impl TestVm {
    /// The machine, and the table of its one slot.
    pub fn new(guest: &Guest<'_>) -> Option<(Self, SlotTable)> {
        let kvm = open()?;
        let vm = kvm.create_vm().unwrap();
        if guest.irqchip {
            vm.set_tss_address(0xfffb_d000).unwrap();
            vm.create_irq_chip().unwrap();
            vm.create_pit2(kvm_pit_config::default()).unwrap();
        }
        let mut slots = SlotTable::new(&vm, guest.tracking).unwrap();
        let layout = Layout::from_size_align(guest.ram_bytes, PAGE_BYTES).unwrap();
        // SAFETY: the layout is not empty.
        let ram = unsafe { alloc_zeroed(layout) };
        let len = ByteLen::new(guest.ram_bytes as u64);
        // SAFETY: the memory is leaked, so it outlives all, and is used by raw pointer only.
        unsafe { slots.register(0, RamOffset::ZERO, GuestAddr::ZERO, len, ram) }.unwrap();
        let cpuid = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).unwrap();
        let vcpus = (0..guest.vcpus).map(|index| {
            let vcpu = vm.create_vcpu(index).unwrap();
            vcpu.set_cpuid2(&cpuid).unwrap();
            vcpu
        });
        let vcpus = vcpus.collect();
        let machine = Self {
            vcpus,
            vm,
            kvm,
            ram,
            ram_bytes: guest.ram_bytes,
            data: guest.data,
        };
        machine.write(CODE as usize, guest.code);
        Some((machine, slots))
    }

    /// Puts each vCPU at the start of the code, in a segment of its own.
    pub fn boot(&self) {
        for (index, vcpu) in (0..).zip(&self.vcpus) {
            let mut sregs = vcpu.get_sregs().unwrap();
            (sregs.cs.base, sregs.cs.selector) = (0, 0);
            sregs.ds.base = self.data + index * 0x1_0000;
            sregs.ds.selector = u16::try_from(index * 0x1000).unwrap();
            vcpu.set_sregs(&sregs).unwrap();
            let regs = kvm_regs {
                rip: CODE,
                rax: index * 17,
                rbx: 0x2000,
                rdx: MARK_PORT.into(),
                rflags: 2,
                ..Default::default()
            };
            vcpu.set_regs(&regs).unwrap();
            vcpu.set_mp_state(kvm_mp_state { mp_state: 0 }).unwrap();
        }
    }

    /// Runs a vCPU for so many marks; true if it came to its end.
    pub fn run(&mut self, vcpu: usize, marks: u32) -> bool {
        for _ in 0..marks {
            match self.vcpus[vcpu].run().unwrap() {
                VcpuExit::IoOut(MARK_PORT, _) => {}
                VcpuExit::IoOut(END_PORT, code) => {
                    assert_eq!(code, [42]);
                    return true;
                }
                exit => panic!("unexpected exit {exit:?}"),
            }
        }
        false
    }

    /// Runs every vCPU to its end.
    pub fn finish(&mut self) {
        for vcpu in 0..self.vcpus.len() {
            assert!(self.run(vcpu, 10_000));
        }
        self.complete();
    }

    /// Completes the exits that the vCPUs stand at.
    pub fn complete(&mut self) {
        for vcpu in &mut self.vcpus {
            complete_pending_io(vcpu, |exit| panic!("unexpected exit {exit:?}")).unwrap();
        }
    }

    pub fn machine<'a>(&'a self, host: &'a coldframe_kvm::KvmHost) -> KvmMachine<'a> {
        KvmMachine::new(host, &self.vm, &self.vcpus)
    }

    pub fn regs(&self) -> Vec<kvm_regs> {
        self.vcpus
            .iter()
            .map(|vcpu| vcpu.get_regs().unwrap())
            .collect()
    }

    pub fn ram(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.ram_bytes];
        // SAFETY: the leaked RAM is that long, and no vCPU runs in these tests meanwhile.
        unsafe {
            self.ram
                .copy_to_nonoverlapping(bytes.as_mut_ptr(), RAM_BYTES)
        };
        bytes
    }

    /// Registers parts of the RAM, each by its slot, offset and length.
    pub fn add_slots(&self, slots: &mut SlotTable, parts: &[(u32, u64, u64)]) {
        for (slot, offset, len) in parts {
            self.try_slot(slots, *slot, *offset, *len).unwrap();
        }
    }

    pub fn try_slot(
        &self,
        slots: &mut SlotTable,
        slot: u32,
        offset: u64,
        len: u64,
    ) -> Result<(), coldframe_kvm::KvmError> {
        let host = self.ram.wrapping_add(usize::try_from(offset).unwrap());
        let (ram, addr) = (RamOffset::new(offset), GuestAddr::new(offset));
        // SAFETY: inside the leaked RAM, which is used by raw pointer only.
        let added = unsafe { slots.register(slot, ram, addr, ByteLen::new(len), host) };
        added.map(drop)
    }

    /// Registers a part of the RAM as a VMM of its own does, and has the table take it in.
    pub fn adopt_slot(&self, slots: &mut SlotTable, slot: u32, offset: u64, len: u64) {
        let region = kvm_bindings::kvm_userspace_memory_region {
            slot,
            flags: kvm_bindings::KVM_MEM_LOG_DIRTY_PAGES,
            guest_phys_addr: offset,
            memory_size: len,
            userspace_addr: self.ram as u64 + offset,
        };
        // SAFETY: inside the leaked RAM.
        unsafe { self.vm.set_user_memory_region(region) }.unwrap();
        let (ram, addr) = (RamOffset::new(offset), GuestAddr::new(offset));
        // SAFETY: registered so just now.
        unsafe { slots.adopt(slot, ram, addr, ByteLen::new(len)) }.unwrap();
    }

    pub fn write(&self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.ram_bytes);
        // SAFETY: inside the leaked RAM, as just checked.
        let target = unsafe { self.ram.add(offset) };
        // SAFETY: as above; no vCPU runs meanwhile.
        unsafe { target.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }
}
