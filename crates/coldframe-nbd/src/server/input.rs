//! What a client sends, buffered. Invariants: between messages a client may be silent for ever;
//! once a message began, all of it comes before its deadline; nothing is read past what was
//! asked for but into the buffer, whose size is fixed.

use std::io;
use std::time::{Duration, Instant};

use super::channel::Channel;
use super::timed_out;

const BUFFER_BYTES: usize = 32 << 10;

/// The longest to look for a message before sleeping, and the longest wait after which that is
/// worth it: about what being woken takes on a virtual machine's idle processor.
const WATCH_MAX: Duration = Duration::from_micros(100);

/// The receiving side of a connection.
pub(super) struct Input {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// How long the next wait begins with looking instead of sleeping.
    watch: Duration,
    /// Nothing more is to be read.
    pub is_over: bool,
}

impl Input {
    pub(super) fn new() -> Self {
        Self {
            buffer: vec![0; BUFFER_BYTES].into(),
            start: 0,
            end: 0,
            watch: Duration::ZERO,
            is_over: false,
        }
    }

    /// Bytes that are here already.
    pub(super) fn buffered(&self) -> usize {
        self.end - self.start
    }

    /// Waits for a message to begin, and takes its first `N` bytes; none at the end of input, or
    /// once `is_stopping`. `idle` runs before each wait.
    pub(super) fn begin<const N: usize>(
        &mut self,
        channel: &Channel,
        timeout: Duration,
        is_stopping: impl Fn() -> bool,
        idle: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<Option<[u8; N]>> {
        if self.buffered() < N {
            idle()?;
        }
        if self.buffered() == 0 {
            let began = Instant::now();
            self.watch(channel, began);
            while self.buffered() == 0 {
                if is_stopping() {
                    return Ok(None);
                }
                match self.fill(channel) {
                    Ok(0) => return Ok(None),
                    Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                    _ => {}
                }
            }
            let is_short = began.elapsed() <= WATCH_MAX;
            self.watch = if is_short { WATCH_MAX } else { Duration::ZERO };
        }
        if is_stopping() {
            return Ok(None);
        }
        let mut bytes = [0; N];
        self.read_exact(&mut bytes, channel, Instant::now() + timeout)?;
        Ok(Some(bytes))
    }

    /// Looks whether a message is coming, for a while, if the last one came as soon as that: to be
    /// woken takes longer than many a request. Other threads that want the processor get it.
    fn watch(&self, channel: &Channel, began: Instant) {
        while began.elapsed() < self.watch && channel.is_quiet() {
            std::thread::yield_now();
        }
    }

    /// Fills `buf`.
    pub(super) fn read_exact(
        &mut self,
        mut buf: &mut [u8],
        channel: &Channel,
        deadline: Instant,
    ) -> io::Result<()> {
        loop {
            let len = self.buffered().min(buf.len());
            let (front, rest) = buf.split_at_mut(len);
            front.copy_from_slice(&self.buffer[self.start..][..len]);
            self.start += len;
            buf = rest;
            if buf.is_empty() {
                return Ok(());
            }
            // What is as long as the buffer goes where it belongs without a copy.
            let read = if buf.len() >= BUFFER_BYTES {
                channel.read(buf).inspect(|&len| {
                    buf = &mut std::mem::take(&mut buf)[len..];
                })
            } else {
                self.fill(channel)
            };
            match read {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ if Instant::now() >= deadline => return Err(timed_out()),
                _ => {}
            }
        }
    }

    /// Reads `len` bytes and forgets them.
    pub(super) fn skip(
        &mut self,
        len: u32,
        channel: &Channel,
        deadline: Instant,
    ) -> io::Result<()> {
        let mut left = len as usize;
        loop {
            let part = left.min(self.buffered());
            self.start += part;
            left -= part;
            if left == 0 {
                return Ok(());
            }
            match self.fill(channel) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ if Instant::now() >= deadline => return Err(timed_out()),
                _ => {}
            }
        }
    }

    /// One read into the buffer, which is empty or has room.
    fn fill(&mut self, channel: &Channel) -> io::Result<usize> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let len = channel.read(&mut self.buffer[self.end..])?;
        self.end += len;
        Ok(len)
    }
}
