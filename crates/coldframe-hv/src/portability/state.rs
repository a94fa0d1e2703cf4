//! What a state asks of a host beside what its own host was: the lengths and kinds of its items.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::Verdict::{Compatible, Impossible, Same};
use super::compare::{self, push};
use super::{Difference, Offer, Verdict};
use crate::aarch64::{GicModel, RegId};
use crate::x86_64::xsave_in_use;
use crate::{HostIdentity, Hypervisor, ItemKind, MachineState};

/// The answer for a host that was not asked: the call that makes the machine decides.
const NOT_ASKED: &str = "not asked";

pub(super) fn compare(state: &MachineState, offer: Offer<'_>) -> Vec<Difference> {
    let mut out = compare::compare(&saved(state), offer.identity, Some(state));
    interrupt_controller(&mut out, state, offer);
    vector_lengths(&mut out, state, offer);
    out
}

/// The host of a state, with the extended state as long as that of its largest vCPU.
fn saved(state: &MachineState) -> HostIdentity {
    let lengths = state.vcpus.iter().filter_map(|vcpu| {
        let bytes = vcpu.items.get(&ItemKind::XSAVE)?;
        u32::try_from(xsave_in_use(bytes).len()).ok()
    });
    let host = state.host.clone();
    HostIdentity {
        xsave_bytes: lengths.max().unwrap_or(host.xsave_bytes),
        ..host
    }
}

/// Controllers do not turn into each other; Apple's is there under its own hypervisor alone.
fn interrupt_controller(out: &mut Vec<Difference>, state: &MachineState, offer: Offer<'_>) {
    let Some(bytes) = state.vm.items.get(&ItemKind::GIC_MODEL) else {
        return;
    };
    let model = GicModel::of(&state.vm);
    let name = |model: &GicModel| model.name().to_string();
    let saved = model.as_ref().map_or_else(|| format!("{bytes:02x?}"), name);
    let apples = [GicModel::Apple];
    let gics = match offer.identity.hypervisor {
        Hypervisor::HVF => Some(&apples[..]),
        Hypervisor::SIMULATED => Some(&[][..]),
        _ => offer.gics,
    };
    let (host, verdict) = match (model, gics) {
        (Some(model), Some(gics)) if gics.contains(&model) => (saved.clone(), Same),
        (Some(GicModel::V2 | GicModel::V3), None) => (NOT_ASKED.to_string(), Compatible),
        (_, gics) => {
            let names: Vec<String> = gics.unwrap_or_default().iter().map(name).collect();
            (names.join(" "), Impossible)
        }
    };
    out.push(Difference {
        item: "gic.kind".to_string(),
        saved,
        host,
        verdict,
    });
}

/// A vCPU is made with the lengths that it had, or not at all.
fn vector_lengths(out: &mut Vec<Difference>, state: &MachineState, offer: Offer<'_>) {
    let code = RegId::SVE_LENGTHS.code();
    let mut saved: Vec<u8> = Vec::new();
    for lengths in state.vcpus.iter().filter_map(|vcpu| vcpu.regs.get(&code)) {
        saved.resize(saved.len().max(lengths.len()), 0);
        for (all, own) in saved.iter_mut().zip(lengths) {
            *all |= own;
        }
    }
    if saved.is_empty() {
        return;
    }
    let offered = match offer.identity.hypervisor {
        Hypervisor::HVF | Hypervisor::SIMULATED => Some(&[][..]),
        _ => offer.sve_lengths,
    };
    let (host, verdict) = match offered {
        None => (NOT_ASKED.to_string(), Compatible),
        Some(offered) => (bits(offered), held(&saved, offered)),
    };
    push(out, "sve.lengths", bits(&saved), host, verdict);
}

fn held(saved: &[u8], offered: &[u8]) -> Verdict {
    let offered = offered.iter().copied().chain(core::iter::repeat(0));
    let lacks = saved.iter().zip(offered).any(|(was, is)| was & !is != 0);
    if lacks { Impossible } else { Compatible }
}

/// The lengths in bits, such as `128 256 512`.
fn bits(lengths: &[u8]) -> String {
    let positions = (0..lengths.len().saturating_mul(8)).filter(|position| {
        let byte = lengths.get(position / 8).copied().unwrap_or(0);
        byte >> (position % 8) & 1 == 1
    });
    let texts: Vec<String> = positions
        .map(|position| format!("{}", (position + 1) * 128))
        .collect();
    texts.join(" ")
}
