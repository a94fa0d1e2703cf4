//! What a vCPU's state says of its CPUID.

use coldframe_hv::{ItemKind, VcpuState};

/// One entry of `struct kvm_cpuid_entry2`, in words.
const WORDS: usize = 10;

fn word(bytes: &[u8], position: usize) -> u32 {
    let (words, _) = bytes.as_chunks::<4>();
    words
        .get(position)
        .map_or(0, |word| u32::from_le_bytes(*word))
}

/// The registers of a leaf; zeros where the guest does not see it.
fn leaf(state: &VcpuState, function: u32, index: u32) -> [u32; 4] {
    let bytes = state.items.get(&ItemKind::CPUID2).map(Vec::as_slice);
    let mut entries = bytes.unwrap_or_default().chunks_exact(WORDS * 4);
    let is_it = |entry: &&[u8]| (word(entry, 0), word(entry, 1)) == (function, index);
    entries.find(is_it).map_or([0; 4], |entry| {
        [3, 4, 5, 6].map(|position| word(entry, position))
    })
}

/// Whether the guest sees Hyper-V's interface: `Hv#1` (Linux arch/x86/kvm/hyperv.c,
/// `kvm_hv_set_cpuid`).
pub(super) fn has_hyper_v(state: &VcpuState) -> bool {
    const SIGNATURE: u32 = 0x3123_7648;
    leaf(state, 0x4000_0001, 0)[0] == SIGNATURE
}

/// Whether the guest sees shadow stacks: CPUID.7.0 ECX bit 7.
pub(super) fn has_shadow_stacks(state: &VcpuState) -> bool {
    leaf(state, 7, 0)[2] >> 7 & 1 == 1
}
