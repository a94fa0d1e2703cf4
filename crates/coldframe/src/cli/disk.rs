//! The arguments of `coldframe disk`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use coldframe_chunks::TagName;
use coldframe_nbd::ListenAddr;

use super::new_name;
use super::store::{Cache, StoreText};
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
    Recover(Recover),
}

/// Make a disk of a raw image: a regular file or a block device.
///
/// An image of another format (qcow2, vmdk, vhd, vhdx, vdi, qed, compressed files) is refused by
/// name; --raw takes its bytes as they are.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
        truncate -s 64M root.img\n  \
        coldframe disk import root.img --store chunks --name root")]
pub struct Import {
    /// The raw image.
    pub image: PathBuf,
    /// Take the bytes as they are, whatever format they look like.
    #[arg(long)]
    pub raw: bool,
    /// The chunk store: a directory, file://, s3:// ...; it is made if it is not there.
    #[arg(long, value_name = "URL", value_parser = StoreText)]
    pub store: String,
    /// The name of the disk.
    #[arg(long, value_name = "TAG")]
    pub name: TagName,
    /// Read blocks when they are first used: the image must stay as it is, and be given as --base.
    #[arg(long)]
    pub lazy: bool,
    /// Overwrite TAG if it already exists; refused while a log may have changes of that disk.
    #[arg(long)]
    pub replace: bool,
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
    #[arg(long, value_name = "URL", value_parser = StoreText)]
    pub store: String,
    /// The image that the disk was imported from with --lazy.
    #[arg(long, value_name = "IMAGE")]
    pub base: Option<PathBuf>,
}

/// Which log a disk is read with. By itself it is the one that the store names for the disk, and
/// the default log; its changes are included.
#[derive(Debug, Args)]
pub struct ReadLog {
    /// Leave out what a log has: the disk as the store has it.
    #[arg(long, conflicts_with = "wal")]
    pub without_log: bool,
}

/// Write a disk as a raw image file, zeros as holes.
///
/// Changes that are in the disk's write-ahead log only are included. If that log is in use or not
/// found, nothing is written (exit 1).
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
        truncate -s 64M root.img\n  \
        coldframe disk import root.img --store chunks --name root\n  \
        coldframe disk export root --store chunks -o copy.img")]
pub struct Export {
    #[command(flatten)]
    pub which: Which,
    /// The file to make.
    #[arg(short, long, value_name = "FILE", value_parser = new_name())]
    pub output: PathBuf,
    /// The write-ahead log to include, where it is now.
    #[arg(long, value_name = "FILE")]
    pub wal: Option<PathBuf>,
    #[command(flatten)]
    pub read_log: ReadLog,
    #[command(flatten)]
    pub cache: Cache,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// List the disks of a store: sizes, what their blocks are, and logs that may have changes.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
        truncate -s 64M root.img\n  \
        coldframe disk import root.img --store chunks --name root\n  \
        coldframe disk ls --store chunks")]
pub struct Ls {
    /// The chunk store: a directory, file://, s3:// ...
    #[arg(long, value_name = "URL", value_parser = StoreText)]
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
    /// Go on although another log has changes of this disk: they are lost to it. For a log that is
    /// gone for good. Without --wal, a log that is damaged or of another disk is renamed first.
    #[arg(long)]
    pub abandon_log: bool,
    /// Take the log although it belongs to another store, of which this one is a copy or the other
    /// way round: its changes are lost to that one.
    #[arg(long)]
    pub take_log: bool,
}

/// Make a disk longer, or with --shrink shorter; nobody may be serving it.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
        truncate -s 64M root.img\n  \
        coldframe disk import root.img --store chunks --name root\n  \
        coldframe disk resize root --store chunks --size 20GiB")]
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
/// Without --read-only any disk is served for writing, a checkpoint too: what clients write moves
/// the tag that is served. Checkpoints keep what it pointed to.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
        truncate -s 64M root.img\n  \
        coldframe disk import root.img --store chunks --name root\n  \
        coldframe disk serve root --store chunks --listen unix:root.sock\n\n\
        The same for other hosts, with certificates:\n  \
        coldframe disk serve root --store chunks --listen tcp:0.0.0.0:10809 \\\n    \
        --tls-cert server.pem --tls-key server.key --tls-client-ca clients.pem")]
pub struct Serve {
    #[command(flatten)]
    pub which: Which,
    /// Where to listen: unix:PATH or tcp:HOST:PORT, where HOST is a name, an IPv4 address or an
    /// IPv6 address in brackets.
    #[arg(long, value_name = "ADDR")]
    pub listen: ListenAddr,
    #[command(flatten)]
    pub access: Access,
    /// Refuse writes. Changes that are only in the log are shown, and the log is not changed.
    #[arg(long, conflicts_with_all = ["abandon_log", "take_log"])]
    pub read_only: bool,
    #[command(flatten)]
    pub log: Log,
    #[command(flatten)]
    pub read_log: ReadLog,
    /// Memory for chunks that were read.
    #[arg(long, value_name = "S", default_value = "256MiB", value_parser = parse_size)]
    pub cache_size: u64,
    /// Keep chunks that were fetched from the store in this directory too, which other processes
    /// may use, and look there before the store: for a store that is far away.
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// The most that the directory of --cache may take; what was not used for longest goes.
    #[arg(
        long, value_name = "S", default_value = "4GiB", value_parser = parse_size,
        requires = "cache"
    )]
    pub cache_dir_size: u64,
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

/// Which clients may connect.
#[derive(Debug, Args)]
pub struct Access {
    /// The server's certificate chain, PEM: clients must use TLS.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The private key of that certificate, PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Certificate authorities, PEM: clients must have a certificate that one of them signed.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_client_ca: Option<PathBuf>,
    /// Listen on addresses that other hosts can reach, without --tls-client-ca: any host that can
    /// connect can read and write the disk.
    #[arg(long)]
    pub allow_unauthenticated: bool,
}

/// Keep a served disk as it is now under a name, while writing goes on.
#[derive(Debug, Args)]
#[command(
    after_help = "Example, of a disk that is served with `--control unix:root.ctl`:\n  \
        coldframe disk checkpoint --control unix:root.ctl --name root@monday"
)]
pub struct Checkpoint {
    /// The --control of the server: unix:PATH.
    #[arg(long, value_name = "ADDR", value_parser = parse_unix)]
    pub control: PathBuf,
    /// The name of the checkpoint.
    #[arg(long, value_name = "TAG")]
    pub name: TagName,
    /// Overwrite NAME if the tag exists already.
    #[arg(long)]
    pub replace: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Make a new disk of a write-ahead log and of the index that it is based on.
///
/// For a log that is refused: its disk was made anew, was moved on by another log, or is gone. The
/// log stays as it is. Of a log that is damaged or that the disk cannot read in places, --damaged
/// takes the sound records and names what is lost: what the lost ones changed is as it was before
/// them (exit 1).
#[derive(Debug, Args)]
#[command(after_help = "Example, of a disk whose server was killed:\n  \
        coldframe disk recover --wal chunks/wal/root.wal --store chunks --name rescued")]
pub struct Recover {
    /// The log.
    #[arg(long, value_name = "FILE")]
    pub wal: PathBuf,
    /// The chunk store: a directory, file://, s3:// ...
    #[arg(long, value_name = "URL", value_parser = StoreText)]
    pub store: String,
    /// The name of the new disk.
    #[arg(long, value_name = "TAG")]
    pub name: TagName,
    /// Take the sound records of a damaged log, without those that are lost.
    #[arg(long)]
    pub damaged: bool,
    /// The image that the disk was imported from with --lazy.
    #[arg(long, value_name = "IMAGE")]
    pub base: Option<PathBuf>,
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
