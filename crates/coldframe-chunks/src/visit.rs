//! Going through many chunks: copies that lie near one another are read at once, by several
//! threads, into room that is used again.
//!
//! Invariant: bytes are shown only after their BLAKE3 hash was seen to be the chunk's id. What is
//! not sound at the first look is left to [`crate::read`], which looks at every copy.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use coldframe_chunkfile::Compression;
use coldframe_units::ChunkId;

use crate::StoreError;
use crate::backend::{Backend, Key};
use crate::catalog::Place;
use crate::chunk::{Chunk, Visitor, id_of};
use crate::compress::Decompressor;
use crate::store::Inner;

/// What is shown the bytes of a copy, or `None` if they are not sound or could not be read.
type Reader<'a> = dyn Fn(&Wanted, Option<&[u8]>) -> ControlFlow<()> + Sync + 'a;

/// A copy of a chunk that is to be read, and the number that the caller knows it by.
#[derive(Clone, Copy)]
pub(crate) struct Wanted {
    pub number: usize,
    pub id: ChunkId,
    pub place: Place,
}

impl Wanted {
    fn start(&self) -> u64 {
        self.place.offset().get()
    }

    fn end(&self) -> u64 {
        self.start() + u64::from(self.place.stored_len)
    }
}

/// What is read at once.
#[derive(Clone, Copy)]
struct Reach {
    /// Bytes between two copies that are read along with them.
    gap_max: u64,
    /// Bytes in all, but for a single copy that is longer.
    len_max: u64,
}

/// Where a read costs a system call: about as much as copying 16 KiB.
const HERE: Reach = Reach {
    gap_max: 16 << 10,
    len_max: 1 << 20,
};

/// Where a read is waited for.
const FAR: Reach = Reach {
    gap_max: 128 << 10,
    len_max: 4 << 20,
};

/// Bytes for which another thread is worth its start.
const PER_THREAD: u64 = 256 << 10;

/// Rooms that are kept for the next.
const ROOMS_MAX: usize = 8;

/// Room of a thread.
#[derive(Default)]
struct Room {
    stored: Vec<u8>,
    raw: Vec<u8>,
    decompressor: Decompressor,
}

impl<B: Backend> Inner<B> {
    /// Shows every chunk to `visitor`, in no order and from several threads.
    pub fn visit(&self, ids: &[ChunkId], visitor: &Visitor<'_>) {
        let stop = AtomicBool::new(false);
        let show = |number: usize, bytes: Result<&[u8], StoreError>| {
            let shown = visitor(number, bytes);
            stop.fetch_or(shown.is_break(), Ordering::Relaxed);
            shown
        };
        let left = self.visit_near(ids, &show);
        let (wanted, odd) = self.find(ids, &left);
        let odd = Mutex::new(odd);
        let lock = || odd.lock().unwrap_or_else(PoisonError::into_inner);
        if !stop.load(Ordering::Relaxed) {
            self.read_copies(wanted, &|wanted, bytes| match bytes {
                Some(bytes) => {
                    self.keep_near(wanted.id, || Bytes::copy_from_slice(bytes));
                    show(wanted.number, Ok(bytes))
                }
                None => {
                    lock().push(wanted.number);
                    ControlFlow::Continue(())
                }
            });
        }
        if stop.into_inner() {
            return;
        }
        let odd = std::mem::take(&mut *lock());
        run(
            self.readers(),
            &odd,
            || (),
            |(), number| {
                let id = ids[*number];
                match self.read_chunk(id) {
                    Ok(bytes) => {
                        self.keep_near(id, || bytes.clone());
                        visitor(*number, Ok(&bytes))
                    }
                    Err(error) => visitor(*number, Err(error)),
                }
            },
        );
    }

    /// Threads that read: they mostly wait where more than one is best.
    fn readers(&self) -> usize {
        self.options.threads.max(self.backend.reads_at_once())
    }

    /// Shows what the cache outside of the memory has; returns the numbers of the others.
    fn visit_near(&self, ids: &[ChunkId], show: &Visitor<'_>) -> Vec<usize> {
        let numbers: Vec<usize> = (0..ids.len()).collect();
        let Some(near) = self.near.get() else {
            return numbers;
        };
        let left = Mutex::new(Vec::new());
        run(
            self.options.threads.min(ids.len().div_ceil(4)),
            &numbers,
            || (),
            |(), number| match near.get(ids[*number]) {
                Ok(bytes) => show(*number, Ok(&bytes)),
                Err(_) => {
                    let mut left = left.lock().unwrap_or_else(PoisonError::into_inner);
                    left.push(*number);
                    ControlFlow::Continue(())
                }
            },
        );
        left.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy of each that is not known to be damaged, and the numbers of those that have none.
    fn find(&self, ids: &[ChunkId], numbers: &[usize]) -> (Vec<Wanted>, Vec<usize>) {
        let (mut wanted, mut none) = (Vec::with_capacity(numbers.len()), Vec::new());
        let without = BTreeSet::new();
        let catalog = self.catalog();
        for &number in numbers {
            let id = ids[number];
            match catalog.kept(id, &without) {
                Some(&place) => wanted.push(Wanted { number, id, place }),
                None => none.push(number),
            }
        }
        (wanted, none)
    }

    /// Reads copies in the order of their packs.
    pub fn read_copies(&self, mut copies: Vec<Wanted>, each: &Reader<'_>) {
        copies.sort_unstable_by_key(|copy| (copy.place.pack, copy.start(), copy.number));
        let total: u64 = copies.iter().map(|copy| copy.end() - copy.start()).sum();
        let threads = self.options.threads;
        let (mut reach, readers) = match self.backend.reads_at_once() {
            0 | 1 => {
                let useful = usize::try_from(total / PER_THREAD).unwrap_or(threads);
                (HERE, threads.min(useful).max(1))
            }
            _ => (FAR, self.readers()),
        };
        // Every reader gets something.
        reach.len_max = reach.len_max.min((total / readers as u64).max(PER_THREAD));
        let extents = extents(&copies, reach);
        let room = || Borrowed::of(&self.rooms);
        run(readers, &extents, room, |room, extent| {
            self.read_extent(extent, room.get(), each)
        });
    }

    fn read_extent(
        &self,
        copies: &[Wanted],
        room: &mut Room,
        each: &Reader<'_>,
    ) -> ControlFlow<()> {
        let (Some(first), Some(last)) = (copies.first(), copies.last()) else {
            return ControlFlow::Continue(());
        };
        let start = first.start();
        let end = copies.iter().map(Wanted::end).max().unwrap_or(last.end());
        let Room {
            stored,
            raw,
            decompressor,
        } = room;
        let stored = first_bytes(stored, (end - start) as usize);
        let key = Key::Pack(first.place.pack);
        let read = self.backend.read_into(&key, first.place.offset(), stored);
        let is_read = matches!(read, Ok(true));
        for copy in copies {
            let at = (copy.start() - start) as usize;
            let stored = &stored[at..at + copy.place.stored_len as usize];
            let bytes = match copy.place.compression {
                _ if !is_read => None,
                Compression::None => Some(stored),
                other => {
                    let raw = first_bytes(raw, copy.place.raw_len as usize);
                    let done = decompressor.decompress(copy.id, stored, other, raw);
                    matches!(done, Ok(Ok(()))).then_some(&*raw)
                }
            };
            each(copy, bytes.filter(|bytes| id_of(bytes) == copy.id))?;
        }
        ControlFlow::Continue(())
    }

    /// Keeps a chunk in the cache outside of the memory, if there is one.
    pub fn keep_near(&self, id: ChunkId, bytes: impl FnOnce() -> Bytes) {
        if let Some(near) = self.near.get()
            && let Err(error) = near.put(&Chunk::known(id, bytes()))
        {
            tracing::warn!(chunk = %id, %error, "chunk not cached");
        }
    }
}

/// The first bytes of a room that grows if it must.
fn first_bytes(room: &mut Vec<u8>, len: usize) -> &mut [u8] {
    if room.len() < len {
        room.resize(len, 0);
    }
    &mut room[..len]
}

/// Neighbours that are read at once, of copies in their order.
fn extents(copies: &[Wanted], reach: Reach) -> Vec<&[Wanted]> {
    let mut extents = Vec::new();
    let (mut from, mut end) = (0, 0);
    for (at, copy) in copies.iter().enumerate() {
        let first = &copies[from];
        let is_near = copy.place.pack == first.place.pack
            && copy.start() <= end + reach.gap_max
            && copy.end() - first.start() <= reach.len_max;
        if at > from && !is_near {
            extents.push(&copies[from..at]);
            from = at;
            end = 0;
        }
        end = end.max(copy.end());
    }
    if from < copies.len() {
        extents.push(&copies[from..]);
    }
    extents
}

/// Calls `work` for every item, by so many threads, each with a thing of its own, until one of the
/// calls breaks off.
fn run<T: Sync, R>(
    threads: usize,
    items: &[T],
    thing: impl Fn() -> R + Sync,
    work: impl Fn(&mut R, &T) -> ControlFlow<()> + Sync,
) {
    let next = AtomicUsize::new(0);
    let one = || {
        let mut thing = thing();
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            if work(&mut thing, item).is_break() {
                next.store(items.len(), Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(items.len()) {
            scope.spawn(one);
        }
        one();
    });
}

/// Rooms that nobody uses just now.
#[derive(Default)]
pub(crate) struct Rooms(Mutex<Vec<Room>>);

/// A room that goes back when it is dropped.
struct Borrowed<'a> {
    rooms: &'a Rooms,
    room: Room,
}

impl<'a> Borrowed<'a> {
    fn of(rooms: &'a Rooms) -> Self {
        let mut idle = rooms.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = idle.pop().unwrap_or_default();
        Self { rooms, room }
    }

    const fn get(&mut self) -> &mut Room {
        &mut self.room
    }
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        let mut room = std::mem::take(&mut self.room);
        room.stored.truncate(HERE.len_max as usize);
        room.stored.shrink_to(HERE.len_max as usize);
        let mut idle = self.rooms.0.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < ROOMS_MAX {
            idle.push(room);
        }
    }
}
