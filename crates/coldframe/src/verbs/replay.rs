//! `coldframe replay`: a snapshot and the journal that was recorded with it lead to any later
//! moment of the guest.

use std::path::PathBuf;

use coldframe_minivmm::{
    Cut, Event, Guest, GuestEnd, Inputs, MiniVmError, Recording, RecordingError, Stops,
};
use serde::Serialize;

use crate::cli::{Replay, RestoreMode};
use crate::exit::Failure;
use crate::output;
use crate::verbs::demo::guest_failure;
use crate::verbs::thaw::{Act, End, How, Thawing, thaw};

/// What came of it. The keys are part of the contract of the command line.
#[derive(Serialize)]
struct Replayed {
    #[serde(serialize_with = "output::path")]
    snapshot: PathBuf,
    #[serde(serialize_with = "output::path")]
    journal: PathBuf,
    /// Entries that were replayed.
    entries: u64,
    /// `end`, `mark`, or `cut`.
    stopped_at: &'static str,
    /// The mark asked for.
    mark: Option<u32>,
    restore_us: u64,
    /// The guest where it stopped.
    end: End,
    /// How much it has printed by then.
    console_bytes: u64,
    /// Where the journal was cut.
    cut: Option<CutAt>,
    /// At the end `identical` or `different`; before it `consistent`: the guest did all that is in
    /// the journal.
    verdict: &'static str,
}

#[derive(Serialize)]
struct CutAt {
    offset: u64,
    dropped_bytes: u64,
}

impl From<Cut> for CutAt {
    fn from(cut: Cut) -> Self {
        Self {
            offset: cut.offset.get(),
            dropped_bytes: cut.dropped.get(),
        }
    }
}

/// Reads the journal, thaws the snapshot, replays, compares, prints.
pub fn run(args: &Replay) -> Result<(), Failure> {
    let cannot = format!("cannot replay {}", args.snapshot.display());
    let recording =
        Recording::read(&args.journal).map_err(|error| recording_failure(&cannot, &error))?;
    let act = ReplayTo { args, recording };
    let how = How {
        search: &args.search,
        mode: RestoreMode::Map,
        waivers: &args.waivers.names,
    };
    let replayed = thaw(&args.snapshot, how, act)?;
    replayed.print(args.json)?;
    if replayed.verdict == "different" {
        return Err(Failure::Reported);
    }
    Ok(())
}

/// A journal that cannot be opened is exit 3, one that does not fit or is damaged exit 1.
fn recording_failure(what: &str, error: &RecordingError) -> Failure {
    if error.is_wanting() {
        Failure::wanting(what, error)
    } else {
        Failure::environment(what, error)
    }
}

struct ReplayTo<'a> {
    args: &'a Replay,
    recording: Recording,
}

impl Act for ReplayTo<'_> {
    type Out = Replayed;

    fn act<G: Guest>(self, mut guest: G, thawing: &Thawing<'_>) -> Result<Replayed, Failure> {
        let Self { args, recording } = self;
        let cannot = format!("cannot replay {}", args.snapshot.display());
        let went_wrong = |error: MiniVmError| guest_failure(&cannot, &error);
        let of = guest.ports().recording();
        let replayer = recording
            .replay(thawing.thaw.snapshot().id(), of, args.to)
            .map_err(|error| recording_failure(&cannot, &error))?;
        let (entries, recorded) = (replayer.left(), replayer.end().cloned());
        guest.ports().attach(Inputs::replayed(replayer));
        let restore_us = thawing.elapsed_us();
        let nothing_left = guest.ports().is_replayed();
        let has_ended = !nothing_left
            && matches!(
                guest.run_until_event(Stops::NONE).map_err(went_wrong)?,
                Event::Ended(_)
            );
        let end = End::from(&guest.end_state().map_err(went_wrong)?);
        let stopped_at = match args.to {
            _ if has_ended => "end",
            Some(_) => "mark",
            None => "cut",
        };
        Ok(Replayed {
            snapshot: args.snapshot.clone(),
            journal: args.journal.clone(),
            entries,
            stopped_at,
            mark: args.to,
            restore_us,
            verdict: verdict(&end, recorded.as_ref()),
            end,
            console_bytes: guest.console().len() as u64,
            cut: recording.cut().map(CutAt::from),
        })
    }
}

fn verdict(end: &End, recorded: Option<&GuestEnd>) -> &'static str {
    match recorded {
        None => "consistent",
        Some(recorded)
            if recorded.ram_blake3 == end.ram_blake3
                && recorded.regs_blake3 == end.regs_blake3
                && recorded.console_blake3 == end.console_blake3 =>
        {
            "identical"
        }
        Some(_) => "different",
    }
}

impl Replayed {
    fn print(&self, json: bool) -> Result<(), Failure> {
        if json {
            return output::json(self);
        }
        let to = match (self.stopped_at, self.mark) {
            ("mark", Some(mark)) => format!("mark {mark}"),
            ("end", _) => "the guest's end".to_owned(),
            _ => "the journal's last whole entry".to_owned(),
        };
        output::say(format_args!(
            "replayed {} entries of {} from {} to {to}",
            self.entries,
            self.journal.display(),
            self.snapshot.display()
        ));
        if let Some(cut) = &self.cut {
            output::say(format_args!(
                "the journal is cut at {:#x}: {} bytes behind its last whole entry are left out",
                cut.offset, cut.dropped_bytes
            ));
        }
        let end = &self.end;
        output::say(format_args!(
            "guest: RAM {:.16}, registers {:.16}, console {:.16} ({} bytes)",
            end.ram_blake3, end.regs_blake3, end.console_blake3, self.console_bytes
        ));
        output::say(format_args!("verdict: {}", self.verdict));
        Ok(())
    }
}
