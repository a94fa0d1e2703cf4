//! The saved form of the ports.
//!
//! Invariant: a decoded state encodes to the same bytes. Version 1 is written wherever it says all.

use std::collections::VecDeque;

use super::{CONSOLE_MAX, Ports, TYPED_MAX};

/// Version without inputs.
const PLAIN: u32 = 1;
/// Version with what was typed and the recording's id.
const WITH_INPUTS: u32 = 2;
/// Bytes before the console's: version u32, last mark u32, marks u64, exits u64, length u64.
const HEADER_BYTES: usize = 32;
/// Bytes behind the console's in version 2, but for what was typed: the recording's id, length u64.
const INPUT_BYTES: usize = 24;

/// Why bytes are no saved device state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceStateError {
    /// The bytes end early or go on too long.
    #[error("{have} bytes of device state where {need} belong")]
    Length {
        /// How many there are.
        have: u64,
        /// How many there should be.
        need: u64,
    },
    /// Written by another version.
    #[error("device state version {found}; only 1 and 2 are read")]
    Version {
        /// The version found.
        found: u32,
    },
    /// Version 2 without what it is there for.
    #[error("device state of version 2 without inputs")]
    NoInputs,
}

impl Ports {
    /// All of it but where inputs come from, as bytes: see [`crate::Guest::device_state`].
    pub(crate) fn encode(&self) -> Vec<u8> {
        let inputs = !self.typed.is_empty() || self.recording.is_some();
        let mut out = Vec::with_capacity(HEADER_BYTES + self.console.len());
        let version = if inputs { WITH_INPUTS } else { PLAIN };
        out.extend_from_slice(&version.to_le_bytes());
        out.extend_from_slice(&self.last_mark.to_le_bytes());
        out.extend_from_slice(&self.marks.to_le_bytes());
        out.extend_from_slice(&self.exits.to_le_bytes());
        out.extend_from_slice(&(self.console.len() as u64).to_le_bytes());
        out.extend_from_slice(&self.console);
        if inputs {
            out.extend_from_slice(&self.recording.unwrap_or_default());
            out.extend_from_slice(&(self.typed.len() as u64).to_le_bytes());
            out.extend(&self.typed);
        }
        out
    }

    /// Takes over what [`Ports::encode`] made; nothing is changed if it cannot be read.
    pub(crate) fn restore(&mut self, bytes: &[u8]) -> Result<(), DeviceStateError> {
        let (header, rest) = split::<HEADER_BYTES>(bytes, bytes, 0)?;
        let word = |at: usize| {
            u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        let version = word(0);
        if !matches!(version, PLAIN | WITH_INPUTS) {
            return Err(DeviceStateError::Version { found: version });
        }
        let (console, rest) = part(bytes, rest, long(24), CONSOLE_MAX, version == PLAIN)?;
        let (mut typed, mut recording) = (VecDeque::new(), None);
        if version == WITH_INPUTS {
            let (inputs, rest) = split::<INPUT_BYTES>(bytes, rest, console.len())?;
            let (id, len) = inputs
                .split_last_chunk::<8>()
                .expect("24 bytes are 16 and 8");
            let (waiting, _) = part(bytes, rest, u64::from_le_bytes(*len), TYPED_MAX, true)?;
            typed.extend(waiting);
            recording = <[u8; 16]>::try_from(id).ok().filter(|id| *id != [0; 16]);
            if typed.is_empty() && recording.is_none() {
                return Err(DeviceStateError::NoInputs);
            }
        }
        self.console = console.to_vec();
        self.last_mark = word(4);
        self.marks = long(8);
        self.exits = long(16);
        self.typed = typed;
        self.recording = recording;
        Ok(())
    }
}

/// `N` bytes off `rest`, the last part of `all`, behind `before` bytes of variable length.
fn split<'a, const N: usize>(
    all: &[u8],
    rest: &'a [u8],
    before: usize,
) -> Result<(&'a [u8; N], &'a [u8]), DeviceStateError> {
    rest.split_first_chunk().ok_or(DeviceStateError::Length {
        have: all.len() as u64,
        need: (HEADER_BYTES + before + N) as u64,
    })
}

/// `len` bytes off `rest`, the last part of `all`: at most `max`, and all of it if it is the last.
fn part<'a>(
    all: &[u8],
    rest: &'a [u8],
    len: u64,
    max: usize,
    last: bool,
) -> Result<(&'a [u8], &'a [u8]), DeviceStateError> {
    let (have, before) = (all.len() as u64, (all.len() - rest.len()) as u64);
    let need = before.saturating_add(len);
    let fits = usize::try_from(len).ok().filter(|len| *len <= max);
    fits.and_then(|len| rest.split_at_checked(len))
        .filter(|(_, behind)| !last || behind.is_empty())
        .ok_or(DeviceStateError::Length { have, need })
}
