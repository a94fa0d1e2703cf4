//! Opening the store that a URL names, of whatever kind.

use std::path::Path;
use std::sync::Arc;

use coldframe_chunks::{AnyStore, Backend as _, DiskCache, Lease, Options, StoreError, TagName};
use coldframe_snapshot::store::TransferError;

use crate::cli::store::Cache;
use crate::exit::{Failure, line, reason};
use crate::output::quoted;

/// The store behind any URL.
pub type Store = AnyStore;

/// Opens the store at a URL.
pub fn open(url: &str) -> Result<Store, Failure> {
    let opened = coldframe_chunks::open(url, Options::usual());
    opened.map_err(|error| open_failure(url, "cannot open", &error))
}

/// Opens the store at a URL, with a cache of its chunks before it if one is wanted.
pub fn open_with(url: &str, cache: &Cache) -> Result<Store, Failure> {
    let store = open(url)?;
    match &cache.cache {
        Some(dir) => with_cache(store, dir, cache.cache_size),
        None => Ok(store),
    }
}

/// The store with a cache of its chunks before it, of so many bytes in a directory.
pub fn with_cache(store: Store, dir: &Path, bytes: u64) -> Result<Store, Failure> {
    let near = DiskCache::open(dir, bytes)
        .map_err(|error| failure(format!("cannot use the cache {}", dir.display()), &error))?;
    Ok(store.with_cache(Arc::new(near)))
}

/// Opens the store at a URL, with so much memory for chunks that were read.
pub fn open_with_memory(url: &str, cache_bytes: u64) -> Result<Store, Failure> {
    let options = Options {
        cache_bytes,
        ..Options::usual()
    };
    let opened = coldframe_chunks::open(url, options);
    opened.map_err(|error| open_failure(url, "cannot open", &error))
}

/// Opens the store at a URL, or makes one there.
pub fn create(url: &str) -> Result<Store, Failure> {
    match coldframe_chunks::open(url, Options::usual()) {
        Err(StoreError::NoStore { .. }) => {}
        opened => return opened.map_err(|error| open_failure(url, "cannot open", &error)),
    }
    let made = coldframe_chunks::create(url, Options::usual());
    made.map_err(|error| open_failure(url, "cannot make a store at", &error))
}

/// Keeps the collector from deleting what is there now while it is read. Where nothing can be
/// written it is read without: what is deleted meanwhile is an error then, never wrong data.
pub fn hold(store: &Store, url: &str) -> Option<Box<dyn Lease>> {
    // A web server is only read from.
    if url.starts_with("http") {
        return None;
    }
    let lease = store.backend().lease();
    let lease = lease.inspect_err(|error| tracing::warn!(%error, "read without a lease"));
    lease.ok()
}

/// A place that cannot be meant, and a variable that says nothing, is exit 2.
fn open_failure(url: &str, what: &str, error: &StoreError) -> Failure {
    match error {
        StoreError::BadUrl { source } => Failure::usage(format!("--store {url}"), source),
        StoreError::BadSetting { .. } => Failure::Usage(reason(error)),
        StoreError::NoStore { .. } => {
            let text = line(format_args!("{what} {url}"), error);
            Failure::Environment(format!(
                "{text}; 'coldframe store init --store {url}' makes one"
            ))
        }
        error => failure(format!("{what} {url}"), error),
    }
}

/// What to do about a tag that cannot be changed, since a log may have changes of its disk.
pub fn fold_log(url: &str, disk: &TagName, log: &Path) -> String {
    let (store, log) = (quoted(url), log.to_string_lossy());
    let (log, resize) = (
        quoted(&log),
        format!("coldframe disk resize {disk} --store {store}"),
    );
    format!(
        "'{resize} --size 0 --wal {log}' brings them into the store; if the log is gone for good \
         or damaged, '{resize} --size 0 --abandon-log' goes on without them"
    )
}

/// As [`failure`], of a store with this URL.
pub fn failure_in(url: &str, what: impl std::fmt::Display, error: &StoreError) -> Failure {
    match error {
        StoreError::UnfoldedLog { name, log } => {
            let (text, way) = (line(what, error), fold_log(url, name, log.path()));
            Failure::Wanting(format!("{text}; {way}"))
        }
        error => failure(what, error),
    }
}

/// What is lost or damaged in the store is exit 1, everything else exit 3.
pub fn failure(what: impl std::fmt::Display, error: &StoreError) -> Failure {
    if error.is_wanting() || error.is_unfolded_log() {
        Failure::wanting(what, error)
    } else {
        Failure::environment(what, error)
    }
}

/// What is lost or damaged is exit 1, a name that cannot be meant exit 2, everything else exit 3.
pub fn transfer_failure(url: &str, what: impl std::fmt::Display, error: &TransferError) -> Failure {
    match error {
        TransferError::TagTaken { .. } => {
            let what = format!("{what} without --replace");
            Failure::usage(what, error)
        }
        TransferError::NotASnapshot { .. } => Failure::usage(what, error),
        TransferError::Store(source) if source.is_unfolded_log() => failure_in(url, what, source),
        error if error.is_wanting() => Failure::wanting(what, error),
        error => Failure::environment(what, error),
    }
}
