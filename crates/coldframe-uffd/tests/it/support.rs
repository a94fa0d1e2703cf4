//! A userfaultfd with memory, and threads that wait in it.
//!
//! A thread that sleeps in a fault is let go when the userfaultfd is closed, so a test that fails
//! ends: nothing here outlives its `Uffd`.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use coldframe_testkit::require::skipped;
use coldframe_uffd::{
    Event, EventBuffer, Features, HostAddr, HostRange, Mapping, Modes, Origin, PageFault, Support,
    Uffd, host_page,
};
use coldframe_units::ByteLen;

/// What `COLDFRAME_REQUIRE` calls it.
pub const NEED: &str = "userfaultfd";

/// Longer than anything here takes.
pub const LONG: Duration = Duration::from_secs(20);

/// A userfaultfd with these features, for as many faults as the host lets this process handle.
pub fn uffd(features: Features) -> Option<Uffd> {
    let privileged = Support::probe(Origin::UserAndKernel).is_ok();
    let origin = if privileged {
        Origin::UserAndKernel
    } else {
        Origin::UserModeOnly
    };
    match Uffd::open(features, origin) {
        Ok(uffd) => Some(uffd),
        Err(error) if error.is_unavailable() => {
            skipped(NEED, &error.to_string());
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Bytes of a page, as an index into memory.
pub fn page() -> usize {
    usize::try_from(host_page().bytes()).unwrap()
}

pub fn bytes(pages: usize) -> ByteLen {
    ByteLen::new((pages * page()) as u64)
}

/// So many pages of anonymous memory, registered.
pub fn memory(uffd: &Uffd, pages: usize, modes: Modes) -> Arc<Mapping> {
    let mapping = Mapping::anonymous(bytes(pages)).unwrap();
    uffd.register(&mapping, modes).unwrap();
    Arc::new(mapping)
}

/// Where a page is.
pub fn at(memory: &Mapping, index: usize) -> HostAddr {
    memory.addr().checked_add(bytes(index)).unwrap()
}

/// So many pages from one on.
pub fn pages(memory: &Mapping, index: usize, count: usize) -> HostRange {
    HostRange::new(at(memory, index), bytes(count)).unwrap()
}

/// So many pages of one byte.
pub fn filled_with(byte: u8, pages: usize) -> Vec<u8> {
    vec![byte; pages * page()]
}

/// What 8 of such bytes are.
pub const fn word(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

/// A thread that reads the first word of a page.
pub fn reader(memory: &Arc<Mapping>, index: usize) -> JoinHandle<u64> {
    let memory = Arc::clone(memory);
    std::thread::spawn(move || memory.load(index * page()))
}

/// A thread that writes the first word of a page.
pub fn writer(memory: &Arc<Mapping>, index: usize, value: u64) -> JoinHandle<()> {
    let memory = Arc::clone(memory);
    std::thread::spawn(move || memory.store(index * page(), value))
}

/// The next events, of which there must be some soon.
#[track_caller]
pub fn next_events(uffd: &Uffd) -> Vec<Event> {
    assert!(uffd.wait(Some(LONG)).unwrap(), "no event came");
    let mut buffer = EventBuffer::new(64);
    let events: Vec<Event> = uffd.read(&mut buffer).unwrap().collect();
    assert!(!events.is_empty(), "nothing to read");
    events
}

/// The next event, which must be a fault and the only one.
#[track_caller]
pub fn next_fault(uffd: &Uffd) -> PageFault {
    let events = next_events(uffd);
    match events.as_slice() {
        [Event::PageFault(fault)] => *fault,
        other => panic!("not one fault: {other:?}"),
    }
}
