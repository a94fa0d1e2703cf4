//! The two ways to a userfaultfd, and what this kernel's can do.
//!
//! `UFFDIO_API` can be called once for each descriptor, and a refused call uses it up: what there
//! is, is asked of one that is thrown away.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use linux_raw_sys::general as raw;

use crate::{Features, UffdError, sys};

const DEVICE: &str = "/dev/userfaultfd";
const SYSCTL: &str = "/proc/sys/vm/unprivileged_userfaultfd";

/// Whose page faults are handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// All: also those of the kernel in the process's memory, by KVM and by system calls. Takes a
    /// privilege.
    UserAndKernel,
    /// Those of the program's own instructions: in memory that is not there a system call fails
    /// with `EFAULT`, and so does KVM.
    UserModeOnly,
}

/// By which of the two ways a userfaultfd was had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenedBy {
    /// `/dev/userfaultfd`, since Linux 6.1.
    Device,
    /// userfaultfd(2).
    Syscall,
}

/// What this host's userfaultfd can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Support {
    /// All features of the kernel.
    pub features: Features,
    /// By which way it was had.
    pub opened_by: OpenedBy,
}

impl Support {
    /// Opens a userfaultfd, asks it, and throws it away.
    ///
    /// # Errors
    /// [`UffdError::Open`] if there is no way to one; [`UffdError::Handshake`].
    pub fn probe(origin: Origin) -> Result<Self, UffdError> {
        let (fd, opened_by) = open(origin)?;
        let bits = sys::api(fd.as_fd(), 0).map_err(|errno| UffdError::Handshake {
            source: errno.into(),
        })?;
        Ok(Self {
            features: Features::from_bits(bits),
            opened_by,
        })
    }

    /// Whether all of `features` are there.
    ///
    /// # Errors
    /// [`UffdError::MissingFeatures`] names those that are not.
    pub const fn require(&self, features: Features) -> Result<(), UffdError> {
        let missing = features.without(self.features);
        if missing.is_empty() {
            return Ok(());
        }
        Err(UffdError::MissingFeatures {
            missing,
            present: self.features,
        })
    }
}

/// One that has not been asked anything yet.
pub(crate) fn open(origin: Origin) -> Result<(OwnedFd, OpenedBy), UffdError> {
    let mut flags = libc::O_CLOEXEC | libc::O_NONBLOCK;
    if origin == Origin::UserModeOnly {
        flags |= raw::UFFD_USER_MODE_ONLY as i32;
    }
    let device = match by_device(flags) {
        Ok(fd) => return Ok((fd, OpenedBy::Device)),
        Err(error) => error,
    };
    match sys::userfaultfd(flags) {
        Ok(fd) => Ok((fd, OpenedBy::Syscall)),
        Err(syscall) => Err(UffdError::Open {
            device,
            syscall,
            sysctl: sysctl(),
        }),
    }
}

fn by_device(flags: i32) -> io::Result<OwnedFd> {
    let device: File = OpenOptions::new().read(true).write(true).open(DEVICE)?;
    sys::userfaultfd_of(device.as_fd(), flags)
}

/// `None` where there is no such file, as in a jail.
fn sysctl() -> Option<u64> {
    std::fs::read_to_string(SYSCTL).ok()?.trim().parse().ok()
}
