//! Every call that a piece of work makes to the host misbehaves once, in every way.
//!
//! What is only rough (an interrupted call, one that does a single byte) must not be noticed; what
//! fails must be told. What a failure leaves is for the caller to judge.

use std::path::Path;

use crate::crash::recording::{HostCall, HostFault, Recording};
use crate::fault::{EINTR, EIO, ENOSPC};
use crate::scratch;

/// Work that is done over and over, in a new directory each time.
pub trait Work {
    /// What it works with.
    type Input;

    /// Fills an empty directory; nothing fails here.
    fn prepare(&mut self, dir: &Path) -> Self::Input;

    /// Does it; false if it was told of a failure.
    fn run(&mut self, dir: &Path, input: &mut Self::Input) -> bool;

    /// Looks at what is left, without faults again.
    fn check(&mut self, dir: &Path, input: Self::Input, is_done: bool);
}

/// How many calls of each kind misbehaved.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Misbehaved {
    /// pread(2).
    pub reads: u64,
    /// pwrite(2), pwritev(2), write(2).
    pub writes: u64,
    /// fsync(2), fdatasync(2).
    pub syncs: u64,
}

/// Has every read, write and sync of `work` misbehave.
///
/// # Panics
/// If the work fails by itself, notices what is only rough, or does not tell of a write or a sync
/// that failed; and if a check panics.
pub fn fail_everywhere<W: Work>(work: &mut W) -> Misbehaved {
    let calls = count(work);
    let ways = [
        (HostCall::Read, calls.reads),
        (HostCall::Write, calls.writes),
        (HostCall::Sync, calls.syncs),
    ];
    for (call, count) in ways {
        for nth in 0..count {
            for fault in faults(call) {
                one(work, call, nth, *fault);
            }
        }
    }
    calls
}

const fn faults(call: HostCall) -> &'static [HostFault] {
    match call {
        HostCall::Read => &[
            HostFault::Errno(EINTR),
            HostFault::Short(1),
            HostFault::Errno(EIO),
        ],
        HostCall::Write => &[
            HostFault::Errno(EINTR),
            HostFault::Short(1),
            HostFault::Errno(EIO),
            HostFault::Errno(ENOSPC),
        ],
        HostCall::Sync => &[
            HostFault::Errno(EINTR),
            HostFault::Errno(EIO),
            HostFault::Errno(ENOSPC),
        ],
    }
}

fn count<W: Work>(work: &mut W) -> Misbehaved {
    let dir = scratch::dir();
    let mut input = work.prepare(dir.path());
    let recording = Recording::start(dir.path());
    assert!(work.run(dir.path(), &mut input), "it fails without a fault");
    let calls = Misbehaved {
        reads: recording.calls(HostCall::Read),
        writes: recording.calls(HostCall::Write),
        syncs: recording.calls(HostCall::Sync),
    };
    drop(recording);
    work.check(dir.path(), input, true);
    calls
}

fn one<W: Work>(work: &mut W, call: HostCall, nth: u64, fault: HostFault) {
    let dir = scratch::dir();
    let mut input = work.prepare(dir.path());
    let recording = Recording::start(dir.path());
    recording.inject(call, nth, fault);
    let is_done = work.run(dir.path(), &mut input);
    drop(recording);
    let is_rough = matches!(fault, HostFault::Short(_) | HostFault::Errno(EINTR));
    let place = format!("{call:?} {nth}: {fault:?}");
    assert!(is_done || !is_rough, "{place} was noticed");
    assert!(
        !is_done || is_rough || call == HostCall::Read,
        "{place} was not told"
    );
    work.check(dir.path(), input, is_done);
}
