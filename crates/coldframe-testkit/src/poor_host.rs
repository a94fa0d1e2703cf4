//! A host that lacks one feature, or that cannot read one thing: a library of ours that is loaded
//! before the C library and answers in its place (ld.so(8), `LD_PRELOAD`).
//!
//! It is compiled with `cc` when it is first asked for, and kept in memory: nothing of it is left
//! behind.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::process::Command;
use std::sync::OnceLock;

use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::fault::EIO;
use crate::require::skipped;
use crate::unreadable::{Ailment, EACCES};
use crate::{child, scratch};

/// What is compiled.
const SOURCE: &str = include_str!("poor_host/shim.c");

/// What `COLDFRAME_REQUIRE` calls it.
const NEED: &str = "cc";

/// What a host may lack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Lack {
    /// flock(2) wants a file that was opened for writing, as NFS does.
    FlockOfReaders,
    /// No flock(2): `EOPNOTSUPP`.
    Flock,
    /// The server of the file system has no locks left: `ENOLCK`.
    LocksLeft,
    /// A directory cannot be synced: `EINVAL`.
    DirectorySync,
    /// No hard links.
    Links,
    /// No `RENAME_NOREPLACE`.
    RenameFlags,
    /// Neither of the two before.
    LinksAndRenameFlags,
    /// No directory can be renamed: `EXDEV`.
    DirectoryRename,
    /// No `O_TMPFILE`.
    Tmpfile,
    /// lseek(2) finds no holes.
    Holes,
    /// No /proc.
    Proc,
    /// Modes are taken and not kept: every file has write bits.
    Modes,
    /// Modes are refused: `EPERM`.
    Chmod,
    /// No fallocate(2).
    Fallocate,
    /// `PAGEMAP_SCAN` is refused: `EPERM`.
    PagemapScan,
    /// userfaultfd(2) is refused: `EPERM`.
    Userfaultfd,
    /// Every other read, write and lock of a thread is interrupted: `EINTR`.
    Quiet,
    /// No read or write does all that it was asked to.
    LongCalls,
    /// The sync of a directory fails: `EIO`. No feature, but the proof that a test can fail.
    SoundDirectorySync,
}

impl Lack {
    /// All but the last, which no sound program can do without.
    pub const ALL: [Self; 18] = [
        Self::FlockOfReaders,
        Self::Flock,
        Self::LocksLeft,
        Self::DirectorySync,
        Self::Links,
        Self::RenameFlags,
        Self::LinksAndRenameFlags,
        Self::DirectoryRename,
        Self::Tmpfile,
        Self::Holes,
        Self::Proc,
        Self::Modes,
        Self::Chmod,
        Self::Fallocate,
        Self::PagemapScan,
        Self::Userfaultfd,
        Self::Quiet,
        Self::LongCalls,
    ];

    const fn words(self) -> &'static str {
        match self {
            Self::FlockOfReaders => "flock-needs-write",
            Self::Flock => "no-flock",
            Self::LocksLeft => "no-locks-left",
            Self::DirectorySync => "no-directory-sync",
            Self::Links => "no-links",
            Self::RenameFlags => "no-rename-flags",
            Self::LinksAndRenameFlags => "no-links,no-rename-flags",
            Self::DirectoryRename => "no-directory-rename",
            Self::Tmpfile => "no-tmpfile",
            Self::Holes => "no-holes",
            Self::Proc => "no-proc",
            Self::Modes => "no-modes",
            Self::Chmod => "no-chmod",
            Self::Fallocate => "no-fallocate",
            Self::PagemapScan => "no-pagemap-scan",
            Self::Userfaultfd => "no-userfaultfd",
            Self::Quiet => "interrupts",
            Self::LongCalls => "short-calls",
            Self::SoundDirectorySync => "broken-directory-sync",
        }
    }
}

/// The calls that fail for one thing, for as long as the program runs, and with what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// As [`Ailment`] says.
    Ails(Ailment),
    /// It is not there at all: what a program sees that takes every failure to look for absence.
    Absent,
}

impl Trouble {
    const fn calls(self) -> (&'static str, i32) {
        match self {
            // A disk's: the name is there, and so is what the inode says.
            Self::Ails(Ailment::Errno(EIO)) => ("read", EIO),
            Self::Ails(Ailment::Errno(EACCES)) => ("open", EACCES),
            Self::Ails(Ailment::Errno(errno)) => ("open,read,stat", errno),
            Self::Ails(Ailment::ListedNotFound) => ("open,stat", libc::ENOENT),
            Self::Ails(Ailment::LeftOut) => ("list", 0),
            Self::Absent => ("open,stat,list", libc::ENOENT),
        }
    }
}

/// The library, ready to be loaded.
#[derive(Debug)]
pub struct PoorHost {
    // Open for as long as this process lives: it is loaded by that name.
    _library: File,
    path: String,
}

impl PoorHost {
    /// The library; `None`, said to be skipped, if it cannot be compiled or loaded here.
    ///
    /// # Panics
    /// If `COLDFRAME_REQUIRE` lists `cc` and there is none.
    #[must_use]
    pub fn get() -> Option<&'static Self> {
        static HOST: OnceLock<Result<PoorHost, String>> = OnceLock::new();
        match HOST.get_or_init(|| build().map_err(|error| error.to_string())) {
            Ok(host) => Some(host),
            Err(reason) => {
                skipped(NEED, reason);
                None
            }
        }
    }

    /// Lets `command` run without a feature.
    pub fn without(&self, lack: Lack, command: &mut Command) {
        command
            .env("LD_PRELOAD", &self.path)
            .env("COLDFRAME_POOR", lack.words());
    }

    /// Lets `command` run where the thing at `path`, an end of its path from a slash on, and what
    /// is below it are in trouble.
    pub fn troubled(&self, trouble: Trouble, path: &str, command: &mut Command) {
        let (calls, errno) = trouble.calls();
        command
            .env("LD_PRELOAD", &self.path)
            .env("COLDFRAME_POOR_PATH", path)
            .env("COLDFRAME_POOR_CALLS", calls)
            .env("COLDFRAME_POOR_ERRNO", errno.to_string());
    }

    /// Lets `command` run where the disk cannot read `len` bytes at `from` of the file at `path`,
    /// an end of its path from a slash on: `EIO`.
    pub fn bad_sectors(&self, path: &str, from: u64, len: u64, command: &mut Command) {
        self.troubled(Trouble::Ails(Ailment::Errno(EIO)), path, command);
        command
            .env("COLDFRAME_POOR_FROM", from.to_string())
            .env("COLDFRAME_POOR_LEN", len.to_string());
    }

    /// Lets `command` run where what is at `path`, an end of its path from a slash on, or below it,
    /// is made and opened, but is not found when it is looked at.
    pub fn not_found_again(&self, path: &str, command: &mut Command) {
        self.troubled(Trouble::Ails(Ailment::ListedNotFound), path, command);
        command.env("COLDFRAME_POOR_CALLS", "stat");
    }

    /// Lets `command` run where the sync of the thing at `path`, an end of its path from a slash
    /// on, fails: `EIO`. What is below it is synced.
    pub fn unsynced(&self, path: &str, command: &mut Command) {
        command
            .env("LD_PRELOAD", &self.path)
            .env("COLDFRAME_POOR_SYNC", path);
    }

    /// Lets `command` run where a thing is also found by another name, as where case is ignored:
    /// both are ends of its path from a slash on.
    pub fn folding(&self, name: &str, real: &str, command: &mut Command) {
        command
            .env("LD_PRELOAD", &self.path)
            .env("COLDFRAME_POOR_NAME", name)
            .env("COLDFRAME_POOR_FOR", real);
    }
}

fn build() -> io::Result<PoorHost> {
    let dir = scratch::on_disk();
    let (source, built) = (dir.path().join("shim.c"), dir.path().join("shim.so"));
    fs::write(&source, SOURCE)?;
    let output = child::command("cc")
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror"])
        .arg("-o")
        .args([&built, &source])
        .arg("-ldl")
        .output()?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(io::Error::other(format!("cc: {text}")));
    }
    let mut library = File::from(memfd_create(c"poor-host", MFdFlags::MFD_CLOEXEC)?);
    library.write_all(&fs::read(&built)?)?;
    let path = format!("/proc/{}/fd/{}", std::process::id(), library.as_raw_fd());
    // Where another process may not open it, a program would start without it, and say so only on
    // standard error.
    let tried = child::command("true").env("LD_PRELOAD", &path).output()?;
    if !tried.stderr.is_empty() {
        let text = String::from_utf8_lossy(&tried.stderr).into_owned();
        return Err(io::Error::other(text));
    }
    Ok(PoorHost {
        _library: library,
        path,
    })
}
