//! Directories of shuru-store 0.2.0, made by shuru-store itself, become disks in a store.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use shuru_store::{CasBackend, ChunkIndex, ChunkStore, FlatFileBackend, LocalChunkStore};

use super::{BLOCK, assert_sound_store, new_store, noise};
use crate::support::{Home, Outcome, coldframe, command, keys, names, patch};

/// The directory of a shuru-store.
struct Cas {
    home: Home,
    dir: PathBuf,
}

impl Cas {
    fn new() -> Self {
        let home = Home::new();
        let dir = home.at("cas");
        new_store(&home);
        Self { home, dir }
    }

    fn chunks(&self) -> LocalChunkStore {
        LocalChunkStore::open(self.dir.to_str().unwrap()).unwrap()
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).to_str().unwrap().to_owned()
    }

    /// A disk with these bytes, as its own writer saves it.
    fn disk(&self, name: &str, bytes: &[u8]) {
        let index = ChunkIndex::new(bytes.len() as u64);
        let backend = CasBackend::new(Box::new(self.chunks()), index);
        for (number, block) in bytes.chunks(BLOCK).enumerate() {
            if block.iter().any(|byte| *byte != 0) {
                backend.write((number * BLOCK) as u64, block).unwrap();
            }
        }
        backend.save_index(&self.path(name)).unwrap();
    }

    fn import(&self, name: &str, more: &[&str]) -> Outcome {
        let store = self.home.at("store");
        let mut import = command(&[&"store", &"import-shuru", &self.dir, &"--store", &store]);
        import.args(["--name", name]).args(more);
        import.output().unwrap().into()
    }

    #[track_caller]
    fn imported(&self, name: &str, more: &[&str]) -> Value {
        let more: Vec<_> = more.iter().copied().chain(["--json"]).collect();
        self.import(name, &more).done().json()
    }

    /// The disk of a tag, as any reader of the store has it.
    fn read(&self, tag: &str) -> Vec<u8> {
        let store = coldframe_chunks::LocalStore::open(&self.home.at("store")).unwrap();
        let root = store.tag(&tag.parse().unwrap()).unwrap().unwrap().root;
        let image = store.image(root).unwrap();
        let count = image.index().block_count();
        let block = |number| {
            let len = image.index().block_len(number).unwrap().get() as usize;
            match image.read(number).unwrap() {
                coldframe_chunks::BlockData::Bytes(bytes) => bytes.to_vec(),
                coldframe_chunks::BlockData::Zero => vec![0; len],
                coldframe_chunks::BlockData::Base | coldframe_chunks::BlockData::Parts => {
                    panic!("there is no base, and no part")
                }
            }
        };
        (0..count).flat_map(block).collect()
    }

    /// The file of the chunk with these bytes.
    fn chunk_file(&self, bytes: &[u8]) -> (String, PathBuf) {
        let hash = blake3::hash(bytes).to_hex().to_string();
        let path = self.dir.join("chunks").join(&hash);
        (hash, path)
    }
}

/// Six blocks and a bit, one of them zero.
fn image(seed: u64) -> Vec<u8> {
    let mut bytes = noise(seed, 7);
    bytes[2 * BLOCK..3 * BLOCK].fill(0);
    bytes.truncate(6 * BLOCK + 5000);
    bytes
}

#[test]
fn a_disk_is_taken_over_byte_for_byte() {
    let cas = Cas::new();
    let bytes = image(51);
    cas.disk("d.idx", &bytes);
    // What a killed writer left is not looked at.
    fs::write(cas.dir.join("chunks/.partial-1-2"), "torn").unwrap();
    let report = cas.imported("d", &[]);
    let all = [
        "base_blocks",
        "blocks",
        "bytes",
        "lost",
        "parents",
        "root",
        "sent_bytes",
        "tag",
        "zero_blocks",
    ];
    assert_eq!(keys(&report), all);
    assert_eq!(
        (&report["blocks"], &report["zero_blocks"]),
        (&7.into(), &1.into())
    );
    assert_eq!(
        (&report["bytes"], &report["tag"]),
        (&bytes.len().into(), &"d".into())
    );
    assert_eq!(report["root"].as_str().unwrap().len(), 64);
    assert!(cas.read("d") == bytes);
    assert_sound_store(&cas.home.at("store"));

    let again = cas.imported("d", &[]);
    assert_eq!(
        (&again["sent_bytes"], &again["root"]),
        (&0.into(), &report["root"])
    );
    let said = cas.import("d", &[]).done();
    assert!(
        said.stdout
            .starts_with("d: a disk of 388.8 KiB, 1 of its 7 blocks zero"),
        "{said:#?}"
    );
    let store = cas.home.at("store");
    let listed = coldframe(&[&"store", &"ls", &"--store", &store, &"--json"])
        .done()
        .json();
    assert_eq!(
        (&listed["tags"][0]["kind"], &listed["tags"][0]["id"]),
        (&"disk".into(), &Value::Null)
    );
    let out = cas.home.at("out");
    let pulled = coldframe(&[&"pull", &"d", &"--store", &store, &"-o", &out]);
    pulled.fails(2, &["tag d points to a disk"]);
}

/// An index that names only what differs from its parent, as shuru-store 0.1.2 saved it: 0.2.0
/// reads it and no longer writes it by itself.
fn delta(cas: &Cas, name: &str, parent: &str, size: u64, blocks: &[(usize, &[u8])]) {
    let mut index = ChunkIndex::new(size);
    index.parent_path = Some(parent.to_owned());
    for (number, block) in blocks {
        index.set_hash(*number, cas.chunks().put(block).unwrap());
    }
    index.save(&cas.path(name)).unwrap();
}

// Parity: D29, F74
#[test]
fn parents_and_the_flat_image_below_them_are_followed() {
    let cas = Cas::new();
    let base = image(52);
    fs::create_dir_all(&cas.dir).unwrap();
    fs::write(cas.dir.join("base.img"), &base[..5 * BLOCK + 100]).unwrap();
    let size = 8 * BLOCK as u64;
    let new = noise(53, 3);
    let mut root = ChunkIndex::new(size);
    root.fallback_path = Some(cas.path("base.img"));
    root.set_hash(1, cas.chunks().put(&new[..BLOCK]).unwrap());
    root.save(&cas.path("root.idx")).unwrap();
    delta(
        &cas,
        "mid.idx",
        &cas.path("root.idx"),
        size,
        &[(3, &new[BLOCK..2 * BLOCK])],
    );
    // A path that is not absolute is that of a neighbour.
    delta(&cas, "top.idx", "mid.idx", size, &[(7, &new[2 * BLOCK..])]);

    let mut expected = base[..5 * BLOCK + 100].to_vec();
    expected.resize(8 * BLOCK, 0);
    for (to, from) in [(1, 0), (3, 1), (7, 2)] {
        expected[to * BLOCK..(to + 1) * BLOCK].copy_from_slice(&new[from * BLOCK..][..BLOCK]);
    }
    // What shuru-store itself reads there; it resolves paths against its own directory.
    delta(
        &cas,
        "abs.idx",
        &cas.path("mid.idx"),
        size,
        &[(7, &new[2 * BLOCK..])],
    );
    let index = ChunkIndex::load(&cas.path("abs.idx")).unwrap();
    let flat = FlatFileBackend::open(&cas.path("base.img")).unwrap();
    let theirs = CasBackend::with_fallback(Box::new(cas.chunks()), index, flat);
    let mut read = vec![0; expected.len()];
    theirs.read(0, &mut read).unwrap();
    assert!(read == expected);

    let top = cas.path("top.idx");
    let report = cas.imported("top", &["--index", &top]);
    assert_eq!(
        (&report["parents"], &report["base_blocks"]),
        (&2.into(), &4.into())
    );
    assert!(cas.read("top") == expected);
    // With several there, one has to be named.
    cas.import("x", &[])
        .fails(2, &["not exactly one index", "--index"]);
}

// Parity: D22
#[test]
fn lost_and_damaged_chunks_are_named_by_block_and_nothing_is_tagged() {
    let cas = Cas::new();
    let bytes = image(54);
    cas.disk("d.idx", &bytes);
    let (lost, path) = cas.chunk_file(&bytes[BLOCK..2 * BLOCK]);
    fs::remove_file(path).unwrap();
    let (damaged, path) = cas.chunk_file(&bytes[4 * BLOCK..5 * BLOCK]);
    patch(&path, 777, |byte| *byte ^= 4);
    let report = cas.import("d", &["--json"]);
    assert_eq!(
        (report.code, report.stderr.as_str()),
        (1, ""),
        "{report:#?}"
    );
    let report = report.json();
    assert_eq!(report["root"], Value::Null);
    let named = report["lost"].as_array().unwrap();
    assert_eq!(named.len(), 2);
    assert_eq!(keys(&named[0]), ["block", "chunk", "detail"]);
    assert_eq!(
        (&named[0]["block"], &named[0]["chunk"]),
        (&1.into(), &lost.as_str().into())
    );
    assert_eq!(named[0]["detail"], "its file is missing");
    assert_eq!(
        (&named[1]["block"], &named[1]["chunk"]),
        (&4.into(), &damaged.as_str().into())
    );
    assert!(
        named[1]["detail"]
            .as_str()
            .unwrap()
            .starts_with("its file is damaged")
    );
    let said = cas.import("d", &[]);
    assert_eq!((said.code, said.stderr.as_str()), (1, ""), "{said:#?}");
    let line = format!("block 1: chunk {lost} is lost: its file is missing\n");
    assert!(said.stdout.starts_with(&line), "{said:#?}");
    assert!(
        said.stdout.ends_with("2 blocks are lost: no tag d\n"),
        "{said:#?}"
    );
    assert!(names(&cas.home.at("store/tags")).is_empty());
    // shuru-store reads zeros in its place and calls that success.
    let index = ChunkIndex::load(&cas.path("d.idx")).unwrap();
    let mut theirs = vec![1; BLOCK];
    let backend = CasBackend::new(Box::new(cas.chunks()), index);
    backend.read(BLOCK as u64, &mut theirs).unwrap();
    assert!(theirs.iter().all(|byte| *byte == 0));

    // A truncated chunk is no shorter chunk. (Its own writer makes files that none may write to.)
    fs::remove_file(&path).unwrap();
    fs::write(&path, &bytes[4 * BLOCK..4 * BLOCK + 100]).unwrap();
    let report = cas.import("d", &["--json"]).json();
    assert_eq!(report["lost"][1]["block"], 4);
}

// Parity: D29, F27
#[test]
fn a_lost_parent_is_named_and_not_read_as_zeros() {
    let cas = Cas::new();
    let block = noise(55, 1);
    fs::create_dir_all(&cas.dir).unwrap();
    let gone = cas.path("gone.idx");
    delta(&cas, "d.idx", &gone, 4 * BLOCK as u64, &[(0, &block)]);
    cas.import("d", &[])
        .fails(3, &["cannot import", "gone.idx", "No such file"]);
    let itself = cas.path("d.idx");
    delta(&cas, "d.idx", &itself, 4 * BLOCK as u64, &[(0, &block)]);
    cas.import("d", &[])
        .fails(1, &["cannot import", "d.idx", "lead round"]);
}

// Parity: D24, F29
#[test]
fn an_index_reaches_nothing_outside_of_its_directory() {
    let cas = Cas::new();
    cas.disk("d.idx", &image(56));
    let secret = cas.home.at("secret");
    fs::write(&secret, noise(57, 1)).unwrap();
    let read = |name: &str| ChunkIndex::load(&cas.path(name)).unwrap();
    let mut index = read("d.idx");
    index.set_hash(0, "../../secret".to_owned());
    index.save(&cas.path("d.idx")).unwrap();
    let named = cas.path("d.idx");
    cas.import("d", &["--index", &named]).fails(
        1,
        &[
            "d.idx is no index of shuru-store",
            "neither ZERO nor a hash",
        ],
    );

    cas.disk("d.idx", &image(56));
    let mut index = read("d.idx");
    index.fallback_path = Some(secret.to_str().unwrap().to_owned());
    index.save(&cas.path("d.idx")).unwrap();
    cas.import("d", &[])
        .fails(2, &["outside of the directory", "--trust-paths"]);
    cas.import("d", &["--trust-paths"]).done();
}

/// The first bytes of an index: size, count, and two lengths.
fn head(size: u64, count: u64, parent: u32, fallback: u32) -> Vec<u8> {
    let mut head = [size.to_le_bytes(), count.to_le_bytes()].concat();
    head.extend(parent.to_le_bytes());
    head.extend(fallback.to_le_bytes());
    head
}

// Parity: D28
#[test]
fn an_index_that_lies_is_refused_before_anything_is_allocated() {
    let cas = Cas::new();
    fs::create_dir_all(cas.dir.join("chunks")).unwrap();
    let size = 4 * BLOCK as u64;
    let cases = [
        (head(size, 5, 0, 0), "count of chunks does not match"),
        (head(u64::MAX, 1 << 48, 0, 0), "cut short"),
        (
            head(u64::MAX, u64::MAX, 0, 0),
            "count of chunks does not match",
        ),
        (head(size, 4, u32::MAX, 0), "cut short"),
        (head(size, 4, 0, u32::MAX), "cut short"),
        (head(size, 4, 0, 0), "cut short"),
        (vec![1, 2, 3], "cut short"),
    ];
    for (bytes, what) in cases {
        fs::write(cas.dir.join("d.idx"), &bytes).unwrap();
        let index = cas.path("d.idx");
        cas.import("d", &["--index", &index])
            .fails(1, &["d.idx is no index of shuru-store", what]);
    }
}

#[test]
fn a_tag_that_stands_for_something_else_stays() {
    let cas = Cas::new();
    cas.disk("d.idx", &image(58));
    let first = cas.imported("d", &[]);
    fs::remove_file(Path::new(&cas.path("d.idx"))).unwrap();
    cas.disk("d.idx", &image(59));
    cas.import("d", &[])
        .fails(2, &["tag d points to something else", "--replace"]);
    let second = cas.imported("d", &["--replace"]);
    assert_ne!(first["root"], second["root"]);
    assert!(cas.read("d") == image(59));
    let missing = cas.home.at("missing");
    let store = cas.home.at("store");
    let import = [
        &"store",
        &"import-shuru",
        &missing,
        &"--store",
        &store,
        &"--name",
        &"m",
    ] as [&dyn AsRef<std::ffi::OsStr>; 7];
    coldframe(&import).fails(3, &["missing"]);
}
