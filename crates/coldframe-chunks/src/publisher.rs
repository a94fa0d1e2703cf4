//! The threads that write packs while the next chunks are prepared: one writes the pieces of a
//! pack as they come, one makes whole packs durable and gives them their names.
//!
//! Invariants: after a pack failed no later one is published, and every later call says so: chunks
//! that were counted on the lost pack are not taken for stored. What waits to be written is
//! bounded: a few pieces, whatever the size of packs.

use std::fmt;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use coldframe_chunkfile::{EncodedPack, PACK_LIMITS, Pack};
use coldframe_storage::{IoContext, Operation, StorageError};
use coldframe_units::FileOffset;

use crate::backend::{Backend, Folder, Key, NewFile};
use crate::error::storage;
use crate::store::Inner;
use crate::{FileId, StoreError};

/// A piece of a pack is handed on when it has this many bytes.
pub(crate) const PIECE_BYTES: usize = 1 << 20;

/// Pieces that wait to be written.
const PIECES_MAX: usize = 4;

enum Order {
    /// Write a piece of the open pack, or of a new one.
    Write(FileOffset, Vec<u8>),
    /// The open pack has all its pieces.
    Publish(Box<EncodedPack>),
    /// Answer when all before is durable.
    Flush(SyncSender<Result<(), StoreError>>),
}

enum Step<'a> {
    Publish(OpenPack<'a>, Box<EncodedPack>),
    Flush(SyncSender<Result<(), StoreError>>),
}

struct OpenPack<'a> {
    id: FileId,
    file: Box<dyn NewFile + 'a>,
}

/// The sending end; dropped, it lets the threads finish what they have.
pub(crate) struct Publisher {
    orders: Option<SyncSender<Order>>,
    /// Pieces that were written: room for the next.
    spare: Receiver<Vec<u8>>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Publisher")
    }
}

impl Publisher {
    pub fn start<B: Backend>(inner: Arc<Inner<B>>) -> Self {
        let (orders, received) = sync_channel(PIECES_MAX);
        let (written, spare) = channel();
        let thread = std::thread::spawn(move || run(&inner, &received, &written));
        Self {
            orders: Some(orders),
            spare,
            thread: Some(thread),
        }
    }

    /// Writes a piece of the pack at an offset of the file; what is given back is room for the
    /// next.
    pub fn write(&self, at: FileOffset, piece: Vec<u8>) -> Result<Vec<u8>, StoreError> {
        self.send(Order::Write(at, piece))?;
        let mut room = self.spare.try_recv().unwrap_or_default();
        room.clear();
        Ok(room)
    }

    /// Publishes the pack that was written since the last.
    pub fn publish(&self, tables: EncodedPack) -> Result<(), StoreError> {
        self.send(Order::Publish(Box::new(tables)))
    }

    /// Waits until all packs are durable.
    pub fn flush(&self) -> Result<(), StoreError> {
        let (answer, answered) = sync_channel(1);
        self.send(Order::Flush(answer))?;
        answered.recv().unwrap_or(Err(StoreError::PushFailed))
    }

    fn send(&self, order: Order) -> Result<(), StoreError> {
        let orders = self.orders.as_ref().ok_or(StoreError::PushFailed)?;
        orders.send(order).map_err(|_| StoreError::PushFailed)
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // A panic there was told by the orders that failed.
            let _ = thread.join();
        }
    }
}

/// What went wrong first, and whether it was told.
#[derive(Default)]
struct Failure(Mutex<Option<Option<StoreError>>>);

impl Failure {
    fn note<T>(&self, result: Result<T, StoreError>) -> Option<T> {
        let mut failure = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(value) => failure.is_none().then_some(value),
            Err(error) => {
                failure.get_or_insert(Some(error));
                None
            }
        }
    }

    /// The first to ask learns the reason.
    fn told(&self) -> Result<(), StoreError> {
        let mut failure = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *failure {
            None => Ok(()),
            Some(reason) => Err(reason.take().unwrap_or(StoreError::PushFailed)),
        }
    }

    fn is_set(&self) -> bool {
        let failure = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failure.is_some()
    }
}

fn run<B: Backend>(inner: &Inner<B>, orders: &Receiver<Order>, written: &Sender<Vec<u8>>) {
    let failure = Failure::default();
    std::thread::scope(|scope| {
        // One pack waits while one is made durable and one is written.
        let (steps, received) = sync_channel(1);
        let failure = &failure;
        scope.spawn(move || finish_all(inner, &received, failure));
        let mut open: Option<OpenPack<'_>> = None;
        for order in orders {
            let step = match order {
                Order::Write(at, piece) => {
                    open = match failure.is_set() {
                        true => None,
                        false => failure.note(write(inner, open.take(), at, &piece)),
                    };
                    // Nobody wants it when the push is over.
                    let _ = written.send(piece);
                    continue;
                }
                Order::Publish(tables) => match open.take() {
                    Some(pack) => Step::Publish(pack, tables),
                    // A piece of it failed.
                    None => continue,
                },
                Order::Flush(answer) => Step::Flush(answer),
            };
            if steps.send(step).is_err() {
                return;
            }
        }
    });
}

fn write<'a, B: Backend>(
    inner: &'a Inner<B>,
    open: Option<OpenPack<'a>>,
    at: FileOffset,
    piece: &[u8],
) -> Result<OpenPack<'a>, StoreError> {
    let mut pack = match open {
        Some(pack) => pack,
        None => begin(inner)?,
    };
    pack.file.write_at(at, piece).map_err(storage)?;
    Ok(pack)
}

fn begin<B: Backend>(inner: &Inner<B>) -> Result<OpenPack<'_>, StoreError> {
    for _ in 0..NAMES_MAX {
        let id = random_id(&inner.backend)?;
        match inner.backend.begin(&Key::Pack(id)) {
            Ok(file) => return Ok(OpenPack { id, file }),
            Err(error) if error.is_exists() => {}
            Err(error) => return Err(storage(error)),
        }
    }
    Err(storage(all_taken(&inner.backend, Folder::Packs)))
}

/// The place says of every name that it is taken.
pub(crate) fn all_taken<B: Backend>(backend: &B, folder: Folder) -> StorageError {
    let path = format!("{}/{}", backend.place(), folder.name());
    StorageError::Exists { path: path.into() }
}

fn finish_all<'a, B: Backend>(inner: &Inner<B>, steps: &Receiver<Step<'a>>, failure: &Failure) {
    for step in steps {
        match step {
            Step::Publish(..) if failure.is_set() => {}
            Step::Publish(pack, tables) => {
                failure.note(finish(inner, pack, &tables));
            }
            Step::Flush(answer) => {
                let _ = answer.send(failure.told());
            }
        }
    }
}

/// Makes a pack durable, and adds it to the catalog.
fn finish<B: Backend>(
    inner: &Inner<B>,
    pack: OpenPack<'_>,
    tables: &EncodedPack,
) -> Result<(), StoreError> {
    let OpenPack { id, mut file } = pack;
    let table = Pack::from_parts(
        &tables.header,
        &tables.tail,
        tables.tail_offset,
        PACK_LIMITS,
    );
    let table = table.map_err(|source| StoreError::DamagedPack { pack: id, source })?;
    let written = file
        .write_at(tables.tail_offset, &tables.tail)
        .and_then(|()| file.write_at(FileOffset::ZERO, &tables.header))
        .and_then(|()| file.finish());
    match written.map_err(storage)? {
        true => inner.catalog_mut().add_pack(id, &table),
        false => return Err(storage(taken(&inner.backend, id))),
    }
    Ok(())
}

/// The name was free when the pack was begun, and is random.
fn taken<B: Backend>(backend: &B, id: FileId) -> StorageError {
    let path = format!("{}/{}", backend.place(), Key::Pack(id));
    StorageError::Exists { path: path.into() }
}

/// Random names that are tried, none of which is ever taken.
pub(crate) const NAMES_MAX: u32 = 8;

/// A number that no file has yet, as far as chance goes.
pub(crate) fn random_id<B: Backend>(backend: &B) -> Result<FileId, StoreError> {
    let place = backend.place();
    let number = getrandom::u64().at(Operation::TemporaryName, place.as_ref());
    number.map(FileId::new).map_err(storage)
}
