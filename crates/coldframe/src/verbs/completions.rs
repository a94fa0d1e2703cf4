//! `coldframe completions SHELL`.

use clap::CommandFactory;

use crate::cli::{Cli, Completions};
use crate::exit::Failure;
use crate::output;

/// Prints the script.
pub fn run(args: &Completions) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "coldframe", &mut script);
    output::text(format_args!("{}", String::from_utf8_lossy(&script)));
    Ok(())
}
