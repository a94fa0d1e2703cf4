//! The bodies against the library whose format they have.

use bitcode::{DecodeOwned, Encode};
use coldframe_envelope::{Container, DecodeError, DecodeErrorKind as Kind, Limits, SectionKind};
use coldframe_statefile::schema::v1::{CpuidRowV1, DeviceV1, HostV1, MachineV1, VcpuV1};
use coldframe_statefile::{DEVC, FORMAT, HOST, MACH, META, StateFile, VCPU};
use coldframe_testkit::hostile::{check_bit_flips, check_truncations};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::sample::{changed, decode, device, host, machine, metadata, vcpu};

/// The body of the first section of a kind, as it was written.
pub fn body_of(file: &[u8], kind: SectionKind) -> Vec<u8> {
    let container = Container::decode(file, FORMAT, Limits::SMALL_FILE).unwrap();
    let mut bodies = container.bodies();
    let body = bodies.find(|body| body.section().kind == kind);
    body.unwrap().body().to_vec()
}

/// A file with this body in the only section of its kind.
fn with_only(kind: SectionKind, body: &[u8]) -> Vec<u8> {
    changed(|row, bytes| {
        if row.kind == kind {
            *bytes = body.to_vec();
        }
        row.instance == 0 || (row.kind != VCPU && row.kind != DEVC)
    })
}

/// What is read here is what the library reads, and nothing else.
#[track_caller]
fn check_read<T: DecodeOwned + Encode + PartialEq + std::fmt::Debug>(
    kind: SectionKind,
    bytes: &[u8],
    get: impl Fn(&StateFile<'_>) -> Result<T, DecodeError>,
) {
    let file = with_only(kind, bytes);
    let Ok(state) = decode(&file) else { return };
    let library = bitcode::decode::<T>(bytes).ok();
    let library = library.filter(|value| bitcode::encode(value) == bytes);
    match get(&state) {
        Ok(value) => assert_eq!(Some(value), library),
        Err(error) => match error.kind {
            Kind::Codec { .. } => assert_eq!(library, None),
            Kind::Invalid {
                field: "canonical form",
            } => assert_eq!(library, None),
            // A rule of ours, which the library does not know.
            _ => {}
        },
    }
}

fn check_all(kind: SectionKind, bytes: &[u8]) {
    match kind {
        HOST => check_read(kind, bytes, |state| state.host()),
        MACH => check_read(kind, bytes, |state| state.machine()),
        VCPU => check_read(kind, bytes, |state| Ok(state.vcpus()?[0].clone())),
        DEVC => check_read(kind, bytes, |state| Ok(state.devices()?[0].clone())),
        _ => check_read(kind, bytes, |state| Ok(state.metadata()?.unwrap())),
    }
}

// Spec: STATE-8
#[test]
fn damaged_bodies_are_read_as_the_library_reads_them() {
    let only_one = DeviceV1 {
        bytes: (0..40).map(|n| n % 3).collect(),
        ..device("serial", 0)
    };
    for (kind, body) in [
        (HOST, bitcode::encode(&host())),
        (MACH, bitcode::encode(&machine())),
        (VCPU, bitcode::encode(&vcpu(0))),
        (DEVC, bitcode::encode(&only_one)),
        (META, bitcode::encode(&metadata())),
    ] {
        let state = with_only(kind, &body);
        assert!(decode(&state).unwrap().vcpus().is_ok());
        check_all(kind, &body);
        let mut check = |damaged: &[u8]| check_all(kind, damaged);
        check_truncations(&body, &mut check);
        check_bit_flips(&body, &mut check);
    }
}

/// Numbers of every width, close together and far apart, as codecs choose by them.
fn numbers() -> impl Strategy<Value = Vec<u64>> {
    let spread = prop_oneof![
        Just(1_u64),
        Just(200),
        Just(60_000),
        Just(1 << 30),
        Just(1 << 40)
    ];
    let least = prop_oneof![Just(0_u64), any::<u64>(), 0..300_u64, Just(u64::MAX - 3)];
    (least, spread, vec(any::<u64>(), 0..9)).prop_map(|(least, spread, numbers)| {
        let near = |number: u64| least.wrapping_add(number % spread);
        numbers.into_iter().map(near).collect()
    })
}

fn strings() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let one = (any::<u8>(), 1_u8..=20, vec(any::<u8>(), 0..300));
    let one = one.prop_map(|(least, spread, bytes)| {
        let near = |byte: u8| least.wrapping_add(byte % spread);
        bytes.into_iter().map(near).collect()
    });
    vec(one, 0..6)
}

fn rising(mut numbers: Vec<u64>) -> Vec<u64> {
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    // Spec: STATE-8, CONV-4
    #[test]
    fn bodies_are_written_as_the_library_writes_them(
        (first, second, third) in (numbers(), numbers(), numbers()),
        texts in strings(),
        option in proptest::option::of(any::<u64>()),
    ) {
        let low = |number: u64| number as u32;
        let keys: Vec<u64> = rising(first.clone());
        let small: Vec<u32> = {
            let all = rising(second.iter().map(|number| number & 0xffff_ffff).collect());
            all.into_iter().map(low).collect()
        };
        let text = String::from_utf8_lossy(&texts.concat()).chars().take(60).collect::<String>();
        let row = |(index, number): (usize, &u64)| CpuidRowV1 {
            function: low(*number),
            index: index as u32,
            flags: low(number >> 40),
            eax: low(number >> 3),
            ebx: low(number >> 17),
            ecx: 0,
            edx: u32::MAX,
        };
        let host = HostV1 {
            vendor: text.clone(),
            family: low(third.first().copied().unwrap_or(0)),
            brand: String::new(),
            cpuid: third.iter().enumerate().map(row).collect(),
            id_registers: keys.iter().copied().zip(third.iter().copied()).collect(),
            msr_indexes: small.clone(),
            tsc_khz: option.map(low),
            counter_hz: option,
            capabilities: small.iter().copied().zip(third.iter().map(|n| *n as i64)).collect(),
            ..host()
        };
        let machine = MachineV1 {
            items: small.iter().copied().zip(texts.iter().cloned()).collect(),
            ..machine()
        };
        let vcpu = VcpuV1 {
            items: machine.items.clone(),
            msrs: small.iter().copied().zip(third.iter().copied()).collect(),
            regs: keys.iter().copied().zip(texts.iter().cloned()).collect(),
            ..vcpu(0)
        };
        let device = DeviceV1 {
            version: keys.first().copied().unwrap_or(0) as u16,
            bytes: texts.concat(),
            ..device("serial", low(option.unwrap_or(0)))
        };
        let mut builder = coldframe_statefile::StateBuilder::new(
            coldframe_units::Arch::X86_64,
            crate::sample::producer(),
        );
        builder.host(&host).unwrap();
        builder.machine(&machine).unwrap();
        builder.vcpu(&vcpu).unwrap();
        builder.device(&device).unwrap();
        let file = builder.finish().unwrap().0;
        prop_assert_eq!(body_of(&file, HOST), bitcode::encode(&host));
        prop_assert_eq!(body_of(&file, MACH), bitcode::encode(&machine));
        prop_assert_eq!(body_of(&file, VCPU), bitcode::encode(&vcpu));
        prop_assert_eq!(body_of(&file, DEVC), bitcode::encode(&device));
        let state = decode(&file).unwrap();
        prop_assert_eq!(state.host(), Ok(host));
        prop_assert_eq!(state.machine(), Ok(machine));
        prop_assert_eq!(state.vcpus(), Ok(vec![vcpu]));
        prop_assert_eq!(state.devices(), Ok(vec![device]));
    }

    // Spec: STATE-8
    #[test]
    fn any_bytes_are_read_as_the_library_reads_them(bytes in vec(0_u8..12, 0..40)) {
        for kind in [HOST, MACH, VCPU, DEVC, META] {
            check_all(kind, &bytes);
        }
    }
}
