//! Where files are written: one directory for all, on one file system, gone at the end.
//!
//! Invariant: contestants write to one name, by turns, each to a new and empty file; making that
//! file is never timed, and none is ever synced.

use std::fs::{self, File, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use coldframe_mem::capture_full;
use coldframe_storage::FileStorage;
use squib_snapshot::derive_temp_path;

use crate::guest::{Guest, MIB, spec};

/// The directory.
pub struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    /// Beside this program, which is where the build output is.
    pub fn new() -> Result<Self> {
        let program = std::env::current_exe()?;
        let parent = program.parent().context("a program lies in a directory")?;
        let dir = tempfile::Builder::new()
            .prefix("bench-")
            .tempdir_in(parent)?;
        Ok(Self { dir })
    }

    /// The directory itself.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A name in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What squib-snapshot is to write; it writes to another name first, which is ours too.
    pub fn squib_path(&self) -> PathBuf {
        self.path("shared")
    }

    /// An empty file for a capture that writes about so many bytes.
    pub fn storage(&self, bytes: u64) -> Result<FileStorage> {
        self.warm(bytes)?;
        Ok(FileStorage::create(&self.shared())?)
    }

    /// An empty file for plain means.
    pub fn file(&self, bytes: u64) -> Result<File> {
        self.warm(bytes)?;
        Ok(File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(self.shared())?)
    }

    /// Has so many bytes in the page cache, and gives them back at once.
    ///
    /// A machine may hand its free memory back to the host: only pages that were in use a moment
    /// ago are as quick as they will be.
    pub fn warm(&self, bytes: u64) -> Result<()> {
        let file = File::create(self.shared())?;
        let part = vec![1; MIB as usize];
        for at in (0..bytes).step_by(part.len()) {
            file.write_all_at(&part, at)?;
        }
        drop(file);
        self.clear()
    }

    /// Removes the last contestant's file, before the kernel writes it to the disk.
    pub fn clear(&self) -> Result<()> {
        match fs::remove_file(self.shared()) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// The name that all contestants write to.
    fn shared(&self) -> PathBuf {
        derive_temp_path(&self.squib_path())
    }

    /// A finished memory file of a guest. It is not synced: nothing here survives the run.
    pub fn memory_file(&self, name: &str, guest: &Guest) -> Result<MemoryFile> {
        let path = self.path(name);
        let storage = FileStorage::create(&path)?;
        capture_full(&guest.ram(), &spec(), &storage)?.finish(&storage)?;
        fs::set_permissions(&path, Permissions::from_mode(0o400))?;
        Ok(MemoryFile { path })
    }
}

/// A finished memory file; removed with the value, so that its pages need not reach the disk.
pub struct MemoryFile {
    path: PathBuf,
}

impl MemoryFile {
    /// Opens it as a layer of a chain.
    pub fn map(&self) -> Result<coldframe_mem::MemoryFile> {
        let pool = coldframe_mem::FilePool::default();
        Ok(coldframe_mem::MemoryFile::open(&self.path, &pool)?)
    }

    /// Opens it for plain reading.
    pub fn open(&self) -> Result<File> {
        Ok(File::open(&self.path)?)
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        // A file that stays goes with the directory.
        let _ = fs::remove_file(&self.path);
    }
}
