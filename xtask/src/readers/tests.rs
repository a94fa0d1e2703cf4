//! More files than the goldens are: state of every size and shape that the codec packs otherwise,
//! and damage that a reader has to refuse.
#![allow(clippy::unwrap_used)]

use coldframe_envelope::Producer;
use coldframe_statefile::StateBuilder;
use coldframe_statefile::schema::v1::{
    CpuidRowV1, DeviceV1, HostV1, MachineV1, MetadataV1, VcpuV1,
};
use coldframe_testkit::require::skipped;
use coldframe_testkit::rng::Rng;
use coldframe_testkit::scratch;
use coldframe_units::Arch;

use super::{PYTHON, Sample, check, compare, differ, expected, has_python};
use crate::findings::Findings;
use crate::tree::Tree;

#[test]
fn readers_written_from_the_pages_read_every_golden() {
    if !has_python() {
        return skipped(PYTHON, "no interpreter");
    }
    let findings = check(&Tree::open().unwrap()).unwrap();
    assert!(findings.is_clean(), "\n{findings}");
}

/// Numbers that need `bits` bits, above a number that may need more: so each packing is met.
fn numbers(rng: &mut Rng) -> Vec<u64> {
    let bits = [0, 1, 2, 3, 4, 7, 8, 15, 16, 31, 32, 63][rng.below(12) as usize];
    let above = [0, 0, rng.next_u64()][rng.below(3) as usize];
    let count = [0, 1, 2, 3, 6, 17, 300][rng.below(7) as usize];
    (0..count)
        .map(|_| above.wrapping_add(rng.next_u64() & ((1 << bits) - 1)))
        .collect()
}

fn rising<T: Ord>(mut rows: Vec<T>) -> Vec<T> {
    rows.sort();
    rows.dedup();
    rows
}

fn bytes(rng: &mut Rng) -> Vec<u8> {
    numbers(rng)
        .into_iter()
        .map(|number| number as u8)
        .collect()
}

fn words(rng: &mut Rng) -> Vec<u32> {
    numbers(rng)
        .into_iter()
        .map(|number| number as u32)
        .collect()
}

fn text(rng: &mut Rng) -> String {
    let letters = bytes(rng).into_iter().take(250);
    letters.map(|byte| char::from(b' ' + byte % 90)).collect()
}

fn items(rng: &mut Rng) -> Vec<(u32, Vec<u8>)> {
    let codes = rising(words(rng)).into_iter();
    codes.map(|code| (code, bytes(rng))).collect()
}

fn host(rng: &mut Rng) -> HostV1 {
    let leaves = words(rng).into_iter();
    HostV1 {
        hypervisor: 1,
        vendor: text(rng),
        family: rng.next_u64() as u32,
        model: 70_000,
        stepping: 0,
        brand: text(rng),
        cpuid: leaves
            .map(|function| CpuidRowV1 {
                function,
                index: function & 3,
                flags: 1,
                eax: rng.next_u64() as u32,
                ebx: function >> 24,
                ecx: 0,
                edx: 0xffff,
            })
            .collect(),
        id_registers: rising(numbers(rng))
            .into_iter()
            .map(|id| (id, id >> 7))
            .collect(),
        msr_indexes: rising(words(rng)),
        xsave_bytes: 2696,
        tsc_khz: [None, Some(rng.next_u64() as u32)][rng.below(2) as usize],
        counter_hz: [None, Some(rng.next_u64())][rng.below(2) as usize],
        capabilities: rising(words(rng))
            .into_iter()
            .map(|code| (code, numbers(rng).first().map_or(-1, |value| *value as i64)))
            .collect(),
        kernel: text(rng),
        page_size_log2: 14,
    }
}

fn state(seed: u64) -> Vec<u8> {
    let rng = &mut Rng::new(seed);
    let producer = Producer::new("xtask", "1.0").unwrap();
    let mut builder = StateBuilder::new(Arch::X86_64, producer);
    builder.host(&host(rng)).unwrap();
    let machine = MachineV1 {
        arch: Arch::X86_64.code(),
        hypervisor: 1,
        items: items(rng),
    };
    builder.machine(&machine).unwrap();
    for index in rising(words(rng)).into_iter().chain([7]).take(3) {
        let vcpu = VcpuV1 {
            index,
            items: items(rng),
            msrs: rising(words(rng))
                .into_iter()
                .map(|index| (index, rng.next_u64()))
                .collect(),
            regs: rising(numbers(rng))
                .into_iter()
                .map(|code| (code, bytes(rng)))
                .collect(),
        };
        // An index that came twice is one vCPU.
        let _twice = builder.vcpu(&vcpu);
    }
    let device = DeviceV1 {
        kind: "serial".to_owned(),
        instance: rng.next_u64() as u32,
        version: rng.next_u64() as u16,
        bytes: bytes(rng),
    };
    builder.device(&device).unwrap();
    let metadata = MetadataV1 {
        json: text(rng),
        token_ttl_seconds: None,
    };
    builder.metadata(&metadata).unwrap();
    builder.finish().unwrap().0
}

#[test]
fn state_of_every_packing_is_read_from_the_page_alone() {
    if !has_python() {
        return skipped(PYTHON, "no interpreter");
    }
    let (tree, dir) = (Tree::open().unwrap(), scratch::dir());
    let samples: Vec<Sample> = (1..=40)
        .map(|seed| {
            let (path, bytes) = (dir.path().join(seed.to_string()), state(seed));
            std::fs::write(&path, &bytes).unwrap();
            Sample {
                path: path.to_str().unwrap().to_owned(),
                expected: expected("STAT", &bytes).unwrap(),
                shape: "STAT".to_owned(),
            }
        })
        .collect();
    let mut findings = Findings::default();
    compare(&tree, &samples, &mut findings).unwrap();
    assert!(findings.is_clean(), "\n{findings}");
}

#[test]
fn a_reader_refuses_a_flipped_bit_anywhere() {
    if !has_python() {
        return skipped(PYTHON, "no interpreter");
    }
    let (tree, dir) = (Tree::open().unwrap(), scratch::dir());
    let goldens = [
        (
            "STAT",
            "crates/coldframe-statefile/tests/golden/v1/imported.bin",
        ),
        (
            "CTAG",
            "crates/coldframe-chunkfile/tests/golden/v1/tag_log.bin",
        ),
    ];
    let mut samples = Vec::new();
    for (shape, golden) in goldens {
        let whole = std::fs::read(tree.path(golden)).unwrap();
        for at in (0..whole.len()).step_by(3) {
            let (mut damaged, path) = (whole.clone(), dir.path().join(format!("{shape}{at}")));
            damaged[at] ^= 1 << (at % 8);
            std::fs::write(&path, damaged).unwrap();
            samples.push(Sample {
                path: path.to_str().unwrap().to_owned(),
                shape: shape.to_owned(),
                expected: serde_json::json!({"refused": "by the reader"}),
            });
        }
    }
    let mut findings = Findings::default();
    compare(&tree, &samples, &mut findings).unwrap();
    // Each is refused, with a text of the reader's own.
    let differences = findings.to_string();
    let refused = differences
        .lines()
        .filter(|line| line.contains(".refused: \"by"));
    assert_eq!(refused.count(), samples.len(), "{differences}");
    assert_eq!(differences.lines().count(), samples.len(), "{differences}");
}

#[test]
fn a_difference_is_told_with_its_place() {
    let (a, b) = (
        serde_json::json!({"x": [1, {"y": 2}]}),
        serde_json::json!({"x": [1, {"y": 3}]}),
    );
    let mut out = Vec::new();
    differ("", &a, &b, &mut out);
    assert_eq!(out, [".x[1].y: 2, the reader has 3"]);
    out.clear();
    differ("", &a, &serde_json::json!({"x": [1], "z": 0}), &mut out);
    assert_eq!(out.len(), 2, "{out:?}");
}
