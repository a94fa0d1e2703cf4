//! Reading ahead: a sequential reader finds the next blocks in the store's memory.
//!
//! Invariant: one piece is being read at a time, nobody waits for it, and what goes wrong in it is
//! told by the read that needs the block, if there ever is one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use coldframe_chunks::{Backend, Located};
use coldframe_units::{BLOCK_BYTES, ChunkId};

use crate::{BlockError, DiskImage};

/// Reads that must follow each other before anything is read ahead.
const STREAK: u64 = 2;

/// What is to be read ahead.
struct Piece<B: Backend> {
    image: Arc<DiskImage<B>>,
    first: u64,
    count: u64,
}

/// Where reads came to.
#[derive(Debug, Default)]
struct Stream {
    end: u64,
    streak: u64,
    /// The block up to which all was asked for.
    asked: u64,
}

/// Watches reads, and has a thread that reads ahead of them.
pub(super) struct ReadAhead<B: Backend> {
    blocks: u64,
    stream: Mutex<Stream>,
    pieces: Mutex<Option<SyncSender<Piece<B>>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    chunks: Arc<AtomicU64>,
}

impl<B: Backend> ReadAhead<B> {
    /// `blocks` are read ahead; 0 is the off switch, and starts no thread.
    pub fn start(blocks: u64) -> Result<Self, BlockError> {
        let chunks = Arc::new(AtomicU64::new(0));
        let mut ahead = Self {
            blocks,
            stream: Mutex::default(),
            pieces: Mutex::default(),
            thread: Mutex::default(),
            chunks: Arc::clone(&chunks),
        };
        if blocks > 0 {
            let (sender, receiver) = sync_channel(0);
            let thread = std::thread::Builder::new()
                .name("block-ahead".into())
                .spawn(move || read(&receiver, &chunks))
                .map_err(|source| BlockError::Spawn { source })?;
            ahead.pieces = Mutex::new(Some(sender));
            ahead.thread = Mutex::new(Some(thread));
        }
        Ok(ahead)
    }

    /// Chunks that were read ahead.
    pub fn chunk_count(&self) -> u64 {
        self.chunks.load(Ordering::Relaxed)
    }

    /// Notes a read; the image is asked for only if there is something to do.
    pub fn note(&self, offset: u64, len: u64, image: impl FnOnce() -> Arc<DiskImage<B>>) {
        if self.blocks == 0 {
            return;
        }
        let next = (offset + len).div_ceil(BLOCK_BYTES);
        let first = {
            let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
            let goes_on = offset == stream.end;
            stream.streak = if goes_on { stream.streak + 1 } else { 0 };
            stream.end = offset + len;
            if !goes_on {
                stream.asked = 0;
            }
            // When half of what was asked for is used up, the next piece is due.
            if stream.streak < STREAK || next + self.blocks / 2 < stream.asked {
                return;
            }
            stream.asked.max(next)
        };
        let piece = Piece {
            image: image(),
            first,
            count: self.blocks,
        };
        let pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Ok(())) = pieces.as_ref().map(|pieces| match pieces.try_send(piece) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Err(()),
        }) {
            let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
            stream.asked = first + self.blocks;
        }
    }
}

impl<B: Backend> Drop for ReadAhead<B> {
    fn drop(&mut self) {
        *self.pieces.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that reads ahead panicked");
        }
    }
}

fn read<B: Backend>(pieces: &Receiver<Piece<B>>, chunks: &AtomicU64) {
    for piece in pieces {
        let ids = ids_of(&piece);
        if ids.is_empty() {
            continue;
        }
        let read = piece.image.chunks(&ids);
        let sound = read.iter().filter(|bytes| bytes.is_ok()).count() as u64;
        chunks.fetch_add(sound, Ordering::Relaxed);
        tracing::trace!(first = piece.first, chunks = sound, "read ahead");
    }
}

fn ids_of<B: Backend>(piece: &Piece<B>) -> Vec<ChunkId> {
    let end = piece.first + piece.count;
    let mut ids = Vec::new();
    let mut block = piece.first;
    while block < end {
        match piece.image.located(block, end - block) {
            Ok((Located::Chunk(id, _), _)) => ids.push(id),
            Ok((_, run)) => {
                block += run;
                continue;
            }
            Err(_) => return ids,
        }
        block += 1;
    }
    ids
}
