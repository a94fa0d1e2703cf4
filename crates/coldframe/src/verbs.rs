//! One module for each verb. A verb parses nothing and decides nothing about formats: it calls
//! into the crates and prints what came back.

mod completions;
mod demo;
mod derive;
mod disk;
mod export;
mod import;
mod inspect;
pub mod journal;
mod ls;
mod made;
mod portability;
mod pull;
mod push;
mod replay;
mod rm;
mod store;
mod thaw;
mod verify;
pub mod wal;

use crate::cli::disk::Disk;
use crate::cli::{Cli, Export, Import, Verb};
use crate::exit::Failure;
use crate::signals;

/// Runs the verb of a command line.
pub fn run(cli: Cli) -> Result<(), Failure> {
    // A server waits for the signals itself, to bring its disk into the store.
    if !matches!(cli.verb, Verb::Disk(Disk::Serve(_))) {
        signals::clean_up()?;
    }
    match cli.verb {
        Verb::Demo(args) => demo::run(&args),
        Verb::Inspect(args) => inspect::run(&args),
        Verb::Verify(args) => verify::run(&args),
        Verb::Import(Import::Raw(args)) => import::raw(&args),
        Verb::Import(Import::Firecracker(args)) => import::firecracker(&args),
        Verb::Export(Export::Raw(args)) => export::raw(&args),
        Verb::Export(Export::Firecracker(args)) => export::firecracker(&args),
        Verb::Diff(args) => derive::diff(&args),
        Verb::Merge(args) => derive::merge(&args),
        Verb::Ls(args) => ls::run(&args),
        Verb::Rm(args) => rm::run(&args),
        Verb::Push(args) => push::run(&args),
        Verb::Pull(args) => pull::run(&args),
        Verb::Store(verb) => store::run(&verb),
        Verb::Replay(args) => replay::run(&args),
        Verb::Wal(args) => wal::run(&args),
        Verb::Journal(args) => journal::run(&args),
        Verb::Disk(args) => disk::run(&args),
        Verb::Completions(args) => completions::run(&args),
        Verb::Thaw(args) => thaw::run(&args),
    }
}
