//! The thread that brings changes into the store before memory or log are full.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use coldframe_chunks::Backend;
use coldframe_storage::Storage;

use crate::BlockError;
use crate::device::inner::Inner;

/// How long to wait after an attempt that did not help.
const BACK_OFF: Duration = Duration::from_secs(1);

/// What the thread is to do.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    fold: bool,
    stop: bool,
}

impl<B: Backend, S: Storage> Inner<B, S> {
    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the thread look whether there is something to do.
    pub(super) fn want_fold(&self) {
        let mut wanted = self.wanted();
        if !wanted.fold {
            wanted.fold = true;
            self.wake.notify_all();
        }
    }

    /// Whether memory or log are half full.
    pub(super) fn is_pressed(&self) -> bool {
        let log = self.log.stats();
        let memory = self.dirty_bytes() >= self.options.dirty_bytes_max / 2
            || self.ingested.held() >= self.ingest_max();
        memory || log.used.get() >= log.ring.get() / 2
    }

    fn work(&self) {
        loop {
            let is_idle = |wanted: &mut Wanted| !wanted.fold && !wanted.stop;
            let woken = self.wake.wait_while(self.wanted(), is_idle);
            let mut wanted = woken.unwrap_or_else(PoisonError::into_inner);
            if wanted.stop {
                return;
            }
            wanted.fold = false;
            drop(wanted);
            if !self.is_pressed() {
                continue;
            }
            let folds = self.fold_count();
            if let Err(error) = self.fold_since(folds) {
                let source = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(%error, source, "changes stay in the log");
            }
            if self.is_pressed() {
                let stays = |wanted: &mut Wanted| !wanted.stop;
                drop(self.wake.wait_timeout_while(self.wanted(), BACK_OFF, stays));
            }
        }
    }
}

/// The running thread; stopped and waited for when dropped.
pub(super) struct Worker {
    stop: Box<dyn Fn() + Send + Sync>,
    /// Lets others fold again, who come after the thread.
    stopped: Box<dyn Fn() + Send + Sync>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    pub fn start<B: Backend, S: Storage + 'static>(
        inner: &Arc<Inner<B, S>>,
    ) -> Result<Self, BlockError> {
        let (working, stopping) = (Arc::clone(inner), Arc::downgrade(inner));
        let thread = std::thread::Builder::new()
            .name("block-fold".into())
            .spawn(move || working.work())
            .map_err(|source| BlockError::Spawn { source })?;
        let stop = move || {
            if let Some(inner) = stopping.upgrade() {
                inner.is_stopping.store(true, Ordering::Release);
                inner.wanted().stop = true;
                inner.wake.notify_all();
            }
        };
        let stopped = Arc::downgrade(inner);
        let stopped = move || {
            if let Some(inner) = stopped.upgrade() {
                inner.is_stopping.store(false, Ordering::Release);
            }
        };
        Ok(Self {
            stop: Box::new(stop),
            stopped: Box::new(stopped),
            thread: Some(thread),
        })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        (self.stop)();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that brings changes into the store panicked");
        }
        (self.stopped)();
    }
}
