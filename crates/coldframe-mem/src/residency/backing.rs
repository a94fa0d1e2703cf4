//! The files behind mappings, and where in them there is data.
//!
//! Invariant: a file is used only if device and inode are those of the mapping, and always through
//! a descriptor of our own, so that nobody's cursor moves.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::maps::{MappedInode, Mapping};

/// The files of all mappings that have one and could be opened.
#[derive(Debug, Default)]
pub(super) struct Backings {
    files: HashMap<((u64, u64), u64), Option<File>>,
}

impl Backings {
    /// Opens the file of each mapping; `hints` are files that the VMM named.
    pub fn open(mappings: &[Mapping], hints: &[BorrowedFd<'_>]) -> Self {
        let mut backings = Self::default();
        for mapping in mappings {
            if let Some(inode) = &mapping.file {
                backings
                    .files
                    .entry((inode.device, inode.inode))
                    .or_insert_with(|| find(mapping, inode, hints));
            }
        }
        backings
    }

    /// The file of a mapping; `None` if it could not be opened.
    pub fn of(&self, inode: &MappedInode) -> Option<&File> {
        self.files.get(&(inode.device, inode.inode))?.as_ref()
    }
}

fn find(mapping: &Mapping, inode: &MappedInode, hints: &[BorrowedFd<'_>]) -> Option<File> {
    let Range { start, end } = mapping.range;
    // Of these, map_files needs a capability (proc_pid_map_files(5)), and a path may be taken.
    let map_file = PathBuf::from(format!("/proc/self/map_files/{start:x}-{end:x}"));
    let hints = hints
        .iter()
        .map(|fd| PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd())));
    let found = hints
        .chain([map_file, inode.path.clone()])
        .find_map(|path| open_if(&path, inode));
    if found.is_none() {
        tracing::warn!(
            path = %inode.path.display(),
            "cannot open the file behind guest memory: its holes are read too"
        );
    }
    found
}

fn open_if(path: &Path, inode: &MappedInode) -> Option<File> {
    // O_NONBLOCK: a path may be a FIFO by now, whose open would wait (open(2)).
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)
        .ok()?;
    let metadata = file.metadata().ok()?;
    let device = (
        u64::from(libc::major(metadata.dev())),
        u64::from(libc::minor(metadata.dev())),
    );
    (metadata.is_file() && device == inode.device && metadata.ino() == inode.inode).then_some(file)
}
