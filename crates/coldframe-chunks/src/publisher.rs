//! The thread that writes packs, one after the other, while the next is being filled.
//!
//! Invariant: after a pack failed no later one is written, and every later call says so: chunks
//! that were counted on the lost pack are not taken for stored.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use coldframe_chunkfile::{EncodedPack, PACK_LIMITS, Pack};
use coldframe_storage::{IoContext, Operation};

use crate::backend::{Backend, Key};
use crate::error::storage;
use crate::store::Inner;
use crate::{FileId, StoreError};

/// A pack that is ready to be written.
pub(crate) struct Finished {
    pub body: Vec<u8>,
    pub tables: EncodedPack,
}

enum Order {
    Publish(Box<Finished>),
    /// Answer when all before is durable.
    Flush(SyncSender<Result<(), StoreError>>),
}

/// The sending end; dropped, it lets the thread finish what it has.
pub(crate) struct Publisher {
    orders: Option<SyncSender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Publisher")
    }
}

impl Publisher {
    pub fn start<B: Backend>(inner: Arc<Inner<B>>) -> Self {
        // One pack waits while one is written and one is filled: memory is bounded.
        let (orders, received) = sync_channel(1);
        let thread = std::thread::spawn(move || run(&inner, &received));
        Self {
            orders: Some(orders),
            thread: Some(thread),
        }
    }

    pub fn publish(&self, pack: Finished) -> Result<(), StoreError> {
        self.send(Order::Publish(Box::new(pack)))
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

fn run<B: Backend>(inner: &Inner<B>, orders: &Receiver<Order>) {
    let mut failed = None;
    let mut has_failed = false;
    for order in orders {
        match order {
            Order::Publish(_) if has_failed => {}
            Order::Publish(pack) => {
                if let Err(error) = publish(inner, &pack) {
                    failed = Some(error);
                    has_failed = true;
                }
            }
            Order::Flush(answer) => {
                // The first to ask learns the reason.
                let result = match failed.take() {
                    Some(error) => Err(error),
                    None if has_failed => Err(StoreError::PushFailed),
                    None => Ok(()),
                };
                let _ = answer.send(result);
            }
        }
    }
}

/// Writes a pack and adds it to the catalog.
pub(crate) fn publish<B: Backend>(inner: &Inner<B>, pack: &Finished) -> Result<FileId, StoreError> {
    let tables = &pack.tables;
    let table = Pack::from_parts(
        &tables.header,
        &tables.tail,
        tables.tail_offset,
        PACK_LIMITS,
    );
    let parts = [&tables.header[..], &pack.body, &tables.tail];
    loop {
        let file = random_id(&inner.backend)?;
        if inner
            .backend
            .create(&Key::Pack(file), &parts)
            .map_err(storage)?
        {
            let bad = |source| StoreError::DamagedPack { pack: file, source };
            inner.catalog_mut().add_pack(file, &table.map_err(bad)?);
            return Ok(file);
        }
    }
}

/// A number that no file has yet, as far as chance goes.
pub(crate) fn random_id<B: Backend>(backend: &B) -> Result<FileId, StoreError> {
    let place = backend.place();
    let number = getrandom::u64().at(Operation::TemporaryName, place.as_ref());
    number.map(FileId::new).map_err(storage)
}
