//! The files behind mappings, and where in them there is data.
//!
//! Invariant: a file is used only if device and inode are those of the mapping, and always through
//! a descriptor of our own, so that nobody's cursor moves. Where stat(2) names another device than
//! the kernel's list of mappings, as of a subvolume of btrfs, the file is mapped on the spot, and
//! its entry in that list is compared.
//!
//! # Safety
//! That mapping is a new one without any access, and is unmapped before anyone knows of it.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use super::maps::{MappedInode, Mapping, inode_at};
use crate::sys;

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
    let is_it = metadata.is_file()
        && metadata.ino() == inode.inode
        && (device == inode.device || as_mapped(&file) == Some((inode.device, inode.inode)));
    is_it.then_some(file)
}

/// The device and inode that the kernel shows for a mapping of `file`.
pub(super) fn as_mapped(file: &File) -> Option<((u64, u64), u64)> {
    let len = NonZeroUsize::new(usize::try_from(sys::host_page().bytes()).ok()?)?;
    let (prot, flags) = (ProtFlags::PROT_NONE, MapFlags::MAP_PRIVATE);
    // SAFETY: a new mapping at a place that the kernel picks, which nothing refers to.
    let mapped = unsafe { mmap(None, len, prot, flags, file, 0) }.ok()?;
    let found = inode_at(mapped.addr().get() as u64);
    // SAFETY: all of the mapping made above, which nothing refers to.
    if let Err(errno) = unsafe { munmap(mapped, len.get()) } {
        tracing::warn!(%errno, "a page of address space could not be unmapped");
    }
    found.ok().flatten()
}
