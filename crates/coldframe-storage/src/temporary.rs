//! Names and locks of what is not published yet.
//!
//! A temporary file or directory is called `.{name}.{pid}-{16 random hex digits}.tmp`, lies beside
//! its final name, and is held under flock(2) by its owner for as long as the owner lives: the
//! kernel drops the lock with the process. What has such a name and can be locked is an orphan.
//!
//! Over NFS an exclusive flock(2) needs a descriptor that was opened for writing, so that is how a
//! sweeper opens files; one that may not (a file that was made read-only just before its owner
//! died) is tried for reading, and stays where that is not enough. A sweeper never waits, and never
//! takes for dead what it could not lock.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use coldframe_units::ByteLen;

use crate::error::has_no_locks;
use crate::living::Live;
use crate::lock::{lock, try_lock};
use crate::random::fill_random;
use crate::{IoContext, Operation, StorageError};

/// The longest piece of the final name that goes into the temporary one: the rest of it needs at
/// most 34 bytes, and a file name may have 255 (`NAME_MAX`, limits.h(0p)).
const NAME_BYTES_MAX: usize = 200;

const SUFFIX: &str = ".tmp";
const RANDOM_DIGITS: usize = 16;

/// What releases before 0.2 called a log under construction, before 16 digits.
const OLD_LOG: &[u8] = b".log-";

/// How often a new temporary may be swept before its owner holds it.
const TRIES_MAX: usize = 64;

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

/// As [`split`], for what is to be published: under a temporary name it would be swept.
pub(crate) fn split_dest(dest: &Path) -> Result<(PathBuf, PathBuf), StorageError> {
    if is_temporary(dest.file_name().unwrap_or_default()) {
        return Err(StorageError::BadName {
            path: dest.to_path_buf(),
        });
    }
    split(dest)
}

/// A new temporary name for `dest`, in the same directory.
pub(crate) fn invent(dest: &Path) -> Result<PathBuf, StorageError> {
    let mut random = [0; 8];
    fill_random(&mut random).at(Operation::TemporaryName, dest)?;
    let random = u64::from_le_bytes(random);
    Ok(name(dest, std::process::id(), random))
}

/// The one temporary name that all who publish `dest` agree on: no process has the number 0.
pub(crate) fn marker(dest: &Path) -> PathBuf {
    name(dest, 0, 0)
}

fn name(dest: &Path, process: u32, random: u64) -> PathBuf {
    let name = dest.file_name().unwrap_or_default().as_bytes();
    let mut temporary = OsString::from(".");
    temporary.push(OsString::from_vec(
        name[..name.len().min(NAME_BYTES_MAX)].to_vec(),
    ));
    temporary.push(format!(".{process}-{random:0RANDOM_DIGITS$x}{SUFFIX}"));
    dest.with_file_name(temporary)
}

/// Whether a file or directory of this name is not published yet, or never will be.
#[must_use]
pub fn is_temporary(name: &OsStr) -> bool {
    let name = name.as_bytes();
    if let Some(random) = name.strip_prefix(OLD_LOG)
        && random.len() == RANDOM_DIGITS
        && random.iter().all(u8::is_ascii_hexdigit)
    {
        return true;
    }
    let Some(name) = name.strip_prefix(b".") else {
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
) -> Result<(Live, PathBuf, T), StorageError> {
    for _ in 0..TRIES_MAX {
        let path = invent(dest)?;
        let (live, made) = Live::making(&path, || create(&path));
        let made = match made {
            Ok(made) => made,
            Err(error) if error.is_exists() => continue,
            // Made, but gone before it could be opened: swept.
            Err(error @ StorageError::Open { .. }) if error.is_not_found() => continue,
            Err(error) => return Err(error),
        };
        if let Err(error) = lock(file(&made)) {
            // Nobody would sweep it where locks do not work: the first error is the one to tell.
            let _ = remove(&path, is_dir(file(&made)));
            return Err(error).at(Operation::Lock, &path);
        }
        if is_still_at(file(&made), &path).at(Operation::Open, &path)? {
            return Ok((live, path, made));
        }
    }
    let swept = io::Error::other("each temporary file was removed before it could be locked");
    Err(swept).at(Operation::Create, dest)
}

fn is_dir(file: &File) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.is_dir())
}

/// Whether `path` is still a name of `file`; only that there is no such name means no.
pub(crate) fn is_still_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(found) => Ok((found.dev(), found.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// What a sweep removed, and what it could not tell.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Swept {
    /// The temporary files and directories that were removed, sorted.
    pub paths: Vec<PathBuf>,
    /// The bytes that were in them.
    pub bytes: ByteLen,
    /// Those that may be orphans or not: their file system has no locks, or they may not be opened.
    pub unknown: Vec<PathBuf>,
}

impl Swept {
    /// How many were removed.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.paths.len()
    }

    /// Whether nothing was removed.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }
}

/// Removes from `parent` the temporary files and directories whose owners are dead.
///
/// What a living process holds, and symbolic links, are left alone; what cannot be locked is left
/// alone and named. See flock(2) for file systems on which locks do not work between hosts.
///
/// # Errors
/// [`StorageError::Open`] if `parent` cannot be listed, [`StorageError::Remove`] if an orphan
/// cannot be removed.
pub fn sweep_stale(parent: &Path) -> Result<Swept, StorageError> {
    let mut swept = Swept::default();
    for entry in fs::read_dir(parent).at(Operation::Open, parent)? {
        let entry = entry.at(Operation::Open, parent)?;
        if !is_temporary(&entry.file_name()) {
            continue;
        }
        let path = entry.path();
        match remove_orphan(&path)? {
            Owner::Dead { bytes } => {
                tracing::info!(path = %path.display(), bytes = bytes.get(), "orphan removed");
                swept.bytes = swept.bytes.checked_add(bytes).unwrap_or(swept.bytes);
                swept.paths.push(path);
            }
            Owner::Alive => {}
            Owner::Unknown => swept.unknown.push(path),
        }
    }
    swept.paths.sort();
    swept.unknown.sort();
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
    let entries = match fs::read_dir(parent) {
        // A directory that may be written to and not listed: what is there cannot be found.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
        entries => entries.at(Operation::Open, parent)?,
    };
    for entry in entries {
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
        match try_lock(&directory) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => continue,
            // Nothing is taken over that may have an owner.
            Err(TryLockError::Error(error)) if has_no_locks(&error) => continue,
            Err(TryLockError::Error(error)) => return Err(error).at(Operation::Lock, &path),
        }
        let metadata = directory.metadata().at(Operation::Open, &path)?;
        let is_ours = metadata.uid() == owner && metadata.mode() & 0o077 == 0;
        if is_ours && is_still_at(&directory, &path).at(Operation::Open, &path)? {
            tracing::info!(path = %path.display(), "temporary taken over");
            return Ok(Some((path, directory)));
        }
    }
    Ok(None)
}

/// What is known of the process that made a temporary.
enum Owner {
    /// It is dead, and what it left was removed.
    Dead { bytes: ByteLen },
    /// It lives, or has published it meanwhile, or it is none of our kind.
    Alive,
    /// Nobody could say.
    Unknown,
}

/// Removes what is at `path` if its owner is dead.
fn remove_orphan(path: &Path) -> Result<Owner, StorageError> {
    let kind = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Owner::Alive),
        Err(_) => return Ok(Owner::Unknown),
    };
    if !(kind.is_file() || kind.is_dir()) {
        return Ok(Owner::Alive);
    }
    let file = match open_to_lock(path, kind.is_dir()) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Owner::Alive),
        Err(_) => return Ok(Owner::Unknown),
    };
    match try_lock(&file) {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(Owner::Alive),
        Err(TryLockError::Error(error)) if has_no_locks(&error) => return Ok(Owner::Unknown),
        Err(TryLockError::Error(error)) => return Err(error).at(Operation::Lock, path),
    }
    // Published between our open and our lock: the temporary name is gone, the file is not ours.
    if !is_still_at(&file, path).at(Operation::Open, path)? {
        return Ok(Owner::Alive);
    }
    let bytes = ByteLen::new(bytes_of(path));
    match remove(path, kind.is_dir()) {
        // A sweeper that came at the same time was faster.
        Err(error) if error.is_not_found() => Ok(Owner::Alive),
        removed => removed.map(|()| Owner::Dead { bytes }),
    }
}

/// Opens a temporary for its lock: a file for writing where that is allowed.
fn open_to_lock(path: &Path, is_dir: bool) -> io::Result<File> {
    let open = |write| {
        OpenOptions::new()
            .read(true)
            .write(write)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK)
            .open(path)
    };
    use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
    match open(!is_dir) {
        Err(error) if matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem) => open(false),
        opened => opened,
    }
}

/// The bytes that removing it gives back; what cannot be looked at counts for nothing.
fn bytes_of(path: &Path) -> u64 {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return 0;
    };
    if !metadata.is_dir() {
        // Sparse files: what they take, not what they claim (stat(2): blocks of 512 bytes).
        return metadata.blocks().saturating_mul(512);
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| bytes_of(&entry.path())).sum()
}

/// Removes a file, or a directory with all that is in it.
pub(crate) fn remove(path: &Path, is_dir: bool) -> Result<(), StorageError> {
    let removed = if is_dir {
        // An empty one needs no descriptor, of which there may be none left.
        fs::remove_dir(path).or_else(|_| fs::remove_dir_all(path))
    } else {
        fs::remove_file(path)
    };
    removed.at(Operation::Remove, path)
}
