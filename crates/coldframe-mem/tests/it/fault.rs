//! Disks that fill up, and disks that fail: an error, and no file that could be taken for one.

use coldframe_mem::{MemError, capture_diff, capture_full};
use coldframe_storage::{MemStorage, Storage};
use coldframe_testkit::fault::{Call, EIO, Fault, FaultStorage};
use coldframe_units::{FileOffset, PageSize, RootHash};

use crate::support::{Guest, PAGE, dirty, page, spec};

fn guest() -> Guest {
    let guest = Guest::anonymous(1024 * PAGE);
    for index in 0..1024 {
        guest.write(index * PAGE, &page(1 + (index % 200) as u8));
    }
    guest
}

#[test]
fn a_full_disk_is_an_error_wherever_it_comes() {
    let guest = guest();
    let parent = RootHash::from_bytes([1; 32]);
    let pages: Vec<u64> = (0..1024).filter(|page| page % 3 != 0).collect();
    let pages = dirty(guest.len(), &pages);
    for at in [0, 100, 4096, 70_000, 1 << 20, (2 << 20) + 5, 3 << 20] {
        for full in [true, false] {
            let fault = Fault::FullAt(FileOffset::new(at));
            let storage = FaultStorage::new(MemStorage::new(), &[fault]);
            let spec = spec(PageSize::SIZE_4K);
            let captured = if full {
                capture_full(&guest, &spec, &storage)
            } else {
                capture_diff(&guest, &pages, parent, &spec, &storage)
            };
            let made = captured.and_then(|captured| captured.finish(&storage));
            let whole_diff = !full && at >= 3 << 20;
            match made {
                Err(error) => assert!(error.is_out_of_space(), "{error}"),
                Ok(_) => assert!(whole_diff, "{at}"),
            }
        }
    }
}

// Parity: F13
#[test]
fn bytes_that_cannot_be_read_back_are_an_error() {
    let guest = guest();
    let fault = Fault::Nth {
        call: Call::Read,
        nth: 1,
        errno: EIO,
    };
    // The second batch fails once; reading it block by block then works, as the disk does.
    let storage = FaultStorage::new(MemStorage::new(), &[fault]);
    let captured = capture_full(&guest, &spec(PageSize::SIZE_4K), &storage).unwrap();
    captured.finish(&storage).unwrap();

    let storage = FaultStorage::new(MemStorage::new(), &[]);
    let captured = capture_full(&guest, &spec(PageSize::SIZE_4K), &storage).unwrap();
    for nth in 0..100 {
        let call = Call::Read;
        storage.inject(Fault::Nth {
            call,
            nth,
            errno: EIO,
        });
    }
    let error = captured.finish(&storage).unwrap_err();
    assert!(matches!(error, MemError::ReadBack { .. }), "{error}");
    let mut header = [0; 160];
    storage
        .inner()
        .read_at(FileOffset::ZERO, &mut header)
        .unwrap();
    assert_eq!(header, [0; 160], "without its header it is no memory file");
}
