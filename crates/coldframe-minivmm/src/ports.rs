//! The guest's ports, and what the VMM remembers of them: the whole of its device state.
//!
//! Invariants: a port that is not named here reads all ones and ignores writes; the console keeps
//! at most [`CONSOLE_MAX`] bytes; a decoded state is one that was encoded; what a port gives
//! depends on nothing but this state and [`Inputs`]. Spec: `specs/minivmm.md`.

use std::collections::VecDeque;

use coldframe_units::SnapshotId;

use crate::digest::EndState;
use crate::error::MiniVmError;
use crate::event::EndReason;
use crate::recording::{GuestMark, Inputs, RecordingId};

mod state;

pub use state::DeviceStateError;

/// The console: a byte written is printed, a byte read is one that was typed.
pub(crate) const CONSOLE: u16 = 0x3f8;
/// The console's line status: always ready to print, bit 0 when there is a byte to read.
pub(crate) const CONSOLE_STATUS: u16 = 0x3fd;
/// A 32-bit write is a progress mark.
pub(crate) const MARK: u16 = 0xf0;
/// A byte written ends the guest with that code.
pub(crate) const EXIT: u16 = 0xf4;
/// A 32-bit read is the host's clock.
pub(crate) const CLOCK: u16 = 0xf8;
/// The keyboard controller: 0xfe resets, which ends the guest.
const KEYBOARD: u16 = 0x64;

/// The most bytes the guest may print.
pub(crate) const CONSOLE_MAX: usize = 64 << 20;
/// The most bytes that wait for the guest to read them.
const TYPED_MAX: usize = 1 << 20;

/// What an access to a port asks of the VMM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing.
    None,
    /// A progress mark.
    Mark(u32),
    /// The guest's end.
    End(EndReason),
    /// A stop: the journal's last entry was replayed.
    Replayed,
}

/// The guest's ports: console, marks, exits and inputs so far.
#[derive(Debug, Default)]
pub struct Ports {
    /// All that was printed.
    pub(crate) console: Vec<u8>,
    /// What was typed and not yet read.
    typed: VecDeque<u8>,
    /// The last mark.
    last_mark: u32,
    /// How many marks there were.
    pub(crate) marks: u64,
    /// Port and MMIO exits so far.
    pub(crate) exits: u64,
    /// Which recording this guest is, or was, part of.
    recording: Option<RecordingId>,
    inputs: Inputs,
}

impl Ports {
    /// From here on the guest's inputs come from `inputs`.
    pub fn attach(&mut self, inputs: Inputs) {
        self.inputs = inputs;
        self.recording = self.inputs.recording().or(self.recording);
        let typed = self.inputs.arrived(self.exits);
        self.typed.extend(typed);
    }

    /// Types `bytes` on the console; says how many of them it took (it keeps 1 MiB unread).
    ///
    /// # Errors
    /// [`MiniVmError::FeedReplayed`], [`MiniVmError::Record`].
    pub fn feed(&mut self, bytes: &[u8]) -> Result<usize, MiniVmError> {
        let taken = bytes.len().min(TYPED_MAX - self.typed.len());
        if taken > 0 {
            self.inputs.feed(self.exits, &bytes[..taken])?;
            self.typed.extend(&bytes[..taken]);
        }
        Ok(taken)
    }

    /// Notes in the recording, if there is one, that a snapshot was taken here.
    ///
    /// # Errors
    /// [`MiniVmError::Record`].
    pub fn mark_snapshot(&mut self, id: SnapshotId) -> Result<(), MiniVmError> {
        self.inputs.snapshot(self.exits, id)
    }

    /// Returns once all that was recorded is durable; the guest waits at its next exit meanwhile.
    ///
    /// # Errors
    /// [`MiniVmError::Record`].
    pub fn flush_recording(&mut self) -> Result<(), MiniVmError> {
        self.inputs.flush()
    }

    /// Ends the recording, if there is one, with what the guest came to.
    ///
    /// # Errors
    /// [`MiniVmError::Record`].
    pub fn finish_recording(&mut self, end: &EndState) -> Result<(), MiniVmError> {
        self.inputs.finish(self.exits, end)
    }

    /// Which recording this guest is, or was, part of.
    #[must_use]
    pub const fn recording(&self) -> Option<RecordingId> {
        self.recording
    }

    /// Whether all of a journal was replayed.
    #[must_use]
    pub fn is_replayed(&self) -> bool {
        self.inputs.is_replayed()
    }

    /// The guest wrote `data` to `port`, in one instruction.
    pub(crate) fn write(&mut self, port: u16, data: &[u8]) -> Result<Effect, MiniVmError> {
        self.exits += 1;
        let effect = match (port, data) {
            (CONSOLE, _) if data.len() > CONSOLE_MAX - self.console.len() => {
                return Err(MiniVmError::ConsoleFull { limit: CONSOLE_MAX });
            }
            (CONSOLE, _) => {
                self.console.extend_from_slice(data);
                Effect::None
            }
            (MARK, &[a, b, c, d]) => self.mark(u32::from_le_bytes([a, b, c, d]))?,
            (EXIT, &[code, ..]) => self.end(EndReason::Code(code))?,
            (KEYBOARD, data) if data.contains(&0xfe) => self.end(EndReason::Reset)?,
            _ => Effect::None,
        };
        self.served(effect)
    }

    /// vCPU `vcpu` reads `data` from `port`, in units of any size.
    pub(crate) fn read(
        &mut self,
        vcpu: u8,
        port: u16,
        data: &mut [u8],
    ) -> Result<Effect, MiniVmError> {
        self.exits += 1;
        data.fill(0xff);
        match (port, data.len()) {
            (CONSOLE_STATUS, _) => data.fill(0x60 | u8::from(!self.typed.is_empty())),
            (CONSOLE, _) => {
                for byte in &mut *data {
                    *byte = self.typed.pop_front().unwrap_or(0xff);
                }
                self.inputs.port(self.exits, vcpu, port, data)?;
            }
            (CLOCK, 4) => {
                if let Some(clock) = self.inputs.clock(self.exits, vcpu)? {
                    data.copy_from_slice(&clock.to_le_bytes());
                }
            }
            _ => {}
        }
        self.served(Effect::None)
    }

    /// The guest accessed an address that is neither a port nor RAM.
    pub(crate) fn pass(&mut self) -> Result<Effect, MiniVmError> {
        self.exits += 1;
        self.served(Effect::None)
    }

    /// The guest has ended.
    pub(crate) fn end(&mut self, reason: EndReason) -> Result<Effect, MiniVmError> {
        self.inputs.ended(self.exits)?;
        Ok(Effect::End(reason))
    }

    fn mark(&mut self, mark: u32) -> Result<Effect, MiniVmError> {
        self.last_mark = mark;
        self.marks += 1;
        self.inputs.mark(GuestMark {
            progress: self.exits,
            console_bytes: self.console.len() as u64,
            mark,
        })?;
        Ok(Effect::Mark(mark))
    }

    /// An exit was served: what arrived meanwhile is there at the next one.
    fn served(&mut self, effect: Effect) -> Result<Effect, MiniVmError> {
        if matches!(effect, Effect::End(_)) {
            return Ok(effect);
        }
        let typed = self.inputs.arrived(self.exits);
        self.typed.extend(typed);
        self.inputs.served(self.exits)?;
        Ok(if self.inputs.is_replayed() {
            Effect::Replayed
        } else {
            effect
        })
    }
}
