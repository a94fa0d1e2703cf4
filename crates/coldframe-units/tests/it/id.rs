use coldframe_units::{ChunkId, ParseIdError, SnapshotId};
use proptest::prelude::*;

#[test]
fn paths_and_upper_case_are_no_ids() {
    let path: Result<ChunkId, _> = "../secret".parse();
    assert_eq!(
        path,
        Err(ParseIdError::Length {
            expected: 64,
            found: 9
        })
    );
    let upper: Result<SnapshotId, _> = "0123456789abcdeF0123456789abcdef".parse();
    assert_eq!(upper, Err(ParseIdError::Digit { index: 15 }));
}

proptest! {
    #[test]
    fn ids_survive_their_text(bytes: [u8; 32]) {
        let id = ChunkId::from_bytes(bytes);
        prop_assert_eq!(id.to_string().parse::<ChunkId>(), Ok(id));
    }
}
