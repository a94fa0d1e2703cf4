//! What a tag may say.

use coldframe_chunkfile::{LogPlace, Tag, TagFile};
use coldframe_envelope::{DecodeErrorKind as Error, SectionFlags};
use coldframe_units::{Arch, PageSize};

use crate::forge::{Forge, field};
use crate::sample::{disk_tag, log_place, tag, tag_disk, tag_file, tag_log};

// Spec: STORE-2
#[test]
fn a_tag_that_breaks_a_rule_is_refused() {
    let decode = |forge: Forge| Tag::decode(&forge.seal());
    let forge = || Forge::new(&tag());
    assert_eq!(field(decode(forge().put(b"TAGR", 32, &[2]))), "tag kind");
    let reserved = decode(forge().put(b"TAGR", 33, &[1])).unwrap_err();
    assert_eq!(reserved.kind, Error::ReservedNotZero);
    assert_eq!(
        field(decode(forge().body(b"TAGR", &[0; 39]))),
        "section length"
    );
    let optional = forge().row(b"TAGR", |row| row.flags = SectionFlags::OPTIONAL);
    assert_eq!(field(decode(optional)), "section flags");
    let missing = decode(forge().without(b"TAGR")).unwrap_err();
    assert!(matches!(missing.kind, Error::MissingSection { .. }));
    let mut paged = forge();
    paged.header.page_size = Some(PageSize::SIZE_4K);
    assert_eq!(field(decode(paged)), "page_size_log2");
    let mut of_arch = forge();
    of_arch.header.arch = Some(Arch::X86_64);
    assert_eq!(field(decode(of_arch)), "arch");
}

// Spec: STORE-40, STORE-41
#[test]
fn a_disk_and_its_log_are_read_back_and_what_breaks_a_rule_is_refused() {
    let file = TagFile::decode(&tag_log()).unwrap();
    assert_eq!(file.place, Some(log_place()));
    let decode = |forge: Forge| TagFile::decode(&forge.seal());
    let disk = || Forge::new(&tag_disk());
    assert_eq!(
        field(decode(disk().body(b"DISK", &[0; 15]))),
        "section length"
    );
    let needed = disk().row(b"DISK", |row| row.flags = SectionFlags::MUST_UNDERSTAND);
    assert_eq!(field(decode(needed)), "section flags");
    let log = || Forge::new(&tag_log());
    assert_eq!(
        field(decode(log().body(b"WLOG", &[0; 23]))),
        "section length"
    );
    let optional = log().row(b"WLOG", |row| row.flags = SectionFlags::OPTIONAL);
    assert_eq!(field(decode(optional)), "section flags");
    let reserved = decode(log().put(b"WLOG", 20, &[1])).unwrap_err();
    assert_eq!(reserved.kind, Error::ReservedNotZero);
    for (at, bytes, name) in [
        (16, [0, 1], "host_len"),
        (16, [200, 0], "host_len"),
        (18, [1, 16], "path_len"),
        (18, [1, 0], "path_len"),
    ] {
        assert_eq!(field(decode(log().put(b"WLOG", at, &bytes))), name);
    }
    let snapshot = log().put(b"TAGR", 32, &[1]);
    assert_eq!(field(decode(snapshot)), "writer of a snapshot");
}

#[test]
fn a_place_that_is_too_long_is_cut_and_read_back() {
    let place = LogPlace::new(&[b'h'; 300], &[b'/'; 5000]);
    assert_eq!((place.host().len(), place.path().len()), (255, 4096));
    let log = TagFile::decode(&tag_log()).unwrap().tag.log;
    let tag = Tag { log, ..disk_tag() };
    let again = TagFile::decode(&tag_file(tag, Some(place.clone()))).unwrap();
    assert_eq!(again.place, Some(place));
}
