//! Structures that are longer than their ioctl's number says.
//!
//! Invariant: the kernel is never handed a buffer that is shorter than what it reads or writes:
//! extended state is as long as the machine answers for `KVM_CAP_XSAVE2`, nested state as long as
//! its own `size` says, which is checked.

use std::io;
use std::os::fd::AsRawFd;

use kvm_ioctls::VmFd;

use crate::sys::{Request, read, write};

/// `KVM_GET_XSAVE2`, `KVM_GET_XSAVE` and `KVM_SET_XSAVE` (api.rst, sections of those names).
///
/// They read or write as much as `KVM_CAP_XSAVE2` answers, and 4096 bytes where it answers 0.
pub(super) fn read_xsave(
    fd: &impl AsRawFd,
    request: Request,
    buffer: &mut XsaveBuffer,
) -> io::Result<()> {
    read(fd, request, &mut buffer.0)
}

/// As [`read_xsave`].
pub(super) fn write_xsave(
    fd: &impl AsRawFd,
    request: Request,
    buffer: &XsaveBuffer,
) -> io::Result<()> {
    write(fd, request, &buffer.0)
}

/// Room for the extended state of a vCPU on this host.
pub(super) struct XsaveBuffer(Vec<u8>);

impl XsaveBuffer {
    /// Zeros, as long as `vm` says (`KVM_CHECK_EXTENSION` of `KVM_CAP_XSAVE2` on the VM).
    pub(super) fn new(vm: &VmFd) -> Self {
        Self(vec![0; xsave_bytes(vm)])
    }

    /// The bytes.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }

    /// The bytes.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// Bytes of a vCPU's extended state.
pub(super) fn xsave_bytes(vm: &VmFd) -> usize {
    const XSAVE_BYTES_MIN: usize = 4096;
    let answer = vm.check_extension_raw(kvm_bindings::KVM_CAP_XSAVE2.into());
    usize::try_from(answer).unwrap_or(0).max(XSAVE_BYTES_MIN)
}

/// `KVM_GET_NESTED_STATE` (api.rst, section of that name): the structure's own `size` bounds what
/// is written.
pub(super) fn read_nested(fd: &impl AsRawFd, buffer: &mut [u8]) -> io::Result<()> {
    let size = u32::try_from(buffer.len()).unwrap_or(u32::MAX);
    // struct kvm_nested_state: flags u16, format u16, size u32.
    buffer[4..8].copy_from_slice(&size.to_le_bytes());
    read(fd, NESTED_GET, buffer)
}

/// `KVM_SET_NESTED_STATE` (api.rst, section of that name): the structure's own `size` bounds what
/// is read, and is refused here if it is longer than the buffer.
pub(super) fn write_nested(fd: &impl AsRawFd, bytes: &[u8]) -> io::Result<()> {
    let claimed = bytes
        .get(4..8)
        .map(|size| u32::from_le_bytes([size[0], size[1], size[2], size[3]]));
    let fits = claimed.is_some_and(|size| usize::try_from(size).is_ok_and(|s| s <= bytes.len()));
    if !fits || bytes.len() < NESTED_SET.bytes() {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    write(fd, NESTED_SET, bytes)
}

const NESTED_GET: Request = Request::read_write(0xbe, NESTED_HEADER_BYTES);
const NESTED_SET: Request = Request::write(0xbf, NESTED_HEADER_BYTES);
/// `sizeof(struct kvm_nested_state)`: the header that always is there.
pub(super) const NESTED_HEADER_BYTES: usize = 128;
