//! Lost and damaged chunks and files: named with their place, and healed by what is put again.

use std::fs;

use serde_json::Value;

use super::{
    assert_sound_store, files, frozen, new_store, noise, pull, pulled_path, push, store_verb,
};
use crate::support::{Home, Outcome, coldframe, memory_of, names, patch, simulated};

const BLOCKS: usize = 32;

/// A store with one snapshot in one pack, under the tag `one`.
struct Kept {
    home: Home,
    memory: Vec<u8>,
}

impl Kept {
    fn new(seed: u64) -> Self {
        let home = Home::new();
        let store = new_store(&home);
        let memory = noise(seed, BLOCKS);
        let one = frozen(&home, "one", &memory);
        push(&one, &store, &["--name", "one"]).done();
        assert_eq!(files(&store, "packs").len(), 1);
        Self { home, memory }
    }

    /// The id of the chunk of a block.
    fn chunk(&self, block: usize) -> String {
        let start = block * super::BLOCK;
        let hash = blake3::hash(&self.memory[start..start + super::BLOCK]);
        hash.to_hex().to_string()
    }

    /// A pull fetches several blocks at once: which of those that are lost it meets first is open.
    #[track_caller]
    fn names_a_lost_block(&self, pulled: &Outcome) {
        pulled.fails(1, &["cannot pull one: block ", "is not in the store"]);
        let rest = pulled.stderr.split_once(": block ").unwrap().1;
        let block: usize = rest.split(' ').next().unwrap().parse().unwrap();
        let chunk = self.chunk(block);
        assert!(rest.contains(&chunk), "{rest} is not of {chunk}");
    }

    /// Pushing the snapshot again makes the store whole.
    #[track_caller]
    fn heals(&self, sent: u64) {
        let store = self.home.at("store");
        let report = push(&self.home.at("one"), &store, &["--name", "one"]);
        assert_eq!(report.done().json()["sent_blocks"], sent);
        let report = pull("one", &store, &self.home.at("out"), &[]);
        let path = pulled_path(&report.done().json());
        assert!(memory_of(&path) == self.memory);
    }
}

// Parity: D23, F26
#[test]
fn a_flipped_bit_is_named_by_chunk_and_place_and_heals() {
    let kept = Kept::new(11);
    let (store, out) = (kept.home.at("store"), kept.home.at("out"));
    let pack = &files(&store, "packs")[0];
    let pack_id = pack.file_stem().unwrap().to_str().unwrap();
    // Chunks that do not compress lie in the order of their blocks.
    let block = BLOCKS / 2;
    let middle = fs::metadata(pack).unwrap().len() / 2;
    patch(pack, middle, |byte| *byte ^= 0x10);
    let (chunk, near) = (kept.chunk(block), kept.chunk(block - 1));

    let pulled = pull("one", &store, &out, &[]);
    let hit = if pulled.stderr.contains(&chunk) {
        chunk
    } else {
        near
    };
    let place = format!("chunk {hit} at ");
    let of = format!(" of pack {pack_id} is damaged: its bytes are those of ");
    pulled.fails(1, &["cannot pull one: block ", "of snapshot", &place, &of]);
    assert!(!names(&out).iter().any(|name| !name.starts_with('.')));

    // Tables alone do not tell; the deep look names the same chunk and place.
    store_verb("verify", &store, &[]).done();
    let verified = store_verb("verify", &store, &["--deep"]);
    assert_eq!(verified.code, 1, "{verified:#?}");
    let report = verified.json();
    assert_eq!(report["verdict"], "damaged");
    assert_eq!(report["hurt_tags"][0]["tag"], "one");
    assert_eq!(report["hurt_tags"][0]["lost"], 1);
    let damages = report["damages"].as_array().unwrap();
    assert_eq!(damages.len(), 1);
    assert_eq!(damages[0]["kind"], "chunk");
    assert_eq!(damages[0]["name"], hit.as_str());
    assert!(damages[0]["detail"].as_str().unwrap().contains(&of));
    let said = coldframe(&[&"store", &"verify", &"--deep", &"--store", &store]);
    assert_eq!((said.code, said.stderr.as_str()), (1, ""), "{said:#?}");
    assert!(said.stdout.contains(&of), "{said:#?}");
    assert!(
        said.stdout.contains("tag one needs 1 of what is lost\n"),
        "{said:#?}"
    );
    assert!(said.stdout.contains("\ndamaged: "), "{said:#?}");

    kept.heals(1);
    // The damaged copy is garbage now.
    store_verb("gc", &store, &["--grace", "0"]).done();
    store_verb("gc", &store, &["--grace", "0"]).done();
    pull("one", &store, &kept.home.at("again"), &[]).done();
}

// Parity: D23
#[test]
fn a_cut_pack_is_named_and_heals() {
    let kept = Kept::new(12);
    let store = kept.home.at("store");
    let pack = &files(&store, "packs")[0];
    let pack_id = pack.file_stem().unwrap().to_str().unwrap();
    let bytes = fs::read(pack).unwrap();
    fs::remove_file(pack).unwrap();
    fs::write(pack, &bytes[..bytes.len() / 2]).unwrap();
    let verified = store_verb("verify", &store, &[]);
    assert_eq!(verified.code, 1, "{verified:#?}");
    assert_eq!(verified.json()["damages"][0]["kind"], "pack");
    assert_eq!(verified.json()["damages"][0]["name"], pack_id);
    let pulled = pull("one", &store, &kept.home.at("out"), &[]);
    kept.names_a_lost_block(&pulled);
    kept.heals(BLOCKS as u64);
}

// Parity: D22, F27
#[test]
fn lost_chunks_are_named_and_counted_and_heal() {
    let kept = Kept::new(13);
    let store = kept.home.at("store");
    fs::remove_file(&files(&store, "packs")[0]).unwrap();
    let pulled = pull("one", &store, &kept.home.at("out"), &[]);
    kept.names_a_lost_block(&pulled);
    let stat = store_verb("stat", &store, &[]).done().json();
    assert_eq!(stat["tags"][0]["missing_chunks"], BLOCKS);
    let verified = store_verb("verify", &store, &[]);
    assert_eq!(verified.code, 1, "{verified:#?}");
    assert_eq!(verified.json()["hurt_tags"][0]["lost"], BLOCKS);
    kept.heals(BLOCKS as u64);
    assert_sound_store(&store);
}

// Parity: D68, D71
#[test]
fn each_lost_file_is_named_and_heals() {
    let home = Home::new();
    let (dir, store) = (home.at("kept"), new_store(&home));
    simulated(&dir);
    let diff = dir.join("diff-1");
    push(&diff, &store, &["--name", "one"]).done();
    let roots = files(&store, "roots");
    assert_eq!(roots.len(), 6);
    for (number, root) in roots.iter().enumerate() {
        let bytes = fs::read(root).unwrap();
        fs::remove_file(root).unwrap();
        let name = root.file_name().unwrap().to_str().unwrap();
        let name = name.split('.').next().unwrap();
        let out = home.at(&format!("out-{number}"));
        let pulled = pull("one", &store, &out, &[]);
        pulled.fails(
            1,
            &["cannot be read from the store", name, "is not in the store"],
        );
        let verified = store_verb("verify", &store, &[]);
        assert_eq!(verified.code, 1, "{verified:#?}");
        // Damaged instead of lost.
        fs::write(root, &bytes).unwrap();
        patch(root, bytes.len() as u64 / 2, |byte| *byte ^= 1);
        let pulled = pull("one", &store, &out, &[]);
        pulled.fails(1, &["cannot be read from the store", name]);
        push(&diff, &store, &["--name", "one"]).done();
        pull("one", &store, &out, &[]).done();
    }
}

#[test]
fn a_tag_whose_file_is_lost_is_listed_all_the_same() {
    let kept = Kept::new(14);
    let store = kept.home.at("store");
    for root in files(&store, "roots") {
        fs::remove_file(root).unwrap();
    }
    let listed = store_verb("ls", &store, &[]);
    assert_eq!((listed.code, &listed.stderr[..]), (1, ""), "{listed:#?}");
    let listed = listed.json();
    assert_eq!(listed["tags"][0]["name"], "one");
    assert_eq!(listed["tags"][0]["id"], Value::Null);
    let error = listed["tags"][0]["error"].as_str().unwrap();
    assert!(error.contains("is not in the store"), "{error}");
}

#[test]
fn a_damaged_tag_is_an_error_and_no_reason_to_delete() {
    let kept = Kept::new(15);
    let store = kept.home.at("store");
    let tag = &files(&store, "tags")[0];
    let sound = fs::read(tag).unwrap();
    patch(tag, sound.len() as u64 - 5, |byte| *byte ^= 1);
    pull("one", &store, &kept.home.at("out"), &[]).fails(1, &["tag one"]);
    let verified = store_verb("verify", &store, &[]);
    assert_eq!(
        (verified.code, &verified.json()["damages"][0]["kind"]),
        (1, &"tag".into())
    );
    store_verb("gc", &store, &["--grace", "0"]).fails(1, &["cannot collect garbage", "tag one"]);
    fs::remove_file(tag).unwrap();
    fs::write(tag, sound).unwrap();
    pull("one", &store, &kept.home.at("out"), &[]).done();
}

// Nothing else would ever remove it, and the collector stops at it.
#[test]
fn a_damaged_tag_is_removed_when_that_is_asked_for() {
    let kept = Kept::new(15);
    let store = kept.home.at("store");
    store_verb("untag", &store, &["one", "--damaged"]).fails(2, &["not damaged"]);
    let tag = &files(&store, "tags")[0];
    patch(tag, 70, |byte| *byte ^= 1);
    let advice = ["tag one is damaged", "coldframe store untag one --damaged"];
    store_verb("untag", &store, &["one"]).fails(1, &advice);
    store_verb("gc", &store, &["--grace", "0"]).fails(1, &advice);
    store_verb("prune", &store, &["--family", "one", "--keep-last", "1"]).fails(1, &advice);
    let removed = store_verb("untag", &store, &["one", "--damaged"]).done();
    assert_eq!(removed.json()["removed"][0], "one");
    store_verb("untag", &store, &["one", "--damaged"]).fails(1, &["there is no tag one"]);
    let gc = store_verb("gc", &store, &["--grace", "0"]).done().json();
    assert_eq!(gc["live_chunks"], 0);
}

#[test]
fn a_damaged_ledger_is_replaced_when_that_is_asked_for() {
    let kept = Kept::new(16);
    let store = kept.home.at("store");
    let renew = || store_verb("gc", &store, &["--new-ledger"]);
    assert_eq!(renew().done().json()["renewed"], false);
    let ledger = store.join("ledger");
    patch(&ledger, 40, |byte| *byte ^= 1);
    let advice = ["the ledger of the store is damaged", "gc --new-ledger"];
    let two = frozen(&kept.home, "two", &noise(17, 4));
    push(&two, &store, &["--name", "two"]).fails(1, &advice);
    store_verb("gc", &store, &["--grace", "0"]).fails(1, &advice);
    let new = renew().done().json();
    let expected = serde_json::json!({"renewed": true, "tags": 1, "files": 2});
    assert_eq!(new, expected);
    push(&two, &store, &["--name", "two"]).done();
    store_verb("gc", &store, &["--grace", "0"]).done();
    assert_sound_store(&store);
    let report = pull("one", &store, &kept.home.at("out"), &[]);
    assert!(memory_of(&pulled_path(&report.done().json())) == kept.memory);
}

// Parity: D75
#[test]
fn a_damaged_snapshot_is_not_pushed() {
    let home = Home::new();
    let store = new_store(&home);
    let one = frozen(&home, "one", &noise(16, BLOCKS));
    let memory = one.join("memory");
    // Full files have RAM at 2 MiB.
    patch(&memory, (2 << 20) + 5 * super::BLOCK as u64, |byte| {
        *byte ^= 1
    });
    let path = memory.to_str().unwrap();
    push(&one, &store, &["--name", "one"]).fails(1, &["block 5 of", path, "is damaged"]);
    let listed = store_verb("ls", &store, &[]).done().json();
    assert_eq!(listed["tags"].as_array().unwrap().len(), 0);
}
