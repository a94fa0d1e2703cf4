//! Files of formats that the store does not know.

use coldframe_chunks::{Folder, Reference, StoreError};
use coldframe_envelope::{
    ContainerBuilder, DecodeError, DecodeErrorKind, Format, Producer, SectionKind,
};
use coldframe_units::{ByteLen, RootHash};

use crate::support::{AT_ONCE, id, mem, push_image, put, reopened, untag};

const LIMIT: ByteLen = ByteLen::new(1 << 20);

/// The head of a file whose rest is somewhere else.
fn head(text: &[u8]) -> Vec<u8> {
    let format = Format::new(*b"PART", 1, 0);
    let mut builder = ContainerBuilder::new(format, Producer::new("test", "1").unwrap());
    builder.must_understand(SectionKind::new(*b"TEXT"), 0, 1, text.to_vec());
    builder.finish().unwrap().0[..160].to_vec()
}

// Spec: STORE-19
#[test]
fn a_part_of_a_file_is_kept_by_the_root_of_the_whole() {
    let (store, backend) = mem();
    let push = store.push().unwrap();
    put(&push, &[1]).unwrap();
    let head = head(b"somewhere else");
    let needs = [Reference::Chunk(id(1), 600)];
    let root = push.keep(&[&head, b"tail"], needs).unwrap();
    assert_eq!(push.keep(&[&head, b"tail"], needs).unwrap(), root);
    push.finish().unwrap();
    let other = reopened(&backend);
    assert_eq!(other.roots().unwrap(), [root]);
    assert_eq!(
        other.kept(root, LIMIT, |_| Ok(())).unwrap(),
        [&head[..], b"tail"].concat()
    );
    let none = RootHash::from_bytes([9; 32]);
    assert!(
        other
            .kept(none, LIMIT, |_| Ok(()))
            .unwrap_err()
            .is_missing()
    );
}

// Spec: STORE-19
#[test]
fn what_names_something_that_is_not_there_is_not_kept() {
    let (store, _) = mem();
    let push = store.push().unwrap();
    put(&push, &[1]).unwrap();
    let needs = [Reference::Chunk(id(1), 600), Reference::Chunk(id(2), 600)];
    match push.keep(&[&head(b"x")], needs) {
        Err(StoreError::MissingChunk { id: missing }) => assert_eq!(missing, id(2)),
        other => panic!("{other:?}"),
    }
    let none = RootHash::from_bytes([9; 32]);
    let error = push.keep(&[&head(b"x")], [Reference::Root(none)]);
    assert!(matches!(error, Err(StoreError::MissingRoot { root }) if root == none));
    assert!(matches!(
        push.keep(&[b"no header"], []),
        Err(StoreError::BadFile { .. })
    ));
    assert!(store.roots().unwrap().is_empty());
}

// Spec: STORE-19
#[test]
fn a_damaged_file_that_is_put_again_heals_and_its_sound_copy_is_found() {
    let (store, backend) = mem();
    let head = head(b"x");
    let check = |bytes: &[u8]| match bytes.ends_with(b"tail") {
        true => Ok(()),
        false => Err(DecodeError::new(DecodeErrorKind::BodyHash, 160)),
    };
    let keep = || {
        let push = store.push().unwrap();
        let root = push.keep(&[&head, b"tail"], []).unwrap();
        push.finish().unwrap();
        root
    };
    let root = keep();
    let files = |count: usize| assert_eq!(backend.keys(Folder::Roots).len(), count);
    for (count, at) in [(1, 0), (2, 161)] {
        files(count);
        for key in backend.keys(Folder::Roots) {
            backend.rot(&key, |bytes| bytes[at] = 0xee);
        }
        let error = store.kept(root, LIMIT, check).unwrap_err();
        assert!(error.is_wanting(), "{error:?}");
        keep();
        assert!(store.kept(root, LIMIT, check).unwrap().ends_with(b"tail"));
    }
    keep();
    files(3);
}

// Spec: STORE-19, STORE-11
#[test]
fn what_names_something_condemned_is_not_kept() {
    let (store, _) = mem();
    push_image(&store, "a", &[1]).unwrap();
    let holds = store.push().unwrap();
    untag(&store, "a");
    store.collect(AT_ONCE, &[]).unwrap();
    let push = store.push().unwrap();
    let error = push.keep(&[&head(b"x")], [Reference::Chunk(id(1), 600)]);
    assert!(matches!(error, Err(StoreError::MissingChunk { .. })));
    holds.finish().unwrap();
}
