//! A state with something in every field, and the means to put any body into a file.

use coldframe_envelope::{
    Container, ContainerBuilder, DecodeError, Limits, Producer, Section, SectionFlags, SectionKind,
};
use coldframe_statefile::schema::v1::{
    CpuidRowV1, DeviceV1, HostV1, MachineV1, MetadataV1, VcpuV1,
};
use coldframe_statefile::{FORMAT, StateBuilder, StateFile};
use coldframe_units::{Arch, RootHash};

pub const CLOCK: SectionKind = SectionKind::new(*b"rtcx");
pub const NOTES: SectionKind = SectionKind::new(*b"note");

pub fn producer() -> Producer {
    Producer::new("golden", "0.1.0").unwrap()
}

pub fn host() -> HostV1 {
    let row = |function, index| CpuidRowV1 {
        function,
        index,
        flags: 1,
        eax: 0x16,
        ebx: 0x756e_6547,
        ecx: 0x6c65_746e,
        edx: 0x4965_6e69,
    };
    HostV1 {
        hypervisor: 1,
        vendor: "GenuineIntel".into(),
        family: 6,
        model: 0x8f,
        stepping: 8,
        brand: "a brand (tm)".into(),
        cpuid: vec![row(7, 1), row(7, 0), row(0, 0)],
        id_registers: vec![
            (0x6030_0000_0013_c000, 1),
            (0x6030_0000_0013_c001, u64::MAX),
        ],
        msr_indexes: vec![0x10, 0x1b, 0xc000_0080],
        xsave_bytes: 2696,
        tsc_khz: Some(2_100_000),
        counter_hz: None,
        capabilities: vec![(7, 1), (188, -1)],
        kernel: "6.8.0".into(),
        page_size_log2: 12,
    }
}

pub fn machine() -> MachineV1 {
    MachineV1 {
        arch: Arch::X86_64.code(),
        hypervisor: 1,
        items: vec![(0x201, vec![1, 2, 3]), (0x202, Vec::new())],
    }
}

pub fn vcpu(index: u32) -> VcpuV1 {
    VcpuV1 {
        index,
        items: vec![(0x101, vec![0; 4]), (0x102, (0..144).collect())],
        msrs: vec![(0x10, u64::from(index)), (0xc000_0080, 0xd01)],
        regs: vec![(5, vec![0xff; 8])],
    }
}

pub fn device(kind: &str, instance: u32) -> DeviceV1 {
    DeviceV1 {
        kind: kind.into(),
        instance,
        version: 3,
        bytes: kind.bytes().rev().collect(),
    }
}

pub fn metadata() -> MetadataV1 {
    MetadataV1 {
        json: r#"{"latest":{"meta-data":{}}}"#.into(),
        token_ttl_seconds: Some(60),
    }
}

/// A machine with all sections.
pub fn whole() -> StateBuilder {
    let mut builder = StateBuilder::new(Arch::X86_64, producer());
    builder.host(&host()).unwrap();
    builder.machine(&machine()).unwrap();
    builder.vcpu(&vcpu(0)).unwrap();
    builder.vcpu(&vcpu(2)).unwrap();
    builder.device(&device("serial", 0)).unwrap();
    builder.device(&device("virtio-blk", 1)).unwrap();
    builder.metadata(&metadata()).unwrap();
    let must = SectionFlags::MUST_UNDERSTAND;
    builder.typed(CLOCK, 0, 2, must, &(2026_u32, 7_u8)).unwrap();
    let optional = SectionFlags::OPTIONAL;
    builder
        .opaque(NOTES, 5, 0, optional, b"passed over".to_vec())
        .unwrap();
    builder
}

/// A machine under a hypervisor that has no name here.
pub fn foreign() -> StateBuilder {
    let mut builder = StateBuilder::new(Arch::X86_64, producer());
    let hypervisor = 200;
    builder
        .host(&HostV1 {
            hypervisor,
            ..host()
        })
        .unwrap();
    builder
        .machine(&MachineV1 {
            hypervisor,
            ..machine()
        })
        .unwrap();
    builder.vcpu(&vcpu(0)).unwrap();
    builder
}

/// No machine, only somebody else's state.
pub fn imported() -> StateBuilder {
    let mut builder = StateBuilder::new(Arch::Aarch64, producer());
    let optional = SectionFlags::OPTIONAL;
    builder
        .opaque(NOTES, 0, 1, optional, vec![0xfc; 100])
        .unwrap();
    builder
}

pub fn decode(file: &[u8]) -> Result<StateFile<'_>, DecodeError> {
    StateFile::decode(file, &[CLOCK], Limits::SMALL_FILE)
}

/// The file of [`whole`] with its rows and bodies as `change` leaves them, all hashes right.
pub fn changed(change: impl Fn(&mut Section, &mut Vec<u8>) -> bool) -> Vec<u8> {
    let (file, _) = whole().finish().unwrap();
    let container = Container::decode(&file, FORMAT, Limits::SMALL_FILE).unwrap();
    let mut builder = ContainerBuilder::new(FORMAT, producer()).with_arch(Arch::X86_64);
    for body in container.bodies() {
        let (mut row, mut bytes) = (*body.section(), body.body().to_vec());
        if change(&mut row, &mut bytes) {
            builder.section(row.kind, row.instance, row.version, row.flags, bytes);
        }
    }
    builder.finish().unwrap().0
}

/// The file of [`whole`] with another body in one section, all hashes right.
pub fn with_body(kind: SectionKind, body: &[u8]) -> Vec<u8> {
    changed(|row, bytes| {
        if row.kind == kind {
            *bytes = body.to_vec();
        }
        true
    })
}

pub fn finish(builder: StateBuilder) -> (Vec<u8>, RootHash) {
    builder.finish().unwrap()
}
