//! The verbs `import` and `export`: other programs' memory dumps.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::human::parse_size;

/// Where a snapshot comes from.
#[derive(Debug, Subcommand)]
pub enum Import {
    Raw(ImportRaw),
    Firecracker(ImportFirecracker),
}

/// From a raw dump of guest memory.
///
/// Without --parent it becomes a full snapshot. With --parent, only what is allocated in the
/// sparse file is taken as changed: a hole means "as in the parent".
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  coldframe import raw guest.mem --page-size 4KiB -o snapshots/base"
)]
pub struct ImportRaw {
    /// The dump; its length is the guest's memory.
    pub file: PathBuf,
    /// The page size of the snapshot.
    #[arg(long, value_name = "S", default_value = "4KiB", value_parser = parse_size)]
    pub page_size: u64,
    #[command(flatten)]
    pub target: ImportTarget,
}

/// From Firecracker's pair of files.
///
/// The state is checked by its CRC and kept whole; a diff's memory file needs --parent.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  coldframe import firecracker --state full.snap --mem full.mem -o base"
)]
pub struct ImportFirecracker {
    /// The state file.
    #[arg(long, value_name = "F")]
    pub state: PathBuf,
    /// The memory file.
    #[arg(long, value_name = "F")]
    pub mem: PathBuf,
    #[command(flatten)]
    pub target: ImportTarget,
}

/// What an import is made against and where it goes.
#[derive(Debug, Args)]
pub struct ImportTarget {
    /// The snapshot that this one is a diff of.
    #[arg(long, value_name = "SNAP")]
    pub parent: Option<PathBuf>,
    /// The snapshot directory to make.
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// What is written.
#[derive(Debug, Subcommand)]
pub enum Export {
    Raw(ExportRaw),
    Firecracker(ExportFirecracker),
}

/// The guest memory, flattened, as raw bytes.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  coldframe export raw snapshots/diff-3 -o guest.mem --sparse")]
pub struct ExportRaw {
    /// The snapshot.
    pub snapshot: PathBuf,
    /// The file to make.
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Leave zero pages as holes.
    #[arg(long)]
    pub sparse: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// A `state` and `mem` pair that Firecracker loads; the snapshot must have come from one.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  coldframe export firecracker snapshots/diff-1 -o pair")]
pub struct ExportFirecracker {
    /// The snapshot.
    pub snapshot: PathBuf,
    /// The directory to make.
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}
