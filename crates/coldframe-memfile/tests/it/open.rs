//! What opening checks: header, sections and their places, regions, parent.

use coldframe_envelope::{
    DecodeError, DecodeErrorKind as Error, Limits, SectionFlags, SectionKind,
};
use coldframe_memfile::{
    Encoded, FULL_DATA_OFFSET, Kind, MemFile, head_ranges, table_range, tail_range,
};
use coldframe_testkit::alloc::assert_alloc_bounded;
use coldframe_units::{ByteLen, FileOffset, PageSize, RamLayout, RootHash};

use crate::forge::Forge;
use crate::sample::{diff, empty, full};
use crate::support::{PARENT, builder, open, run, whole};

fn refused(file: &Encoded, edit: impl FnOnce(&mut Forge)) -> DecodeError {
    let mut forge = Forge::new(file);
    edit(&mut forge);
    forge.open(|_| Ok(())).unwrap_err()
}

#[track_caller]
fn check_invalid(file: &Encoded, field: &'static str, edit: impl FnOnce(&mut Forge)) {
    let error = refused(file, edit);
    assert_eq!(error.kind, Error::Invalid { field });
    assert!(error.is_corrupt());
}

#[test]
fn a_forged_file_without_changes_is_the_file() {
    for (file, _) in [full(), diff(), empty()] {
        let (header, tail, at) = Forge::new(&file).seal();
        let same = (file.header, file.tail, file.tail_offset);
        assert_eq!((header, tail, at), same);
    }
}

// Spec: MEM-1
#[test]
fn arch_and_page_size_are_asked_for() {
    let (file, _) = full();
    check_invalid(&file, "arch", |forge| forge.header.arch = None);
    for page_size in [None, PageSize::new(4 << 20).ok(), Some(PageSize::SIZE_1G)] {
        check_invalid(&file, "page_size_log2", |forge| {
            forge.header.page_size = page_size;
        });
    }
    check_invalid(&file, "flags", |forge| forge.header.flags = 2);
}

// Spec: MEM-2
#[test]
fn a_file_opens_by_ranges_and_its_tables_come_when_they_are_asked_for() {
    for (file, _) in [full(), diff(), empty()] {
        let limits = Limits::MEMORY_FILE;
        let read = |(offset, len): (FileOffset, ByteLen)| {
            let start = (offset.get() - file.tail_offset.get()) as usize;
            (offset, &file.tail[start..start + len.get() as usize])
        };
        let table = read(table_range(&file.header, limits).unwrap());
        let ranges = head_ranges(&file.header, table.1, limits).unwrap();
        let mut ranges: Vec<_> = ranges.into_iter().map(read).collect();
        ranges.push(table);
        let head = MemFile::from_ranges(&file.header, file.file_len, ranges.clone(), limits);
        let head = head.unwrap();
        let whole = MemFile::from_parts(&file.header, &file.tail, file.tail_offset, limits);
        let whole = whole.unwrap();
        assert_eq!((head.layout(), head.root()), (whole.layout(), whole.root()));
        assert_eq!(head.parent_root(), whole.parent_root());
        ranges.push(read(head.extents_range()));
        ranges.extend(head.blocks_range().map(read));
        let all = MemFile::from_ranges(&file.header, file.file_len, ranges, limits).unwrap();
        all.verify_tables().unwrap();
        assert!(
            all.extents()
                .unwrap()
                .iter()
                .eq(whole.extents().unwrap().iter())
        );
        let shorter = ByteLen::new(file.file_len.get() - 1);
        let error = MemFile::from_ranges(&file.header, shorter, Vec::new(), limits).unwrap_err();
        assert!(matches!(error.kind, Error::Truncated { .. }), "{error}");
    }
}

// Spec: MEM-2
#[test]
#[cfg_attr(miri, ignore = "too slow under Miri")]
fn opening_reads_neither_pages_nor_tables() {
    let (file, pages) = full();
    let mut bytes = whole(&file, &pages);
    let sound = MemFile::open(&bytes, Limits::MEMORY_FILE).unwrap();
    assert_eq!(sound.root(), file.root);
    assert_eq!(
        (sound.data_offset().get(), sound.data_len()),
        (FULL_DATA_OFFSET, ByteLen::new(20 * 4096))
    );
    assert_eq!(sound.file_len(), file.file_len);
    // Behind the two region rows stand extents, blocks and page hashes: all of it is damaged.
    let tail_at = usize::try_from(file.tail_offset.get()).unwrap();
    let table_at = bytes.len() - 5 * 64;
    bytes[200..tail_at].fill(0xee);
    bytes[tail_at + 32..table_at].fill(0xee);
    let view = MemFile::open(&bytes, Limits::MEMORY_FILE).unwrap();
    assert_eq!(view.root(), file.root);
    assert_eq!(view.extents().unwrap_err().kind, Error::BodyHash);
    assert_eq!(view.blocks().unwrap_err().kind, Error::BodyHash);
}

// Spec: MEM-2
#[test]
fn the_tail_is_found_from_header_and_section_table() {
    for (file, pages) in [full(), diff(), empty()] {
        let bytes = whole(&file, &pages);
        let limits = Limits::MEMORY_FILE;
        let (at, len) = table_range(&bytes[..160], limits).unwrap();
        assert_eq!(at.get() + len.get(), bytes.len() as u64);
        let table = &bytes[usize::try_from(at.get()).unwrap()..];
        let tail = tail_range(&bytes[..160], table, limits).unwrap();
        let len = ByteLen::new(file.tail.len() as u64);
        assert_eq!(tail, (file.tail_offset, len));
    }
}

#[test]
fn a_tail_that_is_cut_at_either_end_is_refused() {
    let (file, _) = full();
    let limits = Limits::MEMORY_FILE;
    let at = file.tail_offset.get();
    let later = FileOffset::new(at + 8);
    let head_cut = MemFile::from_parts(&file.header, &file.tail[8..], later, limits);
    let field = "tail_offset";
    assert_eq!(head_cut.unwrap_err().kind, Error::Invalid { field });
    let short = &file.tail[..file.tail.len() - 1];
    let tail_cut = MemFile::from_parts(&file.header, short, file.tail_offset, limits);
    let kind = tail_cut.unwrap_err().kind;
    assert!(matches!(kind, Error::Truncated { .. }), "{kind}");
}

// Spec: MEM-3
#[test]
fn every_section_must_be_there() {
    for name in [b"REGN", b"PRNT", b"EXTN", b"BLKS", b"BPAG"] {
        let error = refused(&diff().0, |forge| forge.remove(name));
        let (kind, instance) = (SectionKind::new(*name), 0);
        assert_eq!(error.kind, Error::MissingSection { kind, instance });
    }
    let error = refused(&full().0, |forge| forge.header.flags = 1);
    let (kind, instance) = (SectionKind::new(*b"PRNT"), 0);
    assert_eq!(error.kind, Error::MissingSection { kind, instance });
}

// Spec: MEM-3
#[test]
fn a_full_file_has_no_parent_section() {
    let error = refused(&diff().0, |forge| forge.header.flags = 0);
    let (kind, instance) = (SectionKind::new(*b"PRNT"), 0);
    assert_eq!(error.kind, Error::UnknownSection { kind, instance });
}

// Spec: MEM-3
#[test]
fn sections_have_one_order_one_version_and_one_set_of_flags() {
    let (file, _) = diff();
    check_invalid(&file, "order of the sections", |f| f.sections.swap(3, 4));
    check_invalid(&file, "section version", |f| f.find(b"EXTN").0.version = 0);
    check_invalid(&file, "section flags", |forge| {
        forge.find(b"EXTN").0.flags = SectionFlags::OPTIONAL;
    });
    check_invalid(&file, "section flags", |forge| {
        let (section, _) = forge.find(b"BLKS");
        section.flags = SectionFlags::HASHED_BY_FORMAT;
        section.hash = [0; 32];
    });
    check_invalid(&file, "section flags", |forge| {
        forge.find(b"DATA").0.flags = SectionFlags::MUST_UNDERSTAND;
    });
    let error = refused(&file, |forge| forge.find(b"EXTN").0.version = 2);
    assert!(error.is_unsupported_version());
    assert!(error.to_string().contains("section EXTN.0 is of version 2"));
}

// Spec: MEM-23
#[test]
fn unknown_sections_are_passed_over_unless_they_must_be_understood() {
    let (file, _) = diff();
    let error = refused(&file, |forge| {
        forge.add(2, b"NEWS", SectionFlags::MUST_UNDERSTAND, b"odd");
    });
    let (kind, instance) = (SectionKind::new(*b"NEWS"), 0);
    assert_eq!(error.kind, Error::UnknownSection { kind, instance });
    for at in 1..=6 {
        let mut forge = Forge::new(&file);
        forge.add(at, b"note", SectionFlags::OPTIONAL, b"odd");
        forge.header.version.minor = 1;
        let listed = forge.open(|view| {
            view.verify_tables()?;
            Ok(view.unknown_sections().copied().collect::<Vec<_>>())
        });
        let listed = listed.unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].kind, SectionKind::new(*b"note"));
    }
    let mut forge = Forge::new(&file);
    forge.add(2, b"note", SectionFlags::OPTIONAL, b"odd\0\0\0\0\x01");
    assert!(forge.verify().is_ok());
}

// Spec: MEM-4, MEM-23
#[test]
fn nothing_lies_between_or_behind_the_sections() {
    let (file, _) = diff();
    let gap = |f: &mut Forge| f.gap = vec![0; 8];
    check_invalid(&file, "section offset", gap);
    check_invalid(&file, "table_offset", |f| f.padding = vec![0; 8]);
    check_invalid(&file, "file_len", |f| f.trailer = vec![0; 8]);
    let error = refused(&file, |forge| {
        forge.add(6, b"note", SectionFlags::OPTIONAL, b"odd");
        forge.padding = vec![0, 0, 0, 0, 1];
    });
    assert_eq!(error.kind, Error::ReservedNotZero);
}

// Spec: MEM-5, MEM-6, MEM-14
#[test]
fn pages_begin_at_one_place_and_have_one_length() {
    let page = 4096;
    for (file, moved) in [(full().0, FULL_DATA_OFFSET * 2), (diff().0, 2 * page)] {
        check_invalid(&file, "data_offset", |f| f.find(b"DATA").0.offset = moved);
        let field = "length of the data section";
        check_invalid(&file, field, |f| f.find(b"DATA").0.len += 8);
        check_invalid(&file, field, |f| f.find(b"DATA").0.len = 65 * page);
    }
    check_invalid(&full().0, "length of the data section", |forge| {
        forge.find(b"DATA").0.len -= page;
    });
}

// Spec: MEM-7
// Parity: D21
#[test]
fn regions_rise_apart_in_whole_pages() {
    let (file, _) = full();
    let at = |value: u64| value.to_le_bytes();
    let bad: &[(usize, u64)] = &[
        (0, 0x800),    // begins inside a page
        (8, 0),        // empty
        (8, 0x1_0800), // ends inside a page
        (8, !0xfff),   // overlaps the next
        (16, 0xf000),  // overlaps the one before
        (16, !0xfff),  // ends past the address space
    ];
    for (offset, value) in bad {
        check_invalid(&file, "regions", |f| f.put(b"REGN", *offset, &at(*value)));
    }
    check_invalid(&file, "regions", |f| f.body(b"REGN").clear());
    check_invalid(&file, "section length", |f| f.body(b"REGN").push(0));
    check_invalid(&file, "length of the data section", |forge| {
        forge.put(b"REGN", 24, &at(0x5000));
    });
}

// Spec: MEM-7
#[test]
fn ram_over_the_limit_is_refused_before_anything_is_allocated() {
    let error = refused(&diff().0, |forge| {
        forge.put(b"REGN", 24, &(1_u64 << 62).to_le_bytes());
    });
    let (what, limit, found) = ("RAM in bytes", 64 << 40, (1 << 62) + 40 * 4096);
    assert_eq!(error.kind, Error::LimitExceeded { what, limit, found });
    let (file, _) = diff();
    let limits = Limits {
        sections_max: 5,
        ..Limits::MEMORY_FILE
    };
    let opened = assert_alloc_bounded(0, || {
        MemFile::from_parts(&file.header, &file.tail, file.tail_offset, limits).map(|_| ())
    });
    assert!(matches!(
        opened.unwrap_err().kind,
        Error::LimitExceeded { .. }
    ));
}

// Spec: MEM-8
#[test]
fn a_diff_is_refused_against_another_parent() {
    let (file, _) = diff();
    let view = open(&file);
    assert_eq!(view.parent_root(), Some(PARENT));
    assert_eq!(view.check_parent(PARENT), Ok(()));
    let found = RootHash::from_bytes([1; 32]);
    let error = view.check_parent(found).unwrap_err();
    let expected = PARENT;
    assert_eq!(error.kind, Error::WrongParent { expected, found });
    assert!(error.is_wrong_parent() && !error.is_corrupt());
    let (file, _) = full();
    let error = open(&file).check_parent(PARENT).unwrap_err();
    assert!(matches!(error.kind, Error::MissingSection { .. }));
    check_invalid(&diff().0, "section length", |f| {
        f.body(b"PRNT").push(0);
    });
}

// Spec: MEM-2
#[test]
fn opening_allocates_the_same_for_any_size_of_ram() {
    let page_size = PageSize::SIZE_4K;
    for gib in [1, 64, 32 << 10] {
        let ram = RamLayout::contiguous(ByteLen::new(gib << 30)).unwrap();
        let mut builder = builder(Kind::Full, page_size, &ram);
        builder.push_zero(run(0, gib << 18)).unwrap();
        let file = builder.finish([]).unwrap();
        let view = assert_alloc_bounded(1500, || open(&file));
        assert_eq!(view.layout(), &ram);
        view.verify_tables().unwrap();
    }
}
