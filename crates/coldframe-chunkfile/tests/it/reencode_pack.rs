//! The one check of fuzzing and of replay for packs: no panic, and what decodes is written again
//! the same. The fuzz target includes this file and `reseal.rs`.

use coldframe_chunkfile::{PACK_FORMAT, PACK_LIMITS, Pack, PackBuilder};
use coldframe_envelope::Header;

use crate::reseal::changed;

/// The bytes as they are, and as changes to each golden, whose hashes are then made right again.
///
/// # Panics
/// If what decodes is not written again as the same bytes.
pub fn check(bytes: &[u8]) {
    check_raw(bytes);
    for golden in [
        &include_bytes!("../golden/v1/pack.bin")[..],
        include_bytes!("../golden/v1/pack_empty.bin"),
    ] {
        check_raw(&changed(golden, bytes));
    }
}

/// Whether the bytes decode.
///
/// # Panics
/// If what decodes is not written again as the same bytes.
pub fn check_raw(bytes: &[u8]) -> bool {
    let Ok(pack) = Pack::open(bytes, PACK_LIMITS) else {
        return false;
    };
    let mut builder = PackBuilder::new(pack.producer());
    let mut end = 160;
    for chunk in pack.in_file_order() {
        let (id, raw, stored) = (chunk.id, chunk.raw_len, chunk.stored_len);
        let at = builder.push(id, chunk.compression, raw, stored).unwrap();
        assert_eq!(at, chunk.offset);
        assert_eq!(pack.find(id), Some(&chunk));
        end = usize::try_from(at.get()).unwrap() + usize::try_from(stored).unwrap();
    }
    let again = builder.finish().unwrap();
    let header = Header::decode(bytes, PACK_FORMAT).unwrap();
    // A later minor version, or optional sections, are read and not written.
    if header.version.minor == 0 && header.section_count == 2 {
        let bodies = &bytes[160..end];
        assert_eq!([&again.header[..], bodies, &again.tail].concat(), bytes);
        assert_eq!(again.root, pack.root());
    }
    true
}
