//! Files that are kept whole.

use coldframe_chunkfile::IndexOrigin;
use coldframe_chunks::{Reference, StoreError, Tracer};
use coldframe_envelope::{ContainerBuilder, Format, Producer, SectionKind};
use coldframe_units::{BLOCK_BYTES, ByteLen, FileOffset, RootHash};

use crate::backend::MemBackend;
use crate::support::{
    AT_ONCE, id, index_of, index_with, mem, name, push_image, put, reopened, tag_of,
};

const NOTE: Format = Format::new(*b"NOTE", 1, 0);

fn note(text: &[u8]) -> Vec<u8> {
    let mut builder = ContainerBuilder::new(NOTE, Producer::new("test", "1").unwrap());
    builder.must_understand(SectionKind::new(*b"TEXT"), 0, 1, text.to_vec());
    builder.finish().unwrap().0
}

// Spec: STORE-7
#[test]
fn a_file_is_found_by_its_root_whole_and_in_parts() {
    let (store, backend) = mem();
    let push = store.push().unwrap();
    let file = note(b"hello");
    let root = push.put_root(&[&file[..160], &file[160..]]).unwrap();
    assert_eq!(push.put_root(&[&file]).unwrap(), root);
    push.finish().unwrap();
    let other = reopened(&backend);
    assert!(other.has_root(root).unwrap());
    assert_eq!(other.roots().unwrap(), [root]);
    assert_eq!(other.root(root, ByteLen::new(1 << 20)).unwrap(), file);
    let text = other.root_range(root, FileOffset::new(160), ByteLen::new(5));
    assert_eq!(text.unwrap(), &b"hello"[..]);
    let none = RootHash::from_bytes([9; 32]);
    assert!(!other.has_root(none).unwrap());
    assert!(other.root(none, ByteLen::new(9)).unwrap_err().is_missing());
    let past = other.root_range(root, FileOffset::new(160), ByteLen::new(1 << 20));
    assert!(matches!(past, Err(StoreError::DamagedRoot { .. })));
}

// Spec: STORE-7
// Parity: F28
#[test]
fn what_is_no_sound_file_is_not_kept() {
    let (store, _) = mem();
    let push = store.push().unwrap();
    let file = note(b"hello");
    for at in [0, 30, 100, 161, file.len() - 1] {
        let mut bad = file.clone();
        bad[at] ^= 1;
        let error = push.put_root(&[&bad]).unwrap_err();
        assert!(
            matches!(error, StoreError::BadFile { .. }),
            "byte {at}: {error}"
        );
    }
    let ids = put(&push, &[1]).unwrap();
    let mut index = index_of(&ids);
    index[170] ^= 1;
    assert!(matches!(
        push.put_root(&[&index]),
        Err(StoreError::BadFile { .. })
    ));
}

// Spec: STORE-7
// Parity: F74
#[test]
fn an_index_is_kept_only_with_its_parent() {
    let (store, _) = mem();
    let size = ByteLen::new(2 * BLOCK_BYTES);
    let child = |root| {
        let origin = IndexOrigin::Parent { root, size };
        index_with(size, origin, [(id(3), 1)].into_iter())
    };
    let push = store.push().unwrap();
    put(&push, &[3]).unwrap();
    let lost = RootHash::from_bytes([1; 32]);
    let error = push.put_root(&[&child(lost)]).unwrap_err();
    assert!(matches!(error, StoreError::MissingRoot { root } if root == lost));
    push.finish().unwrap();
    let parent = push_image(&store, "parent", &[1, 2]).unwrap();
    let push = store.push().unwrap();
    let root = push.put_root(&[&child(parent)]).unwrap();
    push.tag(&name("child"), None, tag_of(root)).unwrap();
    push.finish().unwrap();
    // The parent lives as long as the child.
    crate::support::untag(&store, "parent");
    let done = store.collect(AT_ONCE, &[]).unwrap();
    assert_eq!((done.deleted_packs, done.deleted_roots), (0, 0));
    assert!(store.has_root(parent).unwrap());
}

struct Notes;

impl Tracer<MemBackend> for Notes {
    fn trace(
        &self,
        store: &coldframe_chunks::PackStore<MemBackend>,
        format: SectionKind,
        root: RootHash,
        each: &mut dyn FnMut(Reference),
    ) -> Result<bool, StoreError> {
        if format != NOTE.id() {
            return Ok(false);
        }
        // The text of a note is the root of an index.
        let text = store.root_range(root, FileOffset::new(160), ByteLen::new(32))?;
        each(Reference::Root(RootHash::from_bytes(
            text[..].try_into().unwrap(),
        )));
        Ok(true)
    }
}

// Spec: STORE-10
#[test]
fn files_of_other_formats_are_followed_by_their_tracer_and_stop_the_collector_without() {
    let (store, _) = mem();
    let index = push_image(&store, "index", &[1, 2]).unwrap();
    let push = store.push().unwrap();
    let root = push.put_root(&[&note(index.as_bytes())]).unwrap();
    push.tag(&name("note"), None, tag_of(root)).unwrap();
    push.finish().unwrap();
    crate::support::untag(&store, "index");
    let error = store.collect(AT_ONCE, &[]).unwrap_err();
    assert!(matches!(error, StoreError::UnknownFormat { format, .. } if format == NOTE.id()));
    let done = store.collect(AT_ONCE, &[&Notes]).unwrap();
    assert_eq!(
        (done.live_chunks, done.deleted_packs, done.deleted_roots),
        (2, 0, 0)
    );
    assert!(store.verify(&[&Notes]).unwrap().is_sound());
}
