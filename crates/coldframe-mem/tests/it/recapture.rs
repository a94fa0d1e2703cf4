//! Guests that were restored, or are being written to, captured again.

use std::sync::atomic::{AtomicBool, Ordering};

use coldframe_mem::{MapOptions, map_over, restore_map, verify_deep};
use coldframe_units::PageSize;

use crate::support::{
    Backing, Files, Guest, PAGE, chain, dirty, history, memory, opened, page, read, spec, write,
};

#[test]
fn a_guest_restored_by_map_is_captured_whole_again() {
    let files = Files::new();
    let steps: [&[(u64, u8)]; 3] = [
        &[(3, 5), (40, 6), (41, 6), (100, 9)],
        &[(41, 0), (7, 8)],
        &[(8, 4)],
    ];
    let layers = history(&files, 128, &steps);
    for count in 1..=3 {
        let chained = chain(&layers[..count]);
        let ram = restore_map(&chained, MapOptions::default()).unwrap();
        let before = memory(&chained);
        let (again, made) = files.full(&ram, &spec(PageSize::SIZE_4K));
        assert!(memory(&chain(std::slice::from_ref(&again))) == before);
        write(&ram, 50 * PAGE, &page(3));
        write(&ram, 3 * PAGE, &page(0));
        write(&ram, 0, &page(1));
        let (whole, _) = files.full(&ram, &spec(PageSize::SIZE_4K));
        assert!(memory(&chain(&[whole])) == read(&ram));
        let pages = dirty(128 * PAGE, &[0, 3, 50]);
        let (diff, _) = files.diff(&ram, &pages, made.root, &spec(PageSize::SIZE_4K));
        assert!(memory(&chain(&[again, diff])) == read(&ram));
        assert!(memory(&chained) == before, "the files are never written to");
    }
}

#[test]
fn a_file_mapped_over_a_memfd_is_captured_and_not_the_memfd() {
    let files = Files::new();
    let layers = history(&files, 64, &[&[(3, 5), (40, 6)], &[(7, 8)]]);
    for backing in [Backing::Anonymous, Backing::Memfd] {
        let guest = Guest::new(&[(64 * PAGE, backing)]);
        guest.write(20 * PAGE, &page(99));
        // SAFETY: the guest's pages were mapped for it alone.
        #[allow(unsafe_code)]
        unsafe { map_over(&chain(&layers), &guest, MapOptions::default()) }.unwrap();
        let expected = memory(&chain(&layers));
        assert!(guest.read() == expected);
        let (again, _) = files.full(&guest, &spec(PageSize::SIZE_4K));
        assert!(memory(&chain(&[again])) == expected, "{backing:?}");
    }
}

#[test]
fn holes_of_a_mapped_file_are_not_read() {
    let files = Files::new();
    let guest = Guest::anonymous(256 << 20);
    guest.write(9 * PAGE, &page(4));
    let (file, _) = files.full(&guest, &spec(PageSize::SIZE_4K));
    let ram = restore_map(&chain(&[file]), MapOptions::default()).unwrap();
    let capture = || {
        let start = std::time::Instant::now();
        let (_, made) = files.full(&ram, &spec(PageSize::SIZE_4K));
        assert_eq!(made.stats.data_pages, 1);
        start.elapsed()
    };
    // 65,536 faults would take far longer, on any host; a busy one may be slow for a while.
    let quickest = (0..10).map(|_| capture()).min().unwrap();
    assert!(quickest.as_millis() < 500, "{quickest:?}");
}

#[test]
fn memory_that_is_written_to_meanwhile_makes_a_sound_file() {
    let files = Files::new();
    let guest = Guest::new(&[
        (256 * PAGE, Backing::Anonymous),
        (256 * PAGE, Backing::Memfd),
    ]);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut round = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                round += 1;
                let tag = (round % 5) as u8;
                guest.write(round * 7 % 512 * PAGE, &page(tag));
            }
        });
        for page_size in [PageSize::SIZE_4K, PageSize::SIZE_16K, PageSize::SIZE_64K] {
            for _ in 0..5 {
                let (file, _) = files.full(&guest, &spec(page_size));
                let damages = verify_deep(&opened(&file));
                assert!(damages.is_empty(), "{damages:?}");
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}
