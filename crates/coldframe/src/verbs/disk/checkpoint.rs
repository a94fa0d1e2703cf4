//! `coldframe disk checkpoint`.

use std::time::Duration;

use crate::cli::disk::Checkpoint;
use crate::exit::Failure;
use crate::human::{size, time};
use crate::output;
use crate::verbs::disk::control::{Request, ask};

/// Asks the server for a checkpoint, and says what it came to.
pub fn run(args: &Checkpoint) -> Result<(), Failure> {
    let request = Request {
        checkpoint: args.name.to_string(),
        replace: args.replace,
    };
    let made = ask(&args.control, &request)?;
    if args.json {
        return output::json(&made);
    }
    let (name, blocks) = (&made.name, made.blocks);
    let (index, took) = (
        size(made.index_bytes),
        Duration::from_micros(made.microseconds),
    );
    let took = time(took);
    output::say(format_args!(
        "{name}: {blocks} blocks changed, index of {index}, in {took}"
    ));
    Ok(())
}
