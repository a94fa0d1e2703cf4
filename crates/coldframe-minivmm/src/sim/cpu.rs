//! The register file of the simulated machine, and what a round of each workload does to it.
//!
//! Invariant: a round reads and writes nothing but RAM and these registers.

use std::collections::BTreeMap;

use coldframe_units::GuestAddr;
use vm_memory::{Bytes, GuestAddress};

use crate::config::Workload;
use crate::error::MiniVmError;
use crate::memory::Ram;
use crate::payload::WORKING_SET;

/// The hash's multiplier, as in `payload/common.S`.
const MULTIPLIER: u64 = 6_364_136_223_846_793_005;
/// Where devices' addresses begin, and how many there are: RAM goes on after them.
const HOLE: (u64, u64) = (3 << 30, 1 << 30);
/// Pages that `zeroing` writes at once.
const WINDOW_PAGES: u64 = 8;

/// Registers of one vCPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cpu {
    /// The running hash.
    pub(super) hash: u64,
    /// Rounds done.
    pub(super) round: u64,
    /// In place of floating point, vector, segment and control registers.
    other: [u64; 6],
}

impl Cpu {
    /// Before the first round.
    pub(super) const fn start(seed: u64, index: u64) -> Self {
        Self {
            hash: seed ^ index.wrapping_neg(),
            round: 0,
            other: [0; 6],
        }
    }

    /// Whether the clock was taken in this round, so that the rest of it can be done. A register
    /// of `input` says so, which uses no other.
    pub(super) const fn has_clock(&self) -> bool {
        self.other[0] != 0
    }

    /// As `payload/input.S` takes a byte, or the clock.
    pub(super) const fn take_input(&mut self, input: u32, is_clock: bool) {
        self.hash = (self.hash ^ input as u64).wrapping_mul(MULTIPLIER);
        self.other[0] = is_clock as u64;
    }

    /// All registers in their order.
    pub(super) fn words(&self) -> [u64; 8] {
        let [a, b, c, d, e, f] = self.other;
        [self.hash, self.round, a, b, c, d, e, f]
    }

    /// By number, little-endian.
    pub(super) fn to_state(self) -> BTreeMap<u64, Vec<u8>> {
        let words = self.words().map(|word| word.to_le_bytes().to_vec());
        (0..).zip(words).collect()
    }

    /// The reverse of [`Cpu::to_state`]; `None` if a register is missing, of another length, or
    /// unknown.
    pub(super) fn from_state(regs: &BTreeMap<u64, Vec<u8>>) -> Option<Self> {
        let mut words = [0; 8];
        for (id, word) in (0u64..).zip(&mut words) {
            *word = u64::from_le_bytes(regs.get(&id)?.as_slice().try_into().ok()?);
        }
        let [hash, round, other @ ..] = words;
        (regs.len() == words.len()).then_some(Self { hash, round, other })
    }

    /// As `.Lstep` of the payloads: picks the word at `addr` into the hash, and puts the hash
    /// there.
    fn step(&mut self, ram: &Ram, addr: u64) -> Result<(), MiniVmError> {
        let word = super::read(ram, addr)?;
        self.hash = (self.hash ^ word.rotate_left(21))
            .wrapping_mul(MULTIPLIER)
            .wrapping_add(self.round + 1);
        write(ram, addr, &self.hash.to_le_bytes())
    }

    /// As `.Lpick`: a word in one of `pages` pages from `base` on.
    fn pick(&self, base: u64, pages: u64) -> u64 {
        word_of(base, (self.hash >> 29) % pages, self.round)
    }

    /// `count` steps at words picked by the hash.
    fn touch(&mut self, ram: &Ram, base: u64, pages: u64, count: u64) -> Result<(), MiniVmError> {
        (0..count).try_for_each(|_| self.step(ram, self.pick(base, pages)))
    }

    /// Mixes the other registers and the hash.
    fn mix(&mut self) {
        for register in &mut self.other {
            self.hash = (self.hash ^ *register).wrapping_mul(MULTIPLIER);
            *register = self.hash.rotate_left(17);
        }
    }
}

/// The word that round `round` uses in page `page` from `base` on, past the devices' addresses.
fn word_of(base: u64, page: u64, round: u64) -> u64 {
    let addr = base + (page << 12);
    let addr = if addr < HOLE.0 { addr } else { addr + HOLE.1 };
    addr + ((round << 3) & 4088)
}

/// Writes `bytes` at `addr`.
fn write(ram: &Ram, addr: u64, bytes: &[u8]) -> Result<(), MiniVmError> {
    ram.write_slice(bytes, GuestAddress(addr))
        .map_err(|source| MiniVmError::AccessRam {
            addr: GuestAddr::new(addr),
            source,
        })
}

/// One round of `workload`; `words` is the parameter page.
pub(super) fn round(
    ram: &Ram,
    cpus: &mut [Cpu],
    workload: Workload,
    words: &[u64; 6],
) -> Result<(), MiniVmError> {
    let &[_, _, _, _, pages, stride] = words;
    let boot = &mut cpus[0];
    match workload {
        Workload::Hash => {
            boot.touch(ram, WORKING_SET, pages, 8)?;
            boot.mix();
        }
        Workload::Stride => {
            let first = boot.round % stride;
            for page in (first..pages).step_by(usize::try_from(stride).unwrap_or(usize::MAX)) {
                boot.step(ram, word_of(WORKING_SET, page, boot.round))?;
            }
        }
        Workload::Random => boot.touch(ram, WORKING_SET, pages, 32)?,
        Workload::Zeroing => zeroing(ram, boot, pages)?,
        Workload::Idle => boot.touch(ram, WORKING_SET, pages.min(4), 4)?,
        Workload::Input => {
            boot.touch(ram, WORKING_SET, pages, 8)?;
            boot.other[0] = 0;
        }
        Workload::Smp => return exchange(ram, cpus, pages),
    }
    boot.round += 1;
    Ok(())
}

/// Fills a window of pages, and zeroes the one filled four rounds ago, which a register names.
fn zeroing(ram: &Ram, cpu: &mut Cpu, pages: u64) -> Result<(), MiniVmError> {
    let window = (cpu.hash >> 29) % (pages / WINDOW_PAGES).max(1) * WINDOW_PAGES;
    let addr = WORKING_SET + (window << 12);
    cpu.step(ram, addr + 4088)?;
    let len = usize::try_from(WINDOW_PAGES.min(pages) << 12).unwrap_or_default();
    let fill: Vec<u8> = cpu
        .hash
        .to_le_bytes()
        .into_iter()
        .cycle()
        .take(len)
        .collect();
    write(ram, addr, &fill)?;
    let slot = &mut cpu.other[usize::try_from(cpu.round & 3).unwrap_or_default()];
    let old = std::mem::replace(slot, addr);
    if old != 0 {
        cpu.step(ram, old + 8)?;
        write(ram, old, &vec![0; len])?;
    }
    Ok(())
}

/// Each vCPU works on its own part; then each takes the next one's hash into its own.
fn exchange(ram: &Ram, cpus: &mut [Cpu], pages: u64) -> Result<(), MiniVmError> {
    let share = (pages / cpus.len() as u64).max(1);
    for (index, cpu) in (0u64..).zip(cpus.iter_mut()) {
        cpu.touch(ram, WORKING_SET + ((index * share) << 12), share, 8)?;
        cpu.mix();
    }
    let hashes: Vec<u64> = cpus.iter().map(|cpu| cpu.hash).collect();
    for (cpu, next) in cpus.iter_mut().zip(hashes.iter().cycle().skip(1)) {
        cpu.hash = (cpu.hash ^ next).wrapping_mul(MULTIPLIER) ^ cpu.other[0];
        cpu.round += 1;
    }
    Ok(())
}
