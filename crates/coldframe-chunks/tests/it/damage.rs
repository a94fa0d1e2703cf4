//! Missing, cut, flipped, swapped: an error that names the chunk, and healing.

use coldframe_chunkfile::IndexOrigin;
use coldframe_chunks::{ChunkDamage, ChunkStore, Finding, Folder, Key, PackStore, StoreError};
use coldframe_testkit::hostile::{check_bit_flips, check_truncations};
use coldframe_units::{BLOCK_BYTES, ByteLen};

use crate::backend::{MemBackend, Trouble};
use crate::support::{
    OPTIONS, chunk, id, index_with, mem, name, push_image, put, reopened, tag_of,
};

fn one_pack(backend: &MemBackend) -> Key {
    let packs = backend.keys(Folder::Packs);
    assert_eq!(packs.len(), 1);
    packs[0].clone()
}

/// Ten chunks in one pack.
fn ten() -> (PackStore<MemBackend>, MemBackend, Key) {
    let (store, backend) = mem();
    store
        .put_many(&(0..10).map(chunk).collect::<Vec<_>>())
        .unwrap();
    let pack = one_pack(&backend);
    (store, backend, pack)
}

// Spec: PACK-12, STORE-3
// Parity: D23, F26
#[test]
fn a_flipped_bit_hurts_one_chunk_and_a_right_copy_heals_it() {
    let (_, backend, pack) = ten();
    backend.rot(&pack, |bytes| bytes[160 + 3 * 600 + 17] ^= 4);
    let store = reopened(&backend);
    let error = store.get(id(3)).unwrap_err();
    let Key::Pack(file) = pack else {
        unreachable!()
    };
    assert!(
        matches!(
            error,
            StoreError::DamagedChunk { id: damaged, pack, offset, damage: ChunkDamage::Hash { .. } }
                if damaged == id(3) && pack == file && offset.get() == 160 + 3 * 600
        ),
        "{error}"
    );
    assert!(error.is_corrupt() && !error.is_missing());
    for number in (0..10).filter(|number| *number != 3) {
        assert!(store.get(id(number)).is_ok());
    }
    assert_eq!(store.put(&chunk(3)).unwrap().written, 1);
    assert_eq!(store.get(id(3)).unwrap(), chunk(3).bytes());
    // For those who start later too, whichever copy they meet first.
    assert_eq!(reopened(&backend).get(id(3)).unwrap(), chunk(3).bytes());
}

// Spec: STORE-12
// Parity: D23
#[test]
fn damage_that_a_verification_found_is_healed_by_any_later_push() {
    let (_, backend, pack) = ten();
    backend.rot(&pack, |bytes| bytes[160 + 5 * 600] ^= 1);
    let verified = reopened(&backend).verify(&[]).unwrap();
    assert_eq!(verified.chunks, 9);
    assert!(matches!(&verified.findings[..],
        [Finding::Chunk { id: damaged, .. }] if *damaged == id(5)));
    // Another process, that never read the chunk.
    assert_eq!(reopened(&backend).put(&chunk(5)).unwrap().written, 1);
    let healed = reopened(&backend).verify(&[]).unwrap();
    assert!(healed.is_sound(), "{healed:?}");
    assert_eq!(healed.chunks, 10);
}

// Spec: STORE-12
// Parity: D37
#[test]
fn a_verification_names_the_tags_that_are_hurt() {
    let (store, backend) = mem();
    push_image(&store, "well", &[1, 2]).unwrap();
    push_image(&store, "hurt", &[2, 3, 4]).unwrap();
    let packs = backend.keys(Folder::Packs);
    for pack in packs {
        backend.rot(&pack, |bytes| {
            let three = crate::support::bytes(3);
            if let Some(at) = bytes.windows(600).position(|window| window == three) {
                bytes[at] ^= 1;
            }
        });
    }
    let verified = reopened(&backend).verify(&[]).unwrap();
    assert_eq!(verified.hurt_tags, [(name("hurt"), 1)].into());
}

// Spec: STORE-12, STORE-15
#[test]
fn known_damage_is_told_without_reading_until_there_is_another_copy() {
    let (store, backend) = mem();
    push_image(&store, "hurt", &[2, 3, 4]).unwrap();
    let pack = one_pack(&backend);
    backend.rot(&pack, |bytes| bytes[160] ^= 1);
    let quick = || reopened(&backend).verify_tables(&[]).unwrap();
    assert!(quick().is_sound(), "nobody has read it");
    let deep = reopened(&backend).verify(&[]).unwrap();
    let [Finding::Chunk { id: lost, .. }] = deep.findings[..] else {
        panic!("{deep:?}");
    };
    let known = quick();
    assert!(matches!(&known.findings[..],
        [Finding::Chunk { id, error: StoreError::KnownDamage { .. } }] if *id == lost));
    assert_eq!(known.hurt_tags, deep.hurt_tags);
    let stat = || reopened(&backend).stat_all(&[]).unwrap();
    assert_eq!(stat().tags[&name("hurt")].missing_chunks, 1);
    assert!(matches!(&stat().findings[..], [Finding::Chunk { id, .. }] if *id == lost));

    let chunks: Vec<_> = (2..5).map(chunk).collect();
    assert_eq!(reopened(&backend).put_many(&chunks).unwrap().written, 1);
    assert!(quick().is_sound(), "{:?}", quick());
    assert_eq!(stat().tags[&name("hurt")].missing_chunks, 0);
    assert!(stat().findings.is_empty());
}

// Spec: STORE-12
#[test]
fn a_block_that_was_written_anew_does_not_hurt_its_disk() {
    let (store, backend) = mem();
    let parent = push_image(&store, "disk", &[2, 3]).unwrap();
    let pack = one_pack(&backend);
    let first = crate::support::bytes(2);
    backend.rot(&pack, |bytes| {
        let at = bytes.windows(600).position(|window| window == first);
        bytes[at.unwrap()] ^= 1;
    });
    let store = reopened(&backend);
    let hurt = || store.verify(&[]).unwrap().hurt_tags;
    assert_eq!(hurt(), [(name("disk"), 1)].into());

    let push = store.push().unwrap();
    let new = put(&push, &[9]).unwrap();
    let size = ByteLen::new(2 * BLOCK_BYTES);
    let origin = IndexOrigin::Parent { root: parent, size };
    let index = index_with(size, origin, new.iter().copied().zip(0..));
    let child = push.put_successor(&index, &new).unwrap();
    let before = store.tag(&name("disk")).unwrap();
    push.tag(&name("disk"), before, tag_of(child)).unwrap();
    push.finish().unwrap();
    assert_eq!(hurt(), [].into());
    let quick = store.verify_tables(&[]).unwrap();
    assert_eq!(quick.hurt_tags, [].into());
    let stat = store.stat_all(&[]).unwrap();
    assert_eq!(stat.tags[&name("disk")].missing_chunks, 0);
}

// Spec: STORE-12
#[test]
fn a_copy_that_turns_out_sound_is_not_damaged_any_more() {
    let (_, backend, pack) = ten();
    backend.rot(&pack, |bytes| bytes[160] ^= 1);
    let store = reopened(&backend);
    assert!(!store.verify(&[]).unwrap().is_sound());
    backend.rot(&pack, |bytes| bytes[160] ^= 1);
    assert!(!store.verify_tables(&[]).unwrap().is_sound());
    assert!(store.verify(&[]).unwrap().is_sound());
    assert!(reopened(&backend).verify_tables(&[]).unwrap().is_sound());
}

// Spec: STORE-3
// Parity: D23
#[test]
fn a_cut_pack_is_named_and_the_others_are_read() {
    let (store, backend, pack) = ten();
    let short = store.clone();
    backend.rot(&pack, |bytes| bytes.truncate(160 + 4 * 600 + 300));
    assert!(short.get(id(3)).is_ok());
    let error = short.get(id(4)).unwrap_err();
    assert!(matches!(
        error,
        StoreError::DamagedChunk {
            damage: ChunkDamage::Cut,
            ..
        }
    ));
    // For those who start later its table is gone.
    let store = reopened(&backend);
    assert!(store.get(id(3)).unwrap_err().is_missing());
    let verified = store.verify(&[]).unwrap();
    assert!(matches!(&verified.findings[..], [Finding::Pack { .. }]));
    store
        .put_many(&(0..10).map(chunk).collect::<Vec<_>>())
        .unwrap();
    assert!((0..10).all(|number| store.get(id(number)).is_ok()));
}

// Parity: D71, F26
#[test]
fn every_cut_and_every_flipped_bit_of_a_pack_is_an_error_or_the_chunk() {
    let (store, backend) = mem();
    store.put_many(&[chunk(1), chunk(2)]).unwrap();
    let pack = one_pack(&backend);
    let whole = backend.files()[&pack].to_vec();
    let mut check = |bytes: &[u8]| {
        let mut files = backend.files();
        files.insert(pack.clone(), bytes.to_vec().into());
        let store = PackStore::open_at(MemBackend::with_files(files), OPTIONS).unwrap();
        for number in [1, 2] {
            match store.get(id(number)) {
                Ok(bytes) => assert_eq!(bytes, chunk(number).bytes()),
                Err(error) => assert!(error.is_missing() || error.is_corrupt(), "{error}"),
            }
        }
        let _ = store.verify(&[]).unwrap();
    };
    check_truncations(&whole, &mut check);
    // The chunks' own bytes, then the tables.
    check_bit_flips(&whole[..200], &mut |front: &[u8]| {
        check(&[front, &whole[200..]].concat());
    });
    check_bit_flips(&whole[160 + 1200..], &mut |tail: &[u8]| {
        check(&[&whole[..160 + 1200], tail].concat());
    });
}

// Spec: STORE-3
// Parity: D72, F26
#[test]
fn swapped_packs_are_found_by_the_hash() {
    let (store, backend) = mem();
    store.put(&chunk(1)).unwrap();
    store.put(&chunk(2)).unwrap();
    let packs = backend.keys(Folder::Packs);
    let files = backend.files();
    for (to, from) in [(0, 1), (1, 0)] {
        backend.rot(&packs[to], |bytes| *bytes = files[&packs[from]].to_vec());
    }
    // To a process that read the tables before, the bytes are those of another chunk.
    let error = store.get(id(1)).unwrap_err();
    assert!(
        matches!(error, StoreError::DamagedChunk { damage: ChunkDamage::Hash { found }, .. }
        if found == id(2))
    );
    // One that starts later reads the packs for what they are.
    assert!(reopened(&backend).get(id(1)).is_ok());
}

// Failure mode 3: an error body, or a short one, taken for data.
// Spec: STORE-3
// Parity: D72, D73, F38, M3
#[test]
fn short_wrong_and_zero_bodies_are_never_data() {
    for trouble in [
        Trouble::Short(Folder::Packs),
        Trouble::Flipped(Folder::Packs),
        Trouble::Zeros(Folder::Packs),
    ] {
        let (store, backend, _) = ten();
        backend.trouble(trouble.clone());
        let error = store.get(id(7)).unwrap_err();
        assert!(error.is_corrupt(), "{trouble:?}: {error}");
        // A store that is opened meanwhile finds no table, and invents nothing.
        let other = reopened(&backend);
        assert!(other.get(id(7)).is_err());
        backend.heal();
        assert!(store.get(id(7)).is_ok(), "{trouble:?}");
    }
}

// Failure mode 2: a lost ancestor.
// Spec: STORE-7
// Parity: D22, D68, F27, M2
#[test]
fn the_file_of_a_lost_ancestor_is_an_error_and_never_zeros() {
    let (store, backend) = mem();
    let root = push_image(&store, "a", &[1, 2]).unwrap();
    for key in backend.keys(Folder::Roots) {
        coldframe_chunks::Backend::remove(&backend, &key).unwrap();
    }
    let error = reopened(&backend).index(root).unwrap_err();
    assert!(matches!(error, StoreError::MissingRoot { root: missing } if missing == root));
}

// Parity: D71
#[test]
fn a_damaged_file_is_named_by_its_root() {
    let (store, backend) = mem();
    let root = push_image(&store, "a", &[1, 2]).unwrap();
    let key = backend.keys(Folder::Roots)[0].clone();
    backend.rot(&key, |bytes| bytes[170] ^= 1);
    let index = store.index(root).unwrap();
    let page = index.page(0).unwrap();
    let error = store.index_page(&index, &page).unwrap_err();
    assert!(matches!(error, StoreError::DamagedRoot { .. }) && error.is_corrupt());
    backend.rot(&key, |bytes| bytes[30] ^= 1);
    assert!(store.index(root).unwrap_err().is_corrupt());
    let verified = reopened(&backend).verify(&[]).unwrap();
    assert!(matches!(&verified.findings[..], [Finding::Root { .. }]));
    // A file under the name of another root is not it.
    let (other, there) = mem();
    let another = push_image(&other, "b", &[3]).unwrap();
    let file = there.files()[&there.keys(Folder::Roots)[0]].clone();
    backend.rot(&key, |bytes| *bytes = file.to_vec());
    let error = store.index(root).unwrap_err();
    assert!(matches!(error, StoreError::WrongRoot { found, .. } if found == another));
}
