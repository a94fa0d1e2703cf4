//! Hosts of several CPU generations, each against each: the report's verdict is held against an
//! oracle that knows sets of named features and nothing of registers.
//!
//! The features of a generation are public knowledge (Intel ARK and SDM, AMD APM and PPR, Arm
//! Technical Reference Manuals); those that tell no two of them apart are left out.

use std::collections::{BTreeMap, BTreeSet};

use coldframe_hv::aarch64::{RegId, SysReg};
use coldframe_hv::{
    Comparison, CpuidLeaf, HostIdentity, Hypervisor, ItemKind, Machine, MachineState,
    PortabilityReport, Verdict,
};
use coldframe_testkit::hv::{FakeMachine, sample_state};
use coldframe_units::Arch;

/// The item of a feature, and where CPUID has it: leaf, sub-leaf, register, bit.
const FEATURES: &[(&str, u32, u32, usize, u32)] = &[
    ("cpuid.1.ecx.pcid", 1, 0, 2, 17),
    ("cpuid.7.ebx.hle", 7, 0, 1, 4),
    ("cpuid.7.ebx.erms", 7, 0, 1, 9),
    ("cpuid.7.ebx.invpcid", 7, 0, 1, 10),
    ("cpuid.7.ebx.rtm", 7, 0, 1, 11),
    ("cpuid.7.ebx.mpx", 7, 0, 1, 14),
    ("cpuid.7.ebx.avx512f", 7, 0, 1, 16),
    ("cpuid.7.ebx.avx512dq", 7, 0, 1, 17),
    ("cpuid.7.ebx.avx512ifma", 7, 0, 1, 21),
    ("cpuid.7.ebx.sha_ni", 7, 0, 1, 29),
    ("cpuid.7.ebx.avx512vl", 7, 0, 1, 31),
    ("cpuid.7.ecx.umip", 7, 0, 2, 2),
    ("cpuid.7.ecx.pku", 7, 0, 2, 3),
    ("cpuid.7.ecx.waitpkg", 7, 0, 2, 5),
    ("cpuid.7.ecx.gfni", 7, 0, 2, 8),
    ("cpuid.7.ecx.vaes", 7, 0, 2, 9),
    ("cpuid.7.ecx.avx512_vnni", 7, 0, 2, 11),
    ("cpuid.7.ecx.la57", 7, 0, 2, 16),
    ("cpuid.7.ecx.rdpid", 7, 0, 2, 22),
    ("cpuid.7.ecx.cldemote", 7, 0, 2, 25),
    ("cpuid.7.ecx.movdiri", 7, 0, 2, 27),
    ("cpuid.7.edx.fsrm", 7, 0, 3, 4),
    ("cpuid.7.edx.serialize", 7, 0, 3, 14),
    ("cpuid.7.edx.amx_bf16", 7, 0, 3, 22),
    ("cpuid.7.edx.avx512_fp16", 7, 0, 3, 23),
    ("cpuid.7.edx.amx_tile", 7, 0, 3, 24),
    ("cpuid.7.1.eax.avx_vnni", 7, 1, 0, 4),
    ("cpuid.7.1.eax.avx512_bf16", 7, 1, 0, 5),
    ("cpuid.d.1.eax.xfd", 0xd, 1, 0, 4),
    ("cpuid.80000001.ecx.sse4a", 0x8000_0001, 0, 2, 6),
    ("cpuid.80000008.ebx.clzero", 0x8000_0008, 0, 1, 0),
    ("cpuid.80000008.ebx.wbnoinvd", 0x8000_0008, 0, 1, 9),
    ("cpuid.80000008.ebx.amd_ssbd", 0x8000_0008, 0, 1, 24),
    ("cpuid.80000021.eax.no_nested_data_bp", 0x8000_0021, 0, 0, 0),
    ("cpuid.80000021.eax.lfence_rdtsc", 0x8000_0021, 0, 0, 2),
    ("cpuid.80000021.eax.autoibrs", 0x8000_0021, 0, 0, 8),
    ("cpuid.80000021.eax.prefetchi", 0x8000_0021, 0, 0, 20),
    ("cpuid.80000021.ecx.tsa_sq_no", 0x8000_0021, 0, 2, 1),
    ("cpuid.80000022.eax.perfmon_v2", 0x8000_0022, 0, 0, 0),
];

struct Generation {
    name: &'static str,
    vendor: &'static str,
    family: u32,
    model: u32,
    phys_bits: u32,
    linear_bits: u32,
    features: &'static str,
}

const fn generation(
    name: &'static str,
    (vendor, family, model): (&'static str, u32, u32),
    (phys_bits, linear_bits): (u32, u32),
    features: &'static str,
) -> Generation {
    Generation {
        name,
        vendor,
        family,
        model,
        phys_bits,
        linear_bits,
        features,
    }
}

const INTEL: &str = "GenuineIntel";
const AMD: &str = "AuthenticAMD";

#[rustfmt::skip]
const X86: [Generation; 7] = [
    generation("Skylake", (INTEL, 6, 85), (46, 48),
        "pcid hle erms invpcid rtm mpx avx512f avx512dq avx512vl pku"),
    generation("Ice Lake", (INTEL, 6, 106), (46, 57),
        "pcid hle erms invpcid rtm avx512f avx512dq avx512ifma sha_ni avx512vl umip pku gfni vaes \
         avx512_vnni la57 rdpid fsrm wbnoinvd"),
    generation("Sapphire Rapids", (INTEL, 6, 143), (52, 57),
        "pcid hle erms invpcid rtm avx512f avx512dq avx512ifma sha_ni avx512vl umip pku waitpkg \
         gfni vaes avx512_vnni la57 rdpid cldemote movdiri fsrm serialize amx_bf16 avx512_fp16 \
         amx_tile avx_vnni avx512_bf16 xfd wbnoinvd"),
    generation("Zen 2", (AMD, 23, 49), (48, 48),
        "sha_ni umip rdpid sse4a clzero wbnoinvd amd_ssbd"),
    generation("Zen 3", (AMD, 25, 1), (48, 48),
        "pcid erms invpcid sha_ni umip pku vaes rdpid fsrm sse4a clzero wbnoinvd amd_ssbd \
         no_nested_data_bp lfence_rdtsc"),
    generation("Zen 4", (AMD, 25, 17), (52, 57),
        "pcid erms invpcid avx512f avx512dq avx512ifma sha_ni avx512vl umip pku gfni vaes \
         avx512_vnni la57 rdpid fsrm avx512_bf16 sse4a clzero wbnoinvd amd_ssbd \
         no_nested_data_bp lfence_rdtsc autoibrs perfmon_v2"),
    generation("Zen 5", (AMD, 26, 2), (52, 57),
        "pcid erms invpcid avx512f avx512dq avx512ifma sha_ni avx512vl umip pku gfni vaes \
         avx512_vnni la57 rdpid movdiri fsrm avx_vnni avx512_bf16 sse4a clzero wbnoinvd amd_ssbd \
         no_nested_data_bp lfence_rdtsc autoibrs prefetchi tsa_sq_no perfmon_v2"),
];

impl Generation {
    fn set(&self) -> BTreeSet<&'static str> {
        self.features.split_ascii_whitespace().collect()
    }

    fn has(&self, item: &str) -> bool {
        let name = item.rsplit('.').next().unwrap();
        self.set().contains(name)
    }

    fn host(&self) -> HostIdentity {
        let mut leaves: BTreeMap<(u32, u32), [u32; 4]> = BTreeMap::new();
        for (item, leaf, index, register, bit) in FEATURES {
            let registers = leaves.entry((*leaf, *index)).or_default();
            registers[*register] |= u32::from(self.has(item)) << bit;
        }
        leaves.entry((0x8000_0008, 0)).or_default()[0] = self.linear_bits << 8 | self.phys_bits;
        let mut host = HostIdentity::bare(Arch::X86_64, Hypervisor::KVM);
        host.cpu.vendor = self.vendor.to_owned();
        (host.cpu.family, host.cpu.model) = (self.family, self.model);
        host.cpuid = leaves
            .into_iter()
            .map(|((function, index), [eax, ebx, ecx, edx])| CpuidLeaf {
                function,
                index,
                flags: 1,
                eax,
                ebx,
                ecx,
                edx,
            })
            .collect();
        host.xsave_bytes = 576;
        host.capabilities = [(60, 1)].into();
        host
    }
}

fn cpuid_item(leaves: &[CpuidLeaf]) -> Vec<u8> {
    let words = leaves.iter().flat_map(|leaf| {
        let CpuidLeaf {
            function,
            index,
            flags,
            eax,
            ebx,
            ecx,
            edx,
        } = *leaf;
        [function, index, flags, eax, ebx, ecx, edx, 0, 0, 0].map(u32::to_le_bytes)
    });
    words.flatten().collect()
}

/// A machine of two vCPUs that see `leaves`, saved on `host`.
fn saved(host: &HostIdentity, leaves: &[CpuidLeaf]) -> MachineState {
    let mut state = sample_state(2);
    state.hypervisor = Hypervisor::KVM;
    state.host = host.clone();
    for vcpu in &mut state.vcpus {
        vcpu.items.insert(ItemKind::CPUID2, cpuid_item(leaves));
    }
    state
}

/// What has to be waived for a guest of `from` on `to`, by names alone.
fn oracle(from: &Generation, to: &Generation) -> BTreeSet<String> {
    let lacks = from.set().difference(&to.set()).count();
    let items = FEATURES.iter().map(|row| row.0);
    let mut items: BTreeSet<String> = items
        .filter(|item| from.has(item) && !to.has(item))
        .map(str::to_owned)
        .collect();
    assert_eq!(items.len(), lacks, "a feature of {} has no item", from.name);
    let mut differ = |item: &str, differs: bool| {
        if differs {
            items.insert(item.to_owned());
        }
    };
    differ("cpu.vendor", from.vendor != to.vendor);
    differ("cpu.family", from.family != to.family);
    differ("cpu.model", from.model != to.model);
    differ(
        "cpuid.80000008.eax.phys_bits",
        from.phys_bits > to.phys_bits,
    );
    differ(
        "cpuid.80000008.eax.linear_bits",
        from.linear_bits > to.linear_bits,
    );
    items
}

fn standing(report: &PortabilityReport) -> BTreeSet<String> {
    let stands = report.differences().iter();
    let stands = stands.filter(|one| one.verdict >= Verdict::MustBeWaived);
    stands.map(|one| one.item.clone()).collect()
}

/// Restores with these waivers on a machine of `host`.
fn restore(state: &MachineState, host: &HostIdentity, waivers: &[&str]) -> bool {
    let report = Comparison::of(state, host.into());
    let Ok(acceptance) = report.accept(waivers) else {
        return false;
    };
    let mut machine = FakeMachine::new(saved(host, &[]));
    let _generation = machine.restore(&acceptance).unwrap().generation();
    true
}

fn pairs() -> impl Iterator<Item = (&'static Generation, &'static Generation)> {
    const ALL: &[Generation] = &X86;
    ALL.iter()
        .flat_map(|from| ALL.iter().map(move |to| (from, to)))
}

#[test]
fn each_generation_on_each_other_is_what_the_oracle_says() {
    for (from, to) in pairs() {
        let (there, here) = (from.host(), to.host());
        let expected = oracle(from, to);
        let of = format!("{} on {}", from.name, to.name);
        let state = saved(&there, &there.cpuid);
        let report = Comparison::of(&state, (&here).into());
        assert_eq!(standing(&report), expected, "{of}");
        // Whoever has no CPUID of the guest is told what its host could have shown it.
        let report = PortabilityReport::compare(&there, &here);
        assert_eq!(standing(&report), expected, "{of}, hosts");
        let all: Vec<&str> = expected.iter().map(String::as_str).collect();
        assert!(restore(&state, &here, &all), "{of}");
        // Each item has to be waived by itself.
        for left_out in 0..all.len() {
            let mut waivers = all.clone();
            let item = waivers.remove(left_out);
            assert!(!restore(&state, &here, &waivers), "{of} without {item}");
        }
    }
}

/// A template with what all of a vendor have leaves the model's name to be waived, and no bit.
#[test]
fn a_guest_of_a_template_moves_within_its_vendor() {
    for (from, to) in pairs().filter(|(from, to)| from.vendor == to.vendor) {
        let (there, here) = (from.host(), to.host());
        let of_vendor: Vec<_> = X86.iter().filter(|one| one.vendor == from.vendor).collect();
        let mut template = there.cpuid.clone();
        for (item, leaf, index, register, bit) in FEATURES {
            if of_vendor.iter().all(|one| one.has(item)) {
                continue;
            }
            let mut leaves = template.iter_mut();
            let found = leaves.find(|row| (row.function, row.index) == (*leaf, *index));
            let row = found.unwrap();
            let cleared = [&mut row.eax, &mut row.ebx, &mut row.ecx, &mut row.edx];
            *cleared.into_iter().nth(*register).unwrap() &= !(1 << bit);
        }
        let widths = template.iter_mut().find(|row| row.function == 0x8000_0008);
        widths.unwrap().eax = 0x302e;
        let report = Comparison::of(&saved(&there, &template), (&here).into());
        let mut expected = oracle(from, to);
        expected.retain(|item| !item.starts_with("cpuid."));
        assert_eq!(standing(&report), expected, "{} on {}", from.name, to.name);
    }
}

/// Registers compared as one number each: what a comparison must not be. The oracle tells.
#[test]
fn a_planted_comparison_of_whole_registers_is_found() {
    let mut found = 0;
    for (from, to) in pairs() {
        let (there, here) = (from.host(), to.host());
        let widths = |host: &HostIdentity| {
            let mut leaves = host.cpuid.iter();
            leaves
                .find(|leaf| leaf.function == 0x8000_0008)
                .unwrap()
                .eax
        };
        let planted = widths(&here) < widths(&there);
        let expected = oracle(from, to)
            .iter()
            .any(|item| item.starts_with("cpuid.80000008.eax"));
        found += u32::from(planted != expected);
    }
    assert!(found > 0, "no pair tells fields from a number");
}

/// A field of an identification register: op1, CRm and op2, the shift, and what each core has.
type ArmField = ((u16, u16, u16), u32, [u64; 3]);

/// Fields of identification registers: register, shift, and the values of each core.
#[rustfmt::skip]
const ARM_FIELDS: &[ArmField] = &[
    // ID_AA64ISAR0_EL1: AES, SHA2, CRC32, Atomic, RDM, SHA3, SM4, DP, FHM, TS, RNDR.
    ((0, 6, 0), 4, [2, 2, 2]), ((0, 6, 0), 12, [1, 2, 2]), ((0, 6, 0), 16, [1, 1, 1]),
    ((0, 6, 0), 20, [2, 2, 2]), ((0, 6, 0), 28, [1, 1, 1]), ((0, 6, 0), 32, [0, 1, 1]),
    ((0, 6, 0), 40, [0, 1, 1]), ((0, 6, 0), 44, [1, 1, 1]), ((0, 6, 0), 48, [0, 1, 1]),
    ((0, 6, 0), 52, [0, 2, 2]), ((0, 6, 0), 60, [0, 1, 1]),
    // ID_AA64ISAR1_EL1: DPB, APA, JSCVT, FCMA, LRCPC, FRINTTS, SB, BF16, DGH, I8MM.
    ((0, 6, 1), 0, [1, 2, 2]), ((0, 6, 1), 4, [0, 0, 5]), ((0, 6, 1), 12, [0, 1, 1]),
    ((0, 6, 1), 16, [0, 1, 1]), ((0, 6, 1), 20, [1, 2, 2]), ((0, 6, 1), 32, [0, 0, 1]),
    ((0, 6, 1), 36, [0, 0, 1]), ((0, 6, 1), 44, [0, 1, 1]), ((0, 6, 1), 48, [0, 1, 1]),
    ((0, 6, 1), 52, [0, 1, 1]),
    // ID_AA64PFR0_EL1: EL0, EL1, RAS, SVE, CSV2, CSV3.
    ((0, 4, 0), 0, [2, 1, 1]), ((0, 4, 0), 4, [1, 1, 1]), ((0, 4, 0), 28, [1, 1, 2]),
    ((0, 4, 0), 32, [0, 1, 1]), ((0, 4, 0), 56, [1, 1, 2]), ((0, 4, 0), 60, [1, 1, 1]),
    // ID_AA64MMFR2_EL1: UAO, IESB, AT, FWB, TTL.
    ((0, 7, 2), 4, [1, 1, 1]), ((0, 7, 2), 12, [1, 1, 1]), ((0, 7, 2), 32, [0, 1, 1]),
    ((0, 7, 2), 40, [0, 1, 1]), ((0, 7, 2), 48, [0, 0, 2]),
];
const ARM: [(&str, u32); 3] = [
    ("Neoverse N1", 0xd0c),
    ("Neoverse V1", 0xd40),
    ("Neoverse V2", 0xd4f),
];

fn arm_register((op1, crm, op2): (u16, u16, u16)) -> u64 {
    RegId::from_system(SysReg::new(3, op1, 0, crm, op2)).code()
}

#[test]
fn each_arm_core_on_each_other_is_what_the_oracle_says() {
    let host = |core: usize| {
        let mut host = HostIdentity::bare(Arch::Aarch64, Hypervisor::KVM);
        host.cpu.vendor = "0x41".to_owned();
        host.cpu.model = ARM[core].1;
        for (register, shift, values) in ARM_FIELDS {
            let value = host
                .id_registers
                .entry(arm_register(*register))
                .or_default();
            *value |= values[core] << shift;
        }
        host
    };
    for (from, to) in (0..ARM.len()).flat_map(|from| (0..ARM.len()).map(move |to| (from, to))) {
        let lacks = ARM_FIELDS.iter().filter(|row| row.2[from] > row.2[to]);
        let mut expected: BTreeSet<String> = lacks
            .map(|row| format!("idreg.{:#018x}", arm_register(row.0)))
            .collect();
        if from != to {
            expected.insert("cpu.model".to_owned());
        }
        let report = PortabilityReport::compare(&host(from), &host(to));
        assert_eq!(
            standing(&report),
            expected,
            "{} on {}",
            ARM[from].0,
            ARM[to].0
        );
    }
}
