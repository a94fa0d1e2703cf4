//! What can go wrong between this crate and the kernel.

use std::fmt;
use std::io;

use coldframe_units::{ByteLen, PageSize};

use crate::{Features, HostRange, Modes};

/// A call on a range of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// `UFFDIO_COPY`.
    Copy,
    /// `UFFDIO_ZEROPAGE`.
    ZeroPage,
    /// `UFFDIO_CONTINUE`.
    Continue,
    /// `UFFDIO_POISON`.
    Poison,
    /// `UFFDIO_MOVE`.
    Move,
    /// `UFFDIO_WRITEPROTECT`.
    WriteProtect,
    /// `UFFDIO_WAKE`.
    Wake,
    /// `UFFDIO_UNREGISTER`.
    Unregister,
    /// `PAGEMAP_SCAN`.
    Scan,
    /// madvise(2) or fallocate(2) that gives memory up.
    Discard,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Copy => "UFFDIO_COPY",
            Self::ZeroPage => "UFFDIO_ZEROPAGE",
            Self::Continue => "UFFDIO_CONTINUE",
            Self::Poison => "UFFDIO_POISON",
            Self::Move => "UFFDIO_MOVE",
            Self::WriteProtect => "UFFDIO_WRITEPROTECT",
            Self::Wake => "UFFDIO_WAKE",
            Self::Unregister => "UFFDIO_UNREGISTER",
            Self::Scan => "PAGEMAP_SCAN",
            Self::Discard => "discard",
        })
    }
}

/// An operation that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UffdError {
    /// Neither way to a userfaultfd is open. Its text has the answers to both, and the setting that
    /// forbids the second.
    #[error(
        "no userfaultfd: /dev/userfaultfd: {device}; userfaultfd(2): {syscall}{}; needs read and \
         write access to /dev/userfaultfd, CAP_SYS_PTRACE, or vm.unprivileged_userfaultfd = 1",
        setting(.sysctl)
    )]
    Open {
        /// Why not by the device.
        device: io::Error,
        /// Why not by the system call.
        syscall: io::Error,
        /// The value of `vm.unprivileged_userfaultfd`, if it can be read.
        sysctl: Option<u64>,
    },
    /// The kernel does not have all that is needed.
    #[error("this kernel's userfaultfd lacks {missing}; it has {present}")]
    MissingFeatures {
        /// What it lacks.
        missing: Features,
        /// What it has.
        present: Features,
    },
    /// The kernel speaks another version of the interface, or the descriptor was used before.
    #[error("the userfaultfd cannot be set up")]
    Handshake {
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A descriptor that was handed over is of something else.
    #[error("the descriptor is not a userfaultfd: {what}")]
    NotAUserfaultfd {
        /// What it is.
        what: String,
    },
    /// A descriptor that was handed over cannot be used.
    #[error("the userfaultfd that was handed over cannot be made non-blocking")]
    Adopt {
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Registering a range.
    #[error("{range} cannot be registered for {modes}")]
    Register {
        /// What was to be registered.
        range: HostRange,
        /// For what.
        modes: Modes,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Another call on a range.
    #[error("{operation} of {range} failed")]
    Range {
        /// The call.
        operation: Operation,
        /// Its range.
        range: HostRange,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A range that is empty, or ends past 2^64.
    #[error("{operation} of {len} bytes at {start:#x}: no such range")]
    BadRange {
        /// The call.
        operation: Operation,
        /// Where it would begin.
        start: u64,
        /// How long it would be.
        len: u64,
    },
    /// Reading events.
    #[error("events of the userfaultfd cannot be read")]
    Read {
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Waiting for events.
    #[error("events of the userfaultfd cannot be waited for")]
    Wait {
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Mapping memory.
    #[error("{len} bytes of memory in pages of {page} cannot be mapped")]
    Map {
        /// How long it would be.
        len: ByteLen,
        /// The size of its pages.
        page: PageSize,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A length or an offset that is no whole number of pages, or lies outside of the mapping.
    #[error("{len} bytes at {offset} are not a range of whole pages of {page} in the mapping")]
    OutsideMapping {
        /// Where in the mapping.
        offset: u64,
        /// How long.
        len: u64,
        /// The size of its pages.
        page: PageSize,
    },
    /// Opening a page table.
    #[error("the page table of process {process} cannot be opened")]
    Pagemap {
        /// Whose, as /proc names it.
        process: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

impl UffdError {
    /// The kernel's answer, if it is of one call.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Handshake { source }
            | Self::Adopt { source }
            | Self::Register { source, .. }
            | Self::Range { source, .. }
            | Self::Read { source }
            | Self::Wait { source }
            | Self::Map { source, .. }
            | Self::Pagemap { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }

    /// The process whose memory it is has ended: `ESRCH`.
    #[must_use]
    pub fn is_process_gone(&self) -> bool {
        matches!(self, Self::Range { .. }) && self.errno() == Some(libc::ESRCH)
    }

    /// The range is not, or no longer, registered as a whole with this userfaultfd: `ENOENT`.
    #[must_use]
    pub fn is_unregistered(&self) -> bool {
        matches!(self, Self::Range { .. }) && self.errno() == Some(libc::ENOENT)
    }

    /// There is no memory for the page, of the host, of the control group, or of the pool of huge
    /// pages: `ENOMEM`, `ENOSPC`.
    #[must_use]
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self.errno(), Some(libc::ENOMEM | libc::ENOSPC))
    }

    /// Not allowed, or not there on this host: another host, or more rights, would do.
    #[must_use]
    pub const fn is_unavailable(&self) -> bool {
        matches!(self, Self::Open { .. } | Self::MissingFeatures { .. })
    }
}

fn setting(sysctl: &Option<u64>) -> String {
    match sysctl {
        Some(value) => format!(" (vm.unprivileged_userfaultfd is {value})"),
        None => String::new(),
    }
}
