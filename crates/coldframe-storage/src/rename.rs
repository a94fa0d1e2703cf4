//! Renaming that never takes the place of anything: the kernel refuses, in the same step.
//!
//! On Linux that is `RENAME_NOREPLACE` (rename(2)). Where the system or the file system does not
//! have it, calls that every Unix has do the same, or nearly so.

use std::fs;
use std::io;
use std::path::Path;

#[cfg(test)]
mod tests;

/// Renames a file, unless `to` is taken.
pub(crate) fn new_file(from: &Path, to: &Path) -> io::Result<()> {
    match no_replace(from, to) {
        Err(error) if is_unsupported(&error) => file_by_link(from, to),
        result => result,
    }
}

/// Renames a directory that has something in it, unless `to` is taken.
pub(crate) fn new_directory(from: &Path, to: &Path) -> io::Result<()> {
    match no_replace(from, to) {
        Err(error) if is_unsupported(&error) => directory_by_rename(from, to),
        result => result,
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn no_replace(from: &Path, to: &Path) -> io::Result<()> {
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
    Ok(renameat2(
        AT_FDCWD,
        from,
        AT_FDCWD,
        to,
        RenameFlags::RENAME_NOREPLACE,
    )?)
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn no_replace(_from: &Path, _to: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Whether the kernel or the file system does not know the flag (rename(2), `EINVAL`).
fn is_unsupported(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, Unsupported};
    matches!(error.kind(), InvalidInput | Unsupported)
}

/// link(2) never replaces; a crash in between leaves the temporary name as a second one.
fn file_by_link(from: &Path, to: &Path) -> io::Result<()> {
    fs::hard_link(from, to)?;
    fs::remove_file(from)
}

/// A directory takes the place of nothing but an empty directory (rename(2)), which loses no data.
fn directory_by_rename(from: &Path, to: &Path) -> io::Result<()> {
    use io::ErrorKind::{AlreadyExists, DirectoryNotEmpty, NotADirectory};
    fs::rename(from, to).map_err(|error| match error.kind() {
        DirectoryNotEmpty | NotADirectory => AlreadyExists.into(),
        _ => error,
    })
}
