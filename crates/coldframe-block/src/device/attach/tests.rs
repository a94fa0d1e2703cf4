//! The bytes of the note, which stay as they are.

use super::*;

// Spec: BLK-37
#[test]
fn the_note_has_the_bytes_that_every_release_reads() {
    let noted = Attachment {
        log: (0x0102, 0x0304),
        store: (0x0506, 0x0708),
        path: PathBuf::from("/srv/chunks"),
    };
    let mut bytes = vec![1, 0, 0, 0, 0, 0, 0, 0];
    for number in [0x0102_u64, 0x0304, 0x0506, 0x0708] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(b"/srv/chunks");
    assert_eq!(noted.encode(), bytes);
    assert_eq!(Attachment::decode(&bytes), Some(noted));
    for at in 0..8 {
        let mut other = bytes.clone();
        other[at] ^= 2;
        assert_eq!(Attachment::decode(&other), None, "another version");
    }
    assert!((0..40).all(|len| Attachment::decode(&bytes[..len]).is_none()));
}
