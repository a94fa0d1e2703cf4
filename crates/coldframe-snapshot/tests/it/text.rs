//! The texts of errors: people and their scripts know them, so they change only on purpose.

use std::collections::BTreeSet;
use std::path::PathBuf;

use coldframe_snapshot::{CHAIN_LEN_MAX, SnapshotError};
use coldframe_units::{RootHash, SnapshotId};

fn errors() -> Vec<(SnapshotError, &'static str)> {
    let path = || PathBuf::from("s/x");
    let id = SnapshotId::from_bytes([0xab; 16]);
    let [expected, found] = [[1; 32], [2; 32]].map(RootHash::from_bytes);
    vec![
        (
            SnapshotError::BitmapSize { bitmap: 1, ram: 2 },
            "the dirty bitmap covers 1 bytes, guest memory has 2",
        ),
        (
            SnapshotError::MissingParent { child: path(), id },
            "parent abababababababababababababababab of s/x is not beside it nor in a search path",
        ),
        (
            SnapshotError::ParentRoot {
                path: path(),
                expected,
                found,
            },
            "s/x has root R2, its child was made against R1",
        ),
        (
            SnapshotError::FileRoot {
                path: path(),
                expected,
                found,
            },
            "s/x has root R2, the manifest names R1",
        ),
        (
            SnapshotError::FileLength {
                path: path(),
                expected: 3,
                found: 4,
            },
            "s/x has 4 bytes, the manifest says 3",
        ),
        (
            SnapshotError::TooLong {
                path: path(),
                len: 9,
                limit: 8,
            },
            "s/x has 9 bytes, the limit is 8",
        ),
    ]
}

fn errors_of_chains() -> Vec<(SnapshotError, &'static str)> {
    let path = || PathBuf::from("s/x");
    let id = SnapshotId::from_bytes([0xab; 16]);
    vec![
        (
            SnapshotError::Disagree {
                path: path(),
                what: "kind",
            },
            "s/x has another kind than what it belongs to",
        ),
        (
            SnapshotError::ChainTooLong {
                path: path(),
                limit: CHAIN_LEN_MAX,
            },
            "the chain of parents of s/x is longer than 4096",
        ),
        (
            SnapshotError::NoMachine { path: path() },
            "s/x holds no machine state",
        ),
        (
            SnapshotError::Baseline {
                path: path(),
                baseline: None,
            },
            "s/x is not the snapshot that dirty pages are counted from",
        ),
        (
            SnapshotError::NotInChain { path: path(), id },
            "abababababababababababababababab is not an ancestor of s/x",
        ),
    ]
}

// Parity: F22
#[test]
fn each_failure_has_one_text_of_its_own() {
    let mut texts = BTreeSet::new();
    for (error, expected) in errors().into_iter().chain(errors_of_chains()) {
        let text = error.to_string();
        let roots = [("01".repeat(32), "R1"), ("02".repeat(32), "R2")];
        let shown = roots
            .iter()
            .fold(text, |text, (hex, name)| text.replace(hex, name));
        assert_eq!(shown, expected);
        assert!(!shown.ends_with('.') && !shown.contains('\n'));
        assert!(texts.insert(shown));
    }
}
