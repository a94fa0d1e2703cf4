//! Every way out of the guest, and what is done before the vCPU is ready again.

use std::cell::{Cell, RefCell};

use coldframe_hv::aarch64::{PowerState, SysReg};
use coldframe_hvf::{
    CoreReg, Exit, ExitReason, HvStatus, HvfError, Line, RawExit, Ready, Resolved, VcpuCalls, Watch,
};
use coldframe_testkit::hvf::{DEVICE, Host};

use crate::support::{REGIONS, Vmm};

/// A vCPU that leaves the guest as it is told to.
#[derive(Debug)]
struct Scripted {
    exit: Cell<RawExit>,
    registers: RefCell<[u64; 35]>,
}

const PC: u64 = 0x1000;

impl Scripted {
    fn new(reason: ExitReason, class: u64, syndrome: u64, physical_address: u64) -> Self {
        let mut registers = [0; 35];
        registers[31] = PC;
        Self {
            exit: Cell::new(RawExit {
                reason,
                syndrome: class << 26 | syndrome,
                virtual_address: 0,
                physical_address,
            }),
            registers: RefCell::new(registers),
        }
    }

    fn exception(class: u64, syndrome: u64, addr: u64) -> Self {
        Self::new(ExitReason::Exception, class, syndrome, addr)
    }

    fn run(&self) -> Exit<'_, Self> {
        Ready::fresh(self, 0, PowerState::On).run().unwrap()
    }

    fn get(&self, number: usize) -> u64 {
        self.registers.borrow()[number]
    }

    fn set(&self, number: usize, value: u64) {
        self.registers.borrow_mut()[number] = value;
    }
}

impl VcpuCalls for Scripted {
    fn id(&self) -> u64 {
        0
    }
    fn run(&self) -> Result<RawExit, HvStatus> {
        Ok(self.exit.get())
    }
    fn reg(&self, register: CoreReg) -> Result<u64, HvStatus> {
        Ok(self.get(register.number() as usize))
    }
    fn set_reg(&self, register: CoreReg, value: u64) -> Result<(), HvStatus> {
        self.set(register.number() as usize, value);
        Ok(())
    }
    fn simd(&self, _: u8) -> Result<[u8; 16], HvStatus> {
        Err(HvStatus::Unsupported)
    }
    fn set_simd(&self, _: u8, _: [u8; 16]) -> Result<(), HvStatus> {
        Err(HvStatus::Unsupported)
    }
    fn sys_reg(&self, _: SysReg) -> Result<u64, HvStatus> {
        Err(HvStatus::Unsupported)
    }
    fn set_sys_reg(&self, _: SysReg, _: u64) -> Result<(), HvStatus> {
        Err(HvStatus::Unsupported)
    }
    fn icc_reg(&self, _: SysReg) -> Result<u64, HvStatus> {
        Err(HvStatus::Unsupported)
    }
    fn set_icc_reg(&self, _: SysReg, _: u64) -> Result<(), HvStatus> {
        Err(HvStatus::Unsupported)
    }
    fn vtimer_offset(&self) -> Result<u64, HvStatus> {
        Err(HvStatus::Unsupported)
    }
    fn set_vtimer_offset(&self, _: u64) -> Result<(), HvStatus> {
        Err(HvStatus::Unsupported)
    }
    fn vtimer_mask(&self) -> Result<bool, HvStatus> {
        Err(HvStatus::Unsupported)
    }
    fn set_vtimer_mask(&self, _: bool) -> Result<(), HvStatus> {
        Err(HvStatus::Unsupported)
    }
    fn pending(&self, _: Line) -> Result<bool, HvStatus> {
        Err(HvStatus::Unsupported)
    }
    fn set_pending(&self, _: Line, _: bool) -> Result<(), HvStatus> {
        Err(HvStatus::Unsupported)
    }
}

const DATA: u64 = 0x24;
const DESCRIBED: u64 = 1 << 24;
const WRITE: u64 = 1 << 6;
const WIDE: u64 = 1 << 15;
const SIGNED: u64 = 1 << 21;

/// Reads of `size` (log2 of bytes) into x7, answered with `value`.
fn read(size: u64, flags: u64, value: u64) -> u64 {
    let vcpu = Scripted::exception(DATA, DESCRIBED | size << 22 | 7 << 16 | flags, DEVICE);
    let Exit::Abort(abort) = vcpu.run() else {
        panic!("no abort");
    };
    let access = abort.into_mmio().unwrap();
    assert_eq!((access.bytes(), access.addr().get()), (1 << size, DEVICE));
    assert_eq!(access.written().unwrap(), None);
    assert_eq!(vcpu.get(31), PC, "it is not past the access yet");
    let _ready = access.answer(value).unwrap();
    assert_eq!(vcpu.get(31), PC + 4);
    vcpu.get(7)
}

// Parity: A5
#[test]
fn an_answered_read_is_in_its_register_and_past_its_instruction() {
    assert_eq!(read(3, WIDE, u64::MAX - 1), u64::MAX - 1);
    assert_eq!(read(0, WIDE, 0x1ff), 0xff);
    assert_eq!(read(0, WIDE | SIGNED, 0x80), (-128_i64).cast_unsigned());
    // Into a register of 32 bits, the upper half is cleared.
    assert_eq!(read(1, SIGNED, 0x8000), 0xffff_8000);
    assert_eq!(read(2, 0, 0x1_2345_6789), 0x2345_6789);
}

#[test]
fn a_write_shows_its_bytes_and_register_31_is_zero() {
    let vcpu = Scripted::exception(DATA, DESCRIBED | WRITE | 1 << 22 | 3 << 16, DEVICE);
    vcpu.set(3, 0x1234_5678);
    let Exit::Abort(abort) = vcpu.run() else {
        panic!("no abort");
    };
    let access = abort.into_mmio().unwrap();
    assert_eq!(access.written().unwrap(), Some(0x5678));
    let _ready = access.answer(99).unwrap();
    assert_eq!((vcpu.get(3), vcpu.get(31)), (0x1234_5678, PC + 4));

    let vcpu = Scripted::exception(DATA, DESCRIBED | WRITE | 31 << 16, DEVICE);
    // The program counter is number 31 of another list.
    let Exit::Abort(abort) = vcpu.run() else {
        panic!("no abort");
    };
    assert_eq!(abort.into_mmio().unwrap().written().unwrap(), Some(0));
}

#[test]
fn an_access_that_is_not_described_is_refused() {
    let vcpu = Scripted::exception(DATA, WRITE, DEVICE);
    let Exit::Abort(abort) = vcpu.run() else {
        panic!("no abort");
    };
    let refused = abort.into_mmio().unwrap_err();
    assert!(matches!(refused, HvfError::Undecoded { addr: DEVICE, .. }));
}

// Parity: A5
#[test]
fn calls_and_waits_are_past_their_instruction() {
    let wait = Scripted::exception(0x01, 0, 0);
    assert!(matches!(wait.run(), Exit::Wait(_)));
    assert_eq!(wait.get(31), PC + 4);
    // HVC is past itself already, SMC is not.
    for (class, pc) in [(0x16, PC), (0x17, PC + 4)] {
        let call = Scripted::exception(class, 0, 0);
        assert!(matches!(call.run(), Exit::Call(_)));
        assert_eq!(call.get(31), pc);
    }
}

#[test]
fn a_trapped_system_register_is_named_and_answered() {
    // MRS x9, OSLSR_EL1 and MSR OSLAR_EL1, x9.
    let encode = |crm: u64, read: u64| 2 << 20 | 4 << 17 | 1 << 10 | 9 << 5 | crm << 1 | read;
    let vcpu = Scripted::exception(0x18, encode(1, 1), 0);
    let Exit::System(access) = vcpu.run() else {
        panic!("no access");
    };
    assert_eq!(access.register(), SysReg::new(2, 0, 1, 1, 4));
    assert_eq!(access.written().unwrap(), None);
    let _ready = access.answer(8).unwrap();
    assert_eq!((vcpu.get(9), vcpu.get(31)), (8, PC + 4));
    let vcpu = Scripted::exception(0x18, encode(0, 0), 0);
    vcpu.set(9, 5);
    let Exit::System(access) = vcpu.run() else {
        panic!("no access");
    };
    assert_eq!(access.written().unwrap(), Some(5));
    let _ready = access.answer(8).unwrap();
    assert_eq!((vcpu.get(9), vcpu.get(31)), (5, PC + 4));
}

#[test]
fn other_exits_leave_the_vcpu_where_it_is() {
    let canceled = Scripted::new(ExitReason::Canceled, 0, 0, 0);
    assert!(matches!(canceled.run(), Exit::Canceled(_)));
    let timer = Scripted::new(ExitReason::VtimerActivated, 0, 0, 0);
    assert!(matches!(timer.run(), Exit::Vtimer(_)));
    let breakpoint = Scripted::exception(0x3c, 1, 0);
    assert!(matches!(breakpoint.run(), Exit::Other { .. }));
    assert_eq!(breakpoint.get(31), PC);
    let unknown = Scripted::new(ExitReason::Unknown, 0, 0, 0);
    let refused = Ready::fresh(&unknown, 3, PowerState::On).run();
    assert!(matches!(
        refused,
        Err(HvfError::Call {
            call: "hv_vcpu_run",
            ..
        })
    ));
}

/// A page table that the CPU updates by itself says neither that it writes nor what.
#[test]
fn an_update_of_page_tables_by_the_cpu_opens_its_page() {
    const WALK: u64 = 1 << 7;
    const PERMISSION: u64 = 0x0f;
    let vmm = Vmm::new(1, Host::default());
    let stage2 = vmm.stage2(Watch::DEFAULT);
    stage2.arm().unwrap();
    let addr = REGIONS[0].0 + 0x8000;
    let vcpu = Scripted::exception(DATA, WALK | PERMISSION, addr);
    let Exit::Abort(abort) = vcpu.run() else {
        panic!("no abort");
    };
    assert!(matches!(abort.resolve(&stage2), Ok(Resolved::Again(_))));
    assert!(vmm.framework.guest_write(addr, 1));
    assert_eq!(vcpu.get(31), PC, "the guest tries again");
}

/// The same by a walk for an instruction: memory is opened, or the guest tries for ever. Any other
/// abort of a fetch writes nothing.
#[test]
fn an_update_of_page_tables_by_a_fetch_opens_its_page() {
    const FETCH: u64 = 0x20;
    const WALK: u64 = 1 << 7;
    const PERMISSION: u64 = 0x0f;
    const TRANSLATION: u64 = 0x07;
    for (syndrome, is_opened) in [
        (WALK | PERMISSION, true),
        (WALK | TRANSLATION, false),
        (PERMISSION, false),
    ] {
        let vmm = Vmm::new(1, Host::default());
        let stage2 = vmm.stage2(Watch::DEFAULT);
        stage2.arm().unwrap();
        let addr = REGIONS[0].0 + 0x8000;
        let vcpu = Scripted::exception(FETCH, syndrome, addr);
        let Exit::Abort(abort) = vcpu.run() else {
            panic!("no abort");
        };
        assert!(matches!(abort.resolve(&stage2), Ok(Resolved::Again(_))));
        assert_eq!(
            vmm.framework.guest_write(addr, 1),
            is_opened,
            "{syndrome:#x}"
        );
    }
}

#[test]
fn a_fetch_from_memory_is_resolved_and_one_from_a_device_refused() {
    let vmm = Vmm::new(1, Host::default());
    let stage2 = vmm.stage2(Watch::DEFAULT);
    for (addr, is_memory) in [(REGIONS[0].0, true), (DEVICE, false)] {
        let vcpu = Scripted::exception(0x20, 0x07, addr);
        let Exit::Abort(abort) = vcpu.run() else {
            panic!("no abort");
        };
        match abort.resolve(&stage2) {
            Ok(Resolved::Again(_)) => assert!(is_memory),
            Ok(Resolved::Mmio(_)) => panic!("devices are not executed"),
            Err(error) => {
                assert!(!is_memory && matches!(error, HvfError::Undecoded { .. }));
            }
        }
    }
}
