//! Golden files of every version: written once, read for ever.

use coldframe_chunkfile::{
    BaseId, Compression, Entry, INDEX_LIMITS, Index, IndexOrigin, LogId, PACK_LIMITS, Pack,
    PartSource, Tag, TagFile, TagKind,
};
use coldframe_testkit::golden::{assert_golden, golden};
use coldframe_units::RootHash;

use crate::dump::dump;
use crate::sample::{BLOCK, all, disk_tag, id, numbered, producer, size};

fn path(name: &str, ending: &str) -> String {
    format!("tests/golden/v1/{name}.{ending}")
}

// Spec: PACK-8, CIDX-13
// Parity: D74
#[test]
fn todays_encoder_writes_the_goldens_of_version_1() {
    for (name, file) in all() {
        assert!(file.len() < 4096);
        assert_golden(path(name, "bin"), &file);
        let text = dump(&format!("{name}.bin"), &file);
        assert!(text.is_ascii());
        assert_golden(path(name, "txt"), text.as_bytes());
    }
}

// Spec: PACK-4, PACK-5
#[test]
fn golden_pack_has_its_known_value() {
    let file = golden(path("pack", "bin"));
    let pack = Pack::open(&file, PACK_LIMITS).unwrap();
    assert_eq!(pack.producer(), producer());
    assert_eq!(pack.file_len().get(), file.len() as u64);
    let places = pack.in_file_order();
    let places = places.iter().map(|chunk| {
        let compression = chunk.compression;
        (
            chunk.id,
            chunk.offset.get(),
            chunk.stored_len,
            chunk.raw_len,
            compression,
        )
    });
    assert!(places.eq([
        (id(b"frozen"), 160, 6, 6, Compression::None),
        (id(&[b'A'; 100]), 166, 11, 100, Compression::Lz4),
        (id(&[b'B'; 100]), 177, 10, 100, Compression::Zstd),
    ]));
    assert_eq!(&file[160..166], b"frozen");
    let empty = golden(path("pack_empty", "bin"));
    assert!(Pack::open(&empty, PACK_LIMITS).unwrap().chunks().is_empty());
}

#[track_caller]
fn check(name: &str, origin: IndexOrigin, bytes: u64, entries: &[(u64, Entry)]) {
    let file = golden(path(name, "bin"));
    let index = Index::open(&file, INDEX_LIMITS).unwrap();
    index.verify_rows(&file).unwrap();
    assert_eq!((index.origin(), index.size()), (origin, size(bytes)));
    for (block, entry) in entries {
        assert_eq!(index.read(&file, *block), Ok(*entry), "block {block}");
    }
}

// Spec: CIDX-4, CIDX-8, CIDX-10
#[test]
fn golden_indexes_have_their_known_values() {
    use Entry::{Chunk, Inherit, Zero};
    let chunk = |number| Chunk(numbered(number));
    let full = [
        (0, chunk(1)),
        (1, chunk(2)),
        (2, Zero),
        (3, Zero),
        (4, chunk(1)),
    ];
    check("index_full", IndexOrigin::None, 4 * BLOCK + 100, &full);
    let (root, length) = (RootHash::from_bytes([0x5a; 32]), size(1 << 40));
    let origin = IndexOrigin::Parent { root, size: length };
    let last = (1 << 24) - 1;
    let delta = [
        (0, Inherit),
        (7, chunk(3)),
        (8, Inherit),
        (1 << 20, Zero),
        ((1 << 20) + 2, Zero),
        ((1 << 20) + 3, Inherit),
        (last, chunk(4)),
    ];
    check("index_delta", origin, 1 << 40, &delta);
    let id = BaseId::from_bytes([0xba; 32]);
    let origin = IndexOrigin::Base {
        id,
        size: size(BLOCK + 5),
    };
    let based = [(0, Inherit), (1, chunk(5)), (2, Zero)];
    check("index_based", origin, 3 * BLOCK, &based);
    check("index_empty", IndexOrigin::None, 0, &[]);
}

// Spec: CIDX-16, CIDX-17
#[test]
fn golden_index_of_parts_has_its_known_value() {
    let (root, length) = (RootHash::from_bytes([0x5a; 32]), size(4 * BLOCK + 100));
    let origin = IndexOrigin::Parent { root, size: length };
    let entries = [
        (0, Entry::Parts),
        (1, Entry::Chunk(numbered(1))),
        (2, Entry::Parts),
        (3, Entry::Parts),
    ];
    check("index_parts", origin, 3 * BLOCK + 4196, &entries);
    let index = Index::open(&golden(path("index_parts", "bin")), INDEX_LIMITS).unwrap();
    let of = |block: u64| -> Vec<(u16, PartSource)> {
        let rows = index.parts_of(block).iter();
        rows.map(|row| (row.pages, row.source)).collect()
    };
    let chunk = |number| PartSource::Chunk {
        id: numbered(number),
        len: 65_536,
    };
    assert_eq!(
        of(0),
        [(1, chunk(6)), (2, PartSource::Zero), (0xfffc, chunk(7))]
    );
    assert!(of(1).is_empty());
    let below = PartSource::Origin { len: 65_536 };
    assert_eq!(
        of(2),
        [
            (0x8000, chunk(8)),
            (0x10, PartSource::Lost),
            (0x7fef, below)
        ]
    );
    assert_eq!(of(3), [(3, PartSource::Origin { len: 4196 })]);
}

// Spec: STORE-2
#[test]
fn golden_tag_has_its_known_value() {
    let tag = Tag::decode(&golden(path("tag", "bin"))).unwrap();
    assert_eq!(tag.kind, TagKind::Snapshot);
    assert_eq!(tag.root, RootHash::from_bytes([0xc0; 32]));
    assert_eq!((tag.disk, tag.log), (None, None));
}

// Spec: STORE-2, STORE-40, STORE-41
#[test]
fn golden_tags_of_disks_have_their_known_values() {
    let file = |name| TagFile::decode(&golden(path(name, "bin"))).unwrap();
    let plain = TagFile {
        tag: disk_tag(),
        place: None,
    };
    assert_eq!(file("tag_disk"), plain);
    let found = file("tag_log");
    assert_eq!(found.tag.log, Some(LogId::from_bytes([0x70; 16])));
    let place = found.place.unwrap();
    assert_eq!(place.host(), b"host-1");
    assert_eq!(place.path(), b"/logs/root\xff.wal");
}
