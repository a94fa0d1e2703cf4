//! The thread on which all requests run, for callers that know nothing of it.
//!
//! Invariants: no task holds the runtime, so the last to drop it is never one of its own tasks;
//! a caller waits on a plain channel, so it may be a thread of any kind.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// A thread with an async runtime, which ends when this is dropped.
pub(crate) struct Runtime {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Runtime")
    }
}

impl Runtime {
    pub fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("coldframe-remote".to_owned());
        let thread = thread.spawn(move || {
            // An error says that the sender is gone, which is the order to stop as well.
            let _ = runtime.block_on(stopped);
            // Name look-ups that hang must not hang whoever drops this.
            runtime.shutdown_background();
        })?;
        Ok(Self {
            handle,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Runs a future to its end, the caller waiting; `None` if it panicked. Callers may be in a
    /// destructor: a second panic there would end the process.
    pub fn run<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = sync_channel(1);
        self.spawn(async move {
            let _ = answer.send(future.await);
        });
        answered.recv().ok()
    }

    /// Runs a future beside everything else.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.handle.spawn(future);
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
