//! What a tag may say.

use coldframe_chunkfile::Tag;
use coldframe_envelope::{DecodeErrorKind as Error, SectionFlags};
use coldframe_units::{Arch, PageSize};

use crate::forge::{Forge, field};
use crate::sample::tag;

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
