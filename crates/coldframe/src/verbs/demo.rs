//! `coldframe demo`: a real guest frozen, thawed in fresh processes, and proved identical.
//!
//! Three acts. The guest runs to its end, never stopped: its digest is the yardstick. It runs
//! again and is frozen on the way, going on while each snapshot is published. Then each snapshot
//! is thawed by a process of its own, which runs to the end and says what it came to.
//!
//! With `--record` the guest has inputs, which no two runs share: the first run is a rehearsal, the
//! second is recorded and is itself the yardstick, and the third act replays.

mod guest;
mod home;
mod report;
mod shoot;
mod typist;

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use coldframe_storage::{Overwrite, PendingFile, Storage as _};
use coldframe_units::FileOffset;

use crate::cli::Demo;
use crate::exit::Failure;
use crate::verbs::thaw;
use crate::{progress, signals};

pub use guest::guest_failure;
pub use shoot::PORTS;

use home::Home;
use report::{Report, SnapshotRow};
use typist::Typist;

/// Runs the demonstration.
pub fn run(args: &Demo) -> Result<(), Failure> {
    let config = guest::configure(args)?;
    let choice = guest::choose(&args.guest)?;
    let home = Home::new(args.dir.as_deref())?;
    let bar = progress::steps("demo", 2 + u64::from(args.diffs) + 1);

    let journal = args.record.then(|| home.path().join("journal"));
    let typist = Typist::new(journal.clone(), args.guest.seed);
    let mut whole = shoot::uninterrupted(choice, &config, typist.clone())?;
    bar.inc(1);

    let (shots, run) =
        shoot::frozen_on_the_way(choice, &config, args, &whole, home.path(), typist)?;
    if args.record {
        whole = run;
    } else if run.end != whole.end {
        return Err(Failure::Wanting(
            "the guest that was frozen on the way ended unlike the one that was never stopped"
                .into(),
        ));
    }
    write_console(&home.path().join("console.txt"), &whole.console)?;
    bar.inc(1);

    let mut rows = Vec::new();
    for shot in shots {
        let thawed = thaw_in_fresh_process(&shot.path, journal.as_deref())?;
        let identical = thawed.end == thaw::End::from(&whole.end);
        rows.push(SnapshotRow::new(shot, thawed.restore_us, identical));
        bar.inc(1);
    }
    bar.finish_and_clear();
    let journal = journal.filter(|_| home.kept().is_some());
    let report = Report::new(choice, args, &whole.end, rows, journal);
    let kept = home.kept().map(Path::to_path_buf);
    // Before anything is printed: a reader that has gone away ends the process.
    drop(home);
    report.print(args.json, kept.as_deref())?;
    if report.is_identical() {
        Ok(())
    } else {
        Err(Failure::Reported)
    }
}

/// Writes what the guest printed to a new file: others may have a directory that was asked for in
/// their hands, and a link or a file of theirs under this name is neither followed nor replaced.
fn write_console(path: &Path, text: &[u8]) -> Result<(), Failure> {
    let written = PendingFile::create(path, Overwrite::Refuse).and_then(|file| {
        file.write_at(FileOffset::ZERO, text)?;
        file.publish()
    });
    let cannot = || format!("cannot write {}", path.display());
    written
        .map(drop)
        .map_err(|error| Failure::environment(cannot(), &error))
}

/// What the guest came to in a process of its own; one that ends otherwise than it was recorded
/// has said so, with exit code 1.
fn thaw_in_fresh_process(snapshot: &Path, journal: Option<&Path>) -> Result<thaw::Thawed, Failure> {
    let what = format!("cannot thaw {} in a fresh process", snapshot.display());
    let program = own_program().map_err(|error| Failure::environment(&what, &error))?;
    let mut command = Command::new(program);
    match journal {
        None => command.arg("thaw").arg(snapshot),
        Some(journal) => command
            .arg("replay")
            .arg(snapshot)
            .arg("--journal")
            .arg(journal)
            .arg("--json"),
    };
    command.stdin(Stdio::null()).stderr(Stdio::inherit());
    let output =
        signals::output_of(&mut command).map_err(|error| Failure::environment(&what, &error))?;
    let has_said = journal.is_some() && !output.stdout.is_empty();
    if !output.status.success() && !has_said {
        return Err(Failure::Wanting(format!(
            "{what}: it ended with {}",
            output.status
        )));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| Failure::wanting(what, &error))
}

/// The program that runs here. Where the kernel offers it (proc_pid_exe(5)), by a name that holds
/// when the file was replaced meanwhile, as an upgrade does.
fn own_program() -> io::Result<PathBuf> {
    let running = PathBuf::from("/proc/self/exe");
    if running.exists() {
        return Ok(running);
    }
    // Without /proc the library does not know either; the shell's way to name it may do.
    std::env::current_exe().or_else(|error| {
        let called = std::env::args_os().next().map(PathBuf::from);
        called.filter(|path| path.is_file()).ok_or(error)
    })
}
