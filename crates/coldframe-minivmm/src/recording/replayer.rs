//! Giving recorded inputs to a guest, and seeing that it asks for them as it did.
//!
//! Invariant: an input is given only to a guest whose count of exits is that of the entry.

use std::collections::VecDeque;
use std::fmt;

use coldframe_journal::kinds::{ClockRead, ConsoleInput, PortInput};
use coldframe_units::FileOffset;

use crate::error::MiniVmError;
use crate::recording::{GuestEnd, GuestMark};

/// What a replayed guest meets, or does as it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Console(ConsoleInput),
    Port(PortInput),
    Clock(ClockRead),
    Mark(GuestMark),
    End(GuestEnd),
}

impl Step {
    /// The guest's exits at this step.
    const fn progress(&self) -> u64 {
        match self {
            Self::Console(ConsoleInput { progress, .. })
            | Self::Port(PortInput { progress, .. })
            | Self::Clock(ClockRead { progress, .. })
            | Self::Mark(GuestMark { progress, .. })
            | Self::End(GuestEnd { progress, .. }) => *progress,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Console(input) => write!(f, "{} bytes for the console", input.bytes.len()),
            Self::Port(input) => {
                let (port, width, value) = (input.address, input.width, input.value);
                write!(f, "a read of {value:#x} in {width} bytes at port {port:#x}")
            }
            Self::Clock(read) => write!(f, "a read of the clock by vCPU {}", read.vcpu),
            Self::Mark(GuestMark {
                mark,
                console_bytes,
                ..
            }) => write!(f, "mark {mark} with {console_bytes} bytes printed"),
            Self::End(_) => f.write_str("its end"),
        }?;
        write!(f, " at exit {}", self.progress())
    }
}

/// The inputs of a recorded guest from a snapshot on.
#[derive(Clone, Debug)]
pub struct Replayer {
    steps: VecDeque<(FileOffset, Step)>,
}

impl Replayer {
    pub(super) fn new(steps: VecDeque<(FileOffset, Step)>) -> Self {
        Self { steps }
    }

    /// How many entries are left.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.steps.len() as u64
    }

    /// What was recorded of the guest's end, if that is among what is left.
    #[must_use]
    pub fn end(&self) -> Option<&GuestEnd> {
        match self.steps.back() {
            Some((_, Step::End(end))) => Some(end),
            _ => None,
        }
    }

    /// The bytes that arrived when the guest had made so many exits.
    pub(super) fn arrived(&mut self, progress: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some((_, Step::Console(input))) = self.steps.front()
            && input.progress == progress
        {
            bytes.extend_from_slice(&input.bytes);
            self.steps.pop_front();
        }
        bytes
    }

    /// The clock as it was read at this exit.
    pub(super) fn clock(&mut self, progress: u64, vcpu: u32) -> Result<u64, MiniVmError> {
        if let Some((_, Step::Clock(read))) = self.steps.front()
            && (read.progress, read.vcpu) == (progress, vcpu)
        {
            let nanoseconds = read.nanoseconds;
            self.steps.pop_front();
            return Ok(nanoseconds);
        }
        let (nanoseconds, clock) = (0, 0);
        Err(self.diverged(&Step::Clock(ClockRead {
            progress,
            nanoseconds,
            clock,
            vcpu,
        })))
    }

    /// The guest did this: it must have then.
    pub(super) fn expect(&mut self, found: Step) -> Result<(), MiniVmError> {
        if self.steps.front().is_some_and(|(_, step)| *step == found) {
            self.steps.pop_front();
            return Ok(());
        }
        Err(self.diverged(&found))
    }

    /// The guest ended: it must have then. What it came to is for the caller to compare.
    pub(super) fn ended(&mut self, progress: u64) -> Result<(), MiniVmError> {
        if self.end().is_some_and(|end| end.progress == progress) && self.steps.len() == 1 {
            self.steps.pop_front();
            return Ok(());
        }
        let none = String::new;
        Err(self.diverged(&Step::End(GuestEnd {
            progress,
            ram_blake3: none(),
            regs_blake3: none(),
            console_blake3: none(),
        })))
    }

    /// The exit was served: nothing that belongs to it may be left but the end, which comes by
    /// itself.
    pub(super) fn served(&self, progress: u64) -> Result<(), MiniVmError> {
        match self.steps.front() {
            Some((_, Step::End(end))) if end.progress >= progress => Ok(()),
            Some((offset, step)) if step.progress() <= progress => Err(MiniVmError::Diverged {
                offset: *offset,
                recorded: step.to_string(),
                found: format!("something else at exit {progress}"),
            }),
            _ => Ok(()),
        }
    }

    fn diverged(&self, found: &Step) -> MiniVmError {
        let (offset, recorded) = match self.steps.front() {
            Some((offset, step)) => (*offset, step.to_string()),
            None => (FileOffset::ZERO, "nothing more".to_owned()),
        };
        MiniVmError::Diverged {
            offset,
            recorded,
            found: found.to_string(),
        }
    }
}
