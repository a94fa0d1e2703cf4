//! Makes the hashes of a changed file right again, so that it is the rules which refuse it. Fuzz
//! targets include this file, so it uses the formats' crates and nothing else.

use coldframe_envelope::{Container, ContainerBuilder, Format, Limits, Producer, SectionKind};

/// Rows of an index under one hash.
const PAGE_LEN: usize = 48 * 1024;

/// Changes of three bytes each: place (high, low), value; then all hashes are made right.
pub fn changed(file: &[u8], changes: &[u8]) -> Vec<u8> {
    let mut file = file.to_vec();
    for change in changes.chunks_exact(3) {
        let at = usize::from(change[0]) << 8 | usize::from(change[1]);
        let at = at % file.len();
        file[at] = change[2];
    }
    reseal(&mut file);
    file
}

/// Makes right the hashes of pages, of all sections that can be found, of the table and of the
/// header.
pub fn reseal(file: &mut [u8]) {
    let number = |bytes: &[u8]| {
        let bytes = bytes.get(..8).and_then(|bytes| bytes.try_into().ok());
        bytes
            .map(u64::from_le_bytes)
            .map(|n| usize::try_from(n).unwrap())
    };
    let (Some(table_at), Some(count)) = (number(&file[32..]), file.get(40).copied()) else {
        return;
    };
    let table_end = table_at.saturating_add(usize::from(count) * 64);
    if table_end > file.len() || table_at < 160 {
        return;
    }
    let mut rows = 0..0;
    for row_at in (table_at..table_end).step_by(64) {
        let row = &file[row_at..row_at + 64];
        let (kind, flags) = (<[u8; 4]>::try_from(&row[..4]).unwrap(), row[10]);
        let (Some(start), Some(len)) = (number(&row[16..]), number(&row[24..])) else {
            continue;
        };
        let body = start..start.saturating_add(len);
        if body.start < 160 || body.end > table_at {
            continue;
        }
        if flags == 3 {
            rows = body;
            continue;
        }
        if kind == *b"PAGE" {
            for (page, chunk) in body.clone().step_by(40).zip(rows.clone().step_by(PAGE_LEN)) {
                let end = rows.end.min(chunk + PAGE_LEN);
                let hash = hash(&file[chunk..end]);
                if let Some(to) = file.get_mut(page + 8..page + 40) {
                    to.copy_from_slice(&hash);
                }
            }
        }
        let hash = hash(&file[body]);
        file[row_at + 32..row_at + 64].copy_from_slice(&hash);
    }
    let table_hash = hash(&file[table_at..table_end]);
    file[64..96].copy_from_slice(&table_hash);
    let checksum = hash(&file[..152]);
    file[152..160].copy_from_slice(&checksum[..8]);
}

/// The BLAKE3 hash, from an envelope's section table: a fuzz target has no other way to it.
fn hash(bytes: &[u8]) -> [u8; 32] {
    let format = Format::new(*b"HASH", 1, 0);
    let producer = Producer::new("hash", "1").unwrap();
    let mut builder = ContainerBuilder::new(format, producer);
    builder.optional(SectionKind::new(*b"body"), 0, 1, bytes.to_vec());
    let (file, _) = builder.finish().unwrap();
    let container = Container::decode(&file, format, Limits::SMALL_FILE).unwrap();
    container.table().sections()[0].hash
}
