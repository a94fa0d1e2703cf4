//! Events of a userfaultfd: read many at a time into a buffer that is made once.
//!
//! # Safety
//! A fork event carries a descriptor as a number. The kernel made it for the reader of the event
//! (userfaultfd(2)), so the code that decodes the message owns it; each message is decoded once, by
//! the one iterator over it, or when that is dropped.
#![allow(unsafe_code)]

use std::os::fd::{FromRawFd as _, OwnedFd};

use linux_raw_sys::general as raw;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{HostAddr, HostRange};

/// `struct uffd_msg` of linux/userfaultfd.h: a kind, 7 reserved bytes, and what the kind says.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Message {
    kind: u8,
    reserved: [u8; 7],
    words: [u64; 3],
}

const _: () = assert!(size_of::<Message>() == size_of::<raw::uffd_msg>());
const _: () = assert!(std::mem::offset_of!(Message, words) == 8);

/// Why a thread sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The page is not there.
    Missing,
    /// The page is under write protection.
    WriteProtected,
    /// The page is in the page cache and not mapped.
    Minor,
}

/// A thread sleeps until the page is there. The same fault may be reported again, also after it was
/// answered: a signal takes the thread out of its sleep and back in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageFault {
    /// Where: the page's first byte, or with [`EXACT_ADDRESS`](crate::Features::EXACT_ADDRESS) that
    /// of the access.
    pub addr: HostAddr,
    /// Why.
    pub kind: FaultKind,
    /// Whether it was a write.
    pub is_write: bool,
    /// Which thread, with [`THREAD_ID`](crate::Features::THREAD_ID); otherwise 0.
    pub thread: u32,
}

/// What happened to memory that is registered.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// A thread waits for a page.
    PageFault(PageFault),
    /// The process has forked. The registrations of the child are those of a userfaultfd of its
    /// own, which has to be served, or dropped.
    Fork {
        /// The child's.
        child: OwnedFd,
    },
    /// mremap(2) has moved memory.
    Remap {
        /// Where it was.
        from: HostAddr,
        /// Where it is.
        to: HostAddr,
        /// How many bytes.
        len: u64,
    },
    /// Memory is being given up: what is there now goes when this event was read.
    Remove(HostRange),
    /// Memory is no longer mapped.
    Unmap(HostRange),
    /// An event that this crate does not know, or one that makes no sense.
    Unknown {
        /// The kernel's number of its kind.
        kind: u8,
    },
}

impl Message {
    /// # Safety
    /// The message is from the kernel, and decoded once.
    unsafe fn decode(self) -> Event {
        let [first, second, third] = self.words;
        let range = HostRange::between(HostAddr::new(first), HostAddr::new(second));
        let unknown = Event::Unknown { kind: self.kind };
        match u32::from(self.kind) {
            raw::UFFD_EVENT_PAGEFAULT => Event::PageFault(fault(first, second, third)),
            raw::UFFD_EVENT_FORK => match i32::try_from(first & 0xffff_ffff) {
                Ok(fd) if fd >= 0 => {
                    // SAFETY: the kernel has made the descriptor for the reader of this message,
                    // and the caller promises that it is decoded once.
                    let child = unsafe { OwnedFd::from_raw_fd(fd) };
                    Event::Fork { child }
                }
                _ => unknown,
            },
            raw::UFFD_EVENT_REMAP => Event::Remap {
                from: HostAddr::new(first),
                to: HostAddr::new(second),
                len: third,
            },
            raw::UFFD_EVENT_REMOVE => range.map_or(unknown, Event::Remove),
            raw::UFFD_EVENT_UNMAP => range.map_or(unknown, Event::Unmap),
            _ => unknown,
        }
    }
}

fn fault(flags: u64, addr: u64, thread: u64) -> PageFault {
    let has = |flag: u32| flags & u64::from(flag) != 0;
    let kind = if has(raw::UFFD_PAGEFAULT_FLAG_WP) {
        FaultKind::WriteProtected
    } else if has(raw::UFFD_PAGEFAULT_FLAG_MINOR) {
        FaultKind::Minor
    } else {
        FaultKind::Missing
    };
    PageFault {
        addr: HostAddr::new(addr),
        kind,
        is_write: has(raw::UFFD_PAGEFAULT_FLAG_WRITE),
        // The lower half of a word; the upper one is not written.
        thread: u32::try_from(thread & 0xffff_ffff).unwrap_or(0),
    }
}

/// Room for events, made once and used for every read.
pub struct EventBuffer {
    messages: Box<[Message]>,
}

impl EventBuffer {
    /// Room for so many, at least one.
    #[must_use]
    pub fn new(events: usize) -> Self {
        let empty = Message {
            kind: 0,
            reserved: [0; 7],
            words: [0; 3],
        };
        Self {
            messages: vec![empty; events.max(1)].into_boxed_slice(),
        }
    }

    pub(crate) fn as_mut_bytes(&mut self) -> &mut [u8] {
        self.messages.as_mut_bytes()
    }

    /// The events in the first `bytes` of the buffer.
    ///
    /// # Safety
    /// A read of a userfaultfd has just written them, and nothing has decoded them yet.
    pub(crate) unsafe fn filled(&mut self, bytes: usize) -> Events<'_> {
        let whole = bytes / size_of::<Message>();
        let messages = self.messages.get(..whole).unwrap_or_default();
        Events {
            messages: messages.iter(),
        }
    }
}

impl std::fmt::Debug for EventBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EventBuffer({})", self.messages.len())
    }
}

/// The events of one read, in the order in which the kernel hands them out: faults first. That is
/// not the order in which they happened, so all others are to be heeded before any fault.
pub struct Events<'a> {
    messages: std::slice::Iter<'a, Message>,
}

impl Iterator for Events<'_> {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        let message = self.messages.next()?;
        // SAFETY: `EventBuffer::filled` is promised messages of the kernel that nobody has decoded;
        // it is borrowed by this iterator, which passes each of them once.
        Some(unsafe { message.decode() })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.messages.size_hint()
    }
}

impl ExactSizeIterator for Events<'_> {}

impl Drop for Events<'_> {
    /// Descriptors in events that nobody took are closed.
    fn drop(&mut self) {
        self.for_each(drop);
    }
}

impl std::fmt::Debug for Events<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Events({})", self.messages.len())
    }
}

#[cfg(test)]
mod tests;
