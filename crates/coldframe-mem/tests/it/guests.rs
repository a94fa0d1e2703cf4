//! Guest memory that is not plain: protected, not plugged in, filled by someone else.
//!
//! # Safety
//! Mappings are the test's own, and reached through raw pointers only.
#![allow(unsafe_code)]

use std::num::NonZeroUsize;
use std::ptr::NonNull;

use coldframe_mem::{
    Described, Fill, GuestRam, MapOptions, MemError, RamRegion, RawRam, capture_diff, capture_full,
    discard, dontneed_reads_zero, restore_map,
};
use coldframe_testkit::require::skipped;
use coldframe_units::{ByteLen, GuestAddr, GuestRegion, PageSize, RamOffset, RootHash};
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, mprotect};

use crate::support::{Files, Guest, PAGE, chain, dirty, history, memory, page, read, spec};

const LEN: u64 = 64 * PAGE;

fn host_of(guest: &Guest, offset: u64) -> NonNull<std::ffi::c_void> {
    let host = guest.regions()[0].host.wrapping_add(offset as usize);
    NonNull::new(host.cast()).unwrap()
}

/// Takes all rights from some pages.
fn protect(guest: &Guest, first: u64, pages: u64) {
    let start = host_of(guest, first * PAGE);
    // SAFETY: pages of the guest, which nobody reads before they are given back.
    unsafe { mprotect(start, (pages * PAGE) as usize, ProtFlags::PROT_NONE) }.unwrap();
}

fn region(start: u64, len: u64) -> GuestRegion {
    GuestRegion::new(GuestAddr::new(start), ByteLen::new(len)).unwrap()
}

#[test]
fn memory_that_cannot_be_read_is_an_error_that_names_it() {
    let guest = Guest::anonymous(LEN);
    guest.write(20 * PAGE, &page(7));
    guest.write(40 * PAGE, &page(8));
    protect(&guest, 40, 4);
    let files = Files::new();
    let spec = spec(PageSize::SIZE_4K);
    let full = capture_full(&guest, &spec, &files.create()).unwrap_err();
    let parent = RootHash::from_bytes([1; 32]);
    let few = dirty(LEN, &[20, 40]);
    let short = capture_diff(&guest, &few, parent, &spec, &files.create()).unwrap_err();
    let all: Vec<u64> = (0..64).collect();
    let long = capture_diff(&guest, &dirty(LEN, &all), parent, &spec, &files.create());
    // As where there is no /proc to ask: all is read, through the kernel.
    let lazy = Described::new(&guest, Fill::Lazy, &[]);
    let blind = capture_full(&lazy, &spec, &files.create());
    for error in [full, short, long.unwrap_err(), blind.unwrap_err()] {
        let addr = GuestAddr::new(40 * PAGE);
        assert!(
            matches!(error, MemError::Unreadable { addr: found, .. } if found == addr),
            "{error:?}"
        );
    }
}

#[test]
fn a_part_that_is_not_plugged_in_is_zero_and_not_read() {
    let guest = Guest::anonymous(LEN);
    guest.write(20 * PAGE, &page(7));
    guest.write(40 * PAGE, &page(8));
    guest.write(63 * PAGE, &page(9));
    let mut expected = guest.read();
    expected[40 * 4096..44 * 4096].fill(0);
    protect(&guest, 40, 4);
    let absent = [region(40 * PAGE, 4 * PAGE)];
    let described = Described::new(&guest, Fill::Unstated, &absent);
    let files = Files::new();
    for page_size in [PageSize::SIZE_4K, PageSize::SIZE_16K] {
        let (full, made) = files.full(&described, &spec(page_size));
        assert!(memory(&chain(std::slice::from_ref(&full))) == expected);
        let all: Vec<u64> = (0..64).collect();
        for pages in [&all[..], &[20, 40, 41, 63]] {
            let pages = dirty(LEN, pages);
            let (diff, _) = files.diff(&described, &pages, made.root, &spec(page_size));
            assert!(memory(&chain(&[full.clone(), diff])) == expected);
        }
    }
    let part = |start: u64, end: u64| start..end;
    for odd in [
        vec![part(8192, 4096)],
        vec![part(0, 4096), part(0, 8192)],
        vec![part(1, 4096)],
        vec![part(0, LEN + 4096)],
    ] {
        let plain = guest.regions()[0];
        let odd = RamRegion {
            absent: &odd,
            ..plain
        };
        // SAFETY: the guest's own region, as it says.
        let ram = unsafe { RawRam::new(vec![odd]) };
        let error = capture_full(&ram, &spec(PageSize::SIZE_4K), &files.create()).unwrap_err();
        assert!(matches!(error, MemError::Absent { .. }), "{error:?}");
    }
}

/// A userfaultfd over the guest, for missing pages; `None` if the host has none for us.
fn userfaultfd(guest: &Guest) -> Option<std::os::fd::OwnedFd> {
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
    const USER_MODE_ONLY: libc::c_int = 1;
    // SAFETY: no pointer is passed.
    let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, USER_MODE_ONLY | libc::O_CLOEXEC) };
    let Ok(fd) = i32::try_from(fd)
        .map_err(drop)
        .and_then(|fd| if fd < 0 { Err(()) } else { Ok(fd) })
    else {
        let error = std::io::Error::last_os_error();
        skipped("userfaultfd", &format!("userfaultfd(2): {error}"));
        return None;
    };
    // SAFETY: a new descriptor that nobody else has.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // struct uffdio_api and struct uffdio_register of linux/userfaultfd.h.
    let mut api = [0xaa_u64, 0, 0];
    let mut register = [guest.regions()[0].host.addr() as u64, LEN, 1, 0];
    let raw = fd.as_raw_fd();
    // SAFETY: an array as large as the structure, alive for the call.
    let enabled = unsafe { libc::ioctl(raw, 0xc018_aa3f_u32 as _, api.as_mut_ptr()) };
    assert_eq!(enabled, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: as above.
    let registered = unsafe { libc::ioctl(raw, 0xc020_aa00_u32 as _, register.as_mut_ptr()) };
    assert_eq!(registered, 0, "{}", std::io::Error::last_os_error());
    Some(fd)
}

#[test]
fn missing_pages_of_a_userfaultfd_are_refused_unless_their_fill_is_stated() {
    let guest = Guest::anonymous(LEN);
    guest.write(20 * PAGE, &page(7));
    let Some(_fd) = userfaultfd(&guest) else {
        return;
    };
    let files = Files::new();
    let spec = spec(PageSize::SIZE_4K);
    let error = capture_full(&guest, &spec, &files.create()).unwrap_err();
    assert!(
        matches!(error, MemError::Unfilled { addr } if addr == GuestAddr::new(0)),
        "{error:?}"
    );
    // A handler that gives zeros.
    let zero = Described::new(&guest, Fill::Zero, &[]);
    let (_, made) = files.full(&zero, &spec);
    assert_eq!(made.stats.data_pages, 1);
    // What is there is there: a diff of it needs no answer.
    let few = dirty(LEN, &[20]);
    files.diff(&guest, &few, made.root, &spec);
}

#[test]
fn a_lazily_filled_region_is_read_through() {
    // No handler: anonymous memory answers with zeros, and every page is asked for.
    let guest = Guest::anonymous(LEN);
    guest.write(20 * PAGE, &page(7));
    let lazy = Described::new(&guest, Fill::Lazy, &[]);
    let (file, made) = Files::new().full(&lazy, &spec(PageSize::SIZE_4K));
    assert_eq!(made.stats.data_pages, 1);
    assert!(memory(&chain(&[file])) == guest.read());
}

#[test]
fn memory_restored_by_mapping_is_discarded_to_zero_by_the_recipe() {
    let files = Files::new();
    let layers = history(&files, 64, &[&[(3, 5), (40, 6)]]);
    let ram = restore_map(&chain(&layers), MapOptions::default()).unwrap();
    assert_eq!(dontneed_reads_zero(&ram).unwrap(), Some(false));
    let host = ram.host().wrapping_add(3 * 4096);
    // SAFETY: a page of the restored memory, which no guest uses.
    unsafe { host.write_volatile(99) };
    let page_start = NonNull::new(host.cast()).unwrap();
    // SAFETY: as above.
    unsafe { madvise(page_start, 4096, MmapAdvise::MADV_DONTNEED) }.unwrap();
    assert!(read(&ram)[3 * 4096] != 0, "the snapshot's bytes are back");
    let (start, len) = (RamOffset::new(3 * PAGE), ByteLen::new(PAGE));
    // SAFETY: as above; the memory is that of `restore_map`, unmapped as such.
    unsafe { discard(&ram, start, len) }.unwrap();
    let bytes = read(&ram);
    assert!(bytes[3 * 4096..4 * 4096].iter().all(|byte| *byte == 0));
    assert!(bytes[40 * 4096..41 * 4096] == page(6));
    // SAFETY: as above.
    let odd = unsafe { discard(&ram, RamOffset::new(1), len) };
    assert!(matches!(odd, Err(MemError::HostAlignment { .. })));

    let guest = Guest::anonymous(LEN);
    assert_eq!(dontneed_reads_zero(&guest).unwrap(), Some(true));
    // A page that is mapped on its own in the middle changes nothing.
    let one = NonZeroUsize::new(4096).unwrap();
    let at = host_of(&guest, 8 * PAGE).addr();
    let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_FIXED;
    let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a page of the guest, which is its own.
    unsafe { mmap_anonymous(Some(at), one, prot, flags) }.unwrap();
    assert_eq!(dontneed_reads_zero(&guest).unwrap(), Some(true));
}

#[test]
fn a_capture_on_one_thread_makes_the_same_file() {
    use coldframe_storage::Storage;
    let guest = Guest::anonymous(64 << 20);
    for index in (0..16384).step_by(3) {
        guest.write(index * PAGE, &page(1 + (index % 200) as u8));
    }
    let files = Files::new();
    let spec = spec(PageSize::SIZE_4K);
    let one = files.create();
    let captured = capture_full(&guest, &spec, &one).unwrap();
    let one = captured.finish_on(&one, NonZeroUsize::new(1)).unwrap();
    let many = files.create();
    let captured = capture_full(&guest, &spec, &many).unwrap();
    assert_eq!(one.root, captured.finish(&many).unwrap().root);
    assert!(many.len().unwrap().get() > 0);
}
