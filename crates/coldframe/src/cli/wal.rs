//! The arguments of `wal`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::human::parse_size;

/// What is done with a ring WAL.
#[derive(Debug, Subcommand)]
pub enum Wal {
    /// Say what state a log is in: sequences, sizes, how it ends, what is damaged.
    #[command(after_help = "Example, of a disk that was served:\n  \
        coldframe wal stat chunks/wal/root.wal")]
    Stat(WalFile),
    /// Print every sound record, on both sides of damage and of what the disk cannot read, and what
    /// is missing between them.
    #[command(after_help = "Example, of a disk that was served:\n  \
        coldframe wal dump chunks/wal/root.wal --json")]
    Dump(WalFile),
    /// Look for all that is wrong with a log, and plan a repair that keeps every sound record.
    ///
    /// Bytes that the disk cannot read are named and never repaired in place: `disk recover
    /// --damaged` takes the records around them.
    #[command(after_help = "Example, of a disk that was served:\n  \
        coldframe wal check chunks/wal/root.wal --apply")]
    Check(WalCheck),
}

/// A log in a file.
#[derive(Debug, Args)]
pub struct WalFile {
    /// The file that the log is in.
    pub file: PathBuf,
    /// Where the log's region begins in the file; without it, at the beginning.
    #[arg(long, value_name = "O", value_parser = parse_place)]
    pub offset: Option<u64>,
    /// How large the region is; without it, all that is left of the file.
    #[arg(long, value_name = "S", value_parser = parse_place)]
    pub size: Option<u64>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// A log, and whether it may be written to.
#[derive(Debug, Args)]
pub struct WalCheck {
    #[command(flatten)]
    pub log: WalFile,
    /// Do what the plan says; without it nothing is written.
    #[arg(long)]
    pub apply: bool,
}

/// Reads a size, or `0x2000`.
fn parse_place(text: &str) -> Result<u64, String> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16)
            .map_err(|_| format!("'{text}' is no offset: write 0x2000, 8KiB or plain bytes")),
        None => parse_size(text),
    }
}
