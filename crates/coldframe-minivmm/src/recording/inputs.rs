//! Where the guest's inputs come from.
//!
//! Invariant: whatever is given to a recorded guest is in the journal first.

use std::time::Instant;

use coldframe_journal::kinds::{ClockRead, ConsoleInput, PortInput};
use coldframe_units::SnapshotId;

use super::replayer::Step;
use crate::digest::EndState;
use crate::error::MiniVmError;
use crate::recording::{GuestMark, Recorder, RecordingError, RecordingId, Replayer};

/// The host's monotonic clock, since it was given to the guest.
const MONOTONIC: u32 = 0;

/// Where the guest's inputs come from.
#[derive(Debug)]
pub struct Inputs(Source);

#[derive(Debug)]
enum Source {
    None,
    Live {
        since: Instant,
        recorder: Option<Box<Recorder>>,
    },
    Replayed(Replayer),
}

impl Inputs {
    /// No clock: its port reads all ones.
    pub const NONE: Self = Self(Source::None);

    /// The host's clock, which begins now.
    #[must_use]
    pub fn live() -> Self {
        Self(Source::Live {
            since: Instant::now(),
            recorder: None,
        })
    }

    /// The host's clock, and all inputs go to a journal.
    #[must_use]
    pub fn recorded(recorder: Recorder) -> Self {
        Self(Source::Live {
            since: Instant::now(),
            recorder: Some(Box::new(recorder)),
        })
    }

    /// From a journal.
    #[must_use]
    pub const fn replayed(replayer: Replayer) -> Self {
        Self(Source::Replayed(replayer))
    }

    /// Which recording is being made.
    pub(crate) fn recording(&self) -> Option<RecordingId> {
        self.recorder_ref().map(Recorder::id)
    }

    /// Whether all of a journal was replayed.
    pub(crate) fn is_replayed(&self) -> bool {
        matches!(&self.0, Source::Replayed(replayer) if replayer.left() == 0)
    }

    /// The host has `bytes` for the console, which takes them.
    pub(crate) fn feed(&mut self, progress: u64, bytes: &[u8]) -> Result<(), MiniVmError> {
        if matches!(self.0, Source::Replayed(_)) {
            return Err(MiniVmError::FeedReplayed);
        }
        self.record(|recorder| {
            recorder.append(&ConsoleInput {
                progress,
                console: 0,
                bytes: bytes.to_vec(),
            })
        })
    }

    /// The bytes that a journal has for the console at this point.
    pub(crate) fn arrived(&mut self, progress: u64) -> Vec<u8> {
        match &mut self.0 {
            Source::Replayed(replayer) => replayer.arrived(progress),
            _ => Vec::new(),
        }
    }

    /// The guest reads the clock: nanoseconds, the low 32 bits; `None` where there is no clock.
    pub(crate) fn clock(&mut self, progress: u64, vcpu: u8) -> Result<Option<u32>, MiniVmError> {
        let vcpu = u32::from(vcpu);
        let nanoseconds = match &mut self.0 {
            Source::None => return Ok(None),
            Source::Live { since, .. } => {
                u64::try_from(since.elapsed().as_nanos() & 0xffff_ffff).expect("32 bits fit in 64")
            }
            Source::Replayed(replayer) => replayer.clock(progress, vcpu)?,
        };
        self.record(|recorder| {
            recorder.append(&ClockRead {
                progress,
                nanoseconds,
                clock: MONOTONIC,
                vcpu,
            })
        })?;
        // What was recorded is 32 bits wide.
        Ok(Some(u32::try_from(nanoseconds).unwrap_or(u32::MAX)))
    }

    /// The guest has read `data` from a port.
    pub(crate) fn port(
        &mut self,
        progress: u64,
        vcpu: u8,
        port: u16,
        data: &[u8],
    ) -> Result<(), MiniVmError> {
        let low = data.iter().take(8).rev();
        let input = PortInput {
            progress,
            address: u64::from(port),
            value: low.fold(0, |value, byte| value << 8 | u64::from(*byte)),
            vcpu: u32::from(vcpu),
            width: u8::try_from(data.len()).unwrap_or(u8::MAX),
        };
        match &mut self.0 {
            Source::Replayed(replayer) => replayer.expect(Step::Port(input)),
            _ => self.record(|recorder| recorder.append(&input)),
        }
    }

    /// The guest made a mark.
    pub(crate) fn mark(&mut self, mark: GuestMark) -> Result<(), MiniVmError> {
        match &mut self.0 {
            Source::Replayed(replayer) => replayer.expect(Step::Mark(mark)),
            _ => self.record(|recorder| recorder.mark(&mark)),
        }
    }

    /// An exit was served.
    pub(crate) fn served(&self, progress: u64) -> Result<(), MiniVmError> {
        match &self.0 {
            Source::Replayed(replayer) => replayer.served(progress),
            _ => Ok(()),
        }
    }

    /// The guest ended.
    pub(crate) fn ended(&mut self, progress: u64) -> Result<(), MiniVmError> {
        match &mut self.0 {
            Source::Replayed(replayer) => replayer.ended(progress),
            _ => Ok(()),
        }
    }

    /// A snapshot was taken.
    pub(crate) fn snapshot(&mut self, progress: u64, id: SnapshotId) -> Result<(), MiniVmError> {
        self.record(|recorder| recorder.snapshot(progress, id))
    }

    /// Makes all that was recorded durable.
    pub(crate) fn flush(&mut self) -> Result<(), MiniVmError> {
        self.record(Recorder::flush)
    }

    /// Ends the recording.
    pub(crate) fn finish(&mut self, progress: u64, end: &EndState) -> Result<(), MiniVmError> {
        let Source::Live { recorder, .. } = &mut self.0 else {
            return Ok(());
        };
        match recorder.take() {
            Some(recorder) => recorder.finish(progress, end).map_err(MiniVmError::Record),
            None => Ok(()),
        }
    }

    fn recorder_ref(&self) -> Option<&Recorder> {
        match &self.0 {
            Source::Live { recorder, .. } => recorder.as_deref(),
            _ => None,
        }
    }

    fn record(
        &mut self,
        act: impl FnOnce(&mut Recorder) -> Result<(), RecordingError>,
    ) -> Result<(), MiniVmError> {
        match &mut self.0 {
            Source::Live {
                recorder: Some(recorder),
                ..
            } => act(recorder).map_err(MiniVmError::Record),
            _ => Ok(()),
        }
    }
}

impl Default for Inputs {
    fn default() -> Self {
        Self::NONE
    }
}
