//! What a signal that ends the command does first: it removes what is not published yet.
//!
//! The signals are blocked in every thread and waited for in one, so that the work of ending is
//! done in ordinary code (sigwait(3)). The process then ends by the signal, as its parent expects.
//! SIGKILL cannot be waited for; what it leaves is swept by the next verb that writes there.

use coldframe_storage::discard_living;
use nix::sys::signal::{SigSet, Signal, raise};

use crate::exit::Failure;

/// Who asks a process to end.
const ENDING: [Signal; 4] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
];

/// Makes a write beyond the limit of a file's length an error, as other failing writes are, and
/// not the end of the process (setrlimit(2), `RLIMIT_FSIZE`). Before any thread starts.
pub fn prepare() -> Result<(), Failure> {
    block(&[Signal::SIGXFSZ]).map(drop)
}

/// Removes what is not published yet when a signal ends the process. Before any other thread
/// starts: all of them leave these signals to the one that is started here.
pub fn clean_up() -> Result<(), Failure> {
    let signals = block(&ENDING)?;
    let wait = move || {
        let Ok(signal) = signals.wait() else { return };
        tracing::info!(%signal, "ending");
        discard_living();
        // Its default action ends the process, once one thread lets it come.
        let mut one = SigSet::empty();
        one.add(signal);
        if raise(signal).and_then(|()| one.thread_unblock()).is_err() {
            std::process::exit(3);
        }
    };
    let started = std::thread::Builder::new().spawn(wait);
    started
        .map(drop)
        .map_err(|error| Failure::environment("cannot wait for signals", &error))
}

fn block(signals: &[Signal]) -> Result<SigSet, Failure> {
    let set: SigSet = signals.iter().copied().collect();
    let blocked = set.thread_block();
    blocked.map_err(|error| Failure::environment("cannot block signals", &error))?;
    Ok(set)
}
