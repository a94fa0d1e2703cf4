//! The files that the goldens hold, made anew.

use coldframe_chunkfile::{
    BaseId, Compression, CondemnedFile, DiskId, EncodedPack, IndexBuilder, IndexOrigin, Ledger,
    LogId, LogPlace, PackBuilder, PartSource, Round, Tag, TagFile,
};
use coldframe_envelope::Producer;
use coldframe_units::{BLOCK_BYTES, ByteLen, ChunkId, RootHash};

pub const BLOCK: u64 = BLOCK_BYTES;

pub fn producer() -> Producer {
    Producer::new("golden", "0.1.0").unwrap()
}

pub fn id(bytes: &[u8]) -> ChunkId {
    ChunkId::from_bytes(*blake3::hash(bytes).as_bytes())
}

pub fn numbered(number: u8) -> ChunkId {
    ChunkId::from_bytes([number; 32])
}

pub fn size(bytes: u64) -> ByteLen {
    ByteLen::new(bytes)
}

/// A whole pack file of these chunks: id, compression, length, stored bytes.
pub fn pack_of(chunks: &[(ChunkId, Compression, u32, Vec<u8>)]) -> Vec<u8> {
    let mut builder = PackBuilder::new(producer());
    let mut file = vec![0; 160];
    for (id, compression, raw_len, stored) in chunks {
        let stored_len = u32::try_from(stored.len()).unwrap();
        let at = builder.push(*id, *compression, *raw_len, stored_len);
        assert_eq!(at.unwrap().get(), file.len() as u64);
        file.extend_from_slice(stored);
    }
    seal(file, builder.finish().unwrap())
}

pub fn seal(mut file: Vec<u8>, built: EncodedPack) -> Vec<u8> {
    assert_eq!(built.tail_offset.get(), file.len() as u64);
    file[..160].copy_from_slice(&built.header);
    file.extend_from_slice(&built.tail);
    assert_eq!(built.file_len.get(), file.len() as u64);
    file
}

/// Three chunks, one of each compression, the bytes stored as the codecs have them.
pub fn golden_pack() -> Vec<u8> {
    // One literal, a match of 94 at distance 1, five literals.
    let lz4 = [&[0x1f, b'A', 1, 0, 75, 0x50][..], b"AAAAA"].concat();
    // A single-segment frame of 100 bytes, one RLE block, the last.
    let zstd = [&[0x28, 0xb5, 0x2f, 0xfd, 0x20, 100, 0x23, 3, 0][..], b"B"].concat();
    pack_of(&[
        (id(b"frozen"), Compression::None, 6, b"frozen".to_vec()),
        (id(&[b'A'; 100]), Compression::Lz4, 100, lz4),
        (id(&[b'B'; 100]), Compression::Zstd, 100, zstd),
    ])
}

pub fn empty_pack() -> Vec<u8> {
    pack_of(&[])
}

/// Five blocks, the last short: chunk, chunk, two zeros, chunk.
pub fn full_index() -> Vec<u8> {
    let mut builder =
        IndexBuilder::new(size(4 * BLOCK + 100), IndexOrigin::None, producer()).unwrap();
    builder.push_chunk(0, numbered(1)).unwrap();
    builder.push_chunk(1, numbered(2)).unwrap();
    builder.push_zeros(2, 2).unwrap();
    builder.push_chunk(4, numbered(1)).unwrap();
    builder.finish().unwrap().into_file()
}

/// A 1 TiB image of which the parent was 1 TiB too: two blocks changed, three became zero.
pub fn delta_index() -> Vec<u8> {
    let (root, size) = (RootHash::from_bytes([0x5a; 32]), size(1 << 40));
    let origin = IndexOrigin::Parent { root, size };
    let mut builder = IndexBuilder::new(size, origin, producer()).unwrap();
    builder.push_chunk(7, numbered(3)).unwrap();
    builder.push_zeros(1 << 20, 3).unwrap();
    builder.push_chunk((1 << 24) - 1, numbered(4)).unwrap();
    builder.finish().unwrap().into_file()
}

/// A base image that ends inside the second block, grown to three.
pub fn based_index() -> Vec<u8> {
    let origin = IndexOrigin::Base {
        id: BaseId::from_bytes([0xba; 32]),
        size: size(BLOCK + 5),
    };
    let mut builder = IndexBuilder::new(size(3 * BLOCK), origin, producer()).unwrap();
    builder.push_chunk(1, numbered(5)).unwrap();
    builder.push_zeros(2, 1).unwrap();
    builder.finish().unwrap().into_file()
}

/// A parent of four blocks and a bit, cut to three and a bit: a page over a chunk that cannot be
/// read, pages over what the parent has, and the last block, cut out of a longer one.
pub fn parts_index() -> Vec<u8> {
    let (root, parent) = (RootHash::from_bytes([0x5a; 32]), size(4 * BLOCK + 100));
    let origin = IndexOrigin::Parent { root, size: parent };
    let bytes = size(3 * BLOCK + 4196);
    let mut builder = IndexBuilder::new(bytes, origin, producer()).unwrap();
    let chunk = |number, len| PartSource::Chunk {
        id: numbered(number),
        len,
    };
    let over_chunk = [
        (1, chunk(6, 65_536)),
        (2, PartSource::Zero),
        (0xfffc, chunk(7, 65_536)),
    ];
    builder.push_parts(0, &over_chunk).unwrap();
    builder.push_chunk(1, numbered(1)).unwrap();
    let over_parent = [
        (0x8000, chunk(8, 65_536)),
        (0x0010, PartSource::Lost),
        (0x7fef, PartSource::Origin { len: 65_536 }),
    ];
    builder.push_parts(2, &over_parent).unwrap();
    let cut = [(3, PartSource::Origin { len: 4196 })];
    builder.push_parts(3, &cut).unwrap();
    builder.finish().unwrap().into_file()
}

pub fn empty_index() -> Vec<u8> {
    let builder = IndexBuilder::new(size(0), IndexOrigin::None, producer()).unwrap();
    builder.finish().unwrap().into_file()
}

pub fn tag() -> Vec<u8> {
    tag_file(Tag::snapshot(RootHash::from_bytes([0xc0; 32])), None)
}

pub fn tag_file(tag: Tag, place: Option<LogPlace>) -> Vec<u8> {
    TagFile { tag, place }.encode(producer()).unwrap()
}

pub fn disk_tag() -> Tag {
    let root = RootHash::from_bytes([0xc1; 32]);
    Tag::disk(root, DiskId::from_bytes([0xd1; 16]))
}

/// A disk all of which is in the store.
pub fn tag_disk() -> Vec<u8> {
    tag_file(disk_tag(), None)
}

pub fn log_place() -> LogPlace {
    LogPlace::new(b"host-1", b"/logs/root\xff.wal")
}

/// A disk whose log may have changes.
pub fn tag_log() -> Vec<u8> {
    let log = Some(LogId::from_bytes([0x70; 16]));
    tag_file(Tag { log, ..disk_tag() }, Some(log_place()))
}

/// One round that waits for two leases, one that was not looked at.
pub fn ledger() -> Ledger {
    let waits_for = Some([7, 9].into());
    let rounds = [(1, Round { waits_for }), (2, Round { waits_for: None })];
    let root = CondemnedFile::Root(RootHash::from_bytes([0xc0; 32]), 5);
    Ledger {
        rounds: rounds.into(),
        condemned: [
            (CondemnedFile::Pack(3), 1),
            (CondemnedFile::Pack(4), 2),
            (root, 1),
        ]
        .into(),
        damaged: [(numbered(8), 3)].into(),
        names: [].into(),
        files: [].into(),
    }
}

/// The same, with names of tags.
pub fn ledger_names() -> Ledger {
    Ledger {
        names: ["nightly".to_owned(), "root@2026-11-01".to_owned()].into(),
        ..ledger()
    }
}

/// The same, with names of files too: one root has two copies.
pub fn ledger_files() -> Ledger {
    let (one, two) = ([0x11; 32], [0xc0; 32]);
    let files = [(one, 6), (two, 5), (two, 1 << 40)];
    let files = files.map(|(root, file)| (RootHash::from_bytes(root), file));
    Ledger {
        files: files.into(),
        ..ledger_names()
    }
}

pub fn ledger_file() -> Vec<u8> {
    ledger().encode(producer()).unwrap()
}

/// All of them, by the name of their golden.
pub fn all() -> [(&'static str, Vec<u8>); 13] {
    [
        ("pack", golden_pack()),
        ("pack_empty", empty_pack()),
        ("index_full", full_index()),
        ("index_delta", delta_index()),
        ("index_based", based_index()),
        ("index_empty", empty_index()),
        ("index_parts", parts_index()),
        ("tag", tag()),
        ("tag_disk", tag_disk()),
        ("tag_log", tag_log()),
        ("ledger", ledger_file()),
        ("ledger_names", ledger_names().encode(producer()).unwrap()),
        ("ledger_files", ledger_files().encode(producer()).unwrap()),
    ]
}
