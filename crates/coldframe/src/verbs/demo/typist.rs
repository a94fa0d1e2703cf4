//! Who gives a recorded guest its inputs: bytes on the console at each of its marks, and the
//! host's clock.
//!
//! Invariant: without a recording nobody types, and the guest has no clock.

use std::path::PathBuf;

use coldframe_minivmm::{Guest, Inputs, MiniVmError, Recorder, Stops};

/// The most bytes that are typed at once, less one.
const BYTES: u64 = 16;

/// Types pseudo-random bytes.
#[derive(Clone)]
pub struct Typist {
    /// The journal, and the state of the generator, never 0.
    at_work: Option<(PathBuf, u64)>,
}

impl Typist {
    /// One for a guest that is recorded in `journal`; for others one that does nothing.
    pub fn new(journal: Option<PathBuf>, seed: u64) -> Self {
        Self {
            at_work: journal.map(|journal| (journal, seed | 1)),
        }
    }

    /// Gives a guest that is not recorded what a recorded one gets.
    pub fn rehearse<G: Guest>(&self, guest: &mut G) {
        if self.at_work.is_some() {
            guest.ports().attach(Inputs::live());
        }
    }

    /// Begins the recording, if there is to be one.
    pub fn begin<G: Guest>(&self, guest: &mut G) -> Result<(), MiniVmError> {
        if let Some((journal, _)) = &self.at_work {
            let recorder = Recorder::create(journal).map_err(MiniVmError::Record)?;
            guest.ports().attach(Inputs::recorded(recorder));
        }
        Ok(())
    }

    /// On what a guest stops that runs to its end.
    pub fn stops(&self) -> Stops {
        if self.at_work.is_some() {
            Stops::MARKS
        } else {
            Stops::NONE
        }
    }

    /// Types something, or nothing.
    pub fn type_some<G: Guest>(&mut self, guest: &mut G) -> Result<(), MiniVmError> {
        let Some((_, state)) = &mut self.at_work else {
            return Ok(());
        };
        let count = next(state) % BYTES;
        let bytes: Vec<u8> = (0..count).map(|_| next(state).to_le_bytes()[0]).collect();
        guest.ports().feed(&bytes)?;
        Ok(())
    }
}

/// Marsaglia's xorshift64, with the multiplication of xorshift64*.
fn next(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32
}
