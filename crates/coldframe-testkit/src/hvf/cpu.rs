//! A vCPU and its guest: a loop of [`GUEST_LOOP`] steps, four bytes of program counter each.
//!
//! The guest's registers: x0 steps done, x1 a running hash of all it saw, x2 interrupts taken, x4
//! loops done, x5 what a device answered, x20 whether it uses the clock, x21 and x22 address and
//! length of its memory. Each step either happens whole or leaves the guest as it was.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::ThreadId;

use super::memory::Refusal;
use super::{Answer, Framework, HV_BAD_ARGUMENT, gic, lock};

/// Steps of the guest's loop.
pub const GUEST_LOOP: u64 = 64;

/// Where the guest's device is; never mapped.
pub const DEVICE: u64 = 0x0900_0000;

pub(super) const X_COUNT: usize = 31;
const PC: usize = 31;
const FPSR: usize = 33;
const CORE_COUNT: usize = 35;
pub(super) const MIDR: u16 = 0xc000;
pub(super) const MPIDR: u16 = 0xc005;
const TPIDR_EL0: u16 = 0xde82;
const CNTV_CTL: u16 = 0xdf19;
const CNTV_CVAL: u16 = 0xdf1a;
pub(super) const CNTP: std::ops::RangeInclusive<u16> = 0xdf11..=0xdf12;
pub(super) const CNTP_TVAL: u16 = 0xdf10;
pub(super) const ICC_RPR: u16 = 0xc65b;
const ICC_PMR: u16 = 0xc230;
const ICC_IGRPEN1: u16 = 0xc667;
/// ICC_*_EL1 that the framework has, but ICC_RPR_EL1.
const INTERFACE: [u16; 9] = [
    ICC_PMR,
    0xc643,
    0xc644,
    0xc648,
    0xc663,
    0xc664,
    0xc665,
    0xc666,
    ICC_IGRPEN1,
];

/// Why a vCPU left the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// `HV_EXIT_REASON_CANCELED`.
    Canceled,
    /// `HV_EXIT_REASON_EXCEPTION`.
    Exception,
}

/// `hv_vcpu_exit_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Why.
    pub reason: Reason,
    /// ESR_EL2.
    pub syndrome: u64,
    /// Guest-physical address.
    pub physical_address: u64,
}

#[derive(Debug)]
pub(super) struct Vcpu {
    pub(super) id: u64,
    thread: ThreadId,
    canceled: AtomicBool,
    /// What others may know of it: they must not wait for `state`.
    pub(super) known_affinity: Mutex<Option<u64>>,
    state: Mutex<Cpu>,
}

#[derive(Debug)]
pub(super) struct Cpu {
    pub(super) core: [u64; CORE_COUNT],
    pub(super) simd: [[u8; 16]; 32],
    pub(super) system: BTreeMap<u16, u64>,
    pub(super) interface: BTreeMap<u16, u64>,
    pub(super) affinity: Option<u64>,
    pub(super) offset: u64,
    pub(super) is_masked: bool,
    pub(super) lines: [bool; 2],
    pub(super) running_priority: u64,
    pub(super) has_run: bool,
}

fn reset_interface() -> BTreeMap<u16, u64> {
    INTERFACE
        .into_iter()
        .map(|register| (register, 0))
        .collect()
}

/// Registers of `hv_sys_reg_t` up to macOS 15.0 but MPIDR and the physical timer.
pub(super) fn is_system(register: u16) -> bool {
    let is_debug = (0x8004..0x8080).contains(&register) && register & 4 != 0;
    let others = [
        0x8010, 0x8012, MIDR, 0xc020, 0xc021, 0xc028, 0xc029, 0xc030, 0xc031, 0xc038, 0xc039,
        0xc03a, 0xc080, 0xc081, 0xc082, 0xc100, 0xc101, 0xc102, 0xc108, 0xc109, 0xc10a, 0xc10b,
        0xc110, 0xc111, 0xc112, 0xc113, 0xc118, 0xc119, 0xc200, 0xc201, 0xc208, 0xc288, 0xc289,
        0xc290, 0xc300, 0xc3a0, 0xc510, 0xc518, 0xc600, 0xc681, 0xc684, 0xc708, 0xd000, TPIDR_EL0,
        0xde83, CNTV_CTL, CNTV_CVAL, 0xe208,
    ];
    is_debug || others.contains(&register)
}

impl Vcpu {
    pub(super) fn new(id: u64) -> Self {
        Self {
            id,
            thread: std::thread::current().id(),
            canceled: AtomicBool::new(false),
            known_affinity: Mutex::new(None),
            state: Mutex::new(Cpu {
                core: [0; CORE_COUNT],
                simd: [[0; 16]; 32],
                system: BTreeMap::new(),
                interface: reset_interface(),
                affinity: None,
                offset: 0,
                is_masked: false,
                lines: [false; 2],
                running_priority: 0xff,
                has_run: false,
            }),
        }
    }

    pub(super) fn cancel(&self) {
        self.canceled.store(true, Ordering::SeqCst);
    }

    pub(super) fn affinity(&self) -> Option<u64> {
        *lock(&self.known_affinity)
    }

    pub(super) fn reset_interface(&self) {
        lock(&self.state).interface = reset_interface();
    }
}

fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

const fn exception(class: u64, syndrome: u64, physical_address: u64) -> Exit {
    Exit {
        reason: Reason::Exception,
        syndrome: class << 26 | 1 << 25 | syndrome,
        physical_address,
    }
}

fn abort(ipa: u64, is_write: bool, refusal: Refusal) -> Exit {
    let status = match refusal {
        Refusal::Translation => 0x07,
        Refusal::Permission => 0x0f,
    };
    // Described: eight bytes, register x5.
    let described = 1 << 24 | 3 << 22 | 5 << 16 | 1 << 15;
    exception(0x24, described | u64::from(is_write) << 6 | status, ipa)
}

impl Framework {
    /// The state of a vCPU, for the thread that made it. That another thread gets
    /// `HV_BAD_ARGUMENT` is the model's choice.
    pub(super) fn on<R>(&self, id: u64, then: impl FnOnce(&mut Cpu) -> Answer<R>) -> Answer<R> {
        let vcpu = self.find(id)?;
        if vcpu.thread != std::thread::current().id() {
            return Err(HV_BAD_ARGUMENT);
        }
        then(&mut lock(&vcpu.state))
    }

    /// `hv_vcpu_run`.
    ///
    /// # Errors
    /// `HV_BAD_ARGUMENT` from a thread that did not make it.
    pub fn vcpu_run(&self, id: u64) -> Answer<Exit> {
        let vcpu = self.find(id)?;
        self.on(id, |cpu| {
            cpu.has_run = true;
            Ok(())
        })?;
        lock(&self.inner.machine).has_run = true;
        loop {
            if vcpu.canceled.swap(false, Ordering::SeqCst) {
                return Ok(Exit {
                    reason: Reason::Canceled,
                    syndrome: 0,
                    physical_address: 0,
                });
            }
            let left = self.on(id, |cpu| {
                self.deliver(cpu);
                Ok(self.step(cpu))
            })?;
            if let Some(exit) = left {
                // Apple, hv_vcpu_set_pending_interrupt: lines are cleared when a run returns.
                self.on(id, |cpu| {
                    cpu.lines = [false; 2];
                    Ok(())
                })?;
                return Ok(exit);
            }
        }
    }

    /// One step; what it left the guest for.
    fn step(&self, cpu: &mut Cpu) -> Option<Exit> {
        let place = cpu.core[PC] / 4 % GUEST_LOOP;
        let x1 = cpu.core[1];
        match place {
            8 => {
                let register = (x1 % 32) as usize;
                let old = u128::from_le_bytes(cpu.simd[register]);
                let new = old.wrapping_mul(3) ^ u128::from(x1) << 17;
                cpu.simd[register] = new.to_le_bytes();
                cpu.core[FPSR] = x1 & 0x9f;
                cpu.core[1] = mix(x1 ^ (old >> 64) as u64);
            }
            16 => {
                let thread = cpu.system.entry(TPIDR_EL0).or_default();
                cpu.core[1] = mix(x1 ^ *thread);
                *thread = x1;
            }
            // Answered by a device, at the program counter after this one.
            24 => return Some(abort(DEVICE, false, Refusal::Translation)),
            25 => cpu.core[1] = mix(x1 ^ cpu.core[5]),
            32 if cpu.core[20] != 0 => {
                let now = self.absolute_time().wrapping_sub(cpu.offset);
                cpu.core[1] = mix(x1 ^ now);
            }
            40 if cpu.core[20] != 0 => {
                let now = self.absolute_time().wrapping_sub(cpu.offset);
                cpu.system.insert(CNTV_CVAL, now + 37);
                cpu.system.insert(CNTV_CTL, 1);
            }
            48 => return Some(exception(0x01, 0, 0)),
            // MRS x5, OSLSR_EL1, which the VMM stands in for.
            56 => {
                return Some(exception(
                    0x18,
                    2 << 20 | 4 << 17 | 1 << 10 | 5 << 5 | 1 << 1 | 1,
                    0,
                ));
            }
            63 => {
                cpu.core[4] += 1;
                self.done(cpu);
                return Some(exception(0x16, 0, 0));
            }
            _ => {
                if let Err(exit) = self.touch(cpu) {
                    return Some(exit);
                }
            }
        }
        self.done(cpu);
        None
    }

    fn done(&self, cpu: &mut Cpu) {
        cpu.core[0] += 1;
        cpu.core[PC] += 4;
        self.pass(1);
    }

    /// Reads a word of the guest's memory and writes another.
    fn touch(&self, cpu: &mut Cpu) -> Result<(), Exit> {
        // A guest that lost its registers touches the word at 0.
        let (base, words) = (cpu.core[21], (cpu.core[22] / 8).max(1));
        let seed = mix(cpu.core[1] ^ cpu.core[2]);
        let from = base + seed % words * 8;
        let to = base + mix(seed) % words * 8;
        let value = self
            .guest_load(from)
            .map_err(|refusal| abort(from, false, refusal))?;
        self.may_store(to)
            .map_err(|refusal| abort(to, true, refusal))?;
        let new = mix(seed ^ value);
        self.guest_store(to, new)
            .map_err(|refusal| abort(to, true, refusal))?;
        cpu.core[1] = new;
        Ok(())
    }

    /// Raises the timer's interrupt if it is due, and takes it if the controller lets it through.
    fn deliver(&self, cpu: &mut Cpu) {
        self.check_timer(cpu);
        let Some(affinity) = cpu.affinity else { return };
        let lets_through = cpu.interface[&ICC_IGRPEN1] & 1 == 1 && cpu.interface[&ICC_PMR] > 0x80;
        if !lets_through || cpu.is_masked {
            return;
        }
        let mut machine = lock(&self.inner.machine);
        let Some(gic) = machine.gic.as_mut() else {
            return;
        };
        let row = gic.redistributor(affinity);
        if row.enabled & row.pending & gic::TIMER == 0 {
            return;
        }
        row.pending &= !gic::TIMER;
        cpu.core[2] += 1;
        cpu.core[1] = mix(cpu.core[1] ^ 27);
        cpu.system.insert(CNTV_CTL, 0);
    }

    /// A timer that is on and due makes its interrupt pending, guest or host having set it.
    pub(super) fn check_timer(&self, cpu: &Cpu) {
        let register = |name| cpu.system.get(&name).copied().unwrap_or(0);
        let now = self.absolute_time().wrapping_sub(cpu.offset);
        let is_due = register(CNTV_CTL) & 1 == 1 && now >= register(CNTV_CVAL);
        let mut machine = lock(&self.inner.machine);
        if let (true, Some(affinity), Some(gic)) = (is_due, cpu.affinity, machine.gic.as_mut()) {
            gic.redistributor(affinity).pending |= gic::TIMER;
        }
    }
}
