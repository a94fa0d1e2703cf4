//! Memory that is filled while it is used, on the kernel of the host that runs the tests.
//!
//! A thread that sleeps in a fault is let go when the service is dropped: a test that fails ends.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use coldframe_fault::{
    BlockFailure, BlockIndex, BlockReader, BlockSource, Content, Depth, FaultError, Lazy,
    LazyEvent, LazyOptions, PageOrigin, probe,
};
use coldframe_testkit::require::skipped;
use coldframe_testkit::rng::Rng;
use coldframe_uffd::{
    Categories, HostAddr, HugePages, Mapping, Origin, PagemapScan, ScanFilter, Sharing, host_page,
};
use coldframe_units::{BLOCK_BYTES, ByteLen, PageIndex, PageRun, PageSize};
use nix::errno::Errno;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};

/// Longer than anything here takes.
pub const LONG: Duration = Duration::from_secs(20);

pub const BLOCK: usize = BLOCK_BYTES as usize;

/// What happens when a block is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Behaviour {
    Zero,
    Fail,
    /// The first time only.
    FailOnce,
    Panic,
    /// It takes until the gate is opened.
    Wait,
}

/// Blocks of a pattern, but for those that behave otherwise.
#[derive(Debug, Default)]
pub struct Pattern {
    behaviours: HashMap<u64, Behaviour>,
    reads: Vec<AtomicU32>,
    is_open: Mutex<bool>,
    opened: Condvar,
}

#[derive(Debug, thiserror::Error)]
#[error("block {0} is not to be had")]
pub struct NotToBeHad(u64);

impl Pattern {
    pub fn new(blocks: u64, behaviours: &[(u64, Behaviour)]) -> Arc<Self> {
        Arc::new(Self {
            behaviours: behaviours.iter().copied().collect(),
            reads: (0..blocks).map(|_| AtomicU32::new(0)).collect(),
            ..Self::default()
        })
    }

    pub fn open(&self) {
        *self.is_open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    pub fn reads(&self) -> Vec<u32> {
        let reads = self.reads.iter();
        reads.map(|count| count.load(Ordering::Relaxed)).collect()
    }
}

/// What the word at an offset is.
pub fn word_at(offset: usize) -> u64 {
    offset as u64 * 0x9e37_79b9 + 1
}

/// Shared with the test that looks at it.
#[derive(Clone, Debug)]
pub struct Shared(pub Arc<Pattern>);

impl BlockSource for Shared {
    type Error = NotToBeHad;
    type Reader<'a> = &'a Pattern;

    fn reader(&self) -> Result<&Pattern, NotToBeHad> {
        Ok(&self.0)
    }
}

impl BlockReader for &Pattern {
    type Error = NotToBeHad;

    fn read(&mut self, block: u64, buf: &mut [u8]) -> Result<Content, NotToBeHad> {
        let index = usize::try_from(block).unwrap();
        let before = self.reads[index].fetch_add(1, Ordering::Relaxed);
        match self.behaviours.get(&block) {
            Some(Behaviour::Zero) => return Ok(Content::Zero),
            Some(Behaviour::Fail) => return Err(NotToBeHad(block)),
            Some(Behaviour::FailOnce) if before == 0 => return Err(NotToBeHad(block)),
            Some(Behaviour::Panic) => panic!("a block that panics, as it is meant to"),
            Some(Behaviour::Wait) => {
                let is_open = self.is_open.lock().unwrap();
                let waited = self.opened.wait_timeout_while(is_open, LONG, |open| !*open);
                assert!(!waited.unwrap().1.timed_out(), "nobody opened the gate");
            }
            Some(Behaviour::FailOnce) | None => {}
        }
        for (word, offset) in buf.chunks_mut(8).zip((index * BLOCK..).step_by(8)) {
            word.copy_from_slice(&word_at(offset).to_le_bytes()[..word.len()]);
        }
        Ok(Content::Data)
    }
}

pub struct Served {
    pub memory: Arc<Mapping>,
    pub lazy: Lazy<Shared>,
    pub events: Receiver<LazyEvent<NotToBeHad>>,
}

pub fn options() -> Option<LazyOptions> {
    let privileged = probe(Origin::UserAndKernel).is_ok();
    let origin = if privileged {
        Origin::UserAndKernel
    } else {
        Origin::UserModeOnly
    };
    if let Err(error) = probe(origin) {
        skipped("userfaultfd", &format!("{error:?}"));
        return None;
    }
    Some(LazyOptions {
        origin,
        ..LazyOptions::default()
    })
}

pub fn served_over(memory: Mapping, pattern: &Arc<Pattern>) -> Option<Served> {
    let (sender, events) = channel();
    let memory = Arc::new(memory);
    let lazy = Lazy::new(
        vec![Arc::clone(&memory)],
        Shared(Arc::clone(pattern)),
        options()?,
        move |event| drop(sender.send(event)),
    );
    Some(Served {
        memory,
        lazy: lazy.unwrap(),
        events,
    })
}

pub fn served(blocks: u64, pattern: &Arc<Pattern>) -> Option<Served> {
    let memory = Mapping::anonymous(ByteLen::new(blocks * BLOCK_BYTES)).unwrap();
    served_over(memory, pattern)
}

/// Waits for what the threads of a service have still to do: a reader is woken before its block is
/// done with.
#[track_caller]
pub fn until(is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < LONG, "it does not come to that");
        std::thread::yield_now();
    }
}

pub fn page() -> usize {
    usize::try_from(host_page().bytes()).unwrap()
}

/// Has the kernel read a word: a page that fails is an error there, and no signal.
pub fn read_by_the_kernel(memory: &Mapping, offset: usize) -> Result<u64, Errno> {
    let base = usize::try_from(memory.addr().get()).unwrap() + offset;
    let mut word = [0; 8];
    let remote = [RemoteIoVec { base, len: 8 }];
    let mut local = [std::io::IoSliceMut::new(&mut word)];
    process_vm_readv(nix::unistd::getpid(), &mut local, &remote)?;
    Ok(u64::from_le_bytes(word))
}

fn discard(memory: &Mapping, offset: usize, len: usize) {
    let (offset, len) = (ByteLen::new(offset as u64), ByteLen::new(len as u64));
    memory.discard(offset, len, Sharing::Private).unwrap();
}

fn resident_pages(memory: &Mapping) -> u64 {
    let mut pagemap = PagemapScan::open().unwrap();
    let filter = ScanFilter {
        all: Categories::PRESENT,
        ..ScanFilter::default()
    };
    let mut bytes = 0;
    let scanned = pagemap.scan(memory.range(), &filter, |found| {
        bytes += found.range.len().get()
    });
    scanned.unwrap();
    bytes / host_page().bytes()
}

#[test]
fn every_word_is_the_sources_and_each_block_is_read_once() {
    const BLOCKS: u64 = 40;
    let pattern = Pattern::new(BLOCKS, &[(7, Behaviour::Zero)]);
    let Some(served) = served(BLOCKS, &pattern) else {
        return;
    };
    let readers: Vec<_> = (0..6)
        .map(|seed| {
            let memory = Arc::clone(&served.memory);
            std::thread::spawn(move || {
                let mut rng = Rng::new(seed);
                let words = memory.len().get() / 8;
                for _ in 0..4000 {
                    let offset = usize::try_from(rng.below(words)).unwrap() * 8;
                    let is_zero = offset / BLOCK == 7;
                    let expected = if is_zero { 0 } else { word_at(offset) };
                    assert_eq!(memory.load(offset), expected, "at {offset:#x}");
                }
            })
        })
        .collect();
    readers
        .into_iter()
        .for_each(|reader| reader.join().unwrap());
    assert_eq!(pattern.reads(), vec![1; 40]);
    assert!(matches!(
        served.events.recv_timeout(LONG),
        Ok(LazyEvent::Complete)
    ));
}

#[test]
fn nothing_is_there_that_nobody_has_asked_for() {
    let pattern = Pattern::new(8, &[]);
    let Some(served) = served(8, &pattern) else {
        return;
    };
    assert_eq!(served.memory.load(3 * BLOCK + 8), word_at(3 * BLOCK + 8));
    assert_eq!(pattern.reads(), [0, 0, 0, 1, 0, 0, 0, 0]);
    assert_eq!(
        resident_pages(&served.memory),
        BLOCK_BYTES / host_page().bytes()
    );
    until(|| served.lazy.remaining() == 7);
    let origins = served
        .lazy
        .origins(PageRun::new(PageIndex::new(0), 1).unwrap());
    assert_eq!(origins, [Some(PageOrigin::Source)]);
}

#[test]
fn what_was_given_up_reads_as_zeros_before_and_after_it_was_there() {
    let pattern = Pattern::new(2, &[]);
    let Some(served) = served(2, &pattern) else {
        return;
    };
    let memory = &served.memory;
    memory.store(0, 99);
    discard(memory, 0, page());
    discard(memory, BLOCK, BLOCK);
    assert_eq!((memory.load(0), memory.load(BLOCK)), (0, 0));
    if page() < BLOCK {
        assert_eq!(memory.load(page()), word_at(page()));
    }
    memory.store(BLOCK, 5);
    assert_eq!(memory.load(BLOCK), 5);
    discard(memory, BLOCK, page());
    assert_eq!(memory.load(BLOCK), 0);
    assert_eq!(
        pattern.reads(),
        [1, 0],
        "a block that was given up is not read"
    );
}

#[test]
fn what_is_given_up_while_its_block_is_read_is_zero() {
    let pattern = Pattern::new(1, &[(0, Behaviour::Wait)]);
    let Some(served) = served(1, &pattern) else {
        return;
    };
    let last = BLOCK - page();
    let memory = Arc::clone(&served.memory);
    let reader = std::thread::spawn(move || memory.load(0));
    while pattern.reads() == [0] {
        std::thread::yield_now();
    }
    discard(&served.memory, last, page());
    pattern.open();
    assert_eq!(
        reader.join().unwrap(),
        if last == 0 { 0 } else { word_at(0) }
    );
    assert_eq!(served.memory.load(last), 0);
}

#[test]
fn a_block_that_fails_fails_whoever_reads_it_and_is_named_at_once() {
    let failing = [(1, Behaviour::Fail), (2, Behaviour::Panic)];
    let pattern = Pattern::new(4, &failing);
    let Some(served) = served(4, &pattern) else {
        return;
    };
    if options().is_some_and(|options| options.origin == Origin::UserModeOnly) {
        return skipped("userfaultfd", "the kernel's faults are not handled here");
    }
    for (block, _) in failing {
        let offset = usize::try_from(block).unwrap() * BLOCK + 24;
        let start = Instant::now();
        assert_eq!(
            read_by_the_kernel(&served.memory, offset),
            Err(Errno::EFAULT)
        );
        let event = served.events.recv_timeout(LONG).unwrap();
        assert!(start.elapsed() < Duration::from_secs(1));
        let LazyEvent::BlockFailed {
            block: named,
            ram,
            failure,
            is_poisoned,
        } = event
        else {
            panic!("{event:?}");
        };
        assert_eq!(
            (named.get(), ram.get(), is_poisoned),
            (block, block * BLOCK_BYTES, true)
        );
        let is_right = match failure {
            BlockFailure::Source(NotToBeHad(source)) => source == 1 && block == 1,
            BlockFailure::Panicked => block == 2,
            _ => false,
        };
        assert!(is_right, "{failure:?}");
        let host = HostAddr::new(served.memory.addr().get() + offset as u64);
        assert!(served.lazy.is_failed_at(host));
    }
    assert_eq!(served.lazy.failed(), [1, 2].map(BlockIndex::new));
    assert_eq!(
        read_by_the_kernel(&served.memory, 3 * BLOCK),
        Ok(word_at(3 * BLOCK))
    );
    assert!(
        served.lazy.finish().is_err(),
        "what failed is not to be zero after all"
    );
}

#[test]
fn what_is_not_there_when_the_service_ends_fails_and_is_not_zero() {
    let pattern = Pattern::new(4, &[]);
    let Some(served) = served(4, &pattern) else {
        return;
    };
    let memory = &served.memory;
    memory.store(0, 7);
    discard(memory, 2 * BLOCK, page());
    drop(served.lazy);
    assert_eq!(read_by_the_kernel(memory, 0), Ok(7));
    assert_eq!(read_by_the_kernel(memory, 8), Ok(word_at(8)));
    assert_eq!(read_by_the_kernel(memory, BLOCK), Err(Errno::EFAULT));
    assert_eq!(
        read_by_the_kernel(memory, 4 * BLOCK - 8),
        Err(Errno::EFAULT)
    );
    assert_eq!(
        read_by_the_kernel(memory, 2 * BLOCK),
        Ok(0),
        "that was given up"
    );
}

#[test]
fn who_sleeps_in_a_fault_is_named_when_a_pause_has_waited_long_enough() {
    let pattern = Pattern::new(3, &[(2, Behaviour::Wait)]);
    let Some(served) = served(3, &pattern) else {
        return;
    };
    served.lazy.quiesce(Duration::ZERO).unwrap();
    let memory = Arc::clone(&served.memory);
    let reader = std::thread::spawn(move || memory.load(2 * BLOCK));
    while pattern.reads() == [0, 0, 0] {
        std::thread::yield_now();
    }
    let error = served.lazy.quiesce(Duration::from_millis(20)).unwrap_err();
    let FaultError::StillWaiting { block, thread, .. } = error else {
        panic!("{error:?}");
    };
    assert!(block.get() == 2 && thread != 0);
    // Others are served meanwhile.
    assert_eq!(served.memory.load(0), word_at(0));
    pattern.open();
    served.lazy.quiesce(LONG).unwrap();
    assert_eq!(reader.join().unwrap(), word_at(2 * BLOCK));
}

#[test]
fn memory_is_filled_up_when_it_is_asked_for_and_is_ordinary_after_that() {
    let pattern = Pattern::new(20, &[(4, Behaviour::Zero)]);
    let Some(served) = served(20, &pattern) else {
        return;
    };
    let lazy = served.lazy;
    lazy.prefetch([(BlockIndex::new(10), 3)], Depth::Install);
    let (error, lazy) = lazy.finish().unwrap_err();
    assert!(matches!(error, FaultError::NotComplete { .. }));
    lazy.allow_fill(ByteLen::new(u64::MAX));
    assert!(matches!(
        served.events.recv_timeout(LONG),
        Ok(LazyEvent::Complete)
    ));
    assert_eq!(pattern.reads(), vec![1; 20]);
    assert_eq!(lazy.counts().faults, 0);
    lazy.finish().unwrap();
    let memory = &served.memory;
    assert_eq!((memory.load(0), memory.load(4 * BLOCK)), (word_at(0), 0));
    discard(memory, 0, page());
    assert_eq!(memory.load(0), 0);
}

/// Each thread has pages of its own and knows what is in them.
#[test]
fn reads_writes_and_discards_at_full_speed_see_what_they_should() {
    const BLOCKS: usize = 24;
    const THREADS: usize = 4;
    let pattern = Pattern::new(BLOCKS as u64, &[(3, Behaviour::Zero)]);
    let Some(served) = served(BLOCKS as u64, &pattern) else {
        return;
    };
    let pages = BLOCKS * BLOCK / page();
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let memory = Arc::clone(&served.memory);
            std::thread::spawn(move || {
                let mut rng = Rng::new(thread as u64 + 10);
                let mut known: HashMap<usize, u64> = HashMap::new();
                for round in 1..3000 {
                    let index = usize::try_from(rng.below((pages / THREADS) as u64)).unwrap();
                    let offset = (index * THREADS + thread) * page();
                    let source = if offset / BLOCK == 3 {
                        0
                    } else {
                        word_at(offset)
                    };
                    let expected = known.get(&offset).copied().unwrap_or(source);
                    match rng.below(5) {
                        0 => {
                            discard(&memory, offset, page());
                            known.insert(offset, 0);
                        }
                        1 => {
                            memory.store(offset, round);
                            known.insert(offset, round);
                        }
                        _ => assert_eq!(memory.load(offset), expected, "at {offset:#x}"),
                    }
                }
            })
        })
        .collect();
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    assert!(pattern.reads().iter().all(|reads| *reads <= 1));
    assert_eq!(served.lazy.failed(), []);
}

#[test]
fn a_hundred_guests_are_served_at_once() {
    let guests: Option<Vec<_>> = (0..100)
        .map(|_| {
            let pattern = Pattern::new(4, &[]);
            served(4, &pattern)
        })
        .collect();
    let Some(guests) = guests else {
        return;
    };
    let readers: Vec<_> = guests
        .iter()
        .map(|guest| {
            let memory = Arc::clone(&guest.memory);
            std::thread::spawn(move || (0..4).map(|block| memory.load(block * BLOCK)).collect())
        })
        .collect();
    for reader in readers {
        let words: Vec<u64> = reader.join().unwrap();
        assert_eq!(words, [0, 1, 2, 3].map(|block| word_at(block * BLOCK)));
    }
}

#[test]
fn a_chain_in_a_directory_is_thawed_lazily() {
    let Some(options) = options() else {
        return;
    };
    let history = crate::chain::History::new(4, 77);
    let source = history.source();
    let regions = source.layers().layout().regions().to_vec();
    let map =
        |region: &coldframe_units::GuestRegion| Arc::new(Mapping::anonymous(region.len()).unwrap());
    let memory: Vec<Arc<Mapping>> = regions.iter().map(map).collect();
    let lazy = Lazy::new(memory.clone(), source, options, |event| {
        assert!(!matches!(event, LazyEvent::BlockFailed { .. }), "{event:?}");
    })
    .unwrap();
    let mut start = 0;
    for mapping in &memory {
        let mut bytes = vec![0; usize::try_from(mapping.len().get()).unwrap()];
        mapping.read_at(0, &mut bytes);
        assert!(bytes == history.expected(start, bytes.len()));
        start += mapping.len().get();
    }
    until(|| lazy.remaining() == 0);
}

#[test]
fn huge_pages_are_filled_from_many_blocks_each() {
    let len = ByteLen::new(3 * PageSize::SIZE_2M.bytes());
    let memory = match Mapping::anonymous_huge(len, HugePages::Size2M) {
        Ok(memory) => memory,
        Err(error) => return skipped("hugetlbfs", &format!("{error}: the pool has too few")),
    };
    let per_page = PageSize::SIZE_2M.bytes() / BLOCK_BYTES;
    // One huge page of zeros, and one with a block of zeros in it.
    let zeros = (per_page..2 * per_page).chain([5]);
    let behaviours: Vec<_> = zeros.map(|block| (block, Behaviour::Zero)).collect();
    let pattern = Pattern::new(3 * per_page, &behaviours);
    let Some(served) = served_over(memory, &pattern) else {
        return;
    };
    let huge = usize::try_from(PageSize::SIZE_2M.bytes()).unwrap();
    let memory = &served.memory;
    assert_eq!(memory.load(huge - 8), word_at(huge - 8));
    assert_eq!(
        (memory.load(5 * BLOCK), memory.load(4 * BLOCK)),
        (0, word_at(4 * BLOCK))
    );
    assert_eq!((memory.load(huge), memory.load(2 * huge - 8)), (0, 0));
    discard(memory, 0, huge);
    discard(memory, 2 * huge, huge);
    memory.store(2 * huge, 7);
    assert_eq!(
        (
            memory.load(0),
            memory.load(2 * huge),
            memory.load(2 * huge + 8)
        ),
        (0, 7, 0)
    );
    let reads = pattern.reads();
    let (there, given_up) = reads.split_at(2 * usize::try_from(per_page).unwrap());
    assert!(there.iter().all(|reads| *reads == 1) && given_up.iter().all(|reads| *reads == 0));
}
