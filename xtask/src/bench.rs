//! Measuring lives in a workspace of its own, because it links other people's crates to compare
//! with. Its program is the only source of a performance figure.

use anyhow::Result;

use crate::exec;
use crate::tree::Tree;

/// Benchmarks that are held against other logs, whose building takes minutes.
const WITH_LOGS: [&str; 2] = ["wal", "journal"];

/// Builds and runs it, with these arguments.
pub fn run(tree: &Tree, args: &[String]) -> Result<bool> {
    let build = "run --release --manifest-path bench/Cargo.toml --target-dir target/bench";
    let mut cargo = exec::cargo(tree, build);
    let mut names = args.iter().filter(|arg| !arg.starts_with('-')).peekable();
    let all = names.peek().is_none();
    if all || names.any(|name| WITH_LOGS.contains(&name.as_str())) {
        cargo.args(["--features", "wal-peers"]);
    }
    exec::shown(cargo.arg("--").args(args))
}
