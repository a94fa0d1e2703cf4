//! The state file of a snapshot: checked against its root, and read by those who know it.

use coldframe_envelope::{Producer, SectionFlags, SectionKind};
use coldframe_hv::{HostIdentity, Hypervisor, ItemKind, MachineState, VcpuState, VmState};
use coldframe_snapshot::import::{DiffHoles, Dump, OpaqueState, Source, import};
use coldframe_snapshot::{STATE, Snapshot, SnapshotError};
use coldframe_statefile::StateBuilder;
use coldframe_testkit::hv::FakeMachine;
use coldframe_units::{Arch, ByteLen, PageSize, RamLayout};

use crate::support::{Home, Vm, producer};
use crate::verify::flip;

/// A state in which every field of every kind holds something.
fn crowded() -> MachineState {
    let mut host = HostIdentity::bare(Arch::X86_64, Hypervisor::KVM);
    host.cpu.vendor = "GenuineIntel".into();
    host.cpu.brand = "A CPU of some sort @ 2.00GHz".into();
    (host.cpu.family, host.cpu.model, host.cpu.stepping) = (6, 143, 8);
    host.cpuid = (0..20)
        .map(|function| coldframe_hv::CpuidLeaf {
            function,
            index: function % 3,
            flags: 1,
            eax: 1 << function,
            ebx: 2,
            ecx: 3,
            edx: u32::MAX - function,
        })
        .collect();
    host.id_registers = [(0x6030_0000_0013_c000, 0x410f_d0c1)].into();
    host.msr_indexes = [0x10, 0xc000_0080].into();
    host.xsave_bytes = 2696;
    host.tsc_khz = Some(2_000_000);
    host.counter_hz = Some(24_000_000);
    host.capabilities = [(131, 1), (210, 4096)].into();
    host.kernel = "Linux 6.12.0".into();
    let vcpu = |index: u32| VcpuState {
        index,
        items: [
            (ItemKind::REGS, vec![index as u8; 144]),
            (ItemKind::XSAVE, vec![0xfe; 2696]),
            (ItemKind::from_code(0xffff_fff0), vec![1, 2, 3]),
        ]
        .into(),
        msrs: (0..100)
            .map(|msr| (msr, u64::MAX - u64::from(msr)))
            .collect(),
        regs: [(7, vec![1; 8]), (u64::MAX, vec![2; 16])].into(),
    };
    MachineState {
        arch: Arch::X86_64,
        hypervisor: Hypervisor::KVM,
        host,
        vm: VmState {
            items: [
                (ItemKind::CLOCK, vec![7; 48]),
                (ItemKind::IOAPIC, vec![8; 520]),
            ]
            .into(),
        },
        // Indexes rise, they need not be without gaps.
        vcpus: vec![vcpu(0), vcpu(1), vcpu(30)],
    }
}

// Parity: F1
#[test]
fn every_field_of_a_machine_comes_back() {
    let home = Home::new();
    let mut vm = Vm::new(4);
    vm.cpu.machine = FakeMachine::new(crowded());
    let snapshot = vm.full(&home.at("full"));
    assert_eq!(
        Snapshot::open(snapshot.path()).unwrap().machine().unwrap(),
        crowded()
    );
    let host = snapshot.manifest().host.unwrap();
    assert_eq!(host.hypervisor(), "kvm");
    assert_eq!(host.cpu(), "A CPU of some sort @ 2.00GHz");
    assert_eq!(host.kernel(), "Linux 6.12.0");
}

// Parity: F6
#[test]
fn a_machine_without_vcpus_is_refused_before_anything_is_taken() {
    let home = Home::new();
    let mut vm = Vm::new(4);
    vm.fill(1, 1);
    let mut state = crowded();
    state.vcpus.clear();
    vm.cpu.machine = FakeMachine::new(state);
    let error = vm.freeze(&home.at("full"), coldframe_snapshot::Kind::Full);
    assert!(matches!(error, Err(SnapshotError::State(_))));
    assert_eq!(vm.bitmap.count(), 1);
    assert!(home.names().is_empty());
}

// Parity: F2
#[test]
fn a_flipped_bit_is_refused_before_the_codec_runs() {
    let home = Home::new();
    let mut vm = Vm::new(4);
    let snapshot = vm.full(&home.at("full"));
    let path = snapshot.path().join(STATE);
    let len = std::fs::metadata(&path).unwrap().len();
    for at in (0..len).step_by(7) {
        flip(&path, at, (at % 8) as u8);
        let error = snapshot.machine().unwrap_err();
        assert!(
            matches!(
                error,
                SnapshotError::Decode { .. } | SnapshotError::FileRoot { .. }
            ),
            "{at:#x}: {error}"
        );
        flip(&path, at, (at % 8) as u8);
    }
    assert!(snapshot.machine().is_ok());
}

/// A snapshot whose state is somebody else's.
fn imported(home: &Home) -> Snapshot {
    let dump = home.at("dump");
    std::fs::write(&dump, [1; 8192]).unwrap();
    let dump = Dump::open(&dump).unwrap();
    let source = Source {
        dump: &dump,
        arch: Arch::X86_64,
        ram: RamLayout::contiguous(ByteLen::new(8192)).unwrap(),
        page_size: PageSize::SIZE_4K,
        parent: None,
        holes: DiffHoles::Proven,
        state: Some(OpaqueState {
            kind: SectionKind::new(*b"them"),
            version: 4,
            bytes: b"anything \x00 at all".to_vec(),
        }),
    };
    import(source, &home.at("imported"), producer(), &mut |_| ()).unwrap()
}

#[test]
fn anothers_state_is_kept_whole_and_is_no_machine() {
    let home = Home::new();
    let snapshot = imported(&home);
    let state = snapshot.state().unwrap();
    let file = state.file().unwrap();
    let body = file.opaque(SectionKind::new(*b"them"), 0).unwrap();
    assert_eq!(body.body(), b"anything \x00 at all");
    assert!(matches!(
        snapshot.machine(),
        Err(SnapshotError::NoMachine { .. })
    ));
}

#[test]
fn a_section_that_must_be_understood_is_refused_by_name_by_a_vmm_that_does_not() {
    let producer = Producer::new("test", "1.0").unwrap();
    let mut file = StateBuilder::new(Arch::X86_64, producer);
    let kind = SectionKind::new(*b"gpu0");
    file.opaque(kind, 0, 1, SectionFlags::MUST_UNDERSTAND, vec![1])
        .unwrap();
    let (bytes, root) = file.finish().unwrap();

    let home = Home::new();
    let snapshot = imported(&home);
    let mut manifest = snapshot.manifest().clone();
    manifest.state = Some(coldframe_manifest::FileRef {
        len: ByteLen::new(bytes.len() as u64),
        root,
    });
    let dir = home.at("vmm");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join(STATE), bytes).unwrap();
    std::fs::write(dir.join("manifest"), manifest.encode().unwrap().0).unwrap();

    let state = Snapshot::open(&dir).unwrap().state().unwrap();
    assert!(state.file_knowing(&[kind]).is_ok());
    let error = state.file_knowing(&[]).unwrap_err();
    assert!(error.is_unsupported_version());
    let SnapshotError::Decode { source, .. } = error else {
        panic!("{error}");
    };
    assert!(source.to_string().contains("gpu0"), "{source}");
}
