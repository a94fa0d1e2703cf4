//! The comparison of two hosts. The guest keeps the CPUID, MSRs and clock rate it was saved with,
//! so the question is always: can this host still deliver what the saved one promised?

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::Verdict::{Compatible, Impossible, MustBeWaived, Same};
use super::{Difference, Verdict, msr_item};
use crate::aarch64::{IdVerdict, RegId, compare_id};
use crate::{CpuidLeaf, HostIdentity, Hypervisor};

/// Rates closer than this many parts per million are taken as equal, as by KVM (`tsc_tolerance_ppm`
/// in Linux arch/x86/kvm/x86.c).
const RATE_TOLERANCE_PPM: u64 = 250;

/// `KVM_CAP_TSC_CONTROL`: the host can scale a guest's TSC to another rate.
const CAP_TSC_CONTROL: u32 = 60;

pub(super) fn compare(saved: &HostIdentity, host: &HostIdentity) -> Vec<Difference> {
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
    cpuid(&mut out, &saved.cpuid, &host.cpuid);
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
    rates(&mut out, saved, host);
    capabilities(&mut out, &saved.capabilities, &host.capabilities);
    // The blob of Apple's interrupt controller is of one build of the system.
    let other_kernel = match saved.hypervisor {
        Hypervisor::Hvf => MustBeWaived,
        _ => Compatible,
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

/// How one register of one CPUID leaf is held against another.
enum Held {
    /// Names the moment or the place: never compared.
    Volatile(u32),
    /// Bits are promises: the host must have each that was saved.
    Features,
    /// A highest number: the host's must not be lower.
    Highest,
    /// Describes the saved CPU; the guest goes on seeing that.
    Descriptive,
    /// Must be equal.
    Exact,
}

/// Intel SDM volume 2, CPUID; AMD APM volume 3, appendix E.
fn held(function: u32, index: u32, register: usize) -> Held {
    const EAX: usize = 0;
    const EBX: usize = 1;
    const ECX: usize = 2;
    const EDX: usize = 3;
    match (function, index, register) {
        // Highest leaf.
        (0x0 | 0x8000_0000 | 0x4000_0000, _, EAX) => Held::Highest,
        // Signature: compared as family, model and stepping. APIC id, count, CLFLUSH size, brand.
        (0x1, _, EAX) | (0x8000_0001, _, EAX) => Held::Volatile(u32::MAX),
        (0x1, _, EBX) => Held::Volatile(0xffff_00ff),
        // Feature bits (OSXSAVE, bit 27, is what a guest sets and is never listed).
        (0x1, _, ECX) => Held::Features,
        (0x1, _, EDX) | (0x8000_0001, _, EBX | ECX | EDX) => Held::Features,
        // Sub-leaf 0 EAX of leaves 7 and 0x14 is the highest sub-leaf.
        (0x7 | 0x14, 0, EAX) => Held::Highest,
        (0x6 | 0x7 | 0x12 | 0x14 | 0x19 | 0x1d | 0x1e | 0x24, _, _) => Held::Features,
        // Extended state: EAX and EDX (and ECX of sub-leaf 1) are masks, EBX of sub-leaves 0 and 1
        // is the size in use now.
        (0xd, 0 | 1, EBX) => Held::Volatile(u32::MAX),
        (0xd, 0, ECX) => Held::Highest,
        (0xd, 0 | 1, _) => Held::Features,
        // Topology, with this CPU's own id in EDX.
        (0xb | 0x1f, _, _) => Held::Volatile(u32::MAX),
        // Rates: compared as such.
        (0x15 | 0x16 | 0x4000_0010, _, _) => Held::Volatile(u32::MAX),
        // Extended APIC id and node.
        (0x8000_001e, _, _) => Held::Volatile(u32::MAX),
        // Caches, TLBs, monitor line, performance counters, brand.
        (0x2 | 0x4 | 0x5 | 0xa | 0x8000_0005 | 0x8000_0006, _, _) => Held::Descriptive,
        (0x8000_0002..=0x8000_0004 | 0x8000_0019 | 0x8000_001d, _, _) => Held::Descriptive,
        // Paravirtual features and hints.
        (0x4000_0001, _, EAX | EDX) => Held::Features,
        (0x8000_0007, _, EDX) | (0x8000_0008, _, EBX) => Held::Features,
        // Address widths; ECX is a count of cores.
        (0x8000_0008, _, EAX) => Held::Highest,
        (0x8000_0008, _, ECX) => Held::Volatile(u32::MAX),
        (0x8000_000a, _, EDX) | (0x8000_001f | 0x8000_0021 | 0x8000_0022, _, EAX) => Held::Features,
        _ => Held::Exact,
    }
}

fn cpuid(out: &mut Vec<Difference>, saved: &[CpuidLeaf], host: &[CpuidLeaf]) {
    const NAMES: [&str; 4] = ["eax", "ebx", "ecx", "edx"];
    let registers = |leaf: &CpuidLeaf| [leaf.eax, leaf.ebx, leaf.ecx, leaf.edx];
    let key = |leaf: &CpuidLeaf| (leaf.function, leaf.index);
    let here: BTreeMap<_, _> = host
        .iter()
        .map(|leaf| (key(leaf), registers(leaf)))
        .collect();
    for leaf in saved {
        // A leaf that is not listed reads as zero.
        let new = here.get(&key(leaf)).copied().unwrap_or_default();
        let item = format!("cpuid.{:#010x}.{:#x}", leaf.function, leaf.index);
        let listed = out.len();
        for (register, (was, is)) in registers(leaf).into_iter().zip(new).enumerate() {
            if let Some(verdict) = judge(held(leaf.function, leaf.index, register), was, is) {
                let name = NAMES.get(register).copied().unwrap_or_default();
                out.push(Difference {
                    item: format!("{item}.{name}"),
                    saved: format!("{was:#010x}"),
                    host: format!("{is:#010x}"),
                    verdict,
                });
            }
        }
        if out.len() == listed {
            let text = |[eax, ebx, ecx, edx]: [u32; 4]| {
                format!("{eax:#010x} {ebx:#010x} {ecx:#010x} {edx:#010x}")
            };
            out.push(Difference {
                item,
                saved: text(registers(leaf)),
                host: text(new),
                verdict: Same,
            });
        }
    }
}

/// `None` if there is nothing to report.
fn judge(held: Held, was: u32, is: u32) -> Option<Verdict> {
    if was == is {
        return None;
    }
    let kept = match held {
        Held::Volatile(mask) if (was ^ is) & !mask == 0 => return None,
        Held::Volatile(_) | Held::Exact => false,
        Held::Features => was & !is == 0,
        Held::Highest => is >= was,
        Held::Descriptive => true,
    };
    Some(if kept { Compatible } else { MustBeWaived })
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

fn rates(out: &mut Vec<Difference>, saved: &HostIdentity, host: &HostIdentity) {
    let text = |rate: Option<u64>| rate.map(|rate| rate.to_string()).unwrap_or_default();
    let tsc = |side: &HostIdentity| side.tsc_khz.map(u64::from);
    let scales = host
        .capabilities
        .get(&CAP_TSC_CONTROL)
        .is_some_and(|value| *value > 0);
    let verdict = match (tsc(saved), tsc(host)) {
        _ if scales => Compatible,
        (None, _) => Compatible,
        (Some(was), Some(is)) if within_tolerance(was, is) => Compatible,
        _ => MustBeWaived,
    };
    push(out, "tsc.khz", text(tsc(saved)), text(tsc(host)), verdict);
    // The counter's rate cannot be scaled, and guests read it once at boot.
    let (was, is) = (saved.counter_hz, host.counter_hz);
    push(out, "counter.hz", text(was), text(is), MustBeWaived);
}

fn within_tolerance(was: u64, is: u64) -> bool {
    was.abs_diff(is).saturating_mul(1_000_000) <= was.saturating_mul(RATE_TOLERANCE_PPM)
}

/// A capability is a flag, a count or a mask; in each case a host that has more serves as well,
/// and one that has less, or lacks a bit, may not.
fn capabilities(out: &mut Vec<Difference>, saved: &BTreeMap<u32, i64>, host: &BTreeMap<u32, i64>) {
    for (number, was) in saved {
        let is = host.get(number).copied();
        let verdict = match is {
            // Nobody here has asked, because nobody here knows it: what the host has is unknown.
            None if *was > 0 => MustBeWaived,
            None => Compatible,
            Some(is) if is >= *was => Compatible,
            Some(_) => MustBeWaived,
        };
        let is = is.map(|is| is.to_string()).unwrap_or_default();
        push(out, &format!("capability.{number}"), was, is, verdict);
    }
}
