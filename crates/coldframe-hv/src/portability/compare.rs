//! The comparison of two hosts. The guest keeps the CPUID, MSRs and clock rate it was saved with,
//! so the question is always: can this host still deliver what the saved one promised?

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::Verdict::{Compatible, Impossible, MustBeWaived, Same};
use super::{Difference, Verdict, cpuid, msr_item};
use crate::aarch64::{IdVerdict, RegId, compare_id};
use crate::{HostIdentity, Hypervisor, ItemKind, MachineState};

/// Rates closer than this many parts per million are taken as equal, as by KVM (`tsc_tolerance_ppm`
/// in Linux arch/x86/kvm/x86.c).
const RATE_TOLERANCE_PPM: u64 = 250;

/// `KVM_CAP_TSC_CONTROL`: the host can scale a guest's TSC to another rate.
const CAP_TSC_CONTROL: u32 = 60;

/// All of two hosts; of `state`, if there is one, what the guest sees of its CPU.
pub(super) fn compare(
    saved: &HostIdentity,
    host: &HostIdentity,
    state: Option<&MachineState>,
) -> Vec<Difference> {
    let mut out = Vec::new();
    push(&mut out, "arch", saved.arch, host.arch, Impossible);
    push(
        &mut out,
        "hypervisor",
        saved.hypervisor,
        host.hypervisor,
        Impossible,
    );
    cpu_names(&mut out, saved, host);
    match state {
        Some(state) => cpuid::of_guest(&mut out, state, host),
        None => cpuid::of_hosts(&mut out, saved, host),
    }
    id_registers(&mut out, saved, host);
    msrs(&mut out, &saved.msr_indexes, &host.msr_indexes);
    let too_small = if host.xsave_bytes < saved.xsave_bytes {
        Impossible
    } else {
        Compatible
    };
    push(
        &mut out,
        "xsave.bytes",
        saved.xsave_bytes,
        host.xsave_bytes,
        too_small,
    );
    rates(&mut out, saved, host, state);
    capabilities(&mut out, &saved.capabilities, &host.capabilities);
    // The blob of Apple's interrupt controller is of one build of the system; whether items of an
    // unknown hypervisor are, only its adapter knows.
    let other_kernel = match saved.hypervisor {
        Hypervisor::KVM | Hypervisor::SIMULATED => Compatible,
        _ => MustBeWaived,
    };
    let (was, is) = (&saved.kernel, &host.kernel);
    push(&mut out, "kernel", was, is, other_kernel);
    // Memory is laid out in pages of the saved host: larger ones here cannot be mapped piece by
    // piece, and a region may begin or end within one.
    let other_pages = if host.page_size > saved.page_size {
        MustBeWaived
    } else {
        Compatible
    };
    push(
        &mut out,
        "page.size",
        saved.page_size,
        host.page_size,
        other_pages,
    );
    out
}

/// Adds an item that is [`Same`] if both print alike, or else `verdict`.
pub(super) fn push(
    out: &mut Vec<Difference>,
    item: &str,
    saved: impl ToString,
    host: impl ToString,
    verdict: Verdict,
) {
    let (saved, host) = (saved.to_string(), host.to_string());
    let verdict = if saved == host { Same } else { verdict };
    out.push(Difference {
        item: item.to_string(),
        saved,
        host,
        verdict,
    });
}

fn cpu_names(out: &mut Vec<Difference>, saved: &HostIdentity, host: &HostIdentity) {
    let (old, new) = (&saved.cpu, &host.cpu);
    push(out, "cpu.vendor", &old.vendor, &new.vendor, MustBeWaived);
    push(out, "cpu.family", old.family, new.family, MustBeWaived);
    push(out, "cpu.model", old.model, new.model, MustBeWaived);
    push(out, "cpu.stepping", old.stepping, new.stepping, Compatible);
    push(out, "cpu.brand", &old.brand, &new.brand, Compatible);
}

/// A register that a host does not have reads as zero, as the architecture has it.
fn id_registers(out: &mut Vec<Difference>, saved: &HostIdentity, host: &HostIdentity) {
    let registers = saved.id_registers.keys().chain(host.id_registers.keys());
    for code in registers.collect::<BTreeSet<_>>() {
        let (was, is) = (saved.id_registers.get(code), host.id_registers.get(code));
        let verdict = match RegId::from_code(*code).as_system() {
            Some(register) => {
                let value = |side: Option<&u64>| side.copied().unwrap_or(0);
                compare_id(register, value(was), value(is))
            }
            None if was == is => IdVerdict::Same,
            None => IdVerdict::Lacks,
        };
        let verdict = match verdict {
            IdVerdict::Same => Same,
            IdVerdict::Served => Compatible,
            IdVerdict::Lacks => MustBeWaived,
            IdVerdict::Impossible => Impossible,
        };
        let text = |side: Option<&u64>| side.map(|value| format!("{value:#018x}"));
        out.push(Difference {
            item: format!("idreg.{code:#018x}"),
            saved: text(was).unwrap_or_default(),
            host: text(is).unwrap_or_default(),
            verdict,
        });
    }
}

fn msrs(out: &mut Vec<Difference>, saved: &BTreeSet<u32>, host: &BTreeSet<u32>) {
    let listed = |yes: bool| {
        if yes {
            "listed".to_string()
        } else {
            String::new()
        }
    };
    for index in saved.union(host) {
        let (was, is) = (saved.contains(index), host.contains(index));
        out.push(Difference {
            item: msr_item(*index),
            saved: listed(was),
            host: listed(is),
            verdict: match (was, is) {
                (true, true) => Same,
                (true, false) => MustBeWaived,
                (false, _) => Compatible,
            },
        });
    }
}

fn rates(
    out: &mut Vec<Difference>,
    saved: &HostIdentity,
    host: &HostIdentity,
    state: Option<&MachineState>,
) {
    let here = host.tsc_khz.map(u64::from);
    let scales = host
        .capabilities
        .get(&CAP_TSC_CONTROL)
        .is_some_and(|value| *value > 0);
    // The guest's counter may run at another rate than its host's.
    let guest: BTreeSet<u64> = state.map(guest_rates).unwrap_or_default();
    let rates: Vec<u64> = match guest.is_empty() {
        true => saved.tsc_khz.map(u64::from).into_iter().collect(),
        false => guest.into_iter().collect(),
    };
    let is_served = |was: &u64| scales || here.is_some_and(|is| within_tolerance(*was, is));
    let verdict = if rates.iter().all(is_served) {
        Compatible
    } else {
        MustBeWaived
    };
    let text = |rates: &[u64]| {
        let texts: Vec<_> = rates.iter().map(u64::to_string).collect();
        texts.join(" ")
    };
    let is = text(here.as_slice());
    push(out, "tsc.khz", text(&rates), is, verdict);
    let text = |rate: Option<u64>| rate.map(|rate| rate.to_string()).unwrap_or_default();
    // The counter's rate cannot be scaled, and guests read it once at boot.
    let (was, is) = (text(saved.counter_hz), text(host.counter_hz));
    push(out, "counter.hz", was, is, MustBeWaived);
}

/// The rates of all vCPUs' counters, in kHz.
fn guest_rates(state: &MachineState) -> BTreeSet<u64> {
    let rates = state.vcpus.iter().filter_map(|vcpu| {
        let bytes = vcpu.items.get(&ItemKind::TSC_KHZ)?.as_slice();
        Some(u64::from(u32::from_le_bytes(bytes.try_into().ok()?)))
    });
    rates.collect()
}

fn within_tolerance(was: u64, is: u64) -> bool {
    was.abs_diff(is).saturating_mul(1_000_000) <= was.saturating_mul(RATE_TOLERANCE_PPM)
}

/// Capabilities whose answer is a count or a length, of which more serves as well: vCPUs, slots,
/// hardware breakpoints, bits of guest addresses, lengths of nested and extended state.
const COUNTS: &[u32] = &[9, 10, 66, 119, 120, 128, 157, 165, 208];

/// Capabilities whose answer is a flag or a mask; of any other it is not known which it is.
const MASKS: &[u32] = &[
    0, 14, 33, 35, 39, 41, 49, 50, 56, 60, 61, 72, 76, 102, 117, 123, 126, 127, 158, 170, 171, 172,
    187, 200, 205, 216, 227,
];

/// A host that has more serves as well; one that has less, or lacks a bit of a mask, may not.
fn capabilities(out: &mut Vec<Difference>, saved: &BTreeMap<u32, i64>, host: &BTreeMap<u32, i64>) {
    for (number, was) in saved {
        // A negative answer is an error: it is not there.
        let wanted = (*was).max(0);
        let is = host.get(number).copied();
        let has = is.unwrap_or(0).max(0);
        let (has_bits, has_as_much) = (wanted & !has == 0, has >= wanted);
        let is_served = if COUNTS.contains(number) {
            has_as_much
        } else if MASKS.contains(number) {
            has_bits
        } else {
            has_bits && has_as_much
        };
        // A number that nobody here has asked about is unknown here, and so not served.
        let verdict = if is_served { Compatible } else { MustBeWaived };
        let is = is.map(|is| is.to_string()).unwrap_or_default();
        push(out, &format!("capability.{number}"), was, is, verdict);
    }
}
