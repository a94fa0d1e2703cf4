//! A small machine whose guest counts in memory and says so at an address that is no memory.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed};

use coldframe_hv::aarch64::RegId;
use coldframe_kvm::{KvmGic, KvmHost, KvmMachine, SlotTable, Tracking, complete_pending_io};
use coldframe_testkit::require;
use coldframe_units::{ByteLen, GuestAddr, RamOffset};
use kvm_bindings as kvm;
use kvm_ioctls::{DeviceFd, Kvm, VcpuExit, VcpuFd, VmFd};

/// Guest memory, from address 0 on.
pub const RAM_BYTES: usize = 2 << 20;
const PAGE_BYTES: usize = 4096;
const CODE: u64 = 0x1000;
/// A store here is a mark.
const MARK: u64 = 0x4000_0000;
/// A store here is the end.
const END: u64 = 0x4000_1000;
const DISTRIBUTOR: u64 = 0x5000_0000;
const REDISTRIBUTORS: u64 = 0x5010_0000;
const SERVICE: u64 = 0x5100_0000;

/// x0 counts, x1 walks from x2 on in steps of x3 bytes, x4 is the mark, x5 the end, x6 how often.
#[rustfmt::skip]
pub const COUNT: &[u32] = &[
    0x9100_0400, // again: add x0, x0, #1
    0xf940_0027, // ldr x7, [x1]
    0x8b00_00e7, // add x7, x7, x0
    0xf900_0027, // str x7, [x1]
    0x8b03_0021, // add x1, x1, x3
    0xb900_0080, // str w0, [x4]
    0xeb06_001f, // cmp x0, x6
    0x54ff_ff21, // b.ne again
    0xb900_00a0, // str w0, [x5]
    0x1400_0000, // b .
];

pub struct TestVm {
    pub vcpus: Vec<VcpuFd>,
    gic: DeviceFd,
    its: DeviceFd,
    pub vm: VmFd,
    pub host: KvmHost,
    ram: *mut u8,
}

/// `None` after saying that the test is skipped.
pub fn open() -> Option<Kvm> {
    let opened = Kvm::new();
    if let Err(error) = &opened {
        require::skipped("kvm", &format!("/dev/kvm: {error}"));
    }
    opened.ok()
}

fn create(vm: &VmFd, type_: u32) -> DeviceFd {
    let mut request = kvm::kvm_create_device {
        type_,
        ..Default::default()
    };
    vm.create_device(&mut request).unwrap()
}

/// Sets one attribute of a device, of 64 bits.
pub fn set_attribute(device: &DeviceFd, group: u32, attr: u64, value: u64) {
    let request = kvm::kvm_device_attr {
        group,
        attr,
        addr: &raw const value as u64,
        ..Default::default()
    };
    device.set_device_attr(&request).unwrap();
}

impl TestVm {
    /// The machine, its vCPUs initialised and not finalised, and the table of its one slot.
    pub fn new(vcpus: u64, tracking: Tracking) -> Option<(Self, SlotTable)> {
        Some(Self::with(&open()?, vcpus, tracking, |_| {}))
    }

    /// The same, after `prepare` has done something to the VM before it has a vCPU.
    pub fn with(
        kvm: &Kvm,
        vcpus: u64,
        tracking: Tracking,
        prepare: impl FnOnce(&VmFd),
    ) -> (Self, SlotTable) {
        let host = KvmHost::probe(kvm).unwrap();
        let vm = kvm.create_vm().unwrap();
        prepare(&vm);
        let mut slots = SlotTable::new(&vm, tracking).unwrap();
        let layout = Layout::from_size_align(RAM_BYTES, PAGE_BYTES).unwrap();
        // SAFETY: the layout is not empty.
        let ram = unsafe { alloc_zeroed(layout) };
        let len = ByteLen::new(RAM_BYTES as u64);
        // SAFETY: the memory is leaked, so it outlives all, and is used by raw pointer only.
        unsafe { slots.register(0, RamOffset::ZERO, GuestAddr::ZERO, len, ram) }.unwrap();
        let fds = (0..vcpus).map(|index| {
            let vcpu = vm.create_vcpu(index).unwrap();
            vcpu.vcpu_init(&host.vcpu_init()).unwrap();
            vcpu
        });
        let fds: Vec<_> = fds.collect();
        let gic = create(&vm, kvm::kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3);
        let region = vcpus << 52 | REDISTRIBUTORS;
        let addresses = kvm::KVM_DEV_ARM_VGIC_GRP_ADDR;
        let distributor = kvm::KVM_VGIC_V3_ADDR_TYPE_DIST;
        set_attribute(&gic, addresses, distributor.into(), DISTRIBUTOR);
        let redistributors = kvm::KVM_VGIC_V3_ADDR_TYPE_REDIST_REGION;
        set_attribute(&gic, addresses, redistributors.into(), region);
        let control = kvm::KVM_DEV_ARM_VGIC_GRP_CTRL;
        let init = kvm::KVM_DEV_ARM_VGIC_CTRL_INIT;
        set_attribute(&gic, control, init.into(), 0);
        let its = create(&vm, kvm::kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_ITS);
        set_attribute(&its, addresses, kvm::KVM_VGIC_ITS_ADDR_TYPE.into(), SERVICE);
        set_attribute(&its, control, init.into(), 0);
        let machine = Self {
            vcpus: fds,
            gic,
            its,
            vm,
            host,
            ram,
        };
        let code: Vec<u8> = COUNT.iter().flat_map(|word| word.to_le_bytes()).collect();
        machine.write(CODE as usize, &code);
        (machine, slots)
    }

    /// Finalises the vCPUs, and puts each at the start of the code with memory of its own, to write
    /// so many times so far apart.
    pub fn boot(&self, stride: u64, times: u64) {
        for (index, vcpu) in (0..).zip(&self.vcpus) {
            if self.host.vcpu_init().features[0] & 1 << kvm::KVM_ARM_VCPU_SVE != 0 {
                vcpu.vcpu_finalize(&(kvm::KVM_ARM_VCPU_SVE as i32)).unwrap();
            }
            let data = 0x1_0000 + index * 0x10_0000;
            let general = [0, data, data, stride, MARK, END, times];
            for (number, value) in (0..).zip(general) {
                self.set(index as usize, RegId::general(number).unwrap(), value);
            }
            self.set(index as usize, RegId::PC, CODE);
        }
    }

    pub fn set(&self, vcpu: usize, register: RegId, value: u64) {
        let vcpu = &self.vcpus[vcpu];
        vcpu.set_one_reg(register.to_kvm(), &value.to_le_bytes())
            .unwrap();
    }

    pub fn get(&self, vcpu: usize, register: RegId) -> u64 {
        let mut value = [0; 8];
        let vcpu = &self.vcpus[vcpu];
        vcpu.get_one_reg(register.to_kvm(), &mut value).unwrap();
        u64::from_le_bytes(value)
    }

    /// Runs a vCPU for so many marks; true if it came to its end.
    pub fn run(&mut self, vcpu: usize, marks: u32) -> bool {
        for _ in 0..marks {
            match self.vcpus[vcpu].run().unwrap() {
                VcpuExit::MmioWrite(MARK, _) => {}
                VcpuExit::MmioWrite(END, _) => return true,
                exit => panic!("unexpected exit {exit:?}"),
            }
        }
        false
    }

    /// Completes the exits that the vCPUs stand at.
    pub fn complete(&mut self) {
        for vcpu in &mut self.vcpus {
            complete_pending_io(vcpu, |exit| panic!("unexpected exit {exit:?}")).unwrap();
        }
    }

    pub fn machine(&self) -> KvmMachine<'_> {
        let gic = KvmGic::V3 {
            gic: &self.gic,
            its: vec![&self.its],
        };
        let init = self.host.vcpu_init();
        KvmMachine::new(&self.host, &self.vm, &self.vcpus, init, gic)
    }

    pub fn gic(&self) -> &DeviceFd {
        &self.gic
    }

    pub fn its(&self) -> &DeviceFd {
        &self.its
    }

    pub fn ram(&self) -> Vec<u8> {
        let mut bytes = vec![0; RAM_BYTES];
        // SAFETY: the leaked RAM is that long, and no vCPU runs in these tests meanwhile.
        unsafe {
            self.ram
                .copy_to_nonoverlapping(bytes.as_mut_ptr(), RAM_BYTES)
        };
        bytes
    }

    pub fn write(&self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= RAM_BYTES);
        // SAFETY: inside the leaked RAM, as just checked.
        let target = unsafe { self.ram.add(offset) };
        // SAFETY: as above; no vCPU runs meanwhile.
        unsafe { target.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }
}
