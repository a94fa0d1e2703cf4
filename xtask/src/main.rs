//! Every maintainer command of the project: `cargo xtask help` lists them.
//!
//! A check is a function from the tree to [`Findings`], so that it runs the same alone, as a step
//! of `ci`, and as a test of this crate.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod aarch64;
mod bench;
mod binaries;
mod ci;
mod compat;
mod crash;
mod exec;
mod findings;
mod fuzz;
mod goldens;
mod hosts;
mod layers;
mod layout;
mod manifests;
mod markdown;
mod minimal;
mod miri;
mod parity;
mod picture;
mod prose;
mod readers;
mod readme;
mod release;
mod source;
mod spec;
mod steps;
mod tidy;
mod toolchain;
mod tree;
mod unsafe_code;
mod verdict;

#[cfg(test)]
mod tests;

use findings::Findings;
use tree::Tree;

/// Every maintainer command.
#[derive(Parser)]
#[command(name = "xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run every check in order; the last line counts them.
    Ci {
        /// Leave out what takes long: other targets, feature sets, loom, docs, deny, fuzzing.
        #[arg(long)]
        fast: bool,
        /// Run no tests: count those of a `cargo test --workspace` just made, whose output is here.
        #[arg(long)]
        tested: Option<std::path::PathBuf>,
    },
    /// Check line, function and file lengths, headers, banned APIs, ASCII, goldens, file names.
    Tidy,
    /// Check ranks, purity and shared dependencies, and the picture of them in the README.
    Layers {
        /// Write the picture into the README.
        #[arg(long)]
        write: bool,
    },
    /// Write what others have and the tests that prove it is here too, to target/xtask/parity.md.
    Parity,
    /// Write the README of each crate, from its `lib.rs` and its manifest.
    Readme,
    /// Compare the specs with the layouts in the code, their ids with the tests, and their links.
    Spec,
    /// Print every offset and limit, and compare them with specs/layout.snapshot.
    Layout {
        /// Accept what is printed: a second reader must agree.
        #[arg(long)]
        bless: bool,
    },
    /// Read all goldens of all versions; with a tag, also across that release.
    Compat {
        /// A release: it must read our goldens, and we must read its.
        #[arg(long)]
        against: Option<String>,
        /// Let the tests write the goldens that are missing; existing ones never change.
        #[arg(long)]
        bless: bool,
    },
    /// Fuzz one target or all; a crash is minimised and filed under fuzz/regressions/.
    Fuzz {
        /// One of the targets in fuzz/Cargo.toml; all when left out.
        target: Option<String>,
        /// Seconds for each target.
        #[arg(long, default_value_t = 60)]
        secs: u64,
        /// Run this one input instead.
        #[arg(long, requires = "target")]
        repro: Option<std::path::PathBuf>,
    },
    /// Cut the power everywhere in every crash scenario; kill writers if asked to.
    Crash {
        /// Where the workloads are drawn from.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// States to check in each scenario.
        #[arg(long, default_value_t = 10_000)]
        iters: u64,
        /// Kill each writer so often, on real files.
        #[arg(long)]
        kills: Option<u64>,
    },
    /// Run the tests on hosts of several kinds: file systems, users, with KVM and without.
    ///
    /// Needs root: each test binary runs in namespaces of its own, with a file system that was made
    /// for it as temporary directory, as root or as the user 65534, with /dev/kvm or without it. A
    /// binary that leaves a process or a temporary file behind has failed. Then it is run again,
    /// interrupted, and the same is checked. Logs are in target/xtask/hosts/.
    #[command(after_help = "Example: cargo xtask hosts --fs btrfs --user nobody --kvm no")]
    Hosts(hosts::Matrix),
    /// List unsafe code by file, and compare with xtask/unsafe.snapshot.
    Unsafe {
        /// Accept what is printed: a second reader must agree.
        #[arg(long)]
        bless: bool,
    },
    /// Check each crate with no feature, with each alone, and with all.
    Features,
    /// Build the documentation with warnings denied.
    Docs,
    /// Check bans, licences and sources of all dependencies.
    Deny,
    /// Check the published crates with the least versions that their manifests name.
    MinimalVersions,
    /// Run tests of pure crates, and of unsafe code where it can be, under Miri.
    Miri {
        /// One crate; all when left out.
        name: Option<String>,
    },
    /// Check that crates can be released, in the order of publishing; then tag them.
    Release {
        /// One crate, or `all`.
        name: String,
        /// Make no tag, and put up with changes that are not committed.
        #[arg(long)]
        dry_run: bool,
    },
    /// Run the tests of KVM on aarch64 in an emulated machine, and the demonstration there.
    TestAarch64 {
        /// Cross-build the programs, and run nothing.
        #[arg(long)]
        build_only: bool,
    },
    /// Measure against limits and peers, in bench/; arguments are passed through.
    Bench {
        /// Names of benchmarks, and `--json`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<bool> {
    let tree = Tree::open()?;
    match command {
        Command::Ci { fast, tested } => ci::run(&tree, fast, tested.as_deref()),
        Command::Tidy => report(tidy::check(&tree)?),
        Command::Layers { write: true } => picture::write(&tree),
        Command::Layers { write: false } => report(layers::check(&tree)?),
        Command::Parity => parity::write(&tree),
        Command::Readme => readme::write(&tree),
        Command::Spec => report(spec::check(&tree)?),
        Command::Layout { bless: true } => layout::bless(&tree),
        Command::Layout { bless: false } => {
            print!("{}", layout::render());
            report(layout::check(&tree)?)
        }
        Command::Compat { against, bless } => compat::run(&tree, against.as_deref(), bless),
        Command::Fuzz {
            target,
            secs,
            repro,
        } => fuzz::run(&tree, target.as_deref(), secs, repro.as_deref()),
        Command::Crash { seed, iters, kills } => {
            crash::run(&tree, &crash::Extent { seed, iters, kills })
        }
        Command::Hosts(matrix) => hosts::run(&tree, &matrix),
        Command::Unsafe { bless: true } => unsafe_code::bless(&tree),
        Command::Unsafe { bless: false } => {
            print!("{}", unsafe_code::render(&tree)?);
            report(unsafe_code::check(&tree)?)
        }
        Command::Features => steps::alone(&tree, steps::features),
        Command::Docs => steps::alone(&tree, steps::docs),
        Command::Deny => steps::alone(&tree, steps::deny),
        Command::MinimalVersions => steps::alone(&tree, minimal::check),
        Command::Miri { name } => miri::run(&tree, name.as_deref()),
        Command::Release { name, dry_run } => release::run(&tree, &name, dry_run),
        Command::TestAarch64 { build_only } => aarch64::run(&tree, build_only),
        Command::Bench { args } => bench::run(&tree, &args),
    }
}

fn report(findings: Findings) -> Result<bool> {
    print!("{findings}");
    Ok(findings.is_clean())
}
