//! Events: kinds, batches, and their order.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use coldframe_testkit::require::skipped;
use coldframe_uffd::{
    Event, EventBuffer, Features, Filled, Mapping, Modes, Origin, Sharing, Uffd, Wake,
};

use crate::raw::{fork_and_end, inherit};
use crate::support::{LONG, NEED, bytes, memory, next_events, page, pages, reader, uffd};

#[test]
fn many_faults_are_read_at_once_and_no_more_than_there_is_room_for() {
    let Some(uffd) = uffd(Features::NONE) else {
        return;
    };
    let memory = memory(&uffd, 8, Modes::MISSING);
    let readers: Vec<_> = (0..8).map(|index| reader(&memory, index)).collect();
    let mut seen = [false; 8];
    let mut buffer = EventBuffer::new(3);
    while seen.contains(&false) {
        assert!(uffd.wait(Some(LONG)).unwrap());
        let events = uffd.read(&mut buffer).unwrap();
        assert!((1..=3).contains(&events.len()));
        for event in events {
            let Event::PageFault(fault) = event else {
                panic!("{event:?}");
            };
            let offset = fault.addr.get() - memory.addr().get();
            seen[usize::try_from(offset).unwrap() / page()] = true;
        }
    }
    assert_eq!(
        uffd.read(&mut buffer).unwrap().len(),
        0,
        "each is reported once"
    );
    assert_eq!(
        uffd.zeropage(memory.range(), Wake::Yes).unwrap(),
        Filled::All
    );
    assert!(
        readers
            .into_iter()
            .all(|reader| reader.join().unwrap() == 0)
    );
}

#[test]
fn an_address_is_that_of_the_access_if_it_was_asked_for() {
    let Some(uffd) = uffd(Features::EXACT_ADDRESS) else {
        return;
    };
    let memory = memory(&uffd, 1, Modes::MISSING);
    let reader = {
        let memory = memory.clone();
        std::thread::spawn(move || memory.load(0x128))
    };
    let fault = crate::support::next_fault(&uffd);
    assert_eq!(fault.addr.get(), memory.addr().get() + 0x128);
    assert_eq!(
        uffd.zeropage(memory.range(), Wake::Yes).unwrap(),
        Filled::All
    );
    assert_eq!(reader.join().unwrap(), 0);
}

#[test]
fn a_fault_is_read_before_the_removal_that_came_first() {
    let Some(uffd) = uffd(Features::EVENT_REMOVE) else {
        return;
    };
    let memory = memory(&uffd, 4, Modes::MISSING);
    let remover = remover(&memory, 1, 2);
    // The removal is there to be read, and only then a fault.
    assert!(uffd.wait(Some(LONG)).unwrap());
    let Some(reader) = reader_asleep(&memory, 1) else {
        return skipped("proc", "a thread's system call is not shown");
    };
    let kinds: Vec<&str> = next_events(&uffd)
        .into_iter()
        .map(|event| match event {
            Event::PageFault(_) => "fault",
            Event::Remove(range) => {
                assert_eq!(range, pages(&memory, 1, 2));
                "remove"
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(kinds, ["fault", "remove"]);
    remover.join().unwrap();
    assert_eq!(
        uffd.zeropage(memory.range(), Wake::Yes).unwrap(),
        Filled::All
    );
    assert_eq!(reader.join().unwrap(), 0);
}

/// A thread that gives up pages, and waits until that was read.
fn remover(memory: &Arc<Mapping>, index: usize, count: usize) -> JoinHandle<()> {
    let memory = Arc::clone(memory);
    std::thread::spawn(move || {
        memory
            .discard(bytes(index), bytes(count), Sharing::Private)
            .unwrap();
    })
}

/// A reader of a page that has gone to sleep: /proc shows a thread that sleeps, and in no system
/// call, as -1 (proc_pid_syscall(5)). `None` where that is not shown.
fn reader_asleep(memory: &Arc<Mapping>, index: usize) -> Option<JoinHandle<u64>> {
    let (sender, receiver) = std::sync::mpsc::channel();
    let memory = Arc::clone(memory);
    let reader = std::thread::spawn(move || {
        sender.send(nix::unistd::gettid()).unwrap();
        memory.load(index * page())
    });
    let path = format!("/proc/self/task/{}/syscall", receiver.recv().unwrap());
    let start = Instant::now();
    loop {
        let shown = std::fs::read_to_string(&path).ok()?;
        if shown.starts_with("-1 ") {
            return Some(reader);
        }
        assert!(start.elapsed() < LONG, "it does not sleep: {shown}");
        std::thread::yield_now();
    }
}

#[test]
fn a_remap_and_an_unmap_are_reported() {
    let Some(uffd) = uffd(Features::EVENT_REMAP | Features::EVENT_UNMAP) else {
        return;
    };
    let memory = Mapping::anonymous(bytes(4)).unwrap();
    uffd.register(&memory, Modes::MISSING).unwrap();
    let range = memory.range();
    let unmapper = std::thread::spawn(move || drop(memory));
    let events = next_events(&uffd);
    unmapper.join().unwrap();
    assert!(
        matches!(events[..], [Event::Unmap(gone)] if gone == range),
        "{events:?}"
    );
}

#[test]
fn the_userfaultfd_of_a_child_comes_with_its_event() {
    // Asking for it is a privilege, whatever the origin of the faults.
    let uffd = match Uffd::open(Features::EVENT_FORK, Origin::UserAndKernel) {
        Ok(uffd) => uffd,
        Err(error) => return skipped(NEED, &error.to_string()),
    };
    let memory = Mapping::anonymous(bytes(1)).unwrap();
    uffd.register(&memory, Modes::MISSING).unwrap();
    // A `Mapping` is not inherited: without this there is nothing to report.
    inherit(&memory);
    let forker = std::thread::spawn(fork_and_end);
    assert!(uffd.wait(Some(LONG)).unwrap());
    let mut buffer = EventBuffer::new(4);
    let child = match uffd.read(&mut buffer).unwrap().next() {
        Some(Event::Fork { child }) => child,
        other => panic!("{other:?}"),
    };
    // It is one: it is taken as such.
    drop(Uffd::adopt(child).unwrap());
    let child = nix::unistd::Pid::from_raw(forker.join().unwrap());
    nix::sys::wait::waitpid(child, None).unwrap();
}
