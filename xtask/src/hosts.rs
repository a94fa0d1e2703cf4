//! The tests on hosts of several kinds: file systems, users, with KVM and without.
//!
//! Each test binary runs in mount and PID namespaces of its own (unshare(1)), where the temporary
//! directory is on a file system that was made for it. After each run nothing may be left there: no
//! process, and no file in the temporary directory, in /tmp or in /dev/shm. An ordinary user cannot
//! write anywhere else. Then it is run again and interrupted, as by a terminal's Ctrl-C, and the
//! same holds.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use clap::{Args, ValueEnum};

use crate::binaries::{self, Binary};
use crate::exec::{self, Done};
use crate::tree::Tree;
use crate::verdict::{self, Verdict};

/// What runs inside of the namespaces.
const INSIDE: &str = include_str!("hosts/inside.sh");

/// The length of the images, which are sparse files.
const IMAGE: u64 = 6 << 30;

/// The longest that a binary may run.
const SECONDS_MAX: &str = "3600";

/// What timeout(1) exits with if the time is up.
const TIMED_OUT: i32 = 124;

/// A short form for `ci`: crates whose tests take seconds.
const QUICK: [&str; 3] = ["coldframe-storage", "coldframe-mem", "coldframe-ring"];

/// Which hosts, and which tests.
#[derive(Args)]
pub struct Matrix {
    /// File systems of the temporary directory.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "ext4,tmpfs,overlayfs,btrfs"
    )]
    fs: Vec<FileSystem>,
    /// Who runs the tests.
    #[arg(long, value_delimiter = ',', default_value = "root,nobody")]
    user: Vec<User>,
    /// Whether there is a /dev/kvm.
    #[arg(long, value_delimiter = ',', default_value = "yes,no")]
    kvm: Vec<Kvm>,
    /// Crates whose tests are run; all but xtask when left out.
    #[arg(long = "crate", value_delimiter = ',', value_name = "NAME")]
    crates: Vec<String>,
    /// Interrupt each binary after so many seconds, in runs of their own; 0 for no such runs.
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS")]
    interrupt: f64,
    /// Arguments for the test binaries, such as a filter.
    #[arg(last = true)]
    args: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum FileSystem {
    Ext4,
    Tmpfs,
    Overlayfs,
    Btrfs,
}

impl FileSystem {
    /// The program that makes it in an image, and its arguments.
    fn maker(self) -> Option<[&'static str; 2]> {
        match self {
            Self::Tmpfs => None,
            Self::Ext4 | Self::Overlayfs => Some(["mkfs.ext4", "-q"]),
            Self::Btrfs => Some(["mkfs.btrfs", "-q"]),
        }
    }
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum User {
    Root,
    Nobody,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Kvm {
    Yes,
    No,
}

/// A value by the name that it has on the command line.
fn name_of(value: &impl ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

/// A kind of host.
#[derive(Clone, Copy)]
struct Host {
    fs: FileSystem,
    user: User,
    kvm: Kvm,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (fs, user) = (name_of(&self.fs), name_of(&self.user));
        let kvm = match self.kvm {
            Kvm::Yes => "kvm",
            Kvm::No => "no-kvm",
        };
        write!(f, "{fs} {user} {kvm}")
    }
}

/// Runs all tests on all of these hosts; false if one failed or left something behind.
pub fn run(tree: &Tree, matrix: &Matrix) -> Result<bool> {
    if let Some(reason) = missing(matrix) {
        bail!("{reason}");
    }
    let (verdict, table) = run_all(tree, matrix, true)?;
    print!("\n{table}");
    Ok(verdict.failed == 0)
}

/// The short form, for `ci`.
pub fn quick(tree: &Tree) -> Result<Verdict> {
    let matrix = Matrix {
        fs: vec![FileSystem::Overlayfs],
        user: vec![User::Nobody],
        kvm: vec![Kvm::No],
        crates: QUICK.map(str::to_owned).to_vec(),
        interrupt: 1.0,
        args: Vec::new(),
    };
    if let Some(reason) = missing(&matrix) {
        return Ok(Verdict::missing("hosts", &format!("hosts: {reason}")));
    }
    let (verdict, table) = run_all(tree, &matrix, false)?;
    let detail = if verdict.failed == 0 {
        String::new()
    } else {
        table
    };
    Ok(Verdict::of(verdict.failed == 0, detail))
}

/// What of this host keeps others from being made on it.
fn missing(matrix: &Matrix) -> Option<String> {
    if !cfg!(target_os = "linux") {
        return Some("namespaces and loop mounts are Linux's".to_owned());
    }
    let id = Command::new("id").arg("-u").output();
    if !id.is_ok_and(|id| id.stdout == b"0\n") {
        return Some("only root can mount file systems and become another user".to_owned());
    }
    if matrix.kvm.contains(&Kvm::Yes) && !Path::new("/dev/kvm").exists() {
        return Some("there is no /dev/kvm: give `--kvm no`".to_owned());
    }
    let makers = matrix.fs.iter().filter_map(|fs| fs.maker());
    let makers = makers.map(|[program, _]| (program, "-V"));
    let others = ["unshare", "setpriv", "timeout"].map(|program| (program, "--version"));
    for (program, version) in makers.chain(others) {
        if !exec::works(Command::new(program).arg(version)) {
            return Some(format!("{program} is not installed"));
        }
    }
    // A container's root may not.
    let mut tried = Command::new("unshare");
    tried.args([
        "--mount", "--pid", "--fork", "mount", "-t", "tmpfs", "tmpfs", "/mnt",
    ]);
    if !exec::works(&mut tried) {
        return Some("nothing can be mounted here, not even in a namespace".to_owned());
    }
    None
}

/// Runs everything, and adds up; `shows` prints each run when it has ended.
fn run_all(tree: &Tree, matrix: &Matrix, shows: bool) -> Result<(Verdict, String)> {
    let mut command = exec::cargo(tree, "test --workspace --locked --no-run");
    let mut binaries = binaries::build(&mut command)?;
    // Those check the tree, and nothing of the host.
    binaries.retain(|binary| binary.name != "xtask");
    for name in &matrix.crates {
        let is_there = binaries.iter().any(|binary| binary.name == *name);
        ensure!(is_there, "{name}: no such crate, or one without tests");
    }
    let is_chosen =
        |binary: &&Binary| matrix.crates.is_empty() || matrix.crates.contains(&binary.name);
    let chosen: Vec<&Binary> = binaries.iter().filter(is_chosen).collect();
    let (mut total, mut table) = (Verdict::default(), String::new());
    for host in hosts(matrix) {
        let of_host = run_host(tree, matrix, host, &chosen, shows)?;
        table += &row(host, &of_host);
        total.add(&of_host);
    }
    table += &skipped(&total.detail);
    Ok((total, table))
}

/// All combinations.
fn hosts(matrix: &Matrix) -> Vec<Host> {
    let mut all = Vec::new();
    for &fs in &matrix.fs {
        for &user in &matrix.user {
            all.extend(matrix.kvm.iter().map(|&kvm| Host { fs, user, kvm }));
        }
    }
    all
}

/// Runs the binaries on one host.
fn run_host(
    tree: &Tree,
    matrix: &Matrix,
    host: Host,
    binaries: &[&Binary],
    shows: bool,
) -> Result<Verdict> {
    let folder = tree.path("target/xtask/hosts");
    std::fs::create_dir_all(&folder)?;
    // Another run may be under way.
    let image = folder.join(format!("image-{}", std::process::id()));
    if let Some([program, quiet]) = host.fs.maker() {
        let _absent = std::fs::remove_file(&image);
        File::create(&image)?.set_len(IMAGE)?;
        let made = exec::works(Command::new(program).arg(quiet).arg(&image));
        ensure!(made, "{program} {} failed", image.display());
    }
    let mut total = Verdict::default();
    for binary in binaries {
        let started = Instant::now();
        let mut verdict = run_whole(tree, matrix, host, &image, binary)?;
        if matrix.interrupt > 0.0 {
            verdict.add(&interrupt(tree, matrix, host, &image, binary)?);
        }
        // Targets without tests say nothing.
        let is_empty = verdict.passed + verdict.failed + verdict.skipped == 0;
        if shows && !is_empty {
            let (name, secs) = (&binary.name, started.elapsed().as_secs_f64());
            let target = &binary.target;
            println!(
                "{host:<24} {name:<20} {target:<20} {}{secs:>7.1} s",
                counts(&verdict)
            );
            for line in verdict
                .detail
                .lines()
                .filter(|line| !line.starts_with("SKIPPED"))
            {
                println!("    {line}");
            }
        }
        total.add(&verdict);
    }
    let _absent = std::fs::remove_file(&image);
    Ok(total)
}

/// Runs a binary to its end.
fn run_whole(
    tree: &Tree,
    matrix: &Matrix,
    host: Host,
    image: &Path,
    binary: &Binary,
) -> Result<Verdict> {
    let (code, output) = inside(tree, matrix, host, image, binary, ["TERM", SECONDS_MAX])?;
    let ok = code == 0;
    let mut verdict = verdict::of_tests(
        &Done {
            ok,
            output: output.clone(),
        },
        &[],
    );
    verdict.add(&left(&output));
    Ok(verdict)
}

/// Runs a binary, and interrupts it: what it says of its tests does not count.
fn interrupt(
    tree: &Tree,
    matrix: &Matrix,
    host: Host,
    image: &Path,
    binary: &Binary,
) -> Result<Verdict> {
    let after = matrix.interrupt.to_string();
    let (code, output) = inside(tree, matrix, host, image, binary, ["INT", &after])?;
    let mut verdict = left(&output);
    if verdict.failed > 0 {
        verdict.detail.insert_str(0, "interrupted:\n");
    }
    // One that had ended before was no test of this.
    if code == TIMED_OUT {
        verdict.passed += usize::from(verdict.failed == 0);
    }
    Ok(verdict)
}

/// Runs a binary in its namespaces; returns its exit status, and all that was printed.
fn inside(
    tree: &Tree,
    matrix: &Matrix,
    host: Host,
    image: &Path,
    binary: &Binary,
    until: [&str; 2],
) -> Result<(i32, String)> {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    command.args(["sh", "-c", INSIDE, "inside"]);
    command.args([name_of(&host.fs), name_of(&host.user), name_of(&host.kvm)]);
    command.arg(image).args(until);
    command.arg(&binary.path).args(&matrix.args);
    command.env_remove("COLDFRAME_REQUIRE");
    command.env("CARGO_MANIFEST_DIR", &binary.folder);
    command.current_dir(&binary.folder);
    command.stdin(std::process::Stdio::null());
    let host = host.to_string().replace(' ', "-");
    let [signal, _] = until;
    let log = format!("hosts/{host}-{}-{}-{signal}", binary.name, binary.target);
    let (code, output) = exec::logged_status(tree, &log, &mut command)?;
    Ok((code.unwrap_or(-1), output))
}

/// What the script found when the binary was gone, as one failed check.
pub fn left(output: &str) -> Verdict {
    let lines = output.lines().filter(|line| line.starts_with("LEFT: "));
    let detail: String = lines.flat_map(|line| [line, "\n"]).collect();
    Verdict {
        failed: usize::from(!detail.is_empty()),
        detail,
        ..Verdict::default()
    }
}

fn counts(verdict: &Verdict) -> String {
    let (passed, failed, skipped) = (verdict.passed, verdict.failed, verdict.skipped);
    format!("{passed:>5} passed, {failed:>3} failed, {skipped:>3} skipped")
}

fn row(host: Host, verdict: &Verdict) -> String {
    format!("{:<24} {}\n", host.to_string(), counts(verdict))
}

/// The reasons of all skipped tests, with how many tests each was given by.
pub fn skipped(detail: &str) -> String {
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for line in detail
        .lines()
        .filter_map(|line| line.strip_prefix("SKIPPED: "))
    {
        let Some((reason, tests)) = line.rsplit_once(" (") else {
            continue;
        };
        let tests = tests.split(' ').next().unwrap_or_default();
        *reasons.entry(reason).or_default() += tests.parse().unwrap_or(0);
    }
    let line = |(reason, tests): (&str, usize)| format!("SKIPPED: {reason} ({tests} tests)\n");
    reasons.into_iter().map(line).collect()
}
