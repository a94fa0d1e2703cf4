//! What a mapping is, and what it refuses.

use std::fs::File;

use coldframe_testkit::require::skipped;
use coldframe_uffd::{HostAddr, HostRange, Mapping, Sharing, UffdError};
use coldframe_units::ByteLen;
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::support::{bytes, page, word};

fn memfd(pages: usize) -> File {
    let file = File::from(memfd_create(c"coldframe-uffd", MFdFlags::MFD_CLOEXEC).unwrap());
    file.set_len(bytes(pages).get()).unwrap();
    file
}

#[test]
fn ranges_are_whole_pages_in_the_mapping() {
    let memory = Mapping::anonymous(bytes(2)).unwrap();
    assert_eq!(memory.range().len(), bytes(2));
    assert_eq!(
        memory.part(bytes(1), bytes(1)).unwrap().end(),
        memory.range().end()
    );
    for (offset, len) in [
        (bytes(1), bytes(2)),
        (bytes(2), bytes(1)),
        (ByteLen::new(1), bytes(1)),
        (ByteLen::ZERO, ByteLen::new(1)),
        (ByteLen::ZERO, ByteLen::ZERO),
        (ByteLen::new(u64::MAX - page() as u64 + 1), bytes(1)),
    ] {
        let error = memory.part(offset, len).unwrap_err();
        assert!(
            matches!(error, UffdError::OutsideMapping { .. }),
            "{error:?}"
        );
    }
}

#[test]
fn a_length_that_cannot_be_mapped_is_an_error() {
    for len in [0, 1, page() as u64 + 1, 1 << 60, u64::MAX] {
        let error = Mapping::anonymous(ByteLen::new(len)).unwrap_err();
        assert!(matches!(error, UffdError::Map { .. }), "{error:?}");
    }
    let file = memfd(1);
    let error = Mapping::file(&file, 1, bytes(1), Sharing::Private).unwrap_err();
    assert_eq!(error.errno(), Some(nix::libc::EINVAL));
    let error = Mapping::file(&file, u64::MAX, bytes(1), Sharing::Private).unwrap_err();
    assert_eq!(error.errno(), Some(nix::libc::EINVAL));
}

#[test]
fn a_private_mapping_sees_the_file_until_it_writes_and_again_after_a_discard() {
    let file = memfd(2);
    let shared = Mapping::file(&file, 0, bytes(2), Sharing::Shared).unwrap();
    let private = Mapping::file(&file, 0, bytes(2), Sharing::Private).unwrap();
    shared.store(page(), 7);
    assert_eq!(private.load(page()), 7);
    private.store(page(), 8);
    assert_eq!((shared.load(page()), private.load(page())), (7, 8));
    private
        .discard(bytes(1), bytes(1), Sharing::Private)
        .unwrap();
    assert_eq!(private.load(page()), 7, "the file's bytes and not zeros");
    shared.discard(bytes(1), bytes(1), Sharing::Shared).unwrap();
    assert_eq!((shared.load(page()), private.load(page())), (0, 0));
}

#[test]
fn bytes_are_read_and_written_at_any_offset() {
    let memory = Mapping::anonymous(bytes(1)).unwrap();
    memory.write_at(3, &[1, 2, 3, 4, 5, 6, 7, 8, 9]);
    let mut read = [0; 11];
    memory.read_at(2, &mut read);
    assert_eq!(read, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0]);
    memory.write_at(page() - 8, &[0x66; 8]);
    assert_eq!(memory.load(page() - 8), word(0x66));
}

#[test]
fn a_mapping_is_neither_inherited_nor_dumped() {
    let memory = Mapping::anonymous(bytes(1)).unwrap();
    let Ok(maps) = std::fs::read_to_string("/proc/self/smaps") else {
        return skipped("proc", "/proc/self/smaps cannot be read");
    };
    let start = format!("{:x}-", memory.addr().get());
    let mut ours = maps.lines().skip_while(|line| !line.starts_with(&start));
    let flags = ours.find(|line| line.starts_with("VmFlags:")).unwrap();
    let has = |flag: &str| flags.split_whitespace().any(|word| word == flag);
    assert!(has("dc") && has("dd"), "{flags}");
}

#[test]
fn ranges_of_addresses_are_never_empty_and_never_wrap() {
    let at = HostAddr::new;
    assert_eq!(HostRange::new(at(8), ByteLen::ZERO), None);
    assert_eq!(HostRange::new(at(u64::MAX), ByteLen::new(1)), None);
    assert_eq!(HostRange::between(at(8), at(8)), None);
    let (low, high) = (
        HostRange::between(at(0), at(8)).unwrap(),
        HostRange::between(at(4), at(16)).unwrap(),
    );
    assert_eq!(low.intersection(high), HostRange::between(at(4), at(8)));
    assert_eq!(
        low.intersection(HostRange::between(at(8), at(9)).unwrap()),
        None
    );
    assert!(low.contains(at(7)) && !low.contains(at(8)));
}
