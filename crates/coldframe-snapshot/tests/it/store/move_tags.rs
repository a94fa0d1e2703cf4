//! Tags go forward by themselves, and elsewhere only when told to.

use coldframe_chunkfile::{IndexBuilder, IndexOrigin, Tag};
use coldframe_snapshot::store::{self, Move, TransferError};
use coldframe_units::ByteLen;

use super::{chain_in, name, new_store, push};
use crate::support::{Home, open_chain, producer};

// Spec: STORE-8
#[test]
fn a_tag_moves_forward_and_nowhere_else_unless_told_to() {
    let home = Home::new();
    let (two, store) = (chain_in(&home), new_store(&home));
    let one = open_chain(&home.at("one")).unwrap();
    let tag = name("nightly");
    let root = || store.tag(&tag).unwrap().unwrap().root;
    push(&one, &store, "nightly").unwrap();
    let pushed = push(&two, &store, "nightly").unwrap();
    assert_eq!(pushed.before, Some(one.youngest().root()));
    assert_eq!(root(), two.youngest().root());
    match push(&one, &store, "nightly").unwrap_err() {
        TransferError::TagTaken { name, root } => {
            assert_eq!((name, root), (tag.clone(), two.youngest().root()));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(root(), two.youngest().root());
    store::push(&one, &store, &tag, Move::Anywhere, &mut |_| ()).unwrap();
    assert_eq!(root(), one.youngest().root());
}

// Spec: STORE-8
#[test]
fn a_tag_of_a_disk_is_no_snapshot_and_is_not_written_over() {
    let home = Home::new();
    let (chain, store) = (chain_in(&home), new_store(&home));
    let first = store.push().unwrap();
    let index = IndexBuilder::new(ByteLen::ZERO, IndexOrigin::None, producer()).unwrap();
    let index = index.finish().unwrap().into_file();
    let root = first.put_root(&[&index]).unwrap();
    let disk = Tag::disk(root, store.new_disk_id().unwrap());
    first.tag(&name("disk"), None, disk).unwrap();
    first.finish().unwrap();
    for moving in [Move::Forward, Move::Anywhere] {
        let pushed = store::push(&chain, &store, &name("disk"), moving, &mut |_| ());
        assert!(matches!(pushed, Err(TransferError::NotASnapshot { .. })));
    }
    let found = store::find(&store, "disk");
    assert!(matches!(found, Err(TransferError::NotASnapshot { .. })));
}
