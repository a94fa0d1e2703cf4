//! A descriptor that came with a message.
//!
//! # Safety
//! recvmsg(2) has made it for the process that called it.
#![allow(unsafe_code)]

use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};

/// Takes it.
pub fn received(fd: RawFd) -> OwnedFd {
    // SAFETY: the caller has it from recvmsg(2).
    unsafe { OwnedFd::from_raw_fd(fd) }
}
