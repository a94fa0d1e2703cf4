//! Rules of each section, on reading and on writing.

use coldframe_envelope::{
    ContainerBuilder, DecodeErrorKind as Kind, EncodeError, SectionFlags, SectionKind,
};
use coldframe_manifest::{
    DISK, Disk, FILE, FORMAT, HOST, HostSummary, IDNT, LABL, LAYOUTS, Manifest, PNAM, Parent, RAML,
    SnapshotKind,
};
use coldframe_units::{PageSize, RamLayout, RootHash, SnapshotId};

use crate::sample::{
    bytes, changed, check_invalid, check_refused, diff, full, patched, producer, region, with_body,
};

#[track_caller]
fn check_unwritable(field: &'static str, manifest: &Manifest) {
    let refused = EncodeError::Invalid { field };
    assert_eq!(manifest.encode().unwrap_err(), refused);
}

#[track_caller]
fn check_over(what: &'static str, limit: u64, manifest: &Manifest) {
    let error = manifest.encode().unwrap_err();
    let found = limit + 1;
    assert_eq!(error, EncodeError::LimitExceeded { what, limit, found });
}

#[test]
fn layouts_have_no_gaps() {
    for layout in LAYOUTS {
        let end = layout.fields.iter().fold(0, |end, field| {
            assert_eq!(field.offset, end, "{} {}", layout.name, field.name);
            end + field.size
        });
        assert_eq!(end, layout.size, "{}", layout.name);
    }
}

// Spec: MANI-2
#[test]
fn page_size_is_there_and_at_most_2_mib() {
    let (file, _) = ContainerBuilder::new(FORMAT, producer()).finish().unwrap();
    check_invalid(&file, "page_size_log2");
    let mut manifest = full();
    manifest.page_size = PageSize::SIZE_1G;
    manifest.ram = RamLayout::new(vec![region(0, 1 << 30)]).unwrap();
    check_unwritable("page_size_log2", &manifest);
}

// Spec: MANI-3
#[test]
fn needed_sections_are_named_when_missing() {
    for (kind, instance) in [(IDNT, 0), (RAML, 0), (FILE, 1)] {
        let file = changed(|row, _| (row.kind, row.instance) != (kind, instance));
        check_refused(&file, Kind::MissingSection { kind, instance });
    }
}

// Spec: MANI-3
#[test]
fn flags_instances_and_lengths_are_held_to_the_table() {
    for kind in [IDNT, RAML, FILE, HOST, DISK, LABL, PNAM] {
        let flipped = changed(|row, _| {
            if row.kind == kind {
                row.flags = match row.flags {
                    SectionFlags::OPTIONAL => SectionFlags::MUST_UNDERSTAND,
                    _ => SectionFlags::OPTIONAL,
                };
            }
            true
        });
        check_invalid(&flipped, "section flags");
        if kind != FILE {
            let moved = changed(|row, _| {
                row.instance += u32::from(row.kind == kind);
                true
            });
            check_invalid(&moved, "section instance");
        }
        if kind != PNAM {
            check_invalid(&with_body(kind, &[]), "section length");
        }
        let zeroth = changed(|row, _| {
            row.version -= u16::from(row.kind == kind);
            true
        });
        check_invalid(&zeroth, "section version");
    }
    for kind in [IDNT, RAML, FILE, HOST, DISK] {
        let longer = changed(|row, bytes| {
            if row.kind == kind {
                bytes.push(0);
            }
            true
        });
        check_invalid(&longer, "section length");
    }
}

// Spec: MANI-5, MANI-6, MANI-8
#[test]
fn identity_is_held_to_its_rules_when_read() {
    check_invalid(&patched(IDNT, 0, &[0; 16]), "id");
    for kind in [0, 3, 255] {
        check_invalid(&patched(IDNT, 16, &[kind]), "kind");
    }
    check_invalid(&patched(IDNT, 16, &[1]), "parent_id");
    let orphan = [&[1, 0, 0, 0][..], &[0; 28]].concat();
    check_invalid(&patched(IDNT, 16, &orphan), "parent_root");
    check_invalid(&patched(IDNT, 32, &[0; 16]), "parent_id");
    check_invalid(&patched(IDNT, 32, &[0xa2; 16]), "parent_id");
    check_invalid(&patched(IDNT, 48, &[0; 32]), "parent_root");
    let nanos = 1_000_000_000_u32.to_le_bytes();
    check_invalid(&patched(IDNT, 20, &nanos), "created_nanos");
    for at in 17..20 {
        let file = patched(IDNT, at, &[1]);
        check_refused(&file, Kind::ReservedNotZero);
    }
}

// Spec: MANI-5, MANI-6, MANI-8, CONV-7
#[test]
fn identity_is_held_to_its_rules_when_written() {
    let mut manifest = diff();
    manifest.created.nanos = 1_000_000_000;
    check_unwritable("created_nanos", &manifest);
    manifest = full();
    manifest.id = SnapshotId::from_bytes([0; 16]);
    check_unwritable("id", &manifest);
    let of = |id, root| SnapshotKind::Diff {
        parent: Parent {
            id: SnapshotId::from_bytes([id; 16]),
            root: RootHash::from_bytes([root; 32]),
        },
    };
    for (kind, field) in [
        (of(0, 1), "parent_id"),
        (of(0xa1, 1), "parent_id"),
        (of(1, 0), "parent_root"),
    ] {
        manifest = full();
        manifest.kind = kind;
        check_unwritable(field, &manifest);
    }
}

// Spec: MANI-16
#[test]
fn the_parents_name_is_one_name() {
    let long = [b'n'; 256];
    for name in [&b""[..], b".", b"..", b"a/b", b"/", b"a\0", &long] {
        check_invalid(&with_body(PNAM, name), "parent_name");
        let mut manifest = diff();
        manifest.parent_name = Some(name.to_vec());
        check_unwritable("parent_name", &manifest);
    }
    for name in [&b"..."[..], b" ", b"\xff\n", &long[..255]] {
        let (read, _) = Manifest::decode(&with_body(PNAM, name)).unwrap();
        assert_eq!(read.parent_name.as_deref(), Some(name));
    }
    let mut manifest = full();
    manifest.parent_name = Some(b"a".to_vec());
    check_unwritable("parent_name", &manifest);
    let mut full = vec![0; 80];
    full[..20].copy_from_slice(&[&[1; 16][..], &[1, 0, 0, 0]].concat());
    check_invalid(&with_body(IDNT, &full), "parent_name");
}

// Spec: MANI-7
#[test]
fn a_child_names_the_root_of_its_parents_manifest() {
    let (file, root) = full().encode().unwrap();
    let mut child = diff();
    child.kind = SnapshotKind::Diff {
        parent: Parent {
            id: full().id,
            root,
        },
    };
    let (child, _) = Manifest::decode(&bytes(&child)).unwrap();
    let (_, found) = Manifest::decode(&file).unwrap();
    assert_eq!(child.parent().unwrap().root, found);
    assert_eq!(full().parent(), None);
}

// Spec: MANI-9
#[test]
fn ram_is_a_layout_of_whole_pages() {
    let rows = |rows: &[(u64, u64)]| -> Vec<u8> {
        let words = rows.iter().flat_map(|(addr, len)| [*addr, *len]);
        words.flat_map(u64::to_le_bytes).collect()
    };
    for bad in [
        &[(0, 0)][..],
        &[(0, 0x1800)],
        &[(0x800, 0x1000)],
        &[(0, 0x2000), (0x1000, 0x1000)],
        &[(0x2000, 0x1000), (0, 0x1000)],
        &[(0xffff_ffff_ffff_f000, 0x2000)],
    ] {
        check_invalid(&with_body(RAML, &rows(bad)), "ram regions");
    }
    let many: Vec<(u64, u64)> = (0..1025).map(|n| (n * 0x2000, 0x1000)).collect();
    let (what, limit, found) = ("ram region count", 1024, 1025);
    let over = Kind::LimitExceeded { what, limit, found };
    check_refused(&with_body(RAML, &rows(&many)), over);
    assert!(Manifest::decode(&with_body(RAML, &rows(&many[..1024]))).is_ok());

    let mut manifest = full();
    manifest.ram = RamLayout::new(vec![region(0, 0x1001)]).unwrap();
    check_unwritable("ram regions", &manifest);
}

// Spec: MANI-11
#[test]
fn host_texts_are_made_to_fit() {
    let long = "x".repeat(100);
    let host = HostSummary::new([1; 32], &long, "caf\u{e9}\n\u{4e2d}!", "");
    assert_eq!(host.hypervisor(), "x".repeat(16));
    assert_eq!(host.cpu(), "caf???!");
    assert_eq!(host.kernel(), "");
    assert_eq!(host.digest(), &[1; 32]);
    let mut manifest = diff();
    manifest.host = Some(host);
    let (read, _) = Manifest::decode(&bytes(&manifest)).unwrap();
    assert_eq!(read.host, Some(host));
    assert!(format!("{host:?}").contains("caf???!"));
    for (at, byte) in [(32, 0), (34, b'\n'), (111, b'x'), (191, b'x')] {
        check_invalid(&patched(HOST, at, &[byte]), "host text");
    }
}

// Spec: MANI-12
#[test]
fn disk_names_are_clean_and_unique() {
    for (at, patch) in [
        (32, &[0][..]),   // no name
        (32, &[3]),       // text behind the name
        (33, b"r/ot"),    // a path
        (33, b"ro\nt"),   // a control character
        (33, b"ro\xfft"), // not UTF-8
        (287, b"x"),      // padding
    ] {
        check_invalid(&patched(DISK, at, patch), "disk name");
    }
    let row = changed(|row, bytes| {
        if row.kind == DISK {
            bytes.copy_within(0..288, 288);
        }
        true
    });
    check_invalid(&row, "disk name");

    let disk = |name: String| Disk {
        name,
        index: RootHash::from_bytes([1; 32]),
    };
    let mut manifest = full();
    for name in ["", "a/b", "\u{85}", &"n".repeat(256)] {
        manifest.disks = vec![disk(name.into())];
        check_unwritable("disk name", &manifest);
    }
    manifest.disks = vec![disk("n".repeat(255)), disk("a".into())];
    let (read, _) = Manifest::decode(&bytes(&manifest)).unwrap();
    assert_eq!(read.disks, manifest.disks);
}

// Spec: MANI-13
#[test]
fn labels_are_clean_and_in_order() {
    let label = |key: &[u8], value: &[u8]| {
        let len = |text: &[u8]| u16::try_from(text.len()).unwrap().to_le_bytes();
        [&len(key)[..], &len(value), key, value].concat()
    };
    for (body, field) in [
        (label(b"", b"v"), "label key"),
        (label(b"a=b", b""), "label key"),
        (label(b"a b", b""), "label key"),
        (label(b"a", b"\n"), "label value"),
        (label(b"a", b"\xff"), "label"),
        (label(b"a", b"v")[..5].to_vec(), "label"),
        (vec![1, 0, 0], "label"),
        ([label(b"b", b""), label(b"a", b"")].concat(), "label order"),
        ([label(b"a", b""), label(b"a", b"")].concat(), "label order"),
    ] {
        check_invalid(&with_body(LABL, &body), field);
    }
    let sound = [label(b"a", b"1"), label(b"b", b"")].concat();
    let (read, _) = Manifest::decode(&with_body(LABL, &sound)).unwrap();
    assert_eq!(read.labels.into_values().collect::<Vec<_>>(), ["1", ""]);
}

// Spec: MANI-14, CONV-7
// Parity: F5
#[test]
fn limits_hold_when_writing() {
    let mut manifest = full();
    manifest.labels = (0..257).map(|n| (n.to_string(), String::new())).collect();
    check_over("label count", 256, &manifest);
    manifest.labels = [("k".repeat(65), String::new())].into();
    check_over("label key length", 64, &manifest);
    manifest.labels = [("k".into(), "v".repeat(1025))].into();
    check_over("label value length", 1024, &manifest);
    manifest = full();
    let disk = |n: u32| Disk {
        name: n.to_string(),
        index: RootHash::from_bytes([1; 32]),
    };
    manifest.disks = (0..257).map(disk).collect();
    check_over("disk count", 256, &manifest);
    manifest = full();
    let regions = (0..1025).map(|n| region(n * 0x2000, 0x1000)).collect();
    manifest.ram = RamLayout::new(regions).unwrap();
    check_over("ram region count", 1024, &manifest);
}

// Spec: MANI-14, CONV-7
// Parity: D9, F5
#[test]
#[cfg_attr(miri, ignore = "too slow under Miri")]
fn the_largest_manifest_that_can_be_written_can_be_read() {
    let mut manifest = diff();
    let key = |n: u32| format!("{n:064}");
    manifest.labels = (0..256).map(|n| (key(n), "v".repeat(1024))).collect();
    let disk = |n: u32| Disk {
        name: format!("{n:0255}"),
        index: RootHash::from_bytes([1; 32]),
    };
    manifest.disks = (0..256).map(disk).collect();
    let regions = (0..1024).map(|n| region(n * 0x2000, 0x1000)).collect();
    manifest.ram = RamLayout::new(regions).unwrap();
    let (file, root) = manifest.encode().unwrap();
    assert_eq!(Manifest::decode(&file).unwrap(), (manifest, root));
}

// Spec: MANI-14, CONV-6
#[test]
fn too_many_sections_are_refused() {
    let mut builder = ContainerBuilder::new(FORMAT, producer()).with_page_size(PageSize::SIZE_4K);
    for instance in 0..65 {
        builder.optional(SectionKind::new(*b"LATE"), instance, 1, Vec::new());
    }
    let (what, limit, found) = ("section_count", 64, 65);
    let over = Kind::LimitExceeded { what, limit, found };
    check_refused(&builder.finish().unwrap().0, over);
}
