//! Rules of each body, the same on writing and on reading.

use bitcode::Encode;
use coldframe_envelope::{DecodeErrorKind as Kind, EncodeError, Version};
use coldframe_statefile::schema::v1::{DeviceV1, HostV1, MachineV1, MetadataV1, VcpuV1};
use coldframe_statefile::{DEVC, HOST, MACH, META, StateBuilder, VCPU};
use coldframe_units::Arch;

use crate::sample::{
    decode, device, finish, host, machine, metadata, producer, vcpu, whole, with_body,
};

/// What writing and reading say of a body.
trait Judged: Encode + Sized {
    fn write(&self, builder: &mut StateBuilder) -> Result<(), EncodeError>;
    fn read(&self) -> Result<(), Kind>;
}

macro_rules! judged {
    ($type:ty, $kind:expr, $add:ident, $get:ident) => {
        impl Judged for $type {
            fn write(&self, builder: &mut StateBuilder) -> Result<(), EncodeError> {
                builder.$add(self)
            }

            fn read(&self) -> Result<(), Kind> {
                let file = with_body($kind, &bitcode::encode(self));
                let state = decode(&file).map_err(|error| error.kind)?;
                state.$get().map(|_| ()).map_err(|error| error.kind)
            }
        }
    };
}

judged!(HostV1, HOST, host, host);
judged!(MachineV1, MACH, machine, machine);
judged!(VcpuV1, VCPU, vcpu, vcpus);
judged!(DeviceV1, DEVC, device, devices);
judged!(MetadataV1, META, metadata, metadata);

#[track_caller]
fn check_invalid(field: &'static str, body: &impl Judged) {
    let mut builder = StateBuilder::new(Arch::X86_64, producer());
    let written = body.write(&mut builder);
    assert_eq!(written, Err(EncodeError::Invalid { field }));
    assert_eq!(body.read(), Err(Kind::Invalid { field }));
}

#[track_caller]
fn check_limit(what: &'static str, limit: u64, body: &impl Judged) {
    let mut builder = StateBuilder::new(Arch::X86_64, producer());
    let Err(EncodeError::LimitExceeded { found, .. }) = body.write(&mut builder) else {
        panic!("{what} was written");
    };
    let expected = Kind::LimitExceeded { what, limit, found };
    assert_eq!(body.read(), Err(expected));
}

// Spec: STATE-9
#[test]
fn keyed_lists_rise_strictly() {
    let (mut base, items) = (host(), |keys: [u32; 2]| {
        keys.map(|key| (key, vec![1])).to_vec()
    });
    base.msr_indexes = vec![3, 2];
    check_invalid("msr_indexes", &base);
    base = host();
    base.id_registers = vec![(1, 0), (1, 0)];
    check_invalid("id_registers", &base);
    base = host();
    base.capabilities = vec![(2, 0), (1, 0)];
    check_invalid("capabilities", &base);

    let mut changed = machine();
    changed.items = items([2, 1]);
    check_invalid("items", &changed);
    let mut changed = vcpu(0);
    changed.items = items([7, 7]);
    check_invalid("items", &changed);
    let mut changed = vcpu(0);
    changed.msrs = vec![(1, 0), (1, 1)];
    check_invalid("msrs", &changed);
    let mut changed = vcpu(0);
    changed.regs = vec![(9, Vec::new()), (8, Vec::new())];
    check_invalid("regs", &changed);
}

// Spec: STATE-13, CONV-7
// Parity: D9, F5
#[test]
#[cfg_attr(miri, ignore = "too slow under Miri")]
fn limits_are_the_same_on_both_sides() {
    let rows = 4096_u32;
    let mut base = host();
    base.msr_indexes = (0..=rows).collect();
    check_limit("msr_indexes", 4096, &base);
    base = host();
    base.cpuid = vec![base.cpuid[0]; 4097];
    check_limit("cpuid", 4096, &base);
    base = host();
    base.kernel = "k".repeat(256);
    check_limit("kernel", 255, &base);

    let mut changed = machine();
    changed.items = (0..=1024).map(|key| (key, Vec::new())).collect();
    check_limit("items", 1024, &changed);
    let mut changed = vcpu(0);
    changed.msrs = (0..=rows).map(|key| (key, 0)).collect();
    check_limit("msrs", 4096, &changed);
    let long = MetadataV1 {
        json: "x".repeat((1 << 20) + 1),
        token_ttl_seconds: None,
    };
    check_limit("body length in bytes", 1 << 20, &long);
}

// Spec: STATE-10
#[test]
fn codes_are_known_and_agree() {
    let mut base = host();
    base.hypervisor = 0;
    check_invalid("hypervisor", &base);
    let mut nobody = machine();
    nobody.hypervisor = 0;
    check_invalid("hypervisor", &nobody);
    base = host();
    base.page_size_log2 = 11;
    check_invalid("page_size_log2", &base);
    let mut changed = machine();
    changed.arch = Arch::Aarch64.code();
    check_invalid("arch", &changed);
    changed.arch = 77;
    check_invalid("arch", &changed);

    let mut changed = machine();
    changed.hypervisor = 2;
    let field = "hypervisor";
    assert_eq!(changed.read(), Err(Kind::Invalid { field }));
    let mut builder = StateBuilder::new(Arch::X86_64, producer());
    builder.host(&host()).unwrap();
    builder.machine(&changed).unwrap();
    builder.vcpu(&vcpu(0)).unwrap();
    assert_eq!(
        builder.finish().unwrap_err(),
        EncodeError::Invalid { field }
    );
}

/// A machine under a hypervisor of this number.
fn under(hypervisor: u8) -> Result<Vec<u8>, EncodeError> {
    let mut builder = StateBuilder::new(Arch::X86_64, producer());
    builder.host(&HostV1 {
        hypervisor,
        ..host()
    })?;
    builder.machine(&MachineV1 {
        hypervisor,
        ..machine()
    })?;
    builder.vcpu(&vcpu(0))?;
    Ok(builder.finish()?.0)
}

// Spec: STATE-1, STATE-10
#[test]
fn any_hypervisor_is_carried_and_only_the_first_three_are_of_version_1_0() {
    for code in 1..=u8::MAX {
        let file = under(code).unwrap();
        let state = decode(&file).unwrap();
        assert_eq!(state.host().unwrap().hypervisor, code);
        assert_eq!(state.machine().unwrap().hypervisor, code);
        let minor = u16::from(code > 3);
        assert_eq!(
            state.header().version,
            Version { major: 1, minor },
            "{code}"
        );
    }
    let field = "hypervisor";
    assert_eq!(under(0), Err(EncodeError::Invalid { field }));
}

// Spec: STATE-11, STATE-13
#[test]
fn device_kind_is_short_printable_ascii() {
    for kind in ["", "a\nb", "caf\u{e9}"] {
        check_invalid("device kind", &device(kind, 0));
    }
    check_limit("device kind", 64, &device(&"d".repeat(65), 0));
}

// Spec: STATE-8, CONV-4
#[test]
#[cfg_attr(miri, ignore = "too slow under Miri")]
fn body_in_another_form_is_refused() {
    // A trailing byte is refused by the codec; a wider packing of the same value by us.
    let mut long = bitcode::encode(&metadata());
    long.push(0);
    let (kind, instance) = (META, 0);
    let file = with_body(META, &long);
    let error = decode(&file).unwrap().metadata().unwrap_err();
    assert_eq!(error.kind, Kind::Codec { kind, instance });

    let sound = bitcode::encode(&vcpu(0));
    let mut refused = 0;
    for at in 0..sound.len() {
        for bit in 0..8 {
            let mut body = sound.clone();
            body[at] ^= 1 << bit;
            let file = with_body(VCPU, &body);
            match decode(&file).unwrap().vcpus() {
                Err(error) => {
                    let canonical = Kind::Invalid {
                        field: "canonical form",
                    };
                    refused += u32::from(error.kind == canonical);
                }
                Ok(vcpus) => assert_eq!(bitcode::encode(&vcpus[0]), body),
            }
        }
    }
    assert!(refused > 0, "no flip led to another form of a value");
}

// Spec: STATE-12
// Parity: F20
#[test]
fn absent_time_to_live_stays_absent() {
    for token_ttl_seconds in [None, Some(0), Some(u32::MAX)] {
        let mut builder = StateBuilder::new(Arch::X86_64, producer());
        let json = String::from("{ \"b\": 1, \"a\": [null] }");
        let metadata = MetadataV1 {
            json,
            token_ttl_seconds,
        };
        builder.metadata(&metadata).unwrap();
        let (file, _) = finish(builder);
        let read = decode(&file).unwrap().metadata().unwrap();
        assert_eq!(read, Some(metadata));
    }
}

// Spec: STATE-12
// Parity: F19
#[test]
fn device_bytes_of_any_sort_come_back() {
    for bytes in [Vec::new(), vec![0; 1 << 16], (0..=255).collect()] {
        let mut builder = whole();
        let mut odd = device("odd", 3);
        odd.bytes = bytes;
        builder.device(&odd).unwrap();
        let (file, _) = finish(builder);
        let devices = decode(&file).unwrap().devices().unwrap();
        assert!(devices.contains(&odd));
    }
}
