//! The `coldframe` command: freeze, thaw, inspect, verify and convert microVM snapshots.
//!
//! ```sh
//! coldframe inspect --against-host SNAP   # what a guest would find different here
//! coldframe verify SNAP                   # every byte against its hash
//! coldframe push SNAP --store s3://bucket/snapshots --name nightly
//! ```
//!
//! Each verb is a module of [`verbs`]; this file only parses, dispatches and turns the outcome
//! into an exit code: 0 done or sound, 1 found wanting, 2 wrong usage, 3 I/O or environment, 141 if
//! the reader of standard output has gone away.

mod cli;
mod exit;
mod firecracker;
mod human;
mod logs;
mod notices;
mod output;
mod progress;
mod search;
mod shuru;
mod signals;
mod store;
mod verbs;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use coldframe_storage::discard_living;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use crate::cli::Cli;
use crate::exit::Failure;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refused(&error),
    };
    let logs = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_filter(EnvFilter::from_env("COLDFRAME_LOG"));
    tracing_subscriber::registry()
        .with(logs)
        .with(notices::layer())
        .init();
    match signals::prepare().and_then(|()| verbs::run(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // What could not be removed when it was dropped, as for want of descriptors.
            discard_living();
            if !matches!(failure, Failure::Reported) {
                complain(&failure.to_string());
            }
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Says what is wrong in one line.
fn complain(text: &str) {
    // Standard error may be closed or full: the exit code says it too.
    let _ = writeln!(std::io::stderr(), "coldframe: {}", output::printable(text));
}

/// Help and version as clap prints them; wrong usage as one line.
fn refused(error: &clap::Error) -> ExitCode {
    let is_error = !matches!(
        error.kind(),
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    );
    if is_error {
        let text = error.to_string();
        let said = text.split("\n\nUsage:").next().unwrap_or(&text);
        let said = said
            .split("\n\nFor more information")
            .next()
            .unwrap_or(said);
        let words: Vec<&str> = said.split_whitespace().skip(1).collect();
        complain(&format!("{}; see --help", words.join(" ")));
    } else if let Err(unprinted) = error.print().and_then(|()| std::io::stdout().flush()) {
        return ExitCode::from(output::unprinted(&unprinted));
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}
