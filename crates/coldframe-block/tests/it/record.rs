//! Any bytes as a record: what is taken is written again the same.

use coldframe_block::Record;

/// Whether the bytes are a record.
pub fn check_raw(bytes: &[u8]) -> bool {
    let Ok(record) = Record::decode(bytes) else {
        return false;
    };
    let mut again = Vec::new();
    record.encode(&mut again);
    assert_eq!(again, bytes);
    true
}

/// Any bytes, and a record with these bytes behind a sound kind and version.
pub fn check(bytes: &[u8]) {
    check_raw(bytes);
    let (kind, rest) = bytes.split_first().unwrap_or((&0, &[]));
    let mut forged = vec![kind % 6, 1, 0, 0, 0, 0, 0, 0];
    forged.extend_from_slice(rest);
    check_raw(&forged);
    if let Some((numbers, data)) = rest.split_at_checked(16) {
        // With a length that fits, and places that are pages.
        let mut forged = vec![2, 1, 0, 0, 0, 0, 0, 0];
        let at = numbers[0..8]
            .iter()
            .fold(0, |at, byte| at << 8 | u64::from(*byte));
        let data = [data, &[0; 4096]].concat();
        let whole = data.len() / 4096 * 4096;
        forged.extend_from_slice(&(at / 4096 * 4096).to_le_bytes());
        forged.extend_from_slice(&(whole as u64).to_le_bytes());
        forged.extend_from_slice(&data[..whole]);
        check_raw(&forged);
    }
}
