//! `coldframe diff` and `coldframe merge`: snapshots made of snapshots.

use coldframe_snapshot::derive;

use crate::cli::{Diff, Merge};
use crate::exit::Failure;
use crate::output::producer;
use crate::search::{failure, open, use_chain};
use crate::verbs::made;
use crate::verbs::rm::sweep_beside;

/// Makes the diff that leads from A to B.
pub fn diff(args: &Diff) -> Result<(), Failure> {
    let a = use_chain(&args.a, &args.search)?;
    let b = use_chain(&args.b, &args.search)?;
    let snapshot = derive::diff(&a, &b, &args.output, producer())
        .map_err(|error| failure(format!("cannot make {}", args.output.display()), &error))?;
    sweep_beside(&args.output);
    made::print(&snapshot, args.json)
}

/// Folds a chain.
pub fn merge(args: &Merge) -> Result<(), Failure> {
    let chain = use_chain(&args.snapshot, &args.search)?;
    let down_to = args.down_to.as_deref().map(open).transpose()?;
    if let Some(ancestor) = &down_to {
        let ids: Vec<_> = chain.links().iter().map(|link| link.id()).collect();
        if !ids[..ids.len() - 1].contains(&ancestor.id()) {
            let (ancestor, snapshot) = (ancestor.path().display(), args.snapshot.display());
            return Err(Failure::Usage(format!(
                "{ancestor} is not an ancestor of {snapshot}: name one of its parents"
            )));
        }
    }
    let ancestor = down_to.as_ref().map(|ancestor| ancestor.id());
    let snapshot = derive::merge(&chain, ancestor, &args.output, producer())
        .map_err(|error| failure(format!("cannot make {}", args.output.display()), &error))?;
    sweep_beside(&args.output);
    made::print(&snapshot, args.json)
}
