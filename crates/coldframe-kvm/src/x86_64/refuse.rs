//! What a state cannot hold, refused by name before anything is read.

use std::io;

use coldframe_hv::{StateError, VCPU_COUNT_MAX};

use super::KvmMachine;
use crate::error::KvmError;
use crate::sys::{self, Request};

/// `KVM_XEN_HVM_GET_ATTR` (api.rst, section of that name): type u16, padding, 64 bytes of data.
const XEN_GET: Request = Request::read_write(0xc8, XEN_BYTES);
const XEN_BYTES: usize = 72;
/// `KVM_XEN_ATTR_TYPE_SHARED_INFO`: the guest frame of the page, all ones if there is none.
const XEN_SHARED_INFO: u16 = 1;

/// Refuses a machine whose state has parts that are not saved.
pub(super) fn check(machine: &KvmMachine<'_>) -> Result<(), KvmError> {
    let found = machine.vcpus.len();
    if found == 0 || found > VCPU_COUNT_MAX {
        let max = VCPU_COUNT_MAX;
        let source = StateError::VcpuCount { found, max };
        return Err(KvmError::CheckState { source });
    }
    match xen_shared_info(machine) {
        Ok(None) => Ok(()),
        Ok(Some(_)) => Err(KvmError::Unsupported {
            what: "the state of Xen guests (KVM_XEN_HVM_SET_ATTR)",
        }),
        Err(source) => Err(KvmError::Probe {
            what: "the Xen state",
            source,
        }),
    }
}

/// Where the shared page of a Xen guest is; `None` without one, or on a kernel without Xen.
fn xen_shared_info(machine: &KvmMachine<'_>) -> io::Result<Option<u64>> {
    const NONE: u64 = u64::MAX;
    let mut bytes = [0; XEN_BYTES];
    bytes[..2].copy_from_slice(&XEN_SHARED_INFO.to_le_bytes());
    match sys::read(machine.vm, XEN_GET, &mut bytes) {
        Ok(()) => {}
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOTTY)) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    }
    let (words, _) = bytes.as_chunks::<8>();
    let frame = words.get(1).map_or(NONE, |word| u64::from_le_bytes(*word));
    Ok(Some(frame).filter(|frame| *frame != NONE))
}
