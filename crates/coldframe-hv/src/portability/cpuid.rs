//! CPUID: what a guest was promised, held against what a host can deliver, bit by bit.
//!
//! Invariant: what is promised is what the guest sees, its own CPUID; only for a state that has
//! none it is all that the saved host offered. Each bit and each field that a host lacks is an item
//! of its own, so that a waiver covers nothing else.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::Verdict::{Compatible, MustBeWaived, Same};
use super::{Difference, Verdict};
use crate::x86_64::cpuid::{FieldRule, Held, REGISTERS, bit_name, held, leaf_name};
use crate::{CpuidLeaf, HostIdentity, ItemKind, MachineState};

type Registers = [u32; 4];
type Table = BTreeMap<(u32, u32), Vec<Registers>>;

/// `KVM_CAP_TSC_DEADLINE_TIMER`: the bit of CPUID, which some kernels do not list.
const CAP_TSC_DEADLINE_TIMER: u32 = 72;
const TSC_DEADLINE_TIMER: u32 = 1 << 24;
/// EAX of leaf 0x40000001 where the interface is Hyper-V's: `Hv#1`. KVM's own leaves follow at
/// 0x40000100.
const HYPER_V: u32 = 0x3123_7648;

/// Whose promise it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Promise {
    /// All that a host can offer.
    Host,
    /// What the guest sees: tables and names in it are its own, whatever the host.
    Guest,
}

/// Compares what two hosts offer.
pub(super) fn of_hosts(out: &mut Vec<Difference>, saved: &HostIdentity, host: &HostIdentity) {
    let mut table = Table::new();
    saved.cpuid.iter().for_each(|leaf| add(&mut table, leaf));
    compare(out, &table, host, Promise::Host);
}

/// Compares what the guest sees, or, if its state does not say, what its host offered.
pub(super) fn of_guest(out: &mut Vec<Difference>, state: &MachineState, host: &HostIdentity) {
    let mut table = Table::new();
    for vcpu in &state.vcpus {
        let bytes = vcpu.items.get(&ItemKind::CPUID2).map(Vec::as_slice);
        let leaves = leaves(bytes.unwrap_or_default());
        leaves.for_each(|leaf| add(&mut table, &leaf));
    }
    if table.is_empty() {
        of_hosts(out, &state.host, host);
    } else {
        compare(out, &table, host, Promise::Guest);
    }
}

/// Entries of `struct kvm_cpuid_entry2`; the restore checks that they are whole.
pub(crate) fn leaves(bytes: &[u8]) -> impl Iterator<Item = CpuidLeaf> {
    let (entries, _) = bytes.as_chunks::<40>();
    entries.iter().map(|entry| {
        let (words, _) = entry.as_chunks::<4>();
        let word = |at: usize| words.get(at).map_or(0, |word| u32::from_le_bytes(*word));
        CpuidLeaf {
            function: word(0),
            index: word(1),
            flags: word(2),
            eax: word(3),
            ebx: word(4),
            ecx: word(5),
            edx: word(6),
        }
    })
}

const fn registers(leaf: &CpuidLeaf) -> Registers {
    [leaf.eax, leaf.ebx, leaf.ecx, leaf.edx]
}

/// Each different answer that vCPUs give is compared.
fn add(table: &mut Table, leaf: &CpuidLeaf) {
    let answers = table.entry((leaf.function, leaf.index)).or_default();
    let answer = registers(leaf);
    if !answers.contains(&answer) {
        answers.push(answer);
    }
}

fn compare(out: &mut Vec<Difference>, table: &Table, host: &HostIdentity, whose: Promise) {
    let here: BTreeMap<_, _> = host
        .cpuid
        .iter()
        .map(|leaf| ((leaf.function, leaf.index), registers(leaf)))
        .collect();
    let interface = table.get(&(0x4000_0001, 0)).and_then(|rows| rows.first());
    let has_hyper_v = interface.is_some_and(|answer| answer[0] == HYPER_V);
    for ((function, index), answers) in table {
        let twin = match function {
            // Where Hyper-V's leaves are, the host's list has KVM's.
            0x4000_0000..=0x4000_00ff if has_hyper_v => None,
            0x4000_0100..=0x4000_01ff if has_hyper_v => Some(*function - 0x100),
            function => Some(*function),
        };
        let function_here = twin.unwrap_or(*function);
        // A leaf that is not listed reads as zero.
        let mut new = here.get(&(function_here, *index)).copied();
        if (function_here, *index) == (1, 0) && has_deadline_timer(host) {
            new.get_or_insert_default()[2] |= TSC_DEADLINE_TIMER;
        }
        let new = new.unwrap_or_default();
        let mut found = BTreeMap::new();
        for answer in answers.iter().filter(|_| twin.is_some()) {
            judge_leaf((function_here, *index), answer, &new, whose, &mut found);
        }
        let item = format!("cpuid.{}", leaf_name(*function, *index));
        report(out, &item, answers, &new, found);
    }
}

fn has_deadline_timer(host: &HostIdentity) -> bool {
    let answer = host.capabilities.get(&CAP_TSC_DEADLINE_TIMER);
    answer.is_some_and(|answer| *answer > 0)
}

/// Values of a difference, and what it means, by the name of register, field or bit.
type Found = BTreeMap<String, (String, String, Verdict)>;

fn report(
    out: &mut Vec<Difference>,
    item: &str,
    answers: &[Registers],
    new: &Registers,
    found: Found,
) {
    if found.is_empty() {
        let text = |answer: &Registers| {
            let texts: Vec<_> = answer.iter().map(|word| format!("{word:#010x}")).collect();
            texts.join(" ")
        };
        out.push(Difference {
            item: item.to_string(),
            saved: answers.first().map(text).unwrap_or_default(),
            host: text(new),
            verdict: Same,
        });
    }
    for (name, (saved, host, verdict)) in found {
        out.push(Difference {
            item: format!("{item}.{name}"),
            saved,
            host,
            verdict,
        });
    }
}

fn judge_leaf(
    (function, index): (u32, u32),
    saved: &Registers,
    host: &Registers,
    whose: Promise,
    found: &mut Found,
) {
    // A guest without a PMU has no use for the rest of the leaf.
    if function == 0xa && saved[0] & 0xff == 0 {
        return;
    }
    for (register, (was, is)) in saved.iter().zip(host).enumerate() {
        let (was, is) = (*was, *is);
        if was == is {
            continue;
        }
        let name = REGISTERS.get(register).copied().unwrap_or_default();
        let mut add = |suffix: &str, saved: String, host: String, verdict: Verdict| {
            let key = match suffix {
                "" => name.to_string(),
                suffix => format!("{name}.{suffix}"),
            };
            let kept = found.get(&key).is_some_and(|other| other.2 >= verdict);
            if !kept {
                found.insert(key, (saved, host, verdict));
            }
        };
        let mut whole = |verdict| add("", format!("{was:#010x}"), format!("{is:#010x}"), verdict);
        match held(function, index, register) {
            Held::Volatile => {}
            Held::Descriptive => whole(Compatible),
            Held::Table(_) if whose == Promise::Guest => whole(Compatible),
            Held::Table(FieldRule::AtLeast) if is >= was => whole(Compatible),
            Held::Table(_) | Held::Exact => whole(MustBeWaived),
            Held::Features(given) => {
                let lacking = was & !is & !given;
                if lacking == 0 {
                    whole(Compatible);
                }
                for bit in (0..32).filter(|bit| lacking >> bit & 1 == 1) {
                    let bit = bit_name(function, index, register, bit);
                    add(&bit, "1".to_string(), "0".to_string(), MustBeWaived);
                }
            }
            Held::Fields(fields) => {
                for field in fields {
                    let (was, is) = (field.of(was), field.of(is));
                    if was != is {
                        let verdict = judge_field(field.rule, was, is);
                        add(field.name, was.to_string(), is.to_string(), verdict);
                    }
                }
            }
        }
    }
}

const fn judge_field(rule: FieldRule, was: u32, is: u32) -> Verdict {
    let kept = match rule {
        FieldRule::AtLeast => is >= was,
        // A host that does not say has what the field before it says, which is compared.
        FieldRule::AtLeastIfSaid => is >= was || is == 0,
        FieldRule::Equal => false,
        FieldRule::Bits => was & !is == 0,
        FieldRule::Absent => is & !was == 0,
    };
    if kept { Compatible } else { MustBeWaived }
}
