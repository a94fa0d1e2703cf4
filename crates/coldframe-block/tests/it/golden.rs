//! Golden records of every version: written once, read for ever.

use coldframe_block::Record;
use coldframe_testkit::golden::{assert_golden, golden};

use crate::sample::{all, dump, encode};

pub fn path(name: &str, ending: &str) -> String {
    format!("tests/golden/v1/{name}.{ending}")
}

// Spec: BLK-40, BLK-41, BLK-42, BLK-43, BLK-44, BLK-45
#[test]
fn todays_encoder_writes_the_goldens_of_version_1() {
    for (name, record) in all() {
        let bytes = encode(&record);
        assert!(bytes.len() <= 4096 + 24);
        // Goldens are under 4 KiB: of a write, what is before the end of its page.
        let shown = &bytes[..bytes.len().min(4095)];
        assert_golden(path(name, "bin"), shown);
        assert_golden(
            path(name, "txt"),
            dump(&format!("{name}.bin"), shown).as_bytes(),
        );
    }
}

// Spec: BLK-40, BLK-41, BLK-42, BLK-43, BLK-44, BLK-45
#[test]
fn goldens_have_their_known_values() {
    for (name, record) in all() {
        let mut bytes = golden(path(name, "bin"));
        if name == "write" {
            bytes.resize(4096 + 24, 0);
        }
        assert_eq!(Record::decode(&bytes), Ok(record), "{name}");
    }
}
