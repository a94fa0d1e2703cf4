//! Behaviour of storage, publishing and mapped files on the host's own file system.
#![allow(clippy::unwrap_used)]

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

mod crash;
mod directory;
mod error;
mod interrupted;
mod model;
mod open;
#[cfg(target_os = "linux")]
mod overlay;
mod publish;
mod publish_dir;
mod source;
mod storage;
mod sweep;

/// The names in a directory, sorted.
fn names(dir: &Path) -> Vec<OsString> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    names.sort();
    names
}

/// The permission bits.
fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}
