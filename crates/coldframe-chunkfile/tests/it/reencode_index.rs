//! The one check of fuzzing and of replay for indexes, tags and ledgers: no panic, and what decodes
//! is written again the same. The fuzz target includes this file and `reseal.rs`.

use coldframe_chunkfile::{
    Entry, INDEX_FORMAT, INDEX_LIMITS, Index, IndexBuilder, IndexOrigin, LEDGER_FORMAT, Ledger,
    PartRow, TAG_FORMAT, TagFile,
};
use coldframe_envelope::{Container, DecodeError, Header, Limits};

use crate::reseal::changed;

/// The bytes as they are, and as changes to each golden, whose hashes are then made right again.
///
/// # Panics
/// If what decodes is not written again as the same bytes.
pub fn check(bytes: &[u8]) {
    check_raw(bytes);
    check_tag(bytes);
    check_ledger(bytes);
    for golden in [
        &include_bytes!("../golden/v1/index_full.bin")[..],
        include_bytes!("../golden/v1/index_delta.bin"),
        include_bytes!("../golden/v1/index_based.bin"),
        include_bytes!("../golden/v1/index_empty.bin"),
        include_bytes!("../golden/v1/index_parts.bin"),
    ] {
        check_raw(&changed(golden, bytes));
    }
    check_tag(&changed(include_bytes!("../golden/v1/tag.bin"), bytes));
    check_tag(&changed(include_bytes!("../golden/v1/tag_disk.bin"), bytes));
    check_tag(&changed(include_bytes!("../golden/v1/tag_log.bin"), bytes));
    check_ledger(&changed(include_bytes!("../golden/v1/ledger.bin"), bytes));
    let names = include_bytes!("../golden/v1/ledger_names.bin");
    check_ledger(&changed(names, bytes));
    let files = include_bytes!("../golden/v1/ledger_files.bin");
    check_ledger(&changed(files, bytes));
}

/// The same index out of its own rows: what a reader understood, written again.
///
/// # Errors
/// The first page that does not hold.
pub fn rebuild(index: &Index, file: &[u8]) -> Result<Vec<u8>, DecodeError> {
    index.verify_rows(file)?;
    let mut builder = IndexBuilder::new(index.size(), index.origin(), index.producer()).unwrap();
    let mut again = Vec::new();
    let mut parts = index
        .parts()
        .chunk_by(|one, next| one.block == next.block)
        .peekable();
    for page in index.pages() {
        let start = usize::try_from(page.offset.get()).unwrap();
        let bytes = &file[start..start + usize::try_from(page.len.get()).unwrap()];
        for row in index.decode_page(&page, bytes)?.rows() {
            while let Some(block) = parts.next_if(|block| block[0].block < row.block) {
                push_parts(&mut builder, block);
            }
            match row.chunk {
                Some(id) => builder.push_chunk(row.block, id).unwrap(),
                None => builder.push_zeros(row.block, row.count.into()).unwrap(),
            }
        }
        again.extend_from_slice(&builder.take_rows().1);
    }
    parts.for_each(|block| push_parts(&mut builder, block));
    let end = builder.finish().unwrap();
    Ok([&end.header[..], &again, &end.rest].concat())
}

fn push_parts(builder: &mut IndexBuilder, rows: &[PartRow]) {
    let parts: Vec<_> = rows.iter().map(|row| (row.pages, row.source)).collect();
    builder.push_parts(rows[0].block, &parts).unwrap();
}

/// Whether the bytes decode as an index.
///
/// # Panics
/// If what decodes is not written again as the same bytes.
pub fn check_raw(bytes: &[u8]) -> bool {
    let Ok(index) = Index::open(bytes, INDEX_LIMITS) else {
        return false;
    };
    let last = index.block_count().saturating_sub(1);
    for block in [0, 1, last, index.block_count(), u64::MAX] {
        let entry = index.read(bytes, block);
        if block >= index.block_count() {
            assert!(entry.is_err());
            assert_eq!(index.block_len(block), None);
        }
        if entry == Ok(Entry::Inherit) {
            assert_ne!(index.origin(), IndexOrigin::None);
        }
    }
    let Ok(again) = rebuild(&index, bytes) else {
        return false;
    };
    let header = Header::decode(bytes, INDEX_FORMAT).unwrap();
    let sections = match index.origin() {
        IndexOrigin::None => 3,
        IndexOrigin::Parent { .. } | IndexOrigin::Base { .. } => 4,
    };
    let parts = u16::from(!index.parts().is_empty());
    // A later minor version, or optional sections, are read and not written.
    if header.version.minor == parts && header.section_count == sections + u32::from(parts) {
        assert_eq!(again, bytes);
    }
    true
}

/// Whether the bytes decode as a tag.
///
/// # Panics
/// If what decodes is not written again as the same bytes.
pub fn check_tag(bytes: &[u8]) -> bool {
    let Ok(tag) = TagFile::decode(bytes) else {
        return false;
    };
    let header = Header::decode(bytes, TAG_FORMAT).unwrap();
    let again = tag.encode(header.producer).unwrap();
    let written = Header::decode(&again, TAG_FORMAT).unwrap();
    // A later minor version, optional sections and gaps are read and not written.
    let same = |header: &Header| {
        (
            header.version,
            header.section_count,
            header.table_offset,
            header.file_len,
        )
    };
    if same(&header) == same(&written) && is_in_order(bytes) {
        assert_eq!(again, bytes);
    }
    true
}

/// Whether the sections stand as the encoder writes them.
fn is_in_order(bytes: &[u8]) -> bool {
    let container = Container::decode(bytes, TAG_FORMAT, Limits::SMALL_FILE).unwrap();
    let known = [*b"TAGR", *b"DISK", *b"WLOG"];
    let place = |kind: [u8; 4]| known.iter().position(|known| *known == kind);
    let sections = container.table().sections().iter();
    let places: Vec<_> = sections
        .map(|section| (section.instance, place(section.kind.bytes())))
        .collect();
    places
        .iter()
        .all(|(instance, place)| *instance == 0 && place.is_some())
        && places.is_sorted()
}

/// Whether the bytes decode as a ledger.
///
/// # Panics
/// If what decodes is not written again as the same bytes.
pub fn check_ledger(bytes: &[u8]) -> bool {
    let Ok(ledger) = Ledger::decode(bytes) else {
        return false;
    };
    let header = Header::decode(bytes, LEDGER_FORMAT).unwrap();
    let again = ledger.encode(header.producer).unwrap();
    assert_eq!(Ledger::decode(&again).unwrap(), ledger);
    // Sections may stand in any order; written they have one.
    if header.version.minor == 0 && header.section_count == 4 && again.len() == bytes.len() {
        assert_eq!(again[..12], bytes[..12]);
    }
    true
}
