//! The arguments of `journal`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// What is done with a typed journal.
#[derive(Debug, Subcommand)]
pub enum Journal {
    /// Say what state a journal is in: parts, entries by kind, how it ends, what is damaged.
    #[command(after_help = "Example:\n  \
        coldframe demo --dir snapshots\n  \
        coldframe rm snapshots/diff-5\n  \
        coldframe journal stat snapshots/catalog")]
    Stat(JournalFile),
    /// Print every sound entry, on both sides of damage and of what the disk cannot read; unknown
    /// ones as bytes.
    #[command(after_help = "Example:\n  \
        coldframe demo --workload input --record --dir d\n  \
        coldframe journal dump d/journal --json")]
    Dump(JournalFile),
}

/// A journal.
#[derive(Debug, Args)]
pub struct JournalFile {
    /// The journal.
    pub file: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}
