//! What a capture puts into its file, and what it leaves alone.

use coldframe_dirty::DirtyPages;
use coldframe_mem::{MapOptions, MemError, capture_diff, capture_full, restore_map};
use coldframe_storage::Storage;
use coldframe_testkit::require::skipped;
use coldframe_units::{ByteLen, FileOffset, PageIndex, PageRun, PageSize, RootHash};

use crate::support::{Backing, Files, Guest, PAGE, chain, dirty, page, read, spec};

/// Whether the file of a mapping can be opened without its name (proc_pid_map_files(5)).
fn may_open_map_files() -> bool {
    let mut entries = std::fs::read_dir("/proc/self/map_files").unwrap();
    entries.any(|entry| std::fs::File::open(entry.unwrap().path()).is_ok())
}

// Parity: D21
#[test]
fn memory_never_touched_stays_untouched() {
    let backings = [
        (Backing::Anonymous, Backing::Anonymous),
        (Backing::Memfd, Backing::Memfd),
        (Backing::Anonymous, Backing::Memfd),
        (Backing::HiddenMemfd, Backing::Anonymous),
        (Backing::Memfd, Backing::SharedAnonymous),
    ];
    for backing in backings {
        let unnamed = [Backing::HiddenMemfd, Backing::SharedAnonymous];
        let needs_map_files = unnamed.contains(&backing.0) || unnamed.contains(&backing.1);
        if needs_map_files && !may_open_map_files() {
            skipped("map_files", "no capability to open the files of mappings");
            continue;
        }
        let guest = Guest::new(&[(64 << 20, backing.0), (32 << 20, backing.1)]);
        guest.write(5 * PAGE, &page(7));
        guest.write((70 << 20) + 3 * PAGE, &page(8));
        let before = guest.resident_pages();
        let files = Files::new();
        let mut layers = Vec::new();
        for page_size in [PageSize::SIZE_4K, PageSize::SIZE_16K, PageSize::SIZE_2M] {
            let (file, made) = files.full(&guest, &spec(page_size));
            assert_eq!(guest.resident_pages(), before, "{backing:?} {page_size}");
            assert_eq!(made.stats.data_pages, 2);
            let all = PageRun::new(PageIndex::new(0), guest.len() / PAGE).unwrap();
            let all = DirtyPages::from_runs(ByteLen::new(guest.len()), PageSize::SIZE_4K, [all]);
            let (diff, made) = files.diff(&guest, &all.unwrap(), made.root, &spec(page_size));
            assert_eq!(
                guest.resident_pages(),
                before,
                "{backing:?} {page_size} diff"
            );
            assert_eq!(made.stats.data_pages, 2);
            layers.push([file, diff]);
        }
        let memory = guest.read();
        for files in layers {
            let mapped = restore_map(&chain(&files), MapOptions::default()).unwrap();
            assert!(read(&mapped) == memory);
        }
    }
}

#[test]
fn a_file_with_bytes_in_it_is_refused() {
    let guest = Guest::anonymous(1 << 20);
    let files = Files::new();
    let file = files.create();
    file.write_at(FileOffset::ZERO, b"x").unwrap();
    let error = capture_full(&guest, &spec(PageSize::SIZE_4K), &file).unwrap_err();
    assert!(matches!(error, MemError::NotEmpty { .. }));
}

#[test]
fn regions_that_are_not_whole_pages_are_refused() {
    let guest = Guest::new(&[(2 << 20, Backing::Anonymous), (1 << 20, Backing::Anonymous)]);
    let files = Files::new();
    let error = capture_full(&guest, &spec(PageSize::SIZE_2M), &files.create()).unwrap_err();
    assert!(matches!(error, MemError::Build { .. }), "{error}");
    let error = capture_full(&guest, &spec(PageSize::SIZE_1G), &files.create()).unwrap_err();
    assert!(matches!(error, MemError::Build { .. }), "{error}");
}

#[test]
fn dirty_pages_of_another_ram_are_refused() {
    let guest = Guest::anonymous(1 << 20);
    let (pages, parent) = (dirty(2 << 20, &[1]), RootHash::from_bytes([1; 32]));
    let file = Files::new().create();
    let error = capture_diff(&guest, &pages, parent, &spec(PageSize::SIZE_4K), &file).unwrap_err();
    assert!(matches!(error, MemError::DirtyRam { .. }), "{error}");
}

#[test]
fn dirty_pages_of_any_size_go_into_a_file_of_any_size() {
    let sizes = [PageSize::SIZE_4K, PageSize::SIZE_64K, PageSize::SIZE_2M];
    for backing in [Backing::Anonymous, Backing::Memfd] {
        let guest = Guest::new(&[(4 << 20, backing), (6 << 20, backing)]);
        let files = Files::new();
        guest.write(7 * PAGE, &page(1));
        guest.write(1500 * PAGE, &page(2));
        for file_pages in sizes {
            for dirty_pages in sizes {
                let (base, made) = files.full(&guest, &spec(file_pages));
                guest.write(7 * PAGE, &page(0));
                guest.write(1023 * PAGE, &page(5));
                guest.write(1024 * PAGE, &page(6));
                let marked = dirty(guest.len(), &[7, 1023, 1024])
                    .rechunk(dirty_pages)
                    .unwrap();
                let (diff, _) = files.diff(&guest, &marked, made.root, &spec(file_pages));
                let chained = chain(&[base, diff]);
                let mapped = restore_map(&chained, MapOptions::default()).unwrap();
                assert!(
                    read(&mapped) == guest.read(),
                    "{backing:?} {file_pages} {dirty_pages}"
                );
                guest.write(7 * PAGE, &page(1));
            }
        }
    }
}

#[test]
fn an_empty_diff_is_a_file_of_its_own() {
    let guest = Guest::anonymous(1 << 20);
    let files = Files::new();
    let (base, made) = files.full(&guest, &spec(PageSize::SIZE_4K));
    let none = dirty(guest.len(), &[]);
    let (diff, made) = files.diff(&guest, &none, made.root, &spec(PageSize::SIZE_4K));
    assert_eq!((made.stats.extents, made.stats.data_pages), (0, 0));
    let mapped = restore_map(&chain(&[base, diff]), MapOptions::default()).unwrap();
    assert!(read(&mapped) == guest.read());
}

#[test]
fn huge_pages_are_captured_and_untouched_ones_stay_in_the_pool() {
    let Ok(guest) = Guest::try_new(&[(8 << 20, Backing::Huge)]) else {
        return skipped(
            "hugepages",
            "the pool of huge pages is empty (vm.nr_hugepages)",
        );
    };
    guest.write(600 * PAGE, &page(3));
    let before = guest.resident_pages();
    let files = Files::new();
    for page_size in [PageSize::SIZE_4K, PageSize::SIZE_2M] {
        let (file, made) = files.full(&guest, &spec(page_size));
        assert_eq!((made.stats.data_pages, guest.resident_pages()), (1, before));
        let mapped = restore_map(&chain(&[file]), MapOptions::default()).unwrap();
        let memory = read(&mapped);
        assert_eq!(memory[600 * 4096..601 * 4096], page(3));
    }
}
