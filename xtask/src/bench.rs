//! Measuring lives in a workspace of its own, because it links other people's crates to compare
//! with. Its program is the only source of a performance figure.

use anyhow::Result;

use crate::exec;
use crate::tree::Tree;

/// Builds and runs it, with these arguments.
pub fn run(tree: &Tree, args: &[String]) -> Result<bool> {
    let build = "run --release --manifest-path bench/Cargo.toml --target-dir target/bench --";
    exec::shown(exec::cargo(tree, build).args(args))
}
