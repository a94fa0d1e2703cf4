//! Extended state: how much of it a vCPU uses.

/// The least that `KVM_GET_XSAVE` and `KVM_SET_XSAVE` move (`struct kvm_xsave`).
const BYTES_MIN: usize = 4096;

/// The extended state without what is zero behind it, and not less than the 4,096 bytes that every
/// host takes.
///
/// Components are laid out by rising number, and one in its initial state is zero: a guest that
/// has not used the large ones (AMX: 8 KiB, and a process needs `ARCH_REQ_XCOMP_GUEST_PERM` to
/// give it to a guest) fits on hosts that do not have them. Zeros are put back by the length of
/// the host's own area.
///
/// Source: Intel SDM volume 1, 13.4.3; Linux Documentation/arch/x86/xstate.rst.
#[must_use]
pub fn xsave_in_use(bytes: &[u8]) -> &[u8] {
    let used = bytes.iter().rposition(|byte| *byte != 0);
    let end = used.map_or(0, |last| last + 1).next_multiple_of(64);
    let end = end.max(BYTES_MIN).min(bytes.len());
    bytes.get(..end).unwrap_or(bytes)
}
