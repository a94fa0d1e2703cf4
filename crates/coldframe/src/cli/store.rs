//! Verbs around a chunk store: `push`, `pull`, `store ...`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::TypedValueParser;
use clap::{Arg, Args, Command, Subcommand};
use coldframe_chunks::TagName;
use coldframe_units::RootHash;

use crate::human::parse_size;

/// Where a store is.
#[derive(Clone, Debug, Args)]
pub struct At {
    /// The store: a directory, s3://bucket/prefix, gs://, az://, or https:// to read from.
    ///
    /// Endpoints and credentials of object storage come from the environment: AWS_*, GOOGLE_*,
    /// AZURE_* (profiles in ~/.aws are not read). COLDFRAME_INSTANCE_CREDENTIALS=true also asks
    /// the metadata service of the instance for credentials. Failed requests are retried for 90
    /// seconds, or for COLDFRAME_RETRY_FOR (such as 45s, 10m). A bucket with Object Lock needs
    /// AWS_CHECKSUM_ALGORITHM=SHA256.
    #[arg(long = "store", value_name = "URL", value_parser = StoreText)]
    pub url: String,
}

/// A cache before a store that is far away.
#[derive(Clone, Debug, Args)]
pub struct Cache {
    /// Keep chunks that were fetched in this directory, which others may use too, and look there
    /// first.
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// The most that the cache may take; what was not used for longest goes.
    #[arg(
        long, value_name = "S", default_value = "4GiB", value_parser = parse_size,
        requires = "cache"
    )]
    pub cache_size: u64,
}

/// Keep a snapshot and all that it is built on in a chunk store; what is there is not sent again.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
        coldframe demo --dir snapshots\n  \
        coldframe store init --store chunks\n  \
        coldframe push snapshots/diff-3 --store chunks --name nightly")]
pub struct Push {
    /// The snapshot.
    pub snapshot: PathBuf,
    #[command(flatten)]
    pub at: At,
    /// The tag to make, or to move on; without it the snapshot's id.
    #[arg(long, value_name = "TAG")]
    pub name: Option<TagName>,
    /// Move the tag even if it points to a snapshot that this one is not built on.
    #[arg(long)]
    pub replace: bool,
    /// Look for parents here too.
    #[arg(long, value_name = "DIR")]
    pub search: Vec<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Lay a snapshot and all that it is built on under a directory, one directory each.
///
/// What is there already, or in a snapshot nearby, is not fetched; interrupted, it goes on. What
/// other runs that were killed left in the directory is removed when it is done.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
        coldframe demo --dir snapshots\n  \
        coldframe store init --store chunks\n  \
        coldframe push snapshots/diff-3 --store chunks --name nightly\n  \
        coldframe pull nightly --store chunks -o pulled")]
pub struct Pull {
    /// A tag, or the id of a snapshot under any tag.
    #[arg(value_name = "TAG|ID")]
    pub name: String,
    #[command(flatten)]
    pub at: At,
    /// The directory that will hold the snapshot directories.
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
    /// Take blocks from snapshots in this directory too.
    #[arg(long, value_name = "DIR")]
    pub search: Vec<PathBuf>,
    #[command(flatten)]
    pub cache: Cache,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// What is done with a store.
#[derive(Debug, Subcommand)]
pub enum Store {
    Init(Init),
    Ls(List),
    Stat(Stat),
    Verify(Verify),
    Gc(Gc),
    Untag(Untag),
    Prune(Prune),
    ImportShuru(ImportShuru),
}

/// Make a store; one that is there stays as it is.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  coldframe store init --store chunks")]
pub struct Init {
    #[command(flatten)]
    pub at: At,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// List the tags of a store.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
        coldframe store init --store chunks\n  \
        coldframe store ls --store chunks")]
pub struct List {
    #[command(flatten)]
    pub at: At,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Say how much a store holds, for whom, and what keeping it once saves.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
        coldframe store init --store chunks\n  \
        coldframe store stat --store chunks")]
pub struct Stat {
    #[command(flatten)]
    pub at: At,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Check a store; one line for each damage, and for each tag that is hurt.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
        coldframe store init --store chunks\n  \
        coldframe store verify --deep --store chunks")]
pub struct Verify {
    #[command(flatten)]
    pub at: At,
    /// Read every chunk, not tables and tags alone; the next push heals what is found damaged.
    #[arg(long)]
    pub deep: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Delete what no tag needs; safe beside pushes.
///
/// What becomes garbage is condemned by one run, and deleted when every push that was under way has
/// ended: by the same run if there was none, else by a later one.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
        coldframe store init --store chunks\n  \
        coldframe store gc --store chunks --grace 6h --dry-run")]
pub struct Gc {
    #[command(flatten)]
    pub at: At,
    /// Keep what is younger: seconds, or 30m, 6h, 7d.
    #[arg(long, value_name = "T", default_value = "24h", value_parser = parse_time)]
    pub grace: Duration,
    /// Only say what would be done; nothing is written, so the store may be read-only.
    #[arg(long)]
    pub dry_run: bool,
    /// Go on though this file is lost or damaged: what only it needs is garbage. May be given
    /// again. Without it, a file that tags need and that cannot be read stops the collection.
    #[arg(long, value_name = "ROOT")]
    pub give_up: Vec<RootHash>,
    /// Put a new ledger in the place of a damaged one, and delete nothing. It names the tags and
    /// files that are there; pushes that are under way fail, and what an earlier verification
    /// found damaged is found by the next one. A sound ledger stays as it is.
    #[arg(long, conflicts_with_all = ["dry_run", "give_up", "grace"])]
    pub new_ledger: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Remove tags; what only they named is garbage, which `store gc` deletes.
///
/// If one of them does not exist, or cannot be read, none is removed. Do not remove the tag of a
/// disk that is being served: its server cannot move it any more.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
        coldframe demo --dir snapshots\n  \
        coldframe store init --store chunks\n  \
        coldframe push snapshots/diff-3 --store chunks --name nightly\n  \
        coldframe store untag nightly --store chunks")]
pub struct Untag {
    /// The tags.
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<TagName>,
    #[command(flatten)]
    pub at: At,
    /// Remove tags whose files are damaged: what they point to, and which log of a disk they name,
    /// is not known, and what only they needed is garbage. Sound tags are refused.
    #[arg(long)]
    pub damaged: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Remove old tags of families, before `store gc`.
///
/// A family is all tags NAME@SUFFIX with the same NAME, such as the checkpoints web@monday and
/// web@tuesday of the disk web. Tags without @ are never removed, so neither is the disk itself.
///
/// Of each family, a tag is kept if any of the rules keeps it; the others are removed. How old a
/// tag is, is told by when its snapshot was made, or, of a disk, by when the tag was written. If a
/// tag of any family cannot be read, nothing is removed. What only removed tags named is garbage,
/// which `store gc` deletes.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
        coldframe store init --store chunks\n  \
        coldframe store prune --store chunks --keep-last 7 --keep-within 30d")]
#[group(id = "rules", required = true, multiple = true, args = ["keep_last", "keep_within"])]
pub struct Prune {
    #[command(flatten)]
    pub at: At,
    /// Keep the N newest of each family, and those that are within a second of the last of them:
    /// times are not known better everywhere.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub keep_last: Option<u32>,
    /// Keep the newest of each family, and what is not older than it by more than this: seconds, or
    /// 30m, 6h, 7d.
    #[arg(long, value_name = "D", value_parser = parse_time)]
    pub keep_within: Option<Duration>,
    /// Look at this family only; may be given again.
    #[arg(long, value_name = "NAME")]
    pub family: Vec<String>,
    /// Only say what would be done.
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Take over a disk from a shuru-store directory: every chunk is checked; lost ones are named.
#[derive(Debug, Args)]
#[command(
    after_help = "Example, of a directory `cas` of shuru-store with an index `cas/d.idx`:\n  \
        coldframe store init --store chunks\n  \
        coldframe store import-shuru cas --index cas/d.idx --store chunks --name d"
)]
pub struct ImportShuru {
    /// The directory that holds `chunks`.
    pub dir: PathBuf,
    /// The index of the disk; without it the only one right in DIR.
    #[arg(long, value_name = "FILE")]
    pub index: Option<PathBuf>,
    /// Follow the paths that indexes name (parents, the flat image) out of DIR too.
    #[arg(long)]
    pub trust_paths: bool,
    #[command(flatten)]
    pub at: At,
    /// The tag to make.
    #[arg(long, value_name = "TAG")]
    pub name: TagName,
    /// Overwrite the tag if it points to something else.
    #[arg(long)]
    pub replace: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Reads where a store is: text as it is, and a path that is no UTF-8 as a URL with escapes.
#[derive(Clone, Copy, Debug)]
pub struct StoreText;

impl TypedValueParser for StoreText {
    type Value = String;

    fn parse_ref(
        &self,
        _command: &Command,
        _arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<String, clap::Error> {
        if let Some(text) = value.to_str() {
            return Ok(text.to_owned());
        }
        // Without a current directory it is refused as what it is, a path that is not absolute.
        let path = std::path::absolute(value).unwrap_or_else(|_| value.into());
        let mut url = String::from("file://");
        for byte in path.as_os_str().as_bytes() {
            match byte {
                b'/' | b'.' | b'-' | b'_' | b'~' => url.push(char::from(*byte)),
                _ if byte.is_ascii_alphanumeric() => url.push(char::from(*byte)),
                _ => url.push_str(&format!("%{byte:02X}")),
            }
        }
        Ok(url)
    }
}

/// Reads `90`, `90s`, `30m`, `6h`, `7d`.
fn parse_time(text: &str) -> Result<Duration, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let seconds = match unit {
        "" | "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3600),
        "d" => Some(86_400),
        _ => None,
    };
    let number = number.parse::<u64>().ok();
    let time = number
        .zip(seconds)
        .and_then(|(number, unit)| number.checked_mul(unit));
    time.map(Duration::from_secs)
        .ok_or_else(|| format!("'{text}' is no time: write 90s, 30m, 6h, 7d or plain seconds"))
}
