//! `coldframe store ...`: what is done with a store as such.

mod gc;
mod import_shuru;
mod ls;
mod prune;
mod stat;
mod untag;
mod verify;

use serde::Serialize;

use crate::cli::store::{Init, Store};
use crate::exit::Failure;
use crate::{output, store};

/// Runs the verb below `store`.
pub fn run(verb: &Store) -> Result<(), Failure> {
    match verb {
        Store::Init(args) => init(args),
        Store::Ls(args) => ls::run(args),
        Store::Stat(args) => stat::run(args),
        Store::Verify(args) => verify::run(args),
        Store::Gc(args) => gc::run(args),
        Store::Untag(args) => untag::run(args),
        Store::Prune(args) => prune::run(args),
        Store::ImportShuru(args) => import_shuru::run(args),
    }
}

#[derive(Serialize)]
struct Made<'a> {
    store: &'a str,
}

fn init(args: &Init) -> Result<(), Failure> {
    let url = &args.at.url;
    store::create(url)?;
    if args.json {
        return output::json(&Made { store: url });
    }
    output::say(format_args!("{url}: a chunk store"));
    Ok(())
}
