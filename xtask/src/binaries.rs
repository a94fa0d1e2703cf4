//! Test binaries: built by cargo, and run without it.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use cargo_metadata::Message;

/// The tests of a crate.
pub struct Binary {
    /// The crate.
    pub name: String,
    /// The target of that crate, such as `it`.
    pub target: String,
    /// The program.
    pub path: PathBuf,
    /// Where it expects to run.
    pub folder: PathBuf,
}

/// Runs a `cargo test --no-run`; returns what it built, or had built before.
pub fn build(command: &mut Command) -> Result<Vec<Binary>> {
    command.args(["--message-format", "json-render-diagnostics"]);
    let output = command.stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "the tests do not build");
    let mut binaries = Vec::new();
    for message in Message::parse_stream(output.stdout.as_slice()) {
        // A command whose tests run it is built, too.
        if let Message::CompilerArtifact(artifact) = message?
            && artifact.profile.test
            && let Some(path) = artifact.executable
        {
            let folder = artifact.manifest_path.parent().context("a manifest in /")?;
            binaries.push(Binary {
                name: folder.file_name().unwrap_or_default().to_owned(),
                target: artifact.target.name,
                path: path.into(),
                folder: folder.into(),
            });
        }
    }
    Ok(binaries)
}
