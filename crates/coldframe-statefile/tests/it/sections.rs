//! Which sections there may be, and who knows them.

use coldframe_envelope::{DecodeErrorKind as Kind, EncodeError, Limits, SectionFlags, SectionKind};
use coldframe_statefile::schema::v1::DeviceV1;
use coldframe_statefile::{DEVC, HOST, MACH, META, StateBuilder, StateFile, VCPU};
use coldframe_units::Arch;

use crate::sample::{
    CLOCK, NOTES, changed, decode, device, finish, host, machine, metadata, producer, vcpu, whole,
};

const MUST: SectionFlags = SectionFlags::MUST_UNDERSTAND;
const OPTIONAL: SectionFlags = SectionFlags::OPTIONAL;

// Spec: STATE-2
#[test]
fn machine_is_whole_or_absent() {
    for missing in [HOST, MACH, VCPU] {
        let file = changed(|row, _| row.kind != missing);
        let (kind, instance) = (missing, 0);
        let error = decode(&file).unwrap_err();
        assert_eq!(error.kind, Kind::MissingSection { kind, instance });
    }
    let field = "host, machine and vcpus together";
    let mut builder = StateBuilder::new(Arch::X86_64, producer());
    builder.host(&host()).unwrap();
    builder.machine(&machine()).unwrap();
    let refused = EncodeError::Invalid { field };
    assert_eq!(builder.clone().finish().unwrap_err(), refused);
    builder.vcpu(&vcpu(0)).unwrap();
    assert!(builder.finish().is_ok());
}

// Spec: STATE-3, STATE-13
#[test]
fn a_vcpu_is_named_by_its_index() {
    let renamed = changed(|row, _| {
        row.instance += u32::from(row.kind == VCPU && row.instance == 2);
        true
    });
    let field = "vcpu index";
    let error = decode(&renamed).unwrap().vcpus().unwrap_err();
    assert_eq!(error.kind, Kind::Invalid { field });

    let mut builder = whole();
    let (kind, instance) = (VCPU, 2);
    let twice = EncodeError::DuplicateSection { kind, instance };
    assert_eq!(builder.vcpu(&vcpu(2)), Err(twice));
    for index in 3..=1025 {
        builder.vcpu(&vcpu(index)).unwrap();
    }
    let (what, limit, found) = ("vcpu count", 1024, 1025);
    let refused = EncodeError::LimitExceeded { what, limit, found };
    assert_eq!(builder.finish().unwrap_err(), refused);
}

// Spec: STATE-13
// Parity: D9, F5
#[test]
#[cfg_attr(miri, ignore = "too slow under Miri")]
fn as_many_vcpus_as_may_be_written_can_be_read() {
    let mut builder = StateBuilder::new(Arch::X86_64, producer());
    builder.host(&host()).unwrap();
    builder.machine(&machine()).unwrap();
    for index in 0..1024 {
        builder.vcpu(&vcpu(index)).unwrap();
    }
    let (file, _) = finish(builder);
    assert_eq!(decode(&file).unwrap().vcpus().unwrap().len(), 1024);
}

// Spec: STATE-4
// Parity: F19
#[test]
fn a_device_stands_once_and_in_order() {
    let mut builder = whole();
    let (kind, instance) = (DEVC, 1);
    let twice = EncodeError::DuplicateSection { kind, instance };
    assert_eq!(builder.device(&device("virtio-blk", 1)), Err(twice));
    builder.device(&device("virtio-blk", 0)).unwrap();
    builder.device(&device("serial", 1)).unwrap();
    let (file, _) = finish(builder);
    let devices = decode(&file).unwrap().devices().unwrap();
    let key = |device: &DeviceV1| (device.kind.clone(), device.instance);
    let keys: Vec<_> = devices.iter().map(key).collect();
    let names = ["serial", "serial", "virtio-blk", "virtio-blk"];
    let expected: Vec<_> = names
        .map(String::from)
        .into_iter()
        .zip([0, 1, 0, 1])
        .collect();
    assert_eq!(keys, expected);

    let second = |device: DeviceV1| {
        let file = changed(|row, bytes| {
            if row.kind == DEVC && row.instance == 1 {
                *bytes = bitcode::encode(&device);
            }
            true
        });
        decode(&file).unwrap().devices().unwrap_err().kind
    };
    let (kind, instance, field) = (DEVC, 0, "device order");
    let twice = Kind::DuplicateSection { kind, instance };
    assert_eq!(second(device("serial", 0)), twice);
    assert_eq!(second(device("pit", 9)), Kind::Invalid { field });
}

// Spec: STATE-5
#[test]
fn flags_and_instances_are_held_to_the_table() {
    for kind in [HOST, MACH, VCPU, DEVC, META] {
        let flipped = changed(|row, _| {
            if row.kind == kind {
                row.flags = if kind == META { MUST } else { OPTIONAL };
            }
            true
        });
        let field = "section flags";
        assert_eq!(decode(&flipped).unwrap_err().kind, Kind::Invalid { field });
    }
    for kind in [HOST, MACH, DEVC, META] {
        let moved = changed(|row, _| {
            row.instance += 7 * u32::from(row.kind == kind);
            true
        });
        let field = "section instance";
        assert_eq!(decode(&moved).unwrap_err().kind, Kind::Invalid { field });
    }
}

// Spec: STATE-6, CONV-9
#[test]
fn unconsumed_section_is_listed_or_refused_by_name() {
    let (file, _) = finish(whole());
    let refused = StateFile::decode(&file, &[NOTES], Limits::SMALL_FILE).unwrap_err();
    let (kind, instance) = (CLOCK, 0);
    assert_eq!(refused.kind, Kind::UnknownSection { kind, instance });
    assert!(refused.is_unsupported_version());

    let state = decode(&file).unwrap();
    let unknown: Vec<_> = state.sections().filter(|info| !info.known).collect();
    assert_eq!(unknown.len(), 1);
    let row = unknown[0].section;
    assert_eq!((row.kind, row.instance, row.version), (NOTES, 5, 0));
    assert_eq!((row.flags, row.len), (OPTIONAL, 11));
    assert_eq!(state.sections().count(), 9);
}

// Spec: STATE-6, CONV-3
#[test]
fn only_lower_case_kinds_are_the_vmms() {
    let mut builder = whole();
    let field = "section kind";
    for kind in [HOST, SectionKind::new(*b"Xtra"), SectionKind::new(*b"1abc")] {
        let refused = builder.opaque(kind, 9, 1, MUST, Vec::new());
        assert_eq!(refused, Err(EncodeError::Invalid { field }));
    }
    let twice = builder.opaque(CLOCK, 0, 1, MUST, Vec::new());
    let (kind, instance) = (CLOCK, 0);
    assert_eq!(twice, Err(EncodeError::DuplicateSection { kind, instance }));
    let (file, _) = finish(whole());
    assert_eq!(decode(&file).unwrap().opaque(HOST, 0), None);
}

// Spec: CONV-10
#[test]
fn typed_section_of_another_version_is_refused() {
    let (file, _) = finish(whole());
    let state = decode(&file).unwrap();
    let error = state.typed::<(u32, u8)>(CLOCK, 0, 3).unwrap_err();
    assert!(error.is_unsupported_version());
    let error = state.typed::<(u32, String)>(CLOCK, 0, 2).unwrap_err();
    let (kind, instance) = (CLOCK, 0);
    assert_eq!(error.kind, Kind::Codec { kind, instance });
}

// Spec: STATE-7
// Parity: F1
#[test]
fn order_of_calls_does_not_change_the_bytes() {
    let mut builder = StateBuilder::new(Arch::X86_64, producer());
    let notes = b"passed over".to_vec();
    builder.opaque(NOTES, 5, 0, OPTIONAL, notes).unwrap();
    builder.typed(CLOCK, 0, 2, MUST, &(2026_u32, 7_u8)).unwrap();
    builder.metadata(&metadata()).unwrap();
    builder.device(&device("virtio-blk", 1)).unwrap();
    builder.device(&device("serial", 0)).unwrap();
    builder.vcpu(&vcpu(2)).unwrap();
    builder.machine(&machine()).unwrap();
    builder.vcpu(&vcpu(0)).unwrap();
    builder.host(&host()).unwrap();
    assert_eq!(finish(builder), finish(whole()));
    for twice in [
        whole().host(&host()),
        whole().machine(&machine()),
        whole().metadata(&metadata()),
    ] {
        assert!(matches!(twice, Err(EncodeError::DuplicateSection { .. })));
    }
}
