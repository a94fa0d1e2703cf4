//! The arguments of `coldframe disk`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use coldframe_chunks::TagName;
use coldframe_nbd::ListenAddr;

use super::new_name;
use crate::human::parse_size;

/// Disk images as chunk indexes.
#[derive(Debug, Subcommand)]
pub enum Disk {
    Import(Import),
    Export(Export),
    Ls(Ls),
    Resize(Resize),
    Serve(Serve),
    Checkpoint(Checkpoint),
}

/// Make a disk of a raw image file.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  coldframe disk import root.img --store chunks --name root")]
pub struct Import {
    /// The raw image.
    pub image: PathBuf,
    /// The chunk store: a directory, file://, s3:// ...; it is made if it is not there.
    #[arg(long, value_name = "URL")]
    pub store: String,
    /// The name of the disk.
    #[arg(long, value_name = "TAG")]
    pub name: TagName,
    /// Read blocks when they are first used: the image must stay as it is, and be given as --base.
    #[arg(long)]
    pub lazy: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Which disk of which store.
#[derive(Debug, Args)]
pub struct Which {
    /// The name of the disk.
    #[arg(value_name = "TAG")]
    pub name: TagName,
    /// The chunk store: a directory, file://, s3:// ...
    #[arg(long, value_name = "URL")]
    pub store: String,
    /// The image that the disk was imported from with --lazy.
    #[arg(long, value_name = "IMAGE")]
    pub base: Option<PathBuf>,
}

/// Write a disk as a raw image file, zeros as holes.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  coldframe disk export root --store chunks -o root.img")]
pub struct Export {
    #[command(flatten)]
    pub which: Which,
    /// The file to make.
    #[arg(short, long, value_name = "FILE", value_parser = new_name())]
    pub output: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// List the disks of a store: sizes, and what their blocks are.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  coldframe disk ls --store chunks")]
pub struct Ls {
    /// The chunk store: a directory, file://, s3:// ...
    #[arg(long, value_name = "URL")]
    pub store: String,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Where changes go before they are in the store.
#[derive(Debug, Args)]
pub struct Log {
    /// The write-ahead log, a local file; made if it is not there. Without it, wal/TAG.wal in a
    /// store that is a directory.
    #[arg(long, value_name = "FILE")]
    pub wal: Option<PathBuf>,
    /// The size of a log that is made.
    #[arg(long, value_name = "S", default_value = "256MiB", value_parser = parse_size)]
    pub wal_size: u64,
}

/// Make a disk longer, or with --shrink shorter; nobody may be serving it.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  coldframe disk resize root --store chunks --size 20GiB")]
pub struct Resize {
    #[command(flatten)]
    pub which: Which,
    /// The new size; 0 keeps the old one.
    #[arg(long, value_name = "S", value_parser = parse_size)]
    pub size: u64,
    /// Cut the end off, if the new size is smaller.
    #[arg(long)]
    pub shrink: bool,
    #[command(flatten)]
    pub log: Log,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Serve a disk to NBD clients until SIGTERM or SIGINT; then flush, and exit 0.
///
/// What clients write moves the tag; checkpoints keep what it stood for.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  coldframe disk serve root --store chunks --listen unix:root.sock"
)]
pub struct Serve {
    #[command(flatten)]
    pub which: Which,
    /// Where to listen: unix:PATH or tcp:ADDR:PORT.
    #[arg(long, value_name = "ADDR")]
    pub listen: ListenAddr,
    /// Refuse writes; needs no log.
    #[arg(long)]
    pub read_only: bool,
    #[command(flatten)]
    pub log: Log,
    /// Memory for chunks that were read.
    #[arg(long, value_name = "S", default_value = "256MiB", value_parser = parse_size)]
    pub cache_size: u64,
    /// Memory for where changes lie in the log; at half of it they are brought into the store.
    #[arg(long, value_name = "S", default_value = "256MiB", value_parser = parse_size)]
    pub dirty_size: u64,
    /// Where to listen for `disk checkpoint`: unix:PATH.
    #[arg(long, value_name = "ADDR", conflicts_with = "read_only", value_parser = parse_unix)]
    pub control: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Keep a served disk as it is now under a name, while writing goes on.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  coldframe disk checkpoint --control unix:root.ctl --name root@monday"
)]
pub struct Checkpoint {
    /// The --control of the server: unix:PATH.
    #[arg(long, value_name = "ADDR", value_parser = parse_unix)]
    pub control: PathBuf,
    /// The name of the checkpoint.
    #[arg(long, value_name = "TAG")]
    pub name: TagName,
    /// Let the name stand for it if it stands for something else.
    #[arg(long)]
    pub replace: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Reads `unix:PATH`.
fn parse_unix(text: &str) -> Result<PathBuf, String> {
    let path = text.strip_prefix("unix:").filter(|path| !path.is_empty());
    let path = path.ok_or_else(|| format!("'{text}' is no address: write unix:PATH"));
    path.map(PathBuf::from)
}
