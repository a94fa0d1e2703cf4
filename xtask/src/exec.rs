//! Running other programs: without stdin, and with all they print in a log under `target/xtask/`.

use std::fs::File;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::tree::Tree;

/// What a program did.
pub struct Done {
    /// Whether it ended well.
    pub ok: bool,
    /// All that it printed.
    pub output: String,
}

/// The cargo that runs this program, with these arguments (separated by blanks).
pub fn cargo(tree: &Tree, args: &str) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command
        .args(args.split_ascii_whitespace())
        .current_dir(tree.root())
        .env_remove("RUSTFLAGS")
        .stdin(Stdio::null());
    without_package(&mut command);
    command
}

/// Removes what `cargo run` tells this program about its own package (the Cargo Book, "Environment
/// variables"). A build script that names one of these variables as an input, as that of ring does,
/// would run again, and all that depends on it be compiled again, whenever `cargo xtask` and plain
/// cargo alternate.
fn without_package(command: &mut Command) {
    let of_package = |name: &str| {
        ["CARGO_PKG_", "CARGO_MANIFEST_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
    };
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(of_package) {
            command.env_remove(name);
        }
    }
}

/// The same with the nightly toolchain.
pub fn nightly_cargo(tree: &Tree, args: &str) -> Command {
    let mut command = Command::new("rustup");
    command
        .args(["run", "nightly", "cargo"])
        .args(args.split_ascii_whitespace())
        .current_dir(tree.root())
        .env_remove("CARGO")
        .env_remove("RUSTUP_TOOLCHAIN")
        .stdin(Stdio::null());
    without_package(&mut command);
    command
}

/// Whether a command can be started and ends well.
pub fn works(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Runs a command into the log of this name.
pub fn logged(tree: &Tree, name: &str, command: &mut Command) -> Result<Done> {
    let (status, output) = logged_status(tree, name, command)?;
    let ok = status == Some(0);
    Ok(Done { ok, output })
}

/// The same; also returns its exit status, which one that a signal ended has not.
pub fn logged_status(
    tree: &Tree,
    name: &str,
    command: &mut Command,
) -> Result<(Option<i32>, String)> {
    let folder = tree.path("target/xtask");
    std::fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{name}.log"));
    let log = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
    let status = command
        .stdout(log.try_clone()?)
        .stderr(log)
        .status()
        .with_context(|| format!("starting {:?}", command.get_program()))?;
    let output = String::from_utf8_lossy(&std::fs::read(&path)?).into_owned();
    Ok((status.code(), output))
}

/// Runs a command with our own output.
pub fn shown(command: &mut Command) -> Result<bool> {
    let status = command
        .status()
        .with_context(|| format!("starting {:?}", command.get_program()))?;
    Ok(status.success())
}

/// Whether `COLDFRAME_REQUIRE` lists this: then it may not be skipped.
pub fn is_required(what: &str) -> bool {
    required().iter().any(|item| item == what)
}

/// All that `COLDFRAME_REQUIRE` lists.
pub fn required() -> Vec<String> {
    let list = std::env::var("COLDFRAME_REQUIRE").unwrap_or_default();
    list.split(',')
        .map(|item| item.trim().to_owned())
        .filter(|item| !item.is_empty())
        .collect()
}
