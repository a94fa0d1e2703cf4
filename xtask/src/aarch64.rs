//! `test-aarch64`: the tests of KVM on aarch64, run on any host.
//!
//! Cross-builds static programs, boots Debian's arm64 kernel in QEMU with EL2 emulated, so that
//! `/dev/kvm` is real inside (GICv3), and runs them there: coldframe-kvm's own tests, then the
//! demonstration with one and with two vCPUs, each with a full snapshot and diffs, thawed in fresh
//! processes. Packages are kept in a cache outside the tree; the system's own are left alone.

pub mod guest;
pub mod packages;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cargo_metadata::Message;

use crate::exec;
use crate::tree::Tree;

const TARGET: &str = "aarch64-unknown-linux-gnu";
const LINKER: &str = "aarch64-linux-gnu-gcc";

/// What must be installed: the program, and the package or command that brings it.
const TOOLS: &[(&str, &str)] = &[
    (LINKER, "apt-get install gcc-aarch64-linux-gnu"),
    (
        "aarch64-linux-gnu-strip",
        "apt-get install gcc-aarch64-linux-gnu",
    ),
    ("qemu-system-aarch64", "apt-get install qemu-system-arm"),
    ("cpio", "apt-get install cpio"),
    ("gzip", "apt-get install gzip"),
    ("apt-get", "a Debian host"),
    ("dpkg-deb", "a Debian host"),
];

/// What the virtual machine runs, after its name in the report.
const STEPS: &[(&str, &str)] = &[
    ("kernel", "uname -r; ls /dev/kvm"),
    (
        "coldframe-kvm's tests",
        "COLDFRAME_REQUIRE=kvm ./kvm-tests --test-threads=1",
    ),
    (
        "one vCPU, full and diffs",
        "./coldframe demo --backend kvm --workload hash --diffs 2 --ram 32M",
    ),
    (
        "one vCPU, pages that become zero again",
        "./coldframe demo --backend kvm --workload zeroing --diffs 2 --ram 32M",
    ),
    (
        "one vCPU, recorded and replayed",
        "./coldframe demo --backend kvm --record --diffs 1 --ram 32M",
    ),
    (
        "two vCPUs, full and diffs",
        "./coldframe demo --backend kvm --workload smp --diffs 2 --ram 32M",
    ),
];

/// Builds, boots, runs; says what it ran and how that ended.
pub fn run(tree: &Tree, build_only: bool) -> Result<bool> {
    let mut is_missing = false;
    for (tool, install) in TOOLS {
        let built_without = build_only && !tool.contains("linux-gnu");
        if !built_without && !has(tool) {
            println!("missing: {tool} ({install})");
            is_missing = true;
        }
    }
    if is_missing {
        return Ok(false);
    }
    let programs = build(tree)?;
    if build_only {
        return Ok(true);
    }
    let kernel = packages::fetch(&cache()?)?;
    let steps: Vec<guest::Step<'_>> = STEPS
        .iter()
        .map(|(name, command)| guest::Step { name, command })
        .collect();
    guest::run(
        &kernel,
        &programs,
        &steps,
        &tree.path("target/xtask/aarch64"),
    )
}

fn has(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|folder| folder.join(program).is_file())
}

/// Where packages are kept.
fn cache() -> Result<PathBuf> {
    let of = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let base = of("COLDFRAME_CACHE")
        .or_else(|| of("XDG_CACHE_HOME").map(|folder| folder.join("coldframe")))
        .or_else(|| of("HOME").map(|folder| folder.join(".cache/coldframe")))
        .context("none of COLDFRAME_CACHE, XDG_CACHE_HOME and HOME is set")?;
    Ok(base.join("aarch64"))
}

/// A program to run, and its name inside.
pub struct Program {
    path: PathBuf,
    name: &'static str,
}

fn build(tree: &Tree) -> Result<Vec<Program>> {
    let cli = artifact(tree, "build --package coldframe --bin coldframe")?;
    let tests = artifact(tree, "test --no-run --package coldframe-kvm --test it")?;
    Ok(vec![
        Program {
            path: cli,
            name: "coldframe",
        },
        Program {
            path: tests,
            name: "kvm-tests",
        },
    ])
}

/// Cross-builds one program, static.
fn artifact(tree: &Tree, verb: &str) -> Result<PathBuf> {
    println!("cargo {verb} --target {TARGET}");
    let mut command = exec::cargo(tree, verb);
    command.args(["--locked", "--target", TARGET]);
    command.args(["--message-format", "json-render-diagnostics"]);
    let upper = TARGET.replace('-', "_").to_uppercase();
    command.env(format!("CARGO_TARGET_{upper}_LINKER"), LINKER);
    command.env(
        format!("CARGO_TARGET_{upper}_RUSTFLAGS"),
        "-C target-feature=+crt-static",
    );
    command.stderr(std::process::Stdio::inherit());
    let output = command.output().context("starting cargo")?;
    if !output.status.success() {
        bail!("cargo {verb} failed; is the target there? `rustup target add {TARGET}`");
    }
    let messages = Message::parse_stream(output.stdout.as_slice());
    let mut programs = messages.filter_map(|message| match message {
        Ok(Message::CompilerArtifact(artifact)) => artifact.executable,
        _ => None,
    });
    let program = programs.next().context("cargo built no program")?;
    Ok(Path::new(program.as_str()).to_path_buf())
}
