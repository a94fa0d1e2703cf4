//! What callers branch on, and what people read.

use std::error::Error;
use std::io;
use std::path::Path;

use coldframe_storage::{FileStorage, IoContext, MappedFile, Operation, StorageError};
use coldframe_units::{ByteLen, FileOffset};

fn failed(errno: i32, operation: Operation) -> StorageError {
    let result: io::Result<()> = Err(io::Error::from_raw_os_error(errno));
    result.at(operation, Path::new("/x/y")).unwrap_err()
}

// Parity: F13, F22
#[test]
fn text_names_the_place_and_leaves_the_cause_to_the_source() {
    let write = Operation::Write(FileOffset::new(0x1000), ByteLen::new(512));
    let error = failed(libc::ENOSPC, write);
    assert_eq!(
        error.to_string(),
        "cannot write 512 bytes at 0x1000 of /x/y"
    );
    assert!(
        error
            .source()
            .unwrap()
            .to_string()
            .contains("No space left")
    );
}

#[test]
fn predicates_tell_the_outcomes_apart() {
    let write = Operation::Write(FileOffset::ZERO, ByteLen::ZERO);
    assert!(failed(libc::ENOSPC, write).is_out_of_space());
    assert!(failed(libc::EDQUOT, Operation::Sync).is_out_of_space());
    assert!(!failed(libc::EIO, write).is_out_of_space());
    assert!(failed(libc::EEXIST, Operation::Create).is_exists());
    assert!(failed(libc::EEXIST, Operation::Rename).is_exists());
    assert!(!failed(libc::EEXIST, Operation::Open).is_exists());
    assert!(
        FileStorage::open(Path::new("/no/such"))
            .unwrap_err()
            .is_not_found()
    );
    assert!(
        MappedFile::open_published(Path::new("/no/such"))
            .unwrap_err()
            .is_not_found()
    );
}
