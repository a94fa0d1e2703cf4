//! What a signal that ends the command does first: it ends the process that the command has
//! started, and removes what is not published yet.
//!
//! The signals are blocked in every thread and waited for in one, so that the work of ending is
//! done in ordinary code (sigwait(3)). The process then ends by the signal, as its parent expects.
//! SIGKILL cannot be waited for; what it leaves is swept by the next verb that writes there.

use std::io::{self, Read as _};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

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

/// The process that this one waits for. The thread that waits for its exit code or ends it has the
/// lock, so that its number is not that of another process by then.
static CHILD: Mutex<Option<Child>> = Mutex::new(None);

fn child() -> MutexGuard<'static, Option<Child>> {
    CHILD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `command` and collects what it prints; a signal that ends this process ends it, too.
/// One at a time.
pub fn output_of(command: &mut Command) -> io::Result<Output> {
    let pipe = {
        let mut slot = child();
        let mut started = command.stdout(Stdio::piped()).spawn()?;
        let pipe = started.stdout.take();
        *slot = Some(started);
        pipe
    };
    let mut stdout = Vec::new();
    let read = pipe.map_or(Ok(0), |mut pipe| pipe.read_to_end(&mut stdout));
    let mut slot = child();
    let status = match slot.take() {
        Some(mut ended) => ended.wait()?,
        None => return Err(io::ErrorKind::Interrupted.into()),
    };
    read?;
    Ok(Output {
        status,
        stdout,
        stderr: Vec::new(),
    })
}

/// Makes a write beyond the limit of a file's length an error, as other failing writes are, and
/// not the end of the process (setrlimit(2), `RLIMIT_FSIZE`). Before any thread starts.
pub fn prepare() -> Result<(), Failure> {
    block(&[Signal::SIGXFSZ]).map(drop)
}

/// Removes what is not published yet when a signal ends the process. Before any other thread
/// starts: all of them leave these signals to the one that is started here.
pub fn clean_up() -> Result<(), Failure> {
    let ignored = ignored();
    let wanted: Vec<Signal> = ENDING
        .into_iter()
        .filter(|signal| ignored >> (*signal as u64 - 1) & 1 == 0)
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let signals = block(&wanted)?;
    let wait = move || {
        let Ok(signal) = signals.wait() else { return };
        tracing::info!(%signal, "ending");
        // None is started any more.
        let mut slot = child();
        if let Some(running) = &mut *slot {
            // It may have ended already.
            let _ = running.kill().and_then(|()| running.wait());
        }
        discard_living();
        end_by(signal);
    };
    let started = std::thread::Builder::new().spawn(wait);
    started
        .map(drop)
        .map_err(|error| Failure::environment("cannot wait for signals", &error))
}

/// Ends this process by a signal, as its parent expects.
fn end_by(signal: Signal) -> ! {
    // Its default action ends the process, once one thread lets it come.
    let mut one = SigSet::empty();
    one.add(signal);
    let _ = raise(signal).and_then(|()| one.thread_unblock());
    // Whoever started this process had it ignore the signal, and there was no /proc to say so.
    std::process::exit(128 + signal as i32);
}

/// Lets the next of these signals end the process at once: for a server that was told to stop, and
/// waits for what may take long. They are blocked in every thread.
pub fn end_by_the_next(signals: SigSet) -> Result<(), Failure> {
    let wait = move || {
        let Ok(signal) = signals.wait() else { return };
        tracing::warn!(%signal, "ending at once: what was not flushed may be lost");
        discard_living();
        end_by(signal);
    };
    let started = std::thread::Builder::new().spawn(wait);
    started
        .map(drop)
        .map_err(|error| Failure::environment("cannot wait for signals", &error))
}

/// The signals that this process was started to ignore, as nohup(1) and a shell's background do
/// (proc_pid_status(5), `SigIgn`): one that is waited for would be taken for all that.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

fn block(signals: &[Signal]) -> Result<SigSet, Failure> {
    let set: SigSet = signals.iter().copied().collect();
    let blocked = set.thread_block();
    blocked.map_err(|error| Failure::environment("cannot block signals", &error))?;
    Ok(set)
}
