//! Manifests to test with, and the means to put any body into a file.

use coldframe_envelope::{
    Container, ContainerBuilder, DecodeErrorKind, Limits, Producer, Section, SectionKind,
};
use coldframe_manifest::{
    Disk, FORMAT, FileRef, HostSummary, Manifest, Parent, SnapshotKind, Timestamp,
};
use coldframe_units::{
    Arch, ByteLen, GuestAddr, GuestRegion, PageSize, RamLayout, RootHash, SnapshotId,
};

pub fn producer() -> Producer {
    Producer::new("golden", "0.1.0").unwrap()
}

pub fn region(addr: u64, len: u64) -> GuestRegion {
    GuestRegion::new(GuestAddr::new(addr), ByteLen::new(len)).unwrap()
}

pub fn file(len: u64, byte: u8) -> FileRef {
    FileRef {
        len: ByteLen::new(len),
        root: RootHash::from_bytes([byte; 32]),
    }
}

/// Bare memory: nothing that may be absent is there.
pub fn full() -> Manifest {
    Manifest {
        producer: producer(),
        arch: None,
        id: SnapshotId::from_bytes([0xa1; 16]),
        kind: SnapshotKind::Full,
        parent_name: None,
        created: Timestamp {
            seconds: 0,
            nanos: 0,
        },
        ram: RamLayout::contiguous(ByteLen::new(0x10_0000)).unwrap(),
        page_size: PageSize::SIZE_4K,
        memory: file(0x30_0000, 0xb1),
        state: None,
        host: None,
        disks: Vec::new(),
        labels: [].into(),
    }
}

/// A diff with everything.
pub fn diff() -> Manifest {
    let disk = |name: &str, byte| Disk {
        name: name.into(),
        index: RootHash::from_bytes([byte; 32]),
    };
    let label = |key: &str, value: &str| (String::from(key), String::from(value));
    Manifest {
        arch: Some(Arch::X86_64),
        id: SnapshotId::from_bytes([0xa2; 16]),
        kind: SnapshotKind::Diff {
            parent: Parent {
                id: SnapshotId::from_bytes([0xa1; 16]),
                root: RootHash::from_bytes([0xc1; 32]),
            },
        },
        created: Timestamp {
            seconds: 1_767_225_600,
            nanos: 999_999_999,
        },
        ram: RamLayout::new(vec![
            region(0, 0xc000_0000),
            region(0x1_0000_0000, 0x1000_0000),
        ])
        .unwrap(),
        memory: file(0x2_1000, 0xb2),
        state: Some(file(4711, 0xb3)),
        host: Some(HostSummary::new([0xd1; 32], "kvm", "a brand (tm)", "6.8.0")),
        disks: vec![disk("root", 0xe1), disk("data \u{e9}", 0xe2)],
        labels: [label("owner", "build farm"), label("empty", "")].into(),
        ..full()
    }
}

/// The diff with its parent's last known name, not UTF-8 as a name may be.
pub fn named() -> Manifest {
    Manifest {
        parent_name: Some(b"nightly \xff".to_vec()),
        ..diff()
    }
}

pub fn bytes(manifest: &Manifest) -> Vec<u8> {
    manifest.encode().unwrap().0
}

/// The file of [`named`] with its rows and bodies as `change` leaves them, all hashes right.
pub fn changed(change: impl Fn(&mut Section, &mut Vec<u8>) -> bool) -> Vec<u8> {
    let file = bytes(&named());
    let container = Container::decode(&file, FORMAT, Limits::SMALL_FILE).unwrap();
    let builder = ContainerBuilder::new(FORMAT, producer()).with_arch(Arch::X86_64);
    let mut builder = builder.with_page_size(PageSize::SIZE_4K);
    for body in container.bodies() {
        let (mut row, mut bytes) = (*body.section(), body.body().to_vec());
        if change(&mut row, &mut bytes) {
            builder.section(row.kind, row.instance, row.version, row.flags, bytes);
        }
    }
    builder.finish().unwrap().0
}

/// The file of [`named`] with these bytes at this place of one section, all hashes right.
pub fn patched(kind: SectionKind, at: usize, patch: &[u8]) -> Vec<u8> {
    changed(|row, bytes| {
        if row.kind == kind {
            bytes[at..at + patch.len()].copy_from_slice(patch);
        }
        true
    })
}

/// The file of [`named`] with another body in one section, all hashes right.
pub fn with_body(kind: SectionKind, body: &[u8]) -> Vec<u8> {
    changed(|row, bytes| {
        if row.kind == kind {
            *bytes = body.to_vec();
        }
        true
    })
}

#[track_caller]
pub fn check_refused(file: &[u8], kind: DecodeErrorKind) {
    assert_eq!(Manifest::decode(file).unwrap_err().kind, kind);
}

#[track_caller]
pub fn check_invalid(file: &[u8], field: &'static str) {
    check_refused(file, DecodeErrorKind::Invalid { field });
}
