//! The command line as data: every verb, its options, an example each.

mod convert;
pub mod disk;
mod journal;
mod portability;
pub mod store;
mod wal;

use std::path::PathBuf;

use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::human::parse_size;

pub use convert::{
    Export, ExportFirecracker, ExportRaw, Import, ImportFirecracker, ImportRaw, ImportTarget,
};
pub use journal::{Journal, JournalFile};
pub use portability::{AgainstHost, Waivers};
pub use wal::{Wal, WalCheck, WalFile};

/// Reads the name of a file or directory to make: a slash at its end, as a shell completes it, is
/// no part of the name, and `.`, `..` and `/` name what is there already.
fn new_name() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| {
        let path: PathBuf = path.components().collect();
        match path.file_name() {
            Some(_) => Ok(path),
            None => Err("it names no new file or directory: add a name, as in DIR/NAME"),
        }
    })
}

/// Freeze, thaw, inspect, verify and convert microVM snapshots.
///
/// Exit codes: 0 done or sound, 1 checked and found wanting, 2 wrong usage, 3 I/O or environment;
/// 141, as if by SIGPIPE, if nobody reads standard output any more.
#[derive(Debug, Parser)]
#[command(
    name = "coldframe",
    version,
    propagate_version = true,
    max_term_width = 100
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    Demo(Demo),
    Inspect(Inspect),
    Verify(Verify),
    /// Make a snapshot out of another program's memory dump.
    #[command(
        subcommand,
        after_help = "Example:\n  \
        truncate -s 64M guest.mem\n  \
        coldframe import raw guest.mem -o base"
    )]
    Import(Import),
    /// Write a snapshot's memory for another program.
    #[command(
        subcommand,
        after_help = "Example:\n  \
        coldframe demo --dir snapshots\n  \
        coldframe export raw snapshots/diff-3 -o guest.mem"
    )]
    Export(Export),
    Diff(Diff),
    Merge(Merge),
    Ls(Ls),
    Rm(Rm),
    Push(store::Push),
    Pull(store::Pull),
    /// Chunk stores: make, list, count, check, collect garbage.
    #[command(
        subcommand,
        after_help = "Example:\n  \
        coldframe store init --store chunks\n  \
        coldframe store stat --store chunks"
    )]
    Store(store::Store),
    Replay(Replay),
    /// Look into a ring WAL: its state, its records, what is wrong with it.
    #[command(
        subcommand,
        after_help = "Example, of a disk that was served:\n  \
        coldframe wal check chunks/wal/root.wal"
    )]
    Wal(Wal),
    /// Look into a typed journal: its state, its entries.
    #[command(
        subcommand,
        after_help = "Example:\n  \
        coldframe demo --workload input --record --dir d\n  \
        coldframe journal dump d/journal"
    )]
    Journal(Journal),
    /// Keep disk images in a chunk store, and serve them over NBD.
    #[command(
        subcommand,
        after_help = "Example:\n  \
        truncate -s 64M root.img\n  \
        coldframe disk import root.img --store chunks --name root\n  \
        coldframe disk serve root --store chunks --listen unix:root.sock"
    )]
    Disk(disk::Disk),
    Completions(Completions),
    #[command(hide = true)]
    Thaw(Thaw),
}

/// Boot a real guest, freeze it (one full snapshot and some diffs), thaw each snapshot in a fresh
/// process, and prove that every one ends exactly as the guest that was never stopped.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
        coldframe demo --ram 512MiB --diffs 6 --workload random --seed 99")]
pub struct Demo {
    #[command(flatten)]
    pub guest: Guest,
    /// How many diffs to take after the full snapshot.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub diffs: u32,
    /// Keep the snapshots and the console here (must not exist, or be empty).
    #[arg(long, value_name = "D")]
    pub dir: Option<PathBuf>,
    /// Type on the guest's console, give it the host's clock, and record both in D/journal: each
    /// snapshot is then replayed, and must end as the recorded guest did.
    #[arg(long)]
    pub record: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// The guest of a demo.
#[derive(Clone, Debug, Args)]
pub struct Guest {
    /// Guest memory.
    #[arg(long, value_name = "S", default_value = "256MiB", value_parser = parse_size)]
    pub ram: u64,
    /// Seed of the workload's pseudo-random choices.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// The guest program; without it hash, and input with --record.
    #[arg(long, value_name = "NAME", value_enum)]
    pub workload: Option<WorkloadName>,
    /// The machine under the guest; auto takes KVM where it can be used.
    #[arg(long, value_enum, default_value_t = Backend::Auto)]
    pub backend: Backend,
    /// Run this program instead: an ELF64 image, or a flat binary with --load-at and --entry.
    #[arg(long, value_name = "FILE")]
    pub payload: Option<PathBuf>,
    /// Where a flat binary is loaded and entered, as a guest address.
    #[arg(long, value_name = "ADDR", requires = "payload", value_parser = parse_address)]
    pub load_at: Option<u64>,
    /// The processor mode in which a flat binary is entered.
    #[arg(long, value_enum, requires = "payload")]
    pub entry: Option<EntryMode>,
}

/// The guest programs that come along.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WorkloadName {
    /// Running hash over a working set, with floating point and control registers.
    Hash,
    /// Touches every nth page.
    Stride,
    /// Touches pseudo-random pages.
    Random,
    /// Writes pages, then zeroes them.
    Zeroing,
    /// Touches a handful of pages.
    Idle,
    /// Two vCPUs that hand work to each other.
    Smp,
    /// Takes what is typed and the host's clock into its hash.
    Input,
}

/// The machine under the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// KVM where it can be used, else simulated, and says so.
    Auto,
    /// KVM, or exit 3.
    Kvm,
    /// A machine in software, for hosts without KVM.
    Simulated,
}

/// The processor mode in which a flat binary is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EntryMode {
    /// 16-bit real mode.
    Real,
    /// 32-bit protected mode without paging.
    Protected,
    /// 64-bit mode, low memory identity-mapped.
    Long,
    /// AArch64 at EL1 without paging.
    El1,
}

/// A hypervisor and an architecture whose plans can be printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PlanTarget {
    /// Linux KVM on x86_64.
    #[value(name = "kvm-x86_64")]
    KvmX86_64,
    /// Linux KVM on aarch64.
    #[value(name = "kvm-aarch64")]
    KvmAarch64,
    /// Hypervisor.framework on Apple silicon.
    #[value(name = "hvf-aarch64", alias = "hvf")]
    HvfAarch64,
}

/// Say what any coldframe file or snapshot directory is, without trusting it.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  \
        coldframe demo --dir snapshots
  \
        coldframe inspect snapshots/diff-1
  \
                  coldframe inspect --against-host snapshots/diff-1
  \
                  coldframe inspect --plan kvm-x86_64")]
pub struct Inspect {
    /// A snapshot directory, or one of its files.
    #[arg(required_unless_present = "plan")]
    pub path: Option<PathBuf>,
    /// Print the order in which a machine of this hypervisor and architecture is saved and
    /// restored: each step, who does it, what must precede it and why. Reads no file.
    #[arg(long, value_name = "TARGET", conflicts_with_all = ["path", "search", "against_host"])]
    pub plan: Option<PlanTarget>,
    /// Say where all that the snapshot is built on is, and look for parents here too.
    #[arg(long, value_name = "DIR", conflicts_with = "against_host")]
    pub search: Vec<PathBuf>,
    #[command(flatten)]
    pub against: AgainstHost,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Check snapshots and all that they are built on; one line for each damage.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
        coldframe demo --dir snapshots\n  \
        coldframe verify --deep snapshots/*/")]
pub struct Verify {
    /// Snapshot directories, or single files.
    #[arg(required = true)]
    pub paths: Vec<PathBuf>,
    /// Read every byte: block hashes, zero runs and padding too, not headers and tables alone.
    #[arg(long)]
    pub deep: bool,
    /// Look for parents here too.
    #[arg(long, value_name = "DIR")]
    pub search: Vec<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Make a diff snapshot: what must change in A's memory to get B's, with B's machine state.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
        coldframe demo --dir snapshots\n  \
        coldframe diff snapshots/full snapshots/diff-2 -o snapshots/delta")]
pub struct Diff {
    /// The parent-to-be.
    pub a: PathBuf,
    /// The snapshot whose memory and state the diff leads to.
    pub b: PathBuf,
    /// Look for parents here too.
    #[arg(long, value_name = "DIR")]
    pub search: Vec<PathBuf>,
    /// The snapshot directory to make.
    #[arg(short, long, value_name = "DIR", value_parser = new_name())]
    pub output: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Fold a chain into one snapshot: a full one, or with --down-to a diff against that ancestor.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
        coldframe demo --dir snapshots\n  \
        coldframe merge snapshots/diff-5 -o snapshots/flat")]
pub struct Merge {
    /// The youngest snapshot of the chain.
    pub snapshot: PathBuf,
    /// Fold only down to this ancestor, which stays the parent.
    #[arg(long, value_name = "ANCESTOR")]
    pub down_to: Option<PathBuf>,
    /// Look for parents here too.
    #[arg(long, value_name = "DIR")]
    pub search: Vec<PathBuf>,
    /// The snapshot directory to make.
    #[arg(short, long, value_name = "DIR", value_parser = new_name())]
    pub output: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// List the snapshots of a directory as a tree, with their own sizes and what they share.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
        coldframe demo --dir snapshots\n  \
        coldframe ls snapshots")]
pub struct Ls {
    /// The directory that holds the snapshot directories.
    pub dir: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Delete snapshots; one that others are built on, that is pinned or leased, stays.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
        coldframe demo --dir snapshots\n  \
        coldframe rm snapshots/diff-5\n  \
                  coldframe rm --damaged snapshots/diff-4")]
pub struct Rm {
    /// Snapshot directories.
    #[arg(required = true)]
    pub snapshots: Vec<PathBuf>,
    /// Take no account of children that were made in DIR: for a directory that is gone for good.
    #[arg(long, value_name = "DIR")]
    pub forget_children_in: Vec<PathBuf>,
    /// Delete snapshots whose manifest is damaged or gone, too: of each directory all that are
    /// named, or none if one that is not named is built on one of them, or may be.
    #[arg(long)]
    pub damaged: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Thaw a snapshot of a recorded guest, and lead it to a later moment: give it the inputs of the
/// journal at the same points of its course.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
        coldframe demo --workload input --record --dir d\n  \
        coldframe replay d/diff-2 --journal d/journal --to 320")]
pub struct Replay {
    /// The snapshot.
    pub snapshot: PathBuf,
    /// The journal that was recorded with it.
    #[arg(long, value_name = "FILE")]
    pub journal: PathBuf,
    /// Stop at this progress mark of the guest, not at its end.
    #[arg(long, value_name = "MARK", value_parser = parse_mark)]
    pub to: Option<u32>,
    /// Look for parents here too.
    #[arg(long, value_name = "DIR")]
    pub search: Vec<PathBuf>,
    #[command(flatten)]
    pub waivers: Waivers,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Print a completion script for a shell.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
        coldframe completions bash > coldframe.bash")]
pub struct Completions {
    /// The shell.
    pub shell: clap_complete::Shell,
}

/// Thaw a snapshot of `demo` on this host, run its guest to the end, and print the digest of that
/// as JSON. `demo` starts one such process for each snapshot.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
        coldframe demo --dir snapshots\n  \
        coldframe thaw snapshots/diff-2")]
pub struct Thaw {
    /// The snapshot.
    pub snapshot: PathBuf,
    /// How its memory is restored.
    #[arg(long, value_enum, default_value_t = RestoreMode::Map)]
    pub mode: RestoreMode,
    #[command(flatten)]
    pub waivers: Waivers,
}

/// How memory is restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RestoreMode {
    /// Mapped: pages are read when they are touched.
    Map,
    /// Copied before the guest runs.
    Copy,
}

/// Reads a guest address: `0x7c00`, or decimal.
fn parse_address(text: &str) -> Result<u64, String> {
    parse_number(text).ok_or_else(|| format!("'{text}' is no address: write 0x100000 or decimal"))
}

/// Reads a progress mark, likewise.
fn parse_mark(text: &str) -> Result<u32, String> {
    let mark = parse_number(text).and_then(|mark| u32::try_from(mark).ok());
    mark.ok_or_else(|| format!("'{text}' is no mark: write 0x140 or decimal, up to 32 bits"))
}

fn parse_number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}
