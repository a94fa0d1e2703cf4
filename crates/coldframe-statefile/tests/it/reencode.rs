//! Any bytes, as a file and as the body of each section: what decodes is the same after being
//! encoded again. Shared with the fuzz target.

use coldframe_envelope::{Container, ContainerBuilder, DecodeError, Limits, Producer, SectionKind};
use coldframe_statefile::schema::v1::{DeviceV1, HostV1, MachineV1, MetadataV1, VcpuV1};
use coldframe_statefile::{
    DEVC, FORMAT, HOST, MACH, META, StateBuilder, StateFile, VCPU, is_vmm_kind,
};
use coldframe_units::Arch;

const LIMITS: Limits = Limits {
    sections_max: 64,
    section_bytes_max: 1 << 16,
    file_bytes_max: 1 << 20,
};
const KNOWN: [SectionKind; 1] = [SectionKind::new(*b"rtcx")];

#[derive(Debug, PartialEq)]
struct Bodies {
    machine: Option<(HostV1, MachineV1, Vec<VcpuV1>)>,
    devices: Vec<DeviceV1>,
    metadata: Option<MetadataV1>,
}

/// Checks one input.
///
/// # Panics
/// If it decodes to something that does not survive.
pub fn check(bytes: &[u8]) {
    check_file(bytes);
    check_bodies(bytes);
}

fn check_file(file: &[u8]) {
    if let Ok(state) = StateFile::decode(file, &KNOWN, LIMITS)
        && let Ok(bodies) = bodies(&state)
    {
        let rebuilt = rebuild(&state, &bodies);
        let again = StateFile::decode(&rebuilt, &KNOWN, Limits::SMALL_FILE);
        let again = again.expect("what was written can be read");
        assert_eq!(self::bodies(&again).as_ref(), Ok(&bodies));
        assert_eq!(rebuild(&again, &bodies), rebuilt);
    }
}

/// The bytes as the body of every section at once, each looked at alone.
fn check_bodies(bytes: &[u8]) {
    const WHY: &str = "what was read can be written";
    let producer = Producer::new("fuzz", "1").expect("it is short");
    let mut file = ContainerBuilder::new(FORMAT, producer).with_arch(Arch::X86_64);
    for kind in [HOST, MACH, VCPU, DEVC] {
        file.must_understand(kind, 0, 1, bytes.to_vec());
    }
    file.optional(META, 0, 1, bytes.to_vec());
    let Ok((file, _)) = file.finish() else { return };
    let Ok(state) = StateFile::decode(&file, &KNOWN, LIMITS) else {
        return;
    };
    let mut parts = StateBuilder::new(Arch::X86_64, producer);
    let _ = state.host().map(|host| parts.host(&host).expect(WHY));
    let _ = state
        .machine()
        .map(|machine| parts.machine(&machine).expect(WHY));
    let _ = state.vcpus().map(|vcpus| parts.vcpu(&vcpus[0]).expect(WHY));
    let mut alone = StateBuilder::new(Arch::X86_64, producer);
    let _ = state
        .devices()
        .map(|devices| alone.device(&devices[0]).expect(WHY));
    if let Ok(Some(metadata)) = state.metadata() {
        alone.metadata(&metadata).expect(WHY);
    }
    let (again, _) = alone.finish().expect(WHY);
    let again = Container::decode(&again, FORMAT, Limits::SMALL_FILE).expect(WHY);
    for body in again.bodies() {
        assert_eq!(body.body(), bytes, "accepted, but not written like this");
    }
}

fn bodies(state: &StateFile<'_>) -> Result<Bodies, DecodeError> {
    let machine = match state.has_machine() {
        true => Some((state.host()?, state.machine()?, state.vcpus()?)),
        false => None,
    };
    Ok(Bodies {
        machine,
        devices: state.devices()?,
        metadata: state.metadata()?,
    })
}

fn rebuild(state: &StateFile<'_>, bodies: &Bodies) -> Vec<u8> {
    const WHY: &str = "what was read can be written";
    let mut builder = StateBuilder::new(state.arch(), state.header().producer);
    if let Some((host, machine, vcpus)) = &bodies.machine {
        builder.host(host).expect(WHY);
        builder.machine(machine).expect(WHY);
        for vcpu in vcpus {
            builder.vcpu(vcpu).expect(WHY);
        }
    }
    for device in &bodies.devices {
        builder.device(device).expect(WHY);
    }
    if let Some(metadata) = &bodies.metadata {
        builder.metadata(metadata).expect(WHY);
    }
    for info in state.sections() {
        let row = info.section;
        if is_vmm_kind(row.kind) {
            let body = state.opaque(row.kind, row.instance).expect("it is listed");
            let bytes = body.body().to_vec();
            let added = builder.opaque(row.kind, row.instance, row.version, row.flags, bytes);
            added.expect(WHY);
        }
    }
    builder.finish().expect(WHY).0
}
