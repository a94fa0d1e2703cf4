//! Names and locks of what is not published yet.
//!
//! A temporary file or directory is called `.{name}.{pid}-{16 random hex digits}.tmp`, lies beside
//! its final name, and is held under flock(2) by its owner for as long as the owner lives: the
//! kernel drops the lock with the process. What has such a name and can be locked is an orphan.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::{IoContext, Operation, StorageError};

/// The longest piece of the final name that goes into the temporary one: the rest of it needs at
/// most 34 bytes, and a file name may have 255 (`NAME_MAX`, limits.h(0p)).
const NAME_BYTES_MAX: usize = 200;

const SUFFIX: &str = ".tmp";
const RANDOM_DIGITS: usize = 16;

/// The final path, made absolute so that a later chdir(2) does no harm, and its directory.
pub(crate) fn split(dest: &Path) -> Result<(PathBuf, PathBuf), StorageError> {
    let bad = || StorageError::BadName {
        path: dest.to_path_buf(),
    };
    // "a/.." and "a/" must not pass for names: look at the last bytes, not at the component.
    let plain = dest.file_name().ok_or_else(bad)?;
    if !dest.as_os_str().as_bytes().ends_with(plain.as_bytes()) {
        return Err(bad());
    }
    let dest = std::path::absolute(dest).at(Operation::Open, dest)?;
    let parent = dest.parent().ok_or_else(bad)?.to_path_buf();
    Ok((dest, parent))
}

/// A new temporary name for `dest`, in the same directory.
pub(crate) fn invent(dest: &Path) -> Result<PathBuf, StorageError> {
    let random = getrandom::u64().at(Operation::TemporaryName, dest)?;
    let name = dest.file_name().unwrap_or_default().as_bytes();
    let mut temporary = OsString::from(".");
    temporary.push(OsString::from_vec(
        name[..name.len().min(NAME_BYTES_MAX)].to_vec(),
    ));
    temporary.push(format!(
        ".{}-{random:0RANDOM_DIGITS$x}{SUFFIX}",
        std::process::id()
    ));
    Ok(dest.with_file_name(temporary))
}

/// Whether a file or directory of this name is not published yet, or never will be.
#[must_use]
pub fn is_temporary(name: &OsStr) -> bool {
    let Some(name) = name.as_bytes().strip_prefix(b".") else {
        return false;
    };
    let Some(name) = name.strip_suffix(SUFFIX.as_bytes()) else {
        return false;
    };
    let Some(dash) = name.len().checked_sub(RANDOM_DIGITS + 1) else {
        return false;
    };
    let (front, random) = name.split_at(dash);
    let Some(dot) = front.iter().rposition(|byte| *byte == b'.') else {
        return false;
    };
    let pid = &front[dot + 1..];
    random[0] == b'-'
        && random[1..].iter().all(u8::is_ascii_hexdigit)
        && !pid.is_empty()
        && pid.iter().all(u8::is_ascii_digit)
}

/// Makes something under a temporary name beside `dest`, and locks it.
///
/// A sweeper may take it for an orphan between the two steps; then it is made again.
pub(crate) fn create_locked<T>(
    dest: &Path,
    create: impl Fn(&Path) -> Result<T, StorageError>,
    file: impl Fn(&T) -> &File,
) -> Result<(PathBuf, T), StorageError> {
    loop {
        let path = invent(dest)?;
        let made = match create(&path) {
            Ok(made) => made,
            Err(error) if error.is_exists() => continue,
            // Made, but gone before it could be opened: swept.
            Err(error @ StorageError::Open { .. }) if error.is_not_found() => continue,
            Err(error) => return Err(error),
        };
        if let Err(error) = file(&made).lock() {
            // Nobody would sweep it where locks do not work: the first error is the one to tell.
            let _ = remove(&path, is_dir(file(&made)));
            return Err(error).at(Operation::Lock, &path);
        }
        if is_still_at(file(&made), &path)? {
            return Ok((path, made));
        }
    }
}

fn is_dir(file: &File) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.is_dir())
}

/// Whether `path` is still a name of `file`.
fn is_still_at(file: &File, path: &Path) -> Result<bool, StorageError> {
    let ours = file.metadata().at(Operation::Open, path)?;
    Ok(fs::symlink_metadata(path)
        .is_ok_and(|found| (found.dev(), found.ino()) == (ours.dev(), ours.ino())))
}

/// Removes from `parent` the temporary files and directories whose owners are dead, and says
/// which.
///
/// What a living process holds, what this process may not open, and symbolic links are left
/// alone. See flock(2) for file systems on which such locks do not work between hosts.
///
/// # Errors
/// [`StorageError::Open`] if `parent` cannot be listed, [`StorageError::Remove`] if an orphan
/// cannot be removed.
pub fn sweep_stale(parent: &Path) -> Result<Vec<PathBuf>, StorageError> {
    let mut swept = Vec::new();
    for entry in fs::read_dir(parent).at(Operation::Open, parent)? {
        let entry = entry.at(Operation::Open, parent)?;
        let path = entry.path();
        if is_temporary(&entry.file_name()) && remove_orphan(&path)? {
            tracing::info!(path = %path.display(), "orphan removed");
            swept.push(path);
        }
    }
    swept.sort();
    Ok(swept)
}

/// A directory under a temporary name of `dest` that nobody holds, now held by us. One of another
/// owner than `like`, or open to others, is passed over: it may have been planted.
pub(crate) fn adopt_dir(
    dest: &Path,
    parent: &Path,
    like: &File,
) -> Result<Option<(PathBuf, File)>, StorageError> {
    let name = dest.file_name().unwrap_or_default().as_bytes();
    let front = [b".", &name[..name.len().min(NAME_BYTES_MAX)], b"."].concat();
    let owner = like.metadata().at(Operation::Open, parent)?.uid();
    for entry in fs::read_dir(parent).at(Operation::Open, parent)? {
        let entry = entry.at(Operation::Open, parent)?;
        let (file_name, path) = (entry.file_name(), entry.path());
        let is_its = is_temporary(&file_name)
            && file_name
                .as_bytes()
                .strip_prefix(&front[..])
                .is_some_and(|rest| rest.iter().filter(|byte| **byte == b'.').count() == 1);
        if !is_its {
            continue;
        }
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_DIRECTORY)
            .open(&path);
        let Ok(directory) = opened else { continue };
        match directory.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => continue,
            Err(TryLockError::Error(error)) => return Err(error).at(Operation::Lock, &path),
        }
        let metadata = directory.metadata().at(Operation::Open, &path)?;
        let is_ours = metadata.uid() == owner && metadata.mode() & 0o077 == 0;
        if is_ours && is_still_at(&directory, &path)? {
            tracing::info!(path = %path.display(), "temporary taken over");
            return Ok(Some((path, directory)));
        }
    }
    Ok(None)
}

/// Removes what is at `path` unless it is alive, gone, or not ours; says whether it did.
fn remove_orphan(path: &Path) -> Result<bool, StorageError> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK)
        .open(path);
    let Ok(file) = opened else { return Ok(false) };
    let kind = file.metadata().at(Operation::Open, path)?.file_type();
    if !(kind.is_file() || kind.is_dir()) {
        return Ok(false);
    }
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(false),
        Err(TryLockError::Error(error)) => return Err(error).at(Operation::Lock, path),
    }
    // Published between our open and our lock: the temporary name is gone, the file is not ours.
    if !is_still_at(&file, path)? {
        return Ok(false);
    }
    remove(path, kind.is_dir()).map(|()| true)
}

/// Removes a file, or a directory with all that is in it.
pub(crate) fn remove(path: &Path, is_dir: bool) -> Result<(), StorageError> {
    let removed = if is_dir {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    removed.at(Operation::Remove, path)
}
