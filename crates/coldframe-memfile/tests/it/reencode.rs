//! The one check of fuzzing and of replay: no panic, and what decodes is written again the same.
//!
//! A file comes here without its pages: the header's 160 bytes, then all that stands behind the
//! data. The fuzz target includes this file, so it uses the formats' crates and nothing else.

use coldframe_envelope::{Container, ContainerBuilder, Format, Limits, Producer, SectionKind};
use coldframe_memfile::{BuildError, Encoded, MemFile, MemFileBuilder};

/// Small, so that a hostile file cannot make the check slow.
const LIMITS: Limits = Limits {
    sections_max: 16,
    section_bytes_max: 1 << 20,
    file_bytes_max: 64 << 40,
};

/// Opens header and tail that stand one behind the other; `None` if anything is refused.
pub fn open(bytes: &[u8]) -> Option<MemFile<'_>> {
    MemFile::open_skeleton(bytes, LIMITS).ok()
}

/// The same file out of its own tables: what a reader understood, written again.
pub fn rebuild(view: &MemFile<'_>) -> Result<Encoded, BuildError> {
    let (arch, page_size, layout) = (view.arch(), view.page_size(), view.layout());
    let mut builder = match view.parent_root() {
        None => MemFileBuilder::full(arch, page_size, layout, view.producer()),
        Some(parent) => MemFileBuilder::diff(arch, page_size, layout, view.producer(), parent),
    }?;
    builder = builder.with_absent(view.absent().iter().copied())?;
    for extent in view.extents().unwrap().iter() {
        if extent.is_zero() {
            builder.push_zero(extent.run)?;
        } else {
            builder.push_data(extent.run)?;
        }
    }
    let blocks = view.blocks().unwrap();
    let hashes: Vec<_> = blocks
        .iter_verified()
        .map(|row| row.unwrap().hash)
        .collect();
    builder.finish(hashes)
}

/// The bytes as they are, and as changes to each golden, whose hashes are then made right again:
/// behind the hash chain, bytes as they are would only ever be refused.
///
/// # Panics
/// If what decodes is not written again as the same bytes.
pub fn check(bytes: &[u8]) {
    check_raw(bytes);
    for golden in [
        &include_bytes!("../golden/v1/full.bin")[..],
        include_bytes!("../golden/v1/diff.bin"),
        include_bytes!("../golden/v1/diff_empty.bin"),
        include_bytes!("../golden/v1/full_absent.bin"),
    ] {
        let mut file = golden.to_vec();
        for change in bytes.chunks_exact(3) {
            let at = usize::from(change[0]) << 8 | usize::from(change[1]);
            let at = at % file.len();
            file[at] = change[2];
        }
        reseal(&mut file);
        check_raw(&file);
    }
}

/// Makes right the hashes of all sections that can be found, of the table and of the header.
pub fn reseal(file: &mut [u8]) {
    let count = usize::from(file[40]);
    let Some(table_at) = file.len().checked_sub(count * 64) else {
        return;
    };
    let field = |bytes: &[u8]| u64::from_le_bytes(bytes[..8].try_into().unwrap());
    let file_len = field(&file[24..]);
    let mut blocks = 0..0;
    for row_at in (table_at..file.len()).step_by(64) {
        let row = &file[row_at..row_at + 64];
        let kind = <[u8; 4]>::try_from(&row[..4]).unwrap();
        // The file ends where the bytes end.
        let from_end = usize::try_from(file_len.wrapping_sub(field(&row[16..])));
        let start = from_end.ok().and_then(|len| file.len().checked_sub(len));
        let len = usize::try_from(field(&row[24..])).ok();
        let Some(body) = start.zip(len).map(|(at, len)| at..at.saturating_add(len)) else {
            continue;
        };
        if body.start < 160 || body.end > table_at || kind == *b"DATA" {
            continue;
        }
        if kind == *b"BPAG" && body.len() == 32 {
            let hash = hash(&file[blocks.clone()]);
            file[body.clone()].copy_from_slice(&hash);
        }
        let hash = hash(&file[body.clone()]);
        file[row_at + 32..row_at + 64].copy_from_slice(&hash);
        if kind == *b"BLKS" {
            blocks = body;
        }
    }
    let table_hash = hash(&file[table_at..]);
    file[64..96].copy_from_slice(&table_hash);
    let checksum = hash(&file[..152]);
    file[152..160].copy_from_slice(&checksum[..8]);
}

/// The BLAKE3 hash, from an envelope's section table: the fuzz target has no other way to it.
fn hash(bytes: &[u8]) -> [u8; 32] {
    let format = Format::new(*b"HASH", 1, 0);
    let producer = Producer::new("hash", "1").unwrap();
    let mut builder = ContainerBuilder::new(format, producer);
    builder.optional(SectionKind::new(*b"body"), 0, 1, bytes.to_vec());
    let (file, _) = builder.finish().unwrap();
    let container = Container::decode(&file, format, Limits::SMALL_FILE).unwrap();
    container.table().sections()[0].hash
}

/// Whether the bytes decode.
///
/// # Panics
/// If what decodes is not written again as the same bytes.
pub fn check_raw(bytes: &[u8]) -> bool {
    if let Ok(view) = MemFile::open(bytes, LIMITS) {
        let _ = view.verify_tables();
    }
    let Some(view) = open(bytes) else {
        return false;
    };
    if let Ok(blocks) = view.blocks() {
        for block in [0, 1, u64::MAX] {
            let _ = blocks.get(block);
        }
    }
    if view.verify_tables().is_err() {
        return false;
    }
    let again = rebuild(&view).unwrap();
    let minor = u16::from(!view.absent().is_empty());
    let known = view.header().version.minor == minor && view.unknown_sections().next().is_none();
    if known {
        assert_eq!([&again.header[..], &again.tail].concat(), bytes);
    }
    true
}
