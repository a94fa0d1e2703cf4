//! A vCPU's way out of the guest and back, as types.
//!
//! Invariant: state may be read only of a vCPU with nothing pending: the answer to an access that
//! it waits for is in no register, nor is the step of its program counter. [`Ready`] is such a
//! vCPU; each other exit gives it back only once it has been answered, and only it can be parked.

use coldframe_hv::aarch64::{PowerState, SysReg};
use coldframe_units::GuestAddr;

use crate::calls::{CoreReg, ExitReason, HvStatus, RawExit, VcpuCalls, VmCalls};
use crate::error::{HvfError, Place};
use crate::stage2::Stage2;

/// A vCPU with nothing pending: it may run, or park.
#[derive(Debug)]
#[must_use = "run it, or park it"]
pub struct Ready<'v, V: ?Sized> {
    pub(crate) vcpu: &'v V,
    pub(crate) index: u32,
    pub(crate) power: PowerState,
    pub(crate) has_run: bool,
}

/// Why a vCPU left the guest, and what must be done before it is [`Ready`] again.
#[derive(Debug)]
#[must_use = "answer it, to have the vCPU back"]
pub enum Exit<'v, V: ?Sized> {
    /// Somebody asked for it: see whether to park.
    Canceled(Ready<'v, V>),
    /// The virtual timer fired, and is masked until the VMM unmasks it.
    Vtimer(Ready<'v, V>),
    /// It touched memory in a way that stage 2 does not allow: see [`Abort::resolve`].
    Abort(Abort<'v, V>),
    /// It waits for an interrupt or event (WFI, WFE). The program counter is past it already.
    Wait(Ready<'v, V>),
    /// A call of the firmware (HVC or SMC), such as PSCI. Its answer goes to the registers by the
    /// VMM; the program counter is past it already.
    Call(Ready<'v, V>),
    /// It accessed a system register that the VMM stands in for.
    System(SystemAccess<'v, V>),
    /// Some other exception, by its syndrome; the program counter is at the instruction.
    Other {
        /// ESR_EL2.
        syndrome: u64,
        /// The vCPU.
        vcpu: Ready<'v, V>,
    },
}

/// Bytes of an instruction.
const INSTRUCTION: u64 = 4;

impl<'v, V: VcpuCalls + ?Sized> Ready<'v, V> {
    /// A vCPU that was just made, on the thread that made it, and has not run.
    pub const fn fresh(vcpu: &'v V, index: u32, power: PowerState) -> Self {
        Self {
            vcpu,
            index,
            power,
            has_run: false,
        }
    }

    /// Whether it is on. After a thaw it is what it was when it was frozen.
    #[must_use]
    pub const fn power(&self) -> PowerState {
        self.power
    }

    /// Switches it on or off, as PSCI calls ask for.
    pub const fn set_power(&mut self, power: PowerState) {
        self.power = power;
    }

    /// Its number among the VMM's vCPUs.
    #[must_use]
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// The vCPU itself, to read and set registers of.
    #[must_use]
    pub const fn vcpu(&self) -> &'v V {
        self.vcpu
    }

    /// Runs the guest until it leaves.
    ///
    /// # Errors
    /// [`HvfError::PoweredOff`], [`HvfError::Call`].
    pub fn run(mut self) -> Result<Exit<'v, V>, HvfError> {
        if self.power != PowerState::On {
            return Err(HvfError::PoweredOff { vcpu: self.index });
        }
        self.has_run = true;
        let exit = self.vcpu.run();
        let exit = exit.map_err(HvfError::call("hv_vcpu_run", Place::Vcpu(self.index)))?;
        match exit.reason {
            ExitReason::Canceled => Ok(Exit::Canceled(self)),
            ExitReason::VtimerActivated => Ok(Exit::Vtimer(self)),
            ExitReason::Exception => self.exception(exit),
            ExitReason::Unknown => Err(HvfError::Call {
                call: "hv_vcpu_run",
                place: Place::Vcpu(self.index),
                source: HvStatus::Error,
            }),
        }
    }

    /// Source: Arm DDI 0487, ESR_EL2, exception classes.
    fn exception(self, exit: RawExit) -> Result<Exit<'v, V>, HvfError> {
        const WFX: u64 = 0x01;
        const HVC: u64 = 0x16;
        const SMC: u64 = 0x17;
        const SYSTEM: u64 = 0x18;
        const FETCH_ABORT: u64 = 0x20;
        const DATA_ABORT: u64 = 0x24;
        match exit.syndrome >> 26 & 0x3f {
            WFX => Ok(Exit::Wait(self.advance()?)),
            // HVC leaves the program counter past itself, SMC at itself.
            HVC => Ok(Exit::Call(self)),
            SMC => Ok(Exit::Call(self.advance()?)),
            SYSTEM => Ok(Exit::System(SystemAccess {
                ready: self,
                syndrome: exit.syndrome,
            })),
            FETCH_ABORT | DATA_ABORT => Ok(Exit::Abort(Abort { ready: self, exit })),
            _ => Ok(Exit::Other {
                syndrome: exit.syndrome,
                vcpu: self,
            }),
        }
    }

    fn advance(self) -> Result<Self, HvfError> {
        let pc = self.get(CoreReg::PC)?;
        self.set(CoreReg::PC, pc.wrapping_add(INSTRUCTION))?;
        Ok(self)
    }

    fn get(&self, register: CoreReg) -> Result<u64, HvfError> {
        let value = self.vcpu.reg(register);
        value.map_err(HvfError::call("hv_vcpu_get_reg", Place::Vcpu(self.index)))
    }

    fn set(&self, register: CoreReg, value: u64) -> Result<(), HvfError> {
        let set = self.vcpu.set_reg(register, value);
        set.map_err(HvfError::call("hv_vcpu_set_reg", Place::Vcpu(self.index)))
    }

    /// General register of an access; 31 reads as zero and is not written.
    fn operand(&self, number: u8) -> Result<u64, HvfError> {
        CoreReg::general(number).map_or(Ok(0), |register| self.get(register))
    }

    fn answer(&self, number: u8, value: u64) -> Result<(), HvfError> {
        CoreReg::general(number).map_or(Ok(()), |register| self.set(register, value))
    }
}

/// An access that stage 2 does not allow: to memory that is protected or not there yet, or to
/// where a device is.
#[derive(Debug)]
#[must_use = "resolve it, to have the vCPU back"]
pub struct Abort<'v, V: ?Sized> {
    ready: Ready<'v, V>,
    exit: RawExit,
}

/// What came of an abort.
#[derive(Debug)]
#[must_use = "the vCPU is in it"]
pub enum Resolved<'v, V: ?Sized> {
    /// It was guest memory; the guest tries again.
    Again(Ready<'v, V>),
    /// It is no guest memory: a device must answer.
    Mmio(Mmio<'v, V>),
}

impl<'v, V: VcpuCalls + ?Sized> Abort<'v, V> {
    /// Guest-physical address.
    #[must_use]
    pub const fn addr(&self) -> GuestAddr {
        GuestAddr::new(self.exit.physical_address)
    }

    /// Whether memory that is there needs to be opened for writing: the guest writes, or was
    /// refused by a permission. Only permission to write is ever taken away, so a refusal is a
    /// write, also where the CPU updates page tables by itself and says nothing of writing.
    const fn is_write(&self) -> bool {
        const INSTRUCTION: u64 = 0x20;
        const DATA: u64 = 0x24;
        const WRITE: u64 = 1 << 6;
        const WALK: u64 = 1 << 7;
        const STATUS: u64 = 0x3c;
        const PERMISSION: u64 = 0x0c;
        let syndrome = self.exit.syndrome;
        let is_refused = syndrome & STATUS == PERMISSION;
        match syndrome >> 26 & 0x3f {
            DATA => syndrome & WRITE != 0 || is_refused,
            // A walk for an instruction that sets the access flag in a page table.
            INSTRUCTION => syndrome & WALK != 0 && is_refused,
            _ => false,
        }
    }

    /// Fills and opens guest memory, or says that a device is meant.
    ///
    /// # Errors
    /// As [`Stage2::fault`]; [`HvfError::Undecoded`] for an access to a device in a form that the
    /// CPU does not describe.
    pub fn resolve<C: VmCalls>(self, memory: &Stage2<'_, C>) -> Result<Resolved<'v, V>, HvfError> {
        if memory.fault(self.addr(), self.is_write())? {
            return Ok(Resolved::Again(self.ready));
        }
        self.into_mmio().map(Resolved::Mmio)
    }

    /// Takes it as an access to a device.
    ///
    /// # Errors
    /// [`HvfError::Undecoded`].
    pub fn into_mmio(self) -> Result<Mmio<'v, V>, HvfError> {
        const DESCRIBED: u64 = 1 << 24;
        let RawExit {
            syndrome,
            physical_address,
            ..
        } = self.exit;
        if syndrome >> 26 & 0x3f != 0x24 || syndrome & DESCRIBED == 0 {
            return Err(HvfError::Undecoded {
                addr: physical_address,
                syndrome,
            });
        }
        Ok(Mmio {
            ready: self.ready,
            syndrome,
            addr: physical_address,
        })
    }
}

/// An access to a device that the guest waits for.
///
/// It cannot be parked: its answer would be lost.
///
/// ```compile_fail
/// # use coldframe_hvf::{Mmio, Seat, VcpuCalls};
/// fn freeze<V: VcpuCalls>(seat: &Seat, access: Mmio<'_, V>) {
///     let _ = seat.park(access);
/// }
/// ```
#[derive(Debug)]
#[must_use = "answer it, to have the vCPU back"]
pub struct Mmio<'v, V: ?Sized> {
    ready: Ready<'v, V>,
    syndrome: u64,
    addr: u64,
}

impl<'v, V: VcpuCalls + ?Sized> Mmio<'v, V> {
    /// Guest-physical address.
    #[must_use]
    pub const fn addr(&self) -> GuestAddr {
        GuestAddr::new(self.addr)
    }

    /// How many bytes: 1, 2, 4 or 8.
    #[must_use]
    pub const fn bytes(&self) -> u32 {
        1 << (self.syndrome >> 22 & 3)
    }

    /// What the guest writes; `None` if it reads.
    ///
    /// # Errors
    /// [`HvfError::Call`].
    pub fn written(&self) -> Result<Option<u64>, HvfError> {
        if self.syndrome >> 6 & 1 == 0 {
            return Ok(None);
        }
        let value = self.ready.operand(self.register())?;
        Ok(Some(value & self.mask()))
    }

    /// Answers: `value` goes to the register of a read, and counts for nothing after a write; the
    /// program counter goes on.
    ///
    /// # Errors
    /// [`HvfError::Call`].
    pub fn answer(self, value: u64) -> Result<Ready<'v, V>, HvfError> {
        const WRITE: u64 = 1 << 6;
        const SIGNED: u64 = 1 << 21;
        const WIDE: u64 = 1 << 15;
        if self.syndrome & WRITE == 0 {
            let spare = 64 - self.bytes() * 8;
            let mut value = value & self.mask();
            if self.syndrome & SIGNED != 0 {
                value = ((value << spare).cast_signed() >> spare).cast_unsigned();
            }
            if self.syndrome & WIDE == 0 {
                value &= u64::from(u32::MAX);
            }
            self.ready.answer(self.register(), value)?;
        }
        self.ready.advance()
    }

    const fn register(&self) -> u8 {
        (self.syndrome >> 16 & 0x1f) as u8
    }

    const fn mask(&self) -> u64 {
        u64::MAX >> (64 - self.bytes() * 8)
    }
}

/// An access to a system register that the guest waits for.
#[derive(Debug)]
#[must_use = "answer it, to have the vCPU back"]
pub struct SystemAccess<'v, V: ?Sized> {
    ready: Ready<'v, V>,
    syndrome: u64,
}

impl<'v, V: VcpuCalls + ?Sized> SystemAccess<'v, V> {
    /// Which register. Source: Arm DDI 0487, ISS of a trapped MSR or MRS.
    #[must_use]
    pub fn register(&self) -> SysReg {
        let part = |shift: u64, mask: u64| (self.syndrome >> shift & mask) as u16;
        SysReg::new(
            part(20, 3),
            part(14, 7),
            part(10, 15),
            part(1, 15),
            part(17, 7),
        )
    }

    /// What the guest writes; `None` if it reads.
    ///
    /// # Errors
    /// [`HvfError::Call`].
    pub fn written(&self) -> Result<Option<u64>, HvfError> {
        if self.syndrome & 1 == 1 {
            return Ok(None);
        }
        self.ready.operand(self.operand()).map(Some)
    }

    /// Answers, as [`Mmio::answer`].
    ///
    /// # Errors
    /// [`HvfError::Call`].
    pub fn answer(self, value: u64) -> Result<Ready<'v, V>, HvfError> {
        if self.syndrome & 1 == 1 {
            self.ready.answer(self.operand(), value)?;
        }
        self.ready.advance()
    }

    const fn operand(&self) -> u8 {
        (self.syndrome >> 5 & 0x1f) as u8
    }
}
