//! Finishing the exit that a vCPU was stopped at.

use std::io;

use kvm_ioctls::{VcpuExit, VcpuFd};

use crate::error::KvmError;

/// How many exits one instruction may still make: far more than any does.
const EXITS_MAX: u32 = 4096;

/// Lets the kernel finish the I/O access that a vCPU exited for, without running the guest on.
///
/// The answer to a port or MMIO read is in no structure until the vCPU has entered once more, so a
/// state saved without this repeats or loses the access. An access in several parts exits again for
/// the next part: `handle` is given each of these, as in the VMM's own loop.
///
/// Source: Documentation/virt/kvm/api.rst, section 5, `immediate_exit` and the note below
/// `KVM_EXIT_MMIO`.
///
/// # Errors
/// [`KvmError::CompletePendingIo`] if the kernel refuses, or if there is no end to the exits.
pub fn complete_pending_io(
    vcpu: &mut VcpuFd,
    mut handle: impl FnMut(VcpuExit<'_>),
) -> Result<(), KvmError> {
    vcpu.set_kvm_immediate_exit(1);
    let mut result = Err(io::Error::from(io::ErrorKind::TimedOut));
    for _ in 0..EXITS_MAX {
        match vcpu.run() {
            Ok(exit) => handle(exit),
            Err(error) if error.errno() == libc::EINTR => {
                result = Ok(());
                break;
            }
            Err(error) => {
                result = Err(io::Error::from_raw_os_error(error.errno()));
                break;
            }
        }
    }
    vcpu.set_kvm_immediate_exit(0);
    result.map_err(|source| KvmError::CompletePendingIo { source })
}
