//! Golden files are compared, and never rewritten.

use std::fs;
use std::panic::{UnwindSafe, catch_unwind};

use coldframe_testkit::golden::{assert_golden, golden};

fn panic_of(body: impl FnOnce() + UnwindSafe) -> String {
    *catch_unwind(body)
        .unwrap_err()
        .downcast::<String>()
        .unwrap()
}

#[test]
fn a_different_byte_is_named() {
    let dir = coldframe_testkit::scratch::on_disk();
    let path = dir.path().join("x.bin");
    fs::write(&path, b"abc").unwrap();
    assert_golden(&path, b"abc");
    assert_eq!(golden(&path), b"abc");
    assert!(panic_of(|| assert_golden(&path, b"abX")).contains("differs at 0x2"));
    assert!(panic_of(|| assert_golden(&path, b"ab")).contains("has 3 bytes"));
    assert_eq!(fs::read(&path).unwrap(), b"abc");
}

#[test]
fn a_missing_one_is_not_written_unasked() {
    if std::env::var_os("COLDFRAME_BLESS").is_some() {
        return;
    }
    let dir = coldframe_testkit::scratch::on_disk();
    let path = dir.path().join("x.bin");
    assert!(panic_of(|| assert_golden(&path, b"abc")).contains("is missing"));
    assert!(!path.exists());
}
