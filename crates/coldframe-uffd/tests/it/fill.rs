//! The calls that fill memory: whole, in part, over what is there, while memory is changing.

use coldframe_uffd::{Features, Filled, Mapping, Modes, Sharing, Wake};
use coldframe_units::ByteLen;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::uio::{RemoteIoVec, process_vm_readv};

use crate::support::{
    LONG, at, bytes, filled_with, memory, next_events, next_fault, page, pages, reader, uffd, word,
    writer,
};

#[test]
fn a_copy_fills_the_page_and_wakes_its_reader() {
    let Some(uffd) = uffd(Features::THREAD_ID) else {
        return;
    };
    let memory = memory(&uffd, 4, Modes::MISSING);
    let reader = reader(&memory, 1);
    let fault = next_fault(&uffd);
    assert_eq!(fault.addr, at(&memory, 1));
    assert!(!fault.is_write && fault.thread != 0);
    let filled = uffd
        .copy(fault.addr, &filled_with(0x11, 1), Wake::Yes)
        .unwrap();
    assert_eq!(filled, Filled::All);
    assert_eq!(reader.join().unwrap(), word(0x11));
}

#[test]
fn a_copy_over_a_page_that_is_there_changes_and_wakes_nothing() {
    let Some(uffd) = uffd(Features::NONE) else {
        return;
    };
    let memory = memory(&uffd, 4, Modes::MISSING);
    let reader = reader(&memory, 0);
    next_fault(&uffd);
    let content = filled_with(0x22, 1);
    assert_eq!(
        uffd.copy(at(&memory, 0), &content, Wake::No).unwrap(),
        Filled::All
    );
    let again = uffd
        .copy(at(&memory, 0), &filled_with(0x33, 1), Wake::Yes)
        .unwrap();
    assert_eq!(again, Filled::Present);
    assert!(!reader.is_finished());
    uffd.wake(pages(&memory, 0, 1)).unwrap();
    assert_eq!(reader.join().unwrap(), word(0x22));
}

#[test]
fn a_copy_stops_before_a_page_that_is_there_and_says_how_far_it_came() {
    let Some(uffd) = uffd(Features::NONE) else {
        return;
    };
    let memory = memory(&uffd, 4, Modes::MISSING);
    let one = uffd
        .copy(at(&memory, 2), &filled_with(1, 1), Wake::Yes)
        .unwrap();
    assert_eq!(one, Filled::All);
    let four = uffd
        .copy(at(&memory, 0), &filled_with(2, 4), Wake::Yes)
        .unwrap();
    assert_eq!(four, Filled::Part { bytes: bytes(2) });
    let next = uffd
        .copy(at(&memory, 2), &filled_with(2, 2), Wake::Yes)
        .unwrap();
    assert_eq!(next, Filled::Present);
    let last = uffd
        .copy(at(&memory, 3), &filled_with(2, 1), Wake::Yes)
        .unwrap();
    assert_eq!(last, Filled::All);
    let words: Vec<u64> = (0..4).map(|index| memory.load(index * page())).collect();
    assert_eq!(words, [2, 2, 1, 2].map(word));
}

#[test]
fn zeros_are_filled_in_and_may_be_written_over() {
    let Some(uffd) = uffd(Features::NONE) else {
        return;
    };
    let memory = memory(&uffd, 2, Modes::MISSING);
    let writer = writer(&memory, 0, 7);
    assert!(next_fault(&uffd).is_write);
    assert_eq!(
        uffd.zeropage(pages(&memory, 0, 2), Wake::Yes).unwrap(),
        Filled::All
    );
    writer.join().unwrap();
    assert_eq!(
        (memory.load(0), memory.load(8), memory.load(page())),
        (7, 0, 0)
    );
    assert_eq!(
        uffd.zeropage(pages(&memory, 0, 1), Wake::Yes).unwrap(),
        Filled::Present
    );
}

#[test]
fn nothing_is_filled_while_a_removal_waits_to_be_read() {
    let Some(uffd) = uffd(Features::EVENT_REMOVE) else {
        return;
    };
    let memory = memory(&uffd, 4, Modes::MISSING);
    assert_eq!(
        uffd.copy(at(&memory, 0), &filled_with(1, 1), Wake::Yes)
            .unwrap(),
        Filled::All
    );
    let remover = {
        let memory = memory.clone();
        std::thread::spawn(move || {
            memory
                .discard(ByteLen::ZERO, bytes(2), Sharing::Private)
                .unwrap();
        })
    };
    assert!(uffd.wait(Some(LONG)).unwrap());
    let changing = [
        uffd.copy(at(&memory, 2), &filled_with(1, 2), Wake::Yes)
            .unwrap(),
        uffd.zeropage(pages(&memory, 2, 1), Wake::Yes).unwrap(),
    ];
    assert_eq!(changing, [Filled::Changing; 2]);
    assert!(!remover.is_finished());
    assert_eq!(next_events(&uffd).len(), 1);
    remover.join().unwrap();
    assert_eq!(
        uffd.copy(at(&memory, 0), &filled_with(2, 4), Wake::Yes)
            .unwrap(),
        Filled::All
    );
    assert_eq!(memory.load(0), word(2));
}

#[test]
fn a_range_that_is_not_registered_is_refused() {
    let Some(uffd) = uffd(Features::NONE) else {
        return;
    };
    let memory = memory(&uffd, 2, Modes::MISSING);
    let other = Mapping::anonymous(bytes(1)).unwrap();
    let error = uffd
        .copy(other.addr(), &filled_with(1, 1), Wake::Yes)
        .unwrap_err();
    assert!(error.is_unregistered(), "{error:?}");
    uffd.unregister(memory.range()).unwrap();
    let error = uffd.zeropage(memory.range(), Wake::Yes).unwrap_err();
    assert!(error.is_unregistered(), "{error:?}");
    assert!(!error.is_process_gone() && !error.is_out_of_memory());
    assert_eq!(memory.load(0), 0, "ordinary memory again");
}

#[test]
fn poison_fails_a_call_and_is_healed_by_a_copy() {
    let Some(uffd) = uffd(Features::POISON) else {
        return;
    };
    let memory = memory(&uffd, 4, Modes::MISSING);
    assert_eq!(
        uffd.copy(at(&memory, 2), &filled_with(1, 1), Wake::Yes)
            .unwrap(),
        Filled::All
    );
    let poisoned = uffd.poison(pages(&memory, 0, 4), Wake::Yes).unwrap();
    assert_eq!(poisoned, Filled::Part { bytes: bytes(2) });
    assert_eq!(
        uffd.poison(pages(&memory, 2, 1), Wake::Yes).unwrap(),
        Filled::Present
    );
    assert_eq!(
        memory.load(2 * page()),
        word(1),
        "what is there is not poisoned"
    );
    assert_eq!(
        read_by_the_kernel(&memory, 0),
        Err(nix::errno::Errno::EFAULT)
    );
    let healed = uffd
        .copy(at(&memory, 0), &filled_with(3, 1), Wake::Yes)
        .unwrap();
    assert_eq!(healed, Filled::All);
    assert_eq!(memory.load(0), word(3));
    assert_eq!(read_by_the_kernel(&memory, 0), Ok(word(3)));
}

/// Has the kernel read 8 bytes: a page that fails is an error there, and no signal.
fn read_by_the_kernel(memory: &Mapping, offset: usize) -> nix::Result<u64> {
    let base = usize::try_from(memory.addr().get()).unwrap() + offset;
    let mut word = [0; 8];
    let remote = [RemoteIoVec { base, len: 8 }];
    let mut local = [std::io::IoSliceMut::new(&mut word)];
    process_vm_readv(nix::unistd::getpid(), &mut local, &remote)?;
    Ok(u64::from_le_bytes(word))
}

#[test]
fn moved_pages_leave_their_place_and_arrive_whole() {
    let Some(uffd) = uffd(Features::MOVE) else {
        return;
    };
    let memory = memory(&uffd, 4, Modes::MISSING);
    let staging = Mapping::anonymous(bytes(4)).unwrap();
    for index in [0, 1, 3] {
        staging.store(index * page(), index as u64 + 1);
    }
    let moved = uffd.move_pages(at(&memory, 0), &staging, ByteLen::ZERO, bytes(2), Wake::Yes);
    assert_eq!(moved.unwrap(), Filled::All);
    assert_eq!([0, 1].map(|index| memory.load(index * page())), [1, 2]);
    assert_eq!(staging.load(0), 0, "it was moved and not copied");
    let over = uffd.move_pages(at(&memory, 1), &staging, bytes(3), bytes(1), Wake::Yes);
    assert_eq!(over.unwrap(), Filled::Present);
    let outside = uffd.move_pages(at(&memory, 2), &staging, bytes(3), bytes(2), Wake::Yes);
    assert!(outside.is_err());
}

#[test]
fn a_page_that_is_in_the_page_cache_is_continued() {
    let Some(uffd) = uffd(Features::MINOR_SHMEM | Features::MISSING_SHMEM) else {
        return;
    };
    let file = std::fs::File::from(memfd_create(c"coldframe-uffd", MFdFlags::MFD_CLOEXEC).unwrap());
    file.set_len(bytes(2).get()).unwrap();
    let memory = Mapping::file(&file, 0, bytes(2), Sharing::Shared).unwrap();
    uffd.register(&memory, Modes::MISSING | Modes::MINOR)
        .unwrap();
    let memory = std::sync::Arc::new(memory);
    let error = uffd
        .continue_pages(pages(&memory, 0, 1), Wake::Yes)
        .unwrap_err();
    assert_eq!(
        error.errno(),
        Some(nix::libc::EFAULT),
        "there is no page to map yet"
    );
    std::os::unix::fs::FileExt::write_all_at(&file, &filled_with(9, 1), 0).unwrap();
    let reader = reader(&memory, 0);
    assert_eq!(next_fault(&uffd).kind, coldframe_uffd::FaultKind::Minor);
    let continued = uffd
        .continue_pages(pages(&memory, 0, 1), Wake::Yes)
        .unwrap();
    assert_eq!(continued, Filled::All);
    assert_eq!(reader.join().unwrap(), word(9));
    let again = uffd
        .continue_pages(pages(&memory, 0, 1), Wake::Yes)
        .unwrap();
    assert_eq!(again, Filled::Present);
}

#[test]
fn a_closed_userfaultfd_leaves_zeros_also_to_who_waits() {
    let Some(uffd) = uffd(Features::NONE) else {
        return;
    };
    let memory = memory(&uffd, 2, Modes::MISSING);
    let reader = reader(&memory, 0);
    next_fault(&uffd);
    let second = uffd.try_clone().unwrap();
    drop(uffd);
    assert!(!reader.is_finished(), "the other descriptor keeps it");
    drop(second);
    assert_eq!(reader.join().unwrap(), 0);
    assert_eq!(memory.load(page()), 0);
}
