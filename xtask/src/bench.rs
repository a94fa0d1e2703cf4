//! Measuring lives in a workspace of its own, because it links other people's crates to compare
//! with. Its program is the only source of a performance figure.

use anyhow::Result;

use crate::exec;
use crate::tree::Tree;

/// Benchmarks with peers that only they need, and whose building takes minutes.
const WITH_PEERS: [(&str, &str); 4] = [
    ("wal", "wal-peers"),
    ("journal", "wal-peers"),
    ("chunks", "chunk-peers"),
    ("nbd", "chunk-peers"),
];

/// Builds and runs it, with these arguments.
pub fn run(tree: &Tree, args: &[String]) -> Result<bool> {
    let build = "run --release --manifest-path bench/Cargo.toml --target-dir target/bench";
    let mut cargo = exec::cargo(tree, build);
    let names: Vec<_> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    for (name, feature) in WITH_PEERS {
        if names.is_empty() || names.iter().any(|wanted| *wanted == name) {
            cargo.args(["--features", feature]);
        }
    }
    exec::shown(cargo.arg("--").args(args))
}
