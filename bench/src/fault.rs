//! Page faults of lazily filled memory: against the kernel's own copy, and against the handlers
//! that others have.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use coldframe_fault::{BlockReader, BlockSource, Content, Lazy, LazyEvent, LazyOptions, Template};
use coldframe_uffd::{
    Event, EventBuffer, Features, HostAddr, Mapping, Modes, Origin, Sharing, Uffd, Wake, host_page,
};
use coldframe_units::{BLOCK_BYTES, ByteLen};

use crate::harness::{Row, race};
use crate::place::Place;

const BLOCK: usize = BLOCK_BYTES as usize;
/// 64 MiB: more than the caches hold.
const BLOCKS: usize = 1024;
const ROUNDS: usize = 9;

/// All rows of the group.
pub fn run(place: &Place) -> Result<Vec<Row>> {
    if let Err(error) = coldframe_fault::probe(Origin::UserAndKernel) {
        let why = std::error::Error::source(&error).map(ToString::to_string);
        eprintln!("SKIPPED: userfaultfd: {}", why.unwrap_or_default());
        return Ok(Vec::new());
    }
    let source = Arc::new(Verified::new()?);
    let mut rows = vec![demand(place, &source)?, fill(place, &source)?];
    rows.push(second_clone(place, &source)?);
    Ok(rows)
}

/// A file, and the hash of each block of it.
struct Verified {
    file: File,
    hashes: Vec<blake3::Hash>,
}

impl Verified {
    fn new() -> Result<Self> {
        let file = tempfile::tempfile()?;
        let mut hashes = Vec::new();
        for block in 0..BLOCKS {
            let bytes = vec![block as u8 | 1; BLOCK];
            hashes.push(blake3::hash(&bytes));
            file.write_all_at(&bytes, (block * BLOCK) as u64)?;
        }
        Ok(Self { file, hashes })
    }
}

#[derive(Clone)]
struct Blocks(Arc<Verified>);

impl BlockSource for Blocks {
    type Error = io::Error;
    type Reader<'a> = Blocks;

    fn reader(&self) -> io::Result<Blocks> {
        Ok(self.clone())
    }
}

impl BlockReader for Blocks {
    type Error = io::Error;

    fn read(&mut self, block: u64, buf: &mut [u8]) -> io::Result<Content> {
        self.0.file.read_exact_at(buf, block * BLOCK_BYTES)?;
        if blake3::hash(buf) != self.0.hashes[block as usize] {
            return Err(io::Error::other("a block is not what was written"));
        }
        Ok(Content::Data)
    }
}

fn memory() -> Result<Arc<Mapping>> {
    let len = ByteLen::new(BLOCKS as u64 * BLOCK_BYTES);
    Ok(Arc::new(Mapping::anonymous(len)?))
}

/// Reads one word of each `step` bytes, as a guest with one vCPU.
fn touch(memory: &Mapping, step: usize) -> Duration {
    let start = Instant::now();
    for offset in (0..BLOCKS * BLOCK).step_by(step) {
        std::hint::black_box(memory.load(offset));
    }
    start.elapsed()
}

fn demand(place: &Place, source: &Arc<Verified>) -> Result<Row> {
    let page = host_page().bytes() as usize;
    let times = race(
        place,
        ROUNDS,
        &mut [
            Box::new(|| lazy(source)),
            Box::new(|| handler(None, BLOCK)),
            Box::new(|| handler(Some(&source.file), page)),
        ],
    )?;
    let note = "One word of each 64 KiB is read, each by a fault: pread of the block from the page \
                cache, BLAKE3, UFFDIO_COPY. Limit: a loop of poll, read and UFFDIO_COPY of 64 KiB \
                of one buffer. Peer: pread and UFFDIO_COPY of 4 KiB for each fault, unverified, \
                as the handlers of Firecracker and Cloud Hypervisor, for all pages of the memory.";
    let peers = [("4 KiB handler", 2)];
    let row = Row::race("fault: 64 KiB, verified", note, &times, Some(1), &peers);
    Ok(row.each(BLOCKS).told())
}

fn lazy(source: &Arc<Verified>) -> Result<Duration> {
    let memory = memory()?;
    let served = vec![Arc::clone(&memory)];
    let source = Blocks(Arc::clone(source));
    let _lazy = Lazy::new(served, source, LazyOptions::default(), |_| ())?;
    Ok(touch(&memory, BLOCK))
}

/// The plainest handler: one thread, one fault at a time, `step` bytes each, of a file or of one
/// buffer.
fn handler(file: Option<&File>, step: usize) -> Result<Duration> {
    let memory = memory()?;
    let uffd = Uffd::open(Features::EVENT_REMOVE, Origin::UserAndKernel)?;
    uffd.register(&memory, Modes::MISSING)?;
    let guest = {
        let memory = Arc::clone(&memory);
        std::thread::spawn(move || touch(&memory, step))
    };
    let mut events = EventBuffer::new(16);
    let mut bytes = vec![7; step];
    let mut left = BLOCKS * BLOCK / step;
    while left > 0 {
        uffd.wait(None)?;
        for event in uffd.read(&mut events)? {
            let Event::PageFault(fault) = event else {
                continue;
            };
            let offset = (fault.addr.get() - memory.addr().get()) & !(step as u64 - 1);
            if let Some(file) = file {
                file.read_exact_at(&mut bytes, offset)?;
            }
            let at = HostAddr::new(memory.addr().get() + offset);
            let _filled = uffd.copy(at, &bytes, Wake::Yes)?;
            left -= 1;
        }
    }
    guest.join().ok().context("the guest panicked")
}

fn fill(place: &Place, source: &Arc<Verified>) -> Result<Row> {
    let times = race(
        place,
        ROUNDS,
        &mut [
            Box::new(|| filled_up(source)),
            Box::new(|| bulk_copy(BLOCK)),
        ],
    )?;
    let note = "64 MiB that nobody touches are filled, verified, by all threads, against \
                UFFDIO_COPY of one buffer of 64 KiB by one thread.";
    Ok(Row::race("fault: fill 64 MiB", note, &times, Some(1), &[]).told())
}

fn filled_up(source: &Arc<Verified>) -> Result<Duration> {
    let (sender, complete) = std::sync::mpsc::channel();
    let on_event = move |event: LazyEvent<io::Error>| {
        if matches!(event, LazyEvent::Complete) {
            // Nobody listens any more after an error.
            let _ = sender.send(());
        }
    };
    let source = Blocks(Arc::clone(source));
    let lazy = Lazy::new(vec![memory()?], source, LazyOptions::default(), on_event)?;
    let start = Instant::now();
    lazy.allow_fill(ByteLen::new(u64::MAX));
    complete.recv()?;
    Ok(start.elapsed())
}

fn bulk_copy(step: usize) -> Result<Duration> {
    let memory = memory()?;
    let uffd = Uffd::open(Features::NONE, Origin::UserAndKernel)?;
    uffd.register(&memory, Modes::MISSING)?;
    let bytes = vec![7; step];
    let start = Instant::now();
    for offset in (0..BLOCKS * BLOCK).step_by(step) {
        let at = HostAddr::new(memory.addr().get() + offset as u64);
        let _filled = uffd.copy(at, &bytes, Wake::Yes)?;
    }
    Ok(start.elapsed())
}

fn second_clone(place: &Place, source: &Arc<Verified>) -> Result<Row> {
    let ram = vec![ByteLen::new(BLOCKS as u64 * BLOCK_BYTES)];
    let template = Template::new(ram, Blocks(Arc::clone(source)))?;
    let first = template.clone_memory(LazyOptions::default(), |_| ())?;
    touch(&first.memory()[0], BLOCK);
    let page = host_page().bytes() as usize;
    let times = race(
        place,
        ROUNDS,
        &mut [
            Box::new(|| {
                let clone = template.clone_memory(LazyOptions::default(), |_| ())?;
                Ok(touch(&clone.memory()[0], page))
            }),
            Box::new(|| {
                let len = ByteLen::new(BLOCKS as u64 * BLOCK_BYTES);
                let file = template.descriptor()?;
                let plain = Mapping::file(&file, 0, len, Sharing::Private)?;
                Ok(touch(&plain, page))
            }),
        ],
    )?;
    let note = "Every page of 64 MiB of a template that another clone has filled is read for the \
                first time, against the same memfd mapped without a userfaultfd.";
    let row = Row::race("fault: second clone, each page", note, &times, Some(1), &[]);
    Ok(row.each(BLOCKS * BLOCK / page).told())
}
