//! The simulated machine: the same controls and the same habits, for hosts without KVM.
//!
//! It runs no instruction of the guest. Invariants: all that a round depends on is in RAM and in
//! the registers of [`Cpu`], so that a machine restored from them goes on as the saved one; all
//! writes go through vm-memory, so the dirty bitmap is exact; it runs only inside `wait`.

use std::ops::DerefMut;
use std::time::{Duration, Instant};

use coldframe_dirty::DirtyBitmap;
use coldframe_hv::{
    Accepted, Comparison, DirtySource, HostIdentity, Hypervisor, Machine, MachineState, Thawed,
    VcpuState, VmState,
};
use coldframe_units::{Arch, GenerationId, GuestAddr};
use vm_memory::{Bytes, GuestAddress};

use crate::boot;
use crate::config::{Config, Program, Shape, Workload};
use crate::digest::EndState;
use crate::error::MiniVmError;
use crate::event::{EndReason, Event, Stops};
use crate::guest::Guest;
use crate::memory::{Ram, allocate_ram, ram_layout};
use crate::payload::{IMAGE, PARAMETERS};
use crate::ports::{CLOCK, CONSOLE, CONSOLE_STATUS, EXIT, Effect, MARK, Ports};

mod cpu;

use cpu::{Cpu, round};

/// A simulated machine with one of our workloads.
pub struct SimVm {
    ram: Ram,
    cpus: Vec<Cpu>,
    ports: Ports,
    shape: Shape,
    /// On what it stops, and at how many exits; `None` while it is paused.
    running: Option<(bool, u64)>,
    ended: Option<EndReason>,
    /// RAM was allocated here, empty.
    fresh: bool,
}

impl SimVm {
    /// Allocates RAM and places the workload. The machine stands before its first round.
    ///
    /// # Errors
    /// [`MiniVmError::NotSimulated`] for any program but a workload; those of RAM.
    pub fn boot(config: &Config) -> Result<Self, MiniVmError> {
        let Program::Workload(workload, parameters) = &config.program else {
            return Err(MiniVmError::NotSimulated);
        };
        let ram = allocate_ram(&ram_layout(config.ram)?, config.backing)?;
        boot::write_words(&ram, PARAMETERS, &parameters.words())?;
        // Where the payload's code would be: the workload's number.
        boot::write_words(&ram, IMAGE, &[*workload as u64])?;
        let mut vm = Self::with_memory(config.shape, ram)?;
        vm.fresh = true;
        for (index, cpu) in (0u64..).zip(&mut vm.cpus) {
            *cpu = Cpu::start(parameters.seed, index);
        }
        Ok(vm)
    }

    /// Builds a machine on RAM that is there already, for a restore.
    ///
    /// # Errors
    /// [`MiniVmError::Shape`].
    pub fn with_memory(shape: Shape, ram: Ram) -> Result<Self, MiniVmError> {
        if shape.vcpus == 0 || shape.vcpus > 32 || (shape.vcpus > 1 && !shape.irqchip) {
            return Err(MiniVmError::Shape { vcpus: shape.vcpus });
        }
        Ok(Self {
            ram,
            cpus: vec![Cpu::default(); usize::from(shape.vcpus)],
            ports: Ports::default(),
            shape,
            running: None,
            ended: None,
            fresh: false,
        })
    }

    /// The host as a simulated machine sees it: the same everywhere.
    #[must_use]
    pub fn host() -> HostIdentity {
        HostIdentity::bare(Arch::X86_64, Hypervisor::SIMULATED)
    }

    /// The workload's number and parameters, from RAM.
    fn program(&self) -> Result<(Workload, [u64; 6]), MiniVmError> {
        let mut words = [0; 6];
        for (at, word) in (0u64..).zip(&mut words) {
            *word = read(&self.ram, PARAMETERS + at * 8)?;
        }
        let number = usize::try_from(read(&self.ram, IMAGE)?).unwrap_or(usize::MAX);
        let workload = Workload::ALL.get(number).copied();
        let [_, _, rounds, mark_every, pages, stride] = words;
        match workload {
            Some(workload) if rounds > 0 && mark_every > 0 && pages > 0 && stride > 0 => {
                Ok((workload, words))
            }
            _ => Err(MiniVmError::NotSimulated),
        }
    }

    /// One round, or one part of it where it has some, and what it asks for. An input, a mark or
    /// the end comes last in a part, so that a guest stopped at one is between two of them.
    fn step(&mut self, workload: Workload, words: &[u64; 6]) -> Result<Effect, MiniVmError> {
        let &[_, _, rounds, mark_every, ..] = words;
        let at = self.cpus[0].round;
        if at == rounds {
            self.print(b"END\n")?;
            return self.ports.write(EXIT, &[0]);
        }
        if workload == Workload::Input && !self.cpus[0].has_clock() {
            return self.take_input();
        }
        round(&self.ram, &mut self.cpus, workload, words)?;
        if !at.is_multiple_of(mark_every) {
            return Ok(Effect::None);
        }
        let line = format!("{at:06x} {:016x}\n", self.cpus[0].hash);
        self.print(line.as_bytes())?;
        self.ports.write(MARK, &at.to_le_bytes()[..4])
    }

    /// Takes a byte that was typed, or if there is none, the clock.
    fn take_input(&mut self) -> Result<Effect, MiniVmError> {
        let mut status = [0];
        let polled = self.ports.read(0, CONSOLE_STATUS, &mut status)?;
        if polled != Effect::None {
            return Ok(polled);
        }
        let mut input = [0; 4];
        let is_typed = status[0] & 1 != 0;
        let (port, width) = if is_typed { (CONSOLE, 1) } else { (CLOCK, 4) };
        let effect = self.ports.read(0, port, &mut input[..width])?;
        self.cpus[0].take_input(u32::from_le_bytes(input), !is_typed);
        Ok(effect)
    }

    /// Prints, a byte an exit.
    fn print(&mut self, text: &[u8]) -> Result<(), MiniVmError> {
        text.iter()
            .try_for_each(|byte| self.ports.write(CONSOLE, &[*byte]).map(|_| ()))
    }
}

/// A simulated guest writes no page but through vm-memory, which has marked it already.
#[derive(Clone, Copy, Debug)]
pub struct SimWritten;

impl DirtySource for SimWritten {
    type Error = MiniVmError;

    fn harvest(&mut self, _into: &DirtyBitmap) -> Result<(), MiniVmError> {
        Ok(())
    }
}

impl Machine for SimVm {
    type Error = MiniVmError;

    /// Each vCPU's registers, by their place in the register file.
    fn save(&self) -> Result<MachineState, MiniVmError> {
        if self.running.is_some() {
            return Err(MiniVmError::NotPaused);
        }
        let vcpus = (0u32..).zip(&self.cpus).map(|(index, cpu)| VcpuState {
            index,
            regs: cpu.to_state(),
            ..VcpuState::default()
        });
        Ok(MachineState {
            arch: Arch::X86_64,
            hypervisor: Hypervisor::SIMULATED,
            host: Self::host(),
            vm: VmState::default(),
            vcpus: vcpus.collect(),
        })
    }

    /// # Errors
    /// [`MiniVmError::OtherHost`]; [`MiniVmError::RestoreSimulated`] if it is no state of such a
    /// machine; nothing is changed.
    fn restore(&mut self, accepted: &Accepted) -> Result<Thawed, MiniVmError> {
        let state = accepted.state();
        accepted
            .check(&Self::host())
            .map_err(MiniVmError::OtherHost)?;
        let mine = state.hypervisor == Hypervisor::SIMULATED;
        let cpus: Option<Vec<Cpu>> = state
            .vcpus
            .iter()
            .map(|v| Cpu::from_state(&v.regs))
            .collect();
        match cpus {
            Some(cpus) if mine && cpus.len() == self.cpus.len() => self.cpus = cpus,
            _ => return Err(MiniVmError::RestoreSimulated),
        }
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|error| MiniVmError::NewGeneration {
            source: error.into(),
        })?;
        Ok(Thawed::new(GenerationId::from_bytes(id)))
    }
}

/// The word at `addr`.
fn read(ram: &Ram, addr: u64) -> Result<u64, MiniVmError> {
    let mut word = [0; 8];
    ram.read_slice(&mut word, GuestAddress(addr))
        .map_err(|source| MiniVmError::AccessRam {
            addr: GuestAddr::new(addr),
            source,
        })?;
    Ok(u64::from_le_bytes(word))
}

impl Guest for SimVm {
    type Written = SimWritten;

    fn resume(&mut self, stops: Stops) -> Result<(), MiniVmError> {
        if self.ended.is_some() {
            return Err(MiniVmError::AlreadyEnded);
        }
        let more = stops.exits.unwrap_or(u64::MAX);
        self.running = Some((stops.marks, self.ports.exits.saturating_add(more)));
        Ok(())
    }

    fn wait(&mut self, time: Duration) -> Result<Event, MiniVmError> {
        let Some((at_marks, at_exits)) = self.running.take() else {
            return Ok(Event::TimedOut);
        };
        let deadline = Instant::now().checked_add(time);
        let (workload, words) = self.program()?;
        loop {
            match self.step(workload, &words)? {
                Effect::End(reason) => {
                    self.ended = Some(reason);
                    return Ok(Event::Ended(reason));
                }
                Effect::Replayed => return Ok(Event::Replayed),
                Effect::Mark(mark) if at_marks => return Ok(Event::Mark(mark)),
                _ if self.ports.exits >= at_exits => return Ok(Event::Exits(self.ports.exits)),
                _ if deadline.is_some_and(|d| Instant::now() >= d) => return Ok(Event::TimedOut),
                _ => {}
            }
        }
    }

    fn pause(&mut self) -> Result<(), MiniVmError> {
        self.running = None;
        Ok(())
    }

    fn memory(&self) -> &Ram {
        &self.ram
    }

    fn written(&self) -> SimWritten {
        SimWritten
    }

    fn compare(&self, state: &MachineState) -> Comparison {
        Comparison::of(state, (&Self::host()).into())
    }

    fn shape(&self) -> Shape {
        self.shape
    }

    fn console(&self) -> Vec<u8> {
        self.ports.console.clone()
    }

    fn marks(&self) -> u64 {
        self.ports.marks
    }

    fn exits(&self) -> u64 {
        self.ports.exits
    }

    fn ports(&mut self) -> impl DerefMut<Target = Ports> {
        &mut self.ports
    }

    fn device_state(&self) -> Vec<u8> {
        self.ports.encode()
    }

    fn restore_device(&mut self, bytes: &[u8]) -> Result<(), MiniVmError> {
        let ports = &mut self.ports;
        ports.restore(bytes).map_err(MiniVmError::DeviceState)
    }

    fn end_state(&self) -> Result<EndState, MiniVmError> {
        if self.running.is_some() {
            return Err(MiniVmError::NotPaused);
        }
        let words = self.cpus.iter().flat_map(Cpu::words);
        let registers: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
        EndState::of(&self.ram, self.fresh, &registers, &self.ports.console)
    }
}
