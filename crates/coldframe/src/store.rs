//! Opening the store that a URL names: the one place that knows which kinds of places there are.

use std::path::{Path, PathBuf};

use coldframe_chunks::{Directory, LocalStore, Options, PackStore, StoreError};
use coldframe_snapshot::store::TransferError;

use crate::exit::Failure;

/// The store behind any URL.
pub type Store = LocalStore;

/// Opens the store at a URL.
pub fn open(url: &str) -> Result<Store, Failure> {
    let dir = directory(url)?;
    LocalStore::open(&dir).map_err(|error| failure(format!("cannot open {url}"), &error))
}

/// Opens the store at a URL, with so much memory for chunks that were read.
pub fn open_with_cache(url: &str, cache_bytes: u64) -> Result<Store, Failure> {
    let dir = directory(url)?;
    let cannot = format!("cannot open {url}");
    let dir = Directory::new(&dir).map_err(|error| Failure::environment(&cannot, &error))?;
    let options = Options {
        cache_bytes,
        ..Options::usual()
    };
    PackStore::open_at(dir, options).map_err(|error| failure(cannot, &error))
}

/// Opens the store at a URL, or makes one there.
pub fn create(url: &str) -> Result<Store, Failure> {
    let dir = directory(url)?;
    LocalStore::create(&dir)
        .map_err(|error| failure(format!("cannot make a store at {url}"), &error))
}

/// The directory of a plain path or a file:// URL.
fn directory(url: &str) -> Result<PathBuf, Failure> {
    let usage = |text: &str| Err(Failure::Usage(format!("--store {url}: {text}")));
    match url.split_once("://") {
        None if url.is_empty() => usage("the name of a directory is empty"),
        None => Ok(PathBuf::from(url)),
        Some(("file", path)) => {
            let path = path.strip_prefix("localhost").unwrap_or(path);
            if Path::new(path).is_absolute() {
                Ok(PathBuf::from(path))
            } else {
                usage("a file:// URL has three slashes and an absolute path")
            }
        }
        Some(_) => usage("this is neither a directory nor a file:// URL"),
    }
}

/// What is lost or damaged in the store is exit 1, everything else exit 3.
pub fn failure(what: impl std::fmt::Display, error: &StoreError) -> Failure {
    if error.is_wanting() {
        Failure::wanting(what, error)
    } else {
        Failure::environment(what, error)
    }
}

/// What is lost or damaged is exit 1, a name that cannot be meant exit 2, everything else exit 3.
pub fn transfer_failure(what: impl std::fmt::Display, error: &TransferError) -> Failure {
    match error {
        TransferError::TagTaken { .. } => {
            let what = format!("{what} without --replace");
            Failure::usage(what, error)
        }
        TransferError::NotASnapshot { .. } => Failure::usage(what, error),
        error if error.is_wanting() => Failure::wanting(what, error),
        error => Failure::environment(what, error),
    }
}
