//! `PAGEMAP_SCAN`: alone, and with asynchronous write protection.

use coldframe_testkit::require::skipped;
use coldframe_uffd::{
    Categories, Features, Mapping, Modes, PagemapScan, Protection, ScanFilter, Sharing, UffdError,
    Wake,
};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::uio::{RemoteIoVec, process_vm_writev};
use nix::unistd::getpid;

use crate::support::{at, bytes, filled_with, memory, page, pages, uffd};

/// `None`, said to be skipped, on kernels without it.
fn pagemap(probe: &Mapping) -> Option<PagemapScan> {
    let mut pagemap = PagemapScan::open().unwrap();
    match pagemap.scan(probe.range(), &ScanFilter::default(), |_| ()) {
        Ok(()) => Some(pagemap),
        Err(error) => {
            skipped("PAGEMAP_SCAN", &error.to_string());
            None
        }
    }
}

const PRESENT: ScanFilter = ScanFilter {
    all: Categories::PRESENT,
    none: Categories::PFN_ZERO,
    any: Categories::NONE,
    report: Categories::PRESENT,
};

const WRITTEN: ScanFilter = ScanFilter {
    all: Categories::WRITTEN,
    none: Categories::NONE,
    any: Categories::NONE,
    report: Categories::WRITTEN,
};

/// First page and number of pages of each range.
fn found(memory: &Mapping, scan: impl FnOnce(&mut dyn FnMut(u64, u64))) -> Vec<(u64, u64)> {
    let mut all: Vec<(u64, u64)> = Vec::new();
    scan(&mut |start, end| {
        let page = page() as u64;
        let first = (start - memory.addr().get()) / page;
        all.push((first, (end - start) / page));
    });
    all
}

fn present(pagemap: &mut PagemapScan, memory: &Mapping) -> Vec<(u64, u64)> {
    found(memory, |each| {
        let scanned = pagemap.scan(memory.range(), &PRESENT, |found| {
            assert_eq!(found.categories, Categories::PRESENT);
            each(found.range.start().get(), found.range.end().get());
        });
        scanned.unwrap();
    })
}

fn take_written(pagemap: &mut PagemapScan, memory: &Mapping) -> Vec<(u64, u64)> {
    found(memory, |each| {
        let scanned = pagemap.scan_and_protect(memory.range(), &WRITTEN, |found| {
            each(found.range.start().get(), found.range.end().get());
        });
        scanned.unwrap();
    })
}

#[test]
fn pages_that_were_written_are_present_and_pages_that_were_read_are_zero() {
    let memory = Mapping::anonymous(bytes(8)).unwrap();
    let Some(mut pagemap) = pagemap(&memory) else {
        return;
    };
    assert_eq!(present(&mut pagemap, &memory), []);
    for index in [1, 2, 5] {
        memory.store(index * page(), 1);
    }
    assert_eq!(memory.load(6 * page()), 0);
    assert_eq!(present(&mut pagemap, &memory), [(1, 2), (5, 1)]);
}

#[test]
fn more_ranges_than_one_call_holds_are_all_found() {
    let memory = Mapping::anonymous(bytes(3000)).unwrap();
    let Some(mut pagemap) = pagemap(&memory) else {
        return;
    };
    for index in (0..3000).step_by(2) {
        memory.store(index * page(), 1);
    }
    let all = present(&mut pagemap, &memory);
    assert_eq!(all.len(), 1500);
    assert!(
        all.iter()
            .zip((0..).step_by(2))
            .all(|(found, page)| *found == (page, 1))
    );
}

const ASYNC: Features = Features::PAGEFAULT_FLAG_WP
    .and(Features::WP_ASYNC)
    .and(Features::WP_UNPOPULATED);

#[test]
fn what_was_written_is_found_once_holes_too() {
    let Some(uffd) = uffd(ASYNC) else {
        return;
    };
    let memory = memory(&uffd, 16, Modes::WP);
    let Some(mut pagemap) = pagemap(&memory) else {
        return;
    };
    memory.store(2 * page(), 1);
    uffd.write_protect(memory.range(), Protection::Protected, Wake::Yes)
        .unwrap();
    assert_eq!(take_written(&mut pagemap, &memory), []);
    // No event comes, so nobody has to answer: one page was there, the others were not.
    for index in [2, 3, 9] {
        memory.store(index * page(), 2);
    }
    assert_eq!(memory.load(12 * page()), 0);
    assert_eq!(take_written(&mut pagemap, &memory), [(2, 2), (9, 1)]);
    assert_eq!(take_written(&mut pagemap, &memory), []);
    memory.store(9 * page(), 3);
    assert_eq!(take_written(&mut pagemap, &memory), [(9, 1)]);
}

#[test]
fn what_the_kernel_itself_writes_is_found_too() {
    let Some(uffd) = uffd(ASYNC) else {
        return;
    };
    let memory = memory(&uffd, 4, Modes::WP);
    let Some(mut pagemap) = pagemap(&memory) else {
        return;
    };
    uffd.write_protect(memory.range(), Protection::Protected, Wake::Yes)
        .unwrap();
    let base = usize::try_from(at(&memory, 2).get()).unwrap();
    let source = filled_with(5, 1);
    let local = [std::io::IoSlice::new(&source)];
    let len = source.len();
    let written = process_vm_writev(getpid(), &local, &[RemoteIoVec { base, len }]);
    assert_eq!(written, Ok(page()));
    assert_eq!(take_written(&mut pagemap, &memory), [(2, 1)]);
}

#[test]
fn protection_is_refused_where_the_kernel_would_not_lift_it_by_itself() {
    let Some(uffd) = uffd(Features::PAGEFAULT_FLAG_WP) else {
        return;
    };
    let memory = memory(&uffd, 4, Modes::WP);
    let Some(mut pagemap) = pagemap(&memory) else {
        return;
    };
    let filter = ScanFilter::default();
    let error = pagemap
        .scan_and_protect(memory.range(), &filter, |_| ())
        .unwrap_err();
    assert!(matches!(error, UffdError::Range { .. }));
    assert_eq!(error.errno(), Some(nix::libc::EPERM));
    let half = pages(&memory, 0, 1);
    let odd = coldframe_uffd::HostRange::between(
        coldframe_uffd::HostAddr::new(half.start().get() + 1),
        half.end(),
    );
    let error = pagemap.scan(odd.unwrap(), &filter, |_| ()).unwrap_err();
    assert_eq!(error.errno(), Some(nix::libc::EINVAL));
}

#[test]
fn writes_to_a_private_mapping_of_a_lazy_file_are_told_from_reads() {
    let features = ASYNC | Features::MISSING_SHMEM | Features::WP_HUGETLBFS_SHMEM;
    let (Some(filler), Some(tracker)) = (uffd(Features::MISSING_SHMEM), uffd(features)) else {
        return;
    };
    let file = std::fs::File::from(memfd_create(c"template", MFdFlags::MFD_CLOEXEC).unwrap());
    file.set_len(bytes(8).get()).unwrap();
    let mirror = Mapping::file(&file, 0, bytes(8), Sharing::Shared).unwrap();
    filler.register(&mirror, Modes::MISSING).unwrap();
    let clone = Mapping::file(&file, 0, bytes(8), Sharing::Private).unwrap();
    let Some(mut pagemap) = pagemap(&clone) else {
        return;
    };
    tracker
        .register(&clone, Modes::MISSING | Modes::WP)
        .unwrap();
    tracker
        .write_protect(clone.range(), Protection::Protected, Wake::Yes)
        .unwrap();
    let filled = filler
        .copy(at(&mirror, 0), &filled_with(1, 8), Wake::Yes)
        .unwrap();
    assert_eq!(filled, coldframe_uffd::Filled::All);
    assert_eq!(clone.load(3 * page()), u64::from_le_bytes([1; 8]));
    clone.store(5 * page(), 7);
    assert_eq!(take_written(&mut pagemap, &clone), [(5, 1)]);
    assert_eq!(mirror.load(5 * page()), u64::from_le_bytes([1; 8]));
}
