//! Record and replay: the inputs that a guest cannot compute itself, kept in a journal, and given
//! again to a guest that was thawed.
//!
//! Invariants: a recorded input was appended before the guest saw it; a replayed guest sees inputs
//! at the same count of exits as the recorded one, or is stopped with a divergence; it is stopped
//! right after the journal's last entry. Spec: `specs/minivmm.md`.

mod entries;
mod error;
mod inputs;
mod plan;
mod recorder;
mod replayer;

pub use entries::{Begin, GuestEnd, GuestMark, RecordingEntries};
pub use error::RecordingError;
pub use inputs::Inputs;
pub use plan::{Cut, Recording};
pub use recorder::{Recorder, RecordingId};
pub use replayer::Replayer;
