//! Random manifests survive.

use std::collections::BTreeSet;

use coldframe_manifest::{Disk, FileRef, HostSummary, Manifest, Parent, SnapshotKind, Timestamp};
use coldframe_units::{Arch, ByteLen, PageSize, RamLayout, RootHash, SnapshotId};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;

use crate::sample::{full, region};

fn root() -> impl Strategy<Value = RootHash> {
    (1_u8..=255).prop_map(|byte| RootHash::from_bytes([byte; 32]))
}

fn id() -> impl Strategy<Value = SnapshotId> {
    (any::<[u8; 15]>(), 1_u8..=255).prop_map(|(rest, last)| {
        let mut bytes = [last; 16];
        bytes[..15].copy_from_slice(&rest);
        SnapshotId::from_bytes(bytes)
    })
}

fn file() -> impl Strategy<Value = FileRef> {
    (any::<u64>(), root()).prop_map(|(len, root)| FileRef {
        len: ByteLen::new(len),
        root,
    })
}

fn kind() -> impl Strategy<Value = SnapshotKind> {
    option::of((id(), root())).prop_map(|parent| match parent {
        None => SnapshotKind::Full,
        Some((id, root)) => SnapshotKind::Diff {
            parent: Parent { id, root },
        },
    })
}

fn ram(page_size: PageSize) -> impl Strategy<Value = RamLayout> {
    vec((0_u64..16, 1_u64..64), 1..6).prop_map(move |parts| {
        let mut next = 0;
        let regions = parts.into_iter().map(|(gap, pages)| {
            let start = next + gap * page_size.bytes();
            next = start + pages * page_size.bytes();
            region(start, next - start)
        });
        RamLayout::new(regions.collect()).unwrap()
    })
}

fn disks() -> impl Strategy<Value = Vec<Disk>> {
    let names = btree_set("[a-z \u{e9}.:-]{1,40}", 0..5);
    (names, root()).prop_map(|(names, index): (BTreeSet<String>, _)| {
        let disk = |name| Disk { name, index };
        // Any order is kept, not only the sorted one.
        names.into_iter().rev().map(disk).collect()
    })
}

fn manifest() -> impl Strategy<Value = Manifest> {
    let page = (12_u8..=21).prop_map(|log2| PageSize::from_log2(log2).unwrap());
    let page_and_ram = page.prop_flat_map(|page| (Just(page), ram(page)));
    let host = option::of((any::<[u8; 32]>(), "\\PC{0,90}"));
    let arch = prop_oneof![
        Just(None),
        Just(Some(Arch::X86_64)),
        Just(Some(Arch::Aarch64))
    ];
    let labels = btree_map("[a-z.!~]{1,64}", "\\PC{0,30}", 0..5);
    let created = (any::<u64>(), 0..1_000_000_000_u32);
    (
        (arch, id(), kind(), created),
        (page_and_ram, file(), option::of(file()), host),
        (disks(), labels),
    )
        .prop_map(|((arch, id, kind, created), place, (disks, labels))| {
            let ((page_size, ram), memory, state, host) = place;
            let (seconds, nanos) = created;
            let created = Timestamp { seconds, nanos };
            let host = host.map(|(digest, text)| HostSummary::new(digest, &text, &text, &text));
            Manifest {
                arch,
                id,
                kind,
                created,
                ram,
                page_size,
                memory,
                state,
                host,
                disks,
                labels,
                ..full()
            }
        })
}

// Spec: MANI-15, CONV-4
proptest! {
    #[test]
    fn every_field_survives(manifest in manifest()) {
        prop_assume!(manifest.parent().is_none_or(|parent| parent.id != manifest.id));
        let (file, root) = manifest.encode().unwrap();
        prop_assert_eq!(manifest.encode().unwrap().0, file.clone());
        prop_assert_eq!(Manifest::decode(&file).unwrap(), (manifest, root));
        crate::reencode::check(&file);
    }
}
