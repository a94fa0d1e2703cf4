//! Write protection: what is written to waits, or is found afterwards.

use coldframe_uffd::{FaultKind, Features, Filled, Modes, Protection, Wake};

use crate::support::{
    at, filled_with, memory, next_fault, page, pages, reader, uffd, word, writer,
};

#[test]
fn a_write_to_a_protected_page_waits_and_a_read_does_not() {
    let Some(uffd) = uffd(Features::PAGEFAULT_FLAG_WP) else {
        return;
    };
    let memory = memory(&uffd, 2, Modes::MISSING | Modes::WP);
    let filled = uffd
        .copy_protected(at(&memory, 0), &filled_with(1, 2), Wake::Yes)
        .unwrap();
    assert_eq!(filled, Filled::All);
    assert_eq!(reader(&memory, 0).join().unwrap(), word(1));
    let writer = writer(&memory, 0, 7);
    let fault = next_fault(&uffd);
    assert_eq!(
        (fault.kind, fault.is_write),
        (FaultKind::WriteProtected, true)
    );
    assert_eq!(memory.load(0), word(1));
    uffd.write_protect(pages(&memory, 0, 1), Protection::Writable, Wake::Yes)
        .unwrap();
    writer.join().unwrap();
    assert_eq!(memory.load(0), 7);
}

#[test]
fn protection_that_is_lifted_in_silence_wakes_nobody() {
    let Some(uffd) = uffd(Features::PAGEFAULT_FLAG_WP) else {
        return;
    };
    let memory = memory(&uffd, 1, Modes::MISSING | Modes::WP);
    let filled = uffd
        .copy(at(&memory, 0), &filled_with(1, 1), Wake::Yes)
        .unwrap();
    assert_eq!(filled, Filled::All);
    let all = pages(&memory, 0, 1);
    uffd.write_protect(all, Protection::Protected, Wake::Yes)
        .unwrap();
    let writer = writer(&memory, 0, 7);
    next_fault(&uffd);
    uffd.write_protect(all, Protection::Writable, Wake::No)
        .unwrap();
    assert!(!writer.is_finished() && memory.load(0) == word(1));
    uffd.wake(all).unwrap();
    writer.join().unwrap();
}

#[test]
fn pages_that_are_not_there_escape_protection_unless_it_is_asked_for() {
    let features = Features::PAGEFAULT_FLAG_WP;
    for (features, is_caught) in [
        (features, false),
        (features | Features::WP_UNPOPULATED, true),
    ] {
        let Some(uffd) = uffd(features) else {
            return;
        };
        let memory = memory(&uffd, 1, Modes::WP);
        uffd.write_protect(memory.range(), Protection::Protected, Wake::Yes)
            .unwrap();
        let writer = writer(&memory, 0, 7);
        if is_caught {
            assert_eq!(next_fault(&uffd).kind, FaultKind::WriteProtected);
            uffd.write_protect(memory.range(), Protection::Writable, Wake::Yes)
                .unwrap();
        }
        writer.join().unwrap();
        assert_eq!(memory.load(0), 7);
        assert!(!uffd.wait(Some(std::time::Duration::ZERO)).unwrap());
        assert!(page() > 0);
    }
}
