//! The other stores, each as its own documentation has it used. Those that are not installed are
//! left out, and said to be.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};

use super::contest::Contestant;

/// All that are here.
pub fn installed() -> Vec<Box<dyn Contestant>> {
    let all: [Box<dyn Contestant>; 3] = [Box::new(Borg), Box::new(Casync), Box::new(Restic)];
    let mut here: Vec<Box<dyn Contestant>> = Vec::new();
    for peer in all {
        // restic knows no --version.
        let asked = Command::new("sh")
            .args(["-c", "command -v \"$0\"", peer.name()])
            .output();
        if asked.is_ok_and(|output| output.status.success()) {
            here.push(peer);
        } else {
            eprintln!("bench: no peer {}: it is not installed", peer.name());
        }
    }
    #[cfg(feature = "chunk-peers")]
    here.push(Box::new(super::shuru::Shuru));
    here
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.stderr(Stdio::piped()).spawn()?.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {said}");
    Ok(())
}

/// Chunks of 64 KiB at fixed places, Zstandard 1, no encryption: the quickest for disk images.
struct Borg;

impl Borg {
    fn command(dir: &Path, arg: &str) -> Command {
        let mut command = Command::new("borg");
        command.env("BORG_BASE_DIR", dir.join("cache"));
        command.env("BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK", "yes");
        command.arg(arg).stdout(Stdio::null());
        command
    }

    fn archive(dir: &Path, name: &str) -> String {
        format!("{}::{name}", dir.join("repo").display())
    }
}

impl Contestant for Borg {
    fn name(&self) -> &'static str {
        "borg"
    }

    fn prepare(&self, dir: &Path) -> Result<()> {
        run(Self::command(dir, "init")
            .args(["-e", "none"])
            .arg(dir.join("repo")))
    }

    fn ingest(&self, dir: &Path, image: &Path, name: &str) -> Result<()> {
        let options = ["-C", "zstd,1", "--chunker-params", "fixed,65536"];
        run(Self::command(dir, "create")
            .args(options)
            .args([&Self::archive(dir, name), "-"])
            .stdin(File::open(image)?))
    }

    fn restore(&self, dir: &Path, name: &str, out: &Path) -> Result<()> {
        run(Self::command(dir, "extract")
            .args(["--stdout", &Self::archive(dir, name), "stdin"])
            .stdout(File::create_new(out)?))
    }
}

/// Chunks of 64 KiB on average, cut by content; a file for each.
struct Casync;

impl Casync {
    fn command(dir: &Path, verb: &str) -> Command {
        let mut command = Command::new("casync");
        let store = dir.join("repo/store.castr");
        command
            .arg(verb)
            .arg(format!("--store={}", store.display()));
        command.stdout(Stdio::null());
        command
    }
}

impl Contestant for Casync {
    fn name(&self) -> &'static str {
        "casync"
    }

    fn prepare(&self, dir: &Path) -> Result<()> {
        Ok(fs::create_dir(dir.join("repo"))?)
    }

    fn ingest(&self, dir: &Path, image: &Path, name: &str) -> Result<()> {
        let index = dir.join("repo").join(format!("{name}.caibx"));
        run(Self::command(dir, "make").args([&index, image]))
    }

    fn restore(&self, dir: &Path, name: &str, out: &Path) -> Result<()> {
        let index = dir.join("repo").join(format!("{name}.caibx"));
        run(Self::command(dir, "extract").args([&index, out]))
    }
}

/// Chunks of 512 KiB to 8 MiB, cut by content, Zstandard, encrypted: it cannot be told not to.
struct Restic;

impl Restic {
    fn command(dir: &Path, verb: &str) -> Command {
        let mut command = Command::new("restic");
        command.env("RESTIC_PASSWORD", "bench");
        command.env("RESTIC_CACHE_DIR", dir.join("cache"));
        command.arg("-r").arg(dir.join("repo")).arg(verb);
        command.stdout(Stdio::null());
        command
    }
}

impl Contestant for Restic {
    fn name(&self) -> &'static str {
        "restic"
    }

    fn prepare(&self, dir: &Path) -> Result<()> {
        run(&mut Self::command(dir, "init"))
    }

    fn ingest(&self, dir: &Path, image: &Path, name: &str) -> Result<()> {
        run(Self::command(dir, "backup")
            .args(["--stdin", "--stdin-filename", name])
            .stdin(File::open(image)?))
    }

    fn restore(&self, dir: &Path, name: &str, out: &Path) -> Result<()> {
        run(Self::command(dir, "dump")
            .args(["--path", &format!("/{name}"), "latest", name])
            .stdout(File::create_new(out)?))
    }
}
