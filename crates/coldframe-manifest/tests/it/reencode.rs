//! Any bytes, as a file and as the body of each section: what decodes is the same after being
//! encoded again. Shared with the fuzz target.

use coldframe_envelope::{Container, ContainerBuilder, Producer};
use coldframe_manifest::{
    CHILD_FORMAT, ChildNote, Disk, FORMAT, FileRef, HostSummary, LIMITS, Manifest, PATH, PRNT,
    Parent, SnapshotKind, Timestamp,
};
use coldframe_units::{ByteLen, PageSize, RamLayout, RootHash, SnapshotId};

/// Checks one input.
///
/// # Panics
/// If it decodes to something that does not survive.
pub fn check(bytes: &[u8]) {
    check_file(bytes);
    check_child(bytes);
    let producer = Producer::new("fuzz", "1").expect("it is short");
    for (parent, path) in [(bytes, &b"/p"[..]), (&[7; 16][..], bytes)] {
        let mut builder = ContainerBuilder::new(CHILD_FORMAT, producer);
        builder.must_understand(PRNT, 0, 1, parent.to_vec());
        builder.must_understand(PATH, 0, 1, path.to_vec());
        if let Ok((file, _)) = builder.finish()
            && let Some(again) = check_child(&file)
        {
            assert_eq!(again, file, "accepted, but not written like this");
        }
    }
    let sound = sound();
    let container = Container::decode(&sound, FORMAT, LIMITS).expect("it is sound");
    for replaced in 0..container.table().sections().len() {
        let builder = ContainerBuilder::new(FORMAT, container.header().producer);
        let mut builder = builder.with_page_size(PageSize::SIZE_4K);
        for (index, body) in container.bodies().enumerate() {
            let row = body.section();
            let bytes = if index == replaced {
                bytes
            } else {
                body.body()
            };
            builder.section(
                row.kind,
                row.instance,
                row.version,
                row.flags,
                bytes.to_vec(),
            );
        }
        if let Ok((file, _)) = builder.finish()
            && let Some(again) = check_file(&file)
        {
            assert_eq!(again, file, "accepted, but not written like this");
        }
    }
}

/// The manifest of `file` encoded again, if there is one.
fn check_file(file: &[u8]) -> Option<Vec<u8>> {
    let (manifest, _) = Manifest::decode(file).ok()?;
    let (again, root) = manifest.encode().expect("what was read can be written");
    let read = Manifest::decode(&again).expect("what was written can be read");
    assert_eq!(read, (manifest, root));
    Some(again)
}

/// The note in `file` encoded again, if there is one.
fn check_child(file: &[u8]) -> Option<Vec<u8>> {
    let (note, _) = ChildNote::decode(file).ok()?;
    let (again, root) = note.encode().expect("what was read can be written");
    let read = ChildNote::decode(&again).expect("what was written can be read");
    assert_eq!(read, (note, root));
    Some(again)
}

/// A manifest with every section.
fn sound() -> Vec<u8> {
    let root = RootHash::from_bytes([1; 32]);
    let memory = FileRef {
        len: ByteLen::new(1),
        root,
    };
    let disk = Disk {
        name: "root".into(),
        index: root,
    };
    let manifest = Manifest {
        producer: Producer::new("fuzz", "1").expect("it is short"),
        arch: None,
        id: SnapshotId::from_bytes([1; 16]),
        kind: SnapshotKind::Diff {
            parent: Parent {
                id: SnapshotId::from_bytes([2; 16]),
                root,
            },
        },
        parent_name: Some(b"parent".to_vec()),
        created: Timestamp {
            seconds: 0,
            nanos: 0,
        },
        ram: RamLayout::contiguous(ByteLen::new(4096)).expect("it is not empty"),
        page_size: PageSize::SIZE_4K,
        memory,
        state: Some(memory),
        host: Some(HostSummary::new([1; 32], "kvm", "", "")),
        disks: vec![disk],
        labels: [("key".into(), "value".into())].into(),
    };
    manifest.encode().expect("it keeps every rule").0
}
