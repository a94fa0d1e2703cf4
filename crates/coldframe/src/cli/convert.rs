//! The verbs `import` and `export`: other programs' memory dumps.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use coldframe_units::GuestRegion;

use super::new_name;
use crate::human::{parse_region, parse_size};

/// Where a snapshot comes from.
#[derive(Debug, Subcommand)]
pub enum Import {
    Raw(ImportRaw),
    Firecracker(ImportFirecracker),
}

/// From a raw dump of guest memory.
///
/// FILE is the guest's RAM as plain bytes, in a file or on a block device. Without --parent it
/// becomes a full snapshot. With --parent, only what is allocated in the sparse file is taken as
/// changed: a hole means "as in the parent", and an allocated zero page means zero. A file whose
/// holes cannot say that is refused: it has none, they are coarser than a page, or a zero page is
/// the first, or in 64 KiB (aligned) without a hole, which may have been filled up by a file system
/// or a copier.
/// Copy a dump so that its holes stay as they are (tar -S, cp --reflink=always): a tool that makes
/// holes of zeros (GNU cp does for a sparse file, rsync -S, qemu-img convert) makes pages that
/// became zero unchanged ones, and nothing in the copy tells. The output of `export raw --sparse`
/// is a full dump: its holes are zero, and it needs no --parent.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
        truncate -s 64M guest.mem\n  \
        coldframe import raw guest.mem --page-size 4KiB -o base")]
pub struct ImportRaw {
    /// The dump; its length is the guest's memory.
    pub file: PathBuf,
    /// The page size of the snapshot.
    #[arg(long, value_name = "S", default_value = "4KiB", value_parser = parse_size)]
    pub page_size: u64,
    /// Take FILE as plain memory even if it begins as an image, an archive or a core dump does.
    #[arg(long)]
    pub raw: bool,
    #[command(flatten)]
    pub target: ImportTarget,
}

/// From Firecracker's pair of files.
///
/// The state is checked by its CRC and kept whole; the RAM layout is read from it (Firecracker 1.7
/// to 1.17, memory hotplug included). A diff's memory file needs --parent: a hole in it means "as
/// in the parent", under the rules of `import raw`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example, of the two files of a snapshot of Firecracker:\n  \
        coldframe import firecracker --state full.snap --mem full.mem -o base"
)]
pub struct ImportFirecracker {
    /// The state file.
    #[arg(long, value_name = "F")]
    pub state: PathBuf,
    /// The memory file.
    #[arg(long, value_name = "F")]
    pub mem: PathBuf,
    /// A region of RAM, in the order of the memory file; repeat for each. Needed only for a
    /// snapshot format that is not known, and checked against the state otherwise.
    #[arg(long, value_name = "ADDR+LEN", value_parser = parse_region)]
    pub ram: Vec<GuestRegion>,
    #[command(flatten)]
    pub target: ImportTarget,
}

/// What an import is made against and where it goes.
#[derive(Debug, Args)]
pub struct ImportTarget {
    /// The snapshot that this one is a diff of.
    #[arg(long, value_name = "SNAP")]
    pub parent: Option<PathBuf>,
    /// With --parent: take every allocated page of the dump as changed, and so an allocated zero
    /// page as zero, whatever its holes look like. For a dump as its writer left it.
    #[arg(long, requires = "parent", visible_alias = "trust-holes")]
    pub assume_dense: bool,
    /// With --parent: take zero pages as unchanged, allocated or not. For a copy without holes,
    /// if no page became zero.
    #[arg(long, requires = "parent", conflicts_with = "assume_dense")]
    pub zeros_are_clean: bool,
    /// The snapshot directory to make.
    #[arg(short, long, value_name = "DIR", value_parser = new_name())]
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
#[command(after_help = "Example:\n  \
        coldframe demo --dir snapshots\n  \
        coldframe export raw snapshots/diff-3 -o guest.mem --sparse")]
pub struct ExportRaw {
    /// The snapshot.
    pub snapshot: PathBuf,
    /// The file to make.
    #[arg(short, long, value_name = "FILE", value_parser = new_name())]
    pub output: PathBuf,
    /// Leave zero pages as holes.
    #[arg(long)]
    pub sparse: bool,
    /// Look for parents here too.
    #[arg(long, value_name = "DIR")]
    pub search: Vec<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// A `state` and `mem` pair that Firecracker loads; the snapshot must have come from one.
#[derive(Debug, Args)]
#[command(
    after_help = "Example, of a snapshot that was imported from Firecracker:\n  \
        coldframe export firecracker base -o pair"
)]
pub struct ExportFirecracker {
    /// The snapshot.
    pub snapshot: PathBuf,
    /// The directory to make.
    #[arg(short, long, value_name = "DIR", value_parser = new_name())]
    pub output: PathBuf,
    /// Look for parents here too.
    #[arg(long, value_name = "DIR")]
    pub search: Vec<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}
