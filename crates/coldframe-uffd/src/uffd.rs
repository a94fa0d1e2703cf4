//! A userfaultfd: registrations, answers to faults, and the reading of events.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use coldframe_units::ByteLen;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::event::{EventBuffer, Events};
use crate::open::open;
use crate::sys::{self, Answer};
use crate::{
    Features, HostAddr, HostRange, Ioctls, Mapping, Modes, Operation, Origin, Support, UffdError,
};

/// `UFFDIO_*_MODE_DONTWAKE`: the same bit in all calls that fill memory.
const DONTWAKE: u64 = 1;
/// `UFFDIO_COPY_MODE_WP`, `UFFDIO_CONTINUE_MODE_WP`.
const FILL_WP: u64 = 2;
/// `UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES`.
const ALLOW_HOLES: u64 = 2;
/// `UFFDIO_WRITEPROTECT_MODE_WP`, `UFFDIO_WRITEPROTECT_MODE_DONTWAKE`.
const PROTECT: u64 = 1;
const PROTECT_DONTWAKE: u64 = 2;

/// Whether a call wakes the threads that sleep in what it has filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// It does.
    Yes,
    /// They sleep until [`Uffd::wake`].
    No,
}

/// Whether pages are under write protection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// A write to them raises a fault.
    Protected,
    /// They may be written to.
    Writable,
}

/// How far a call got that fills memory. All of these are answers that the protocol of the kernel
/// has room for, so none is an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "what was not filled has to be asked for again, or its threads woken"]
pub enum Filled {
    /// The whole range.
    All,
    /// So many bytes from the start of the range, at least one page. Why no more, the kernel does
    /// not say: a call for the rest does. Threads in the part that was filled are awake.
    Part {
        /// How many.
        bytes: ByteLen,
    },
    /// Nothing, as the first page is there already (`EEXIST`). Threads that sleep in it stay asleep
    /// until [`Uffd::wake`].
    Present,
    /// Nothing, as an event about memory waits to be read (`EAGAIN`). Until it was read, the same
    /// answer comes.
    Changing,
}

impl Filled {
    fn of(answer: Answer, len: u64) -> Result<Self, Errno> {
        // The count is signed, and negative for an error; it is what counts if part was done.
        let done = u64::try_from(answer.count).unwrap_or(0).min(len);
        match answer.errno {
            None if done == len => Ok(Self::All),
            _ if done > 0 => Ok(Self::Part {
                bytes: ByteLen::new(done),
            }),
            None | Some(Errno::EAGAIN) => Ok(Self::Changing),
            Some(Errno::EEXIST) => Ok(Self::Present),
            Some(errno) => Err(errno),
        }
    }
}

/// A userfaultfd (userfaultfd(2)), always non-blocking. It handles the faults of the process in
/// which it was opened, wherever the descriptor was sent since.
///
/// While one is open, a fault in a range that it is registered for waits for an answer. When its
/// last descriptor is closed, all that was registered becomes ordinary memory, and waiting threads
/// find **zeros** there: threads that may not see zeros have to be ended first.
#[derive(Debug)]
pub struct Uffd {
    fd: OwnedFd,
    features: Option<Features>,
}

impl Uffd {
    /// Opens one with `features`. `/dev/userfaultfd` is tried first, then the system call.
    ///
    /// # Errors
    /// [`UffdError::Open`] with the answers to both, [`UffdError::MissingFeatures`],
    /// [`UffdError::Handshake`].
    pub fn open(features: Features, origin: Origin) -> Result<Self, UffdError> {
        // A handshake that fails uses the descriptor up, and does not say what is missing.
        Support::probe(origin)?.require(features)?;
        let (fd, _) = open(origin)?;
        sys::api(fd.as_fd(), features.bits()).map_err(|errno| UffdError::Handshake {
            source: errno.into(),
        })?;
        Ok(Self {
            fd,
            features: Some(features),
        })
    }

    /// Takes one that another process has opened and set up, as Firecracker does, and sent here
    /// (unix(7), `SCM_RIGHTS`). All calls are then about that process's memory. It is made
    /// non-blocking if it is not, for the sender too: a blocking one cannot be waited for.
    ///
    /// # Errors
    /// [`UffdError::NotAUserfaultfd`], [`UffdError::Adopt`].
    pub fn adopt(fd: OwnedFd) -> Result<Self, UffdError> {
        check_kind(&fd)?;
        let adopt = |errno: Errno| UffdError::Adopt {
            source: errno.into(),
        };
        let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL).map_err(adopt)?);
        if !flags.contains(OFlag::O_NONBLOCK) {
            fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).map_err(adopt)?;
        }
        Ok(Self { fd, features: None })
    }

    /// The features that it was opened with; `None` of one that was adopted, as the kernel does not
    /// say.
    #[must_use]
    pub const fn features(&self) -> Option<Features> {
        self.features
    }

    /// Registers a mapping: from now on its faults come here. Says which calls it takes. Memory of
    /// a child is not registered: see [`Mapping`].
    ///
    /// # Errors
    /// [`UffdError::Register`]: `EINVAL` for a kind of memory that `modes` are not possible on,
    /// `EBUSY` if it is registered with another userfaultfd.
    pub fn register(&self, mapping: &Mapping, modes: Modes) -> Result<Ioctls, UffdError> {
        #[expect(unsafe_code)]
        // SAFETY: no reference points into a `Mapping`; see its module.
        unsafe {
            self.register_range(mapping.range(), modes)
        }
    }

    /// Registers any range of whole pages, also one of memory that was mapped by other means.
    ///
    /// # Errors
    /// As [`register`](Self::register).
    ///
    /// # Safety
    /// If the userfaultfd is this process's, no Rust reference points into `range`, now or for as
    /// long as something is mapped there: its bytes change when faults are answered.
    #[expect(unsafe_code)]
    pub unsafe fn register_range(
        &self,
        range: HostRange,
        modes: Modes,
    ) -> Result<Ioctls, UffdError> {
        // SAFETY: the caller's promise.
        let registered = unsafe { sys::register(self.as_fd(), range, modes.bits()) };
        registered
            .map(Ioctls::from_bits)
            .map_err(|errno| UffdError::Register {
                range,
                modes,
                source: errno.into(),
            })
    }

    /// Makes a range ordinary memory again and wakes all threads in it: pages that are not there
    /// become zeros on access.
    ///
    /// # Errors
    /// [`UffdError::Range`].
    pub fn unregister(&self, range: HostRange) -> Result<(), UffdError> {
        let done = sys::unregister(self.as_fd(), range);
        done.map_err(failed(Operation::Unregister, range))
    }

    /// Wakes the threads that sleep in `range`. Those whose page is not there sleep again, with a
    /// new event.
    ///
    /// # Errors
    /// [`UffdError::Range`].
    pub fn wake(&self, range: HostRange) -> Result<(), UffdError> {
        let woken = sys::wake(self.as_fd(), range.start().get(), range.len().get());
        woken.map_err(failed(Operation::Wake, range))
    }

    /// Fills missing pages from `dst` on with bytes, whole pages. Each page appears at once and
    /// complete.
    ///
    /// # Errors
    /// [`UffdError::Range`]; see [`UffdError::is_process_gone`], [`UffdError::is_unregistered`],
    /// [`UffdError::is_out_of_memory`].
    pub fn copy(&self, dst: HostAddr, src: &[u8], wake: Wake) -> Result<Filled, UffdError> {
        self.copy_with(dst, src, dontwake(wake))
    }

    /// The same, and puts the pages under write protection before anybody sees them.
    ///
    /// # Errors
    /// As [`copy`](Self::copy).
    pub fn copy_protected(
        &self,
        dst: HostAddr,
        src: &[u8],
        wake: Wake,
    ) -> Result<Filled, UffdError> {
        self.copy_with(dst, src, dontwake(wake) | FILL_WP)
    }

    fn copy_with(&self, dst: HostAddr, src: &[u8], mode: u64) -> Result<Filled, UffdError> {
        let range = range_of(Operation::Copy, dst, src.len() as u64)?;
        let answer = sys::copy(self.as_fd(), dst.get(), src, mode);
        filled(Operation::Copy, range, answer)
    }

    /// Fills missing pages with zeros; on anonymous memory no page is allocated until it is written
    /// to. Not possible on hugetlbfs ([`Ioctls::ZEROPAGE`]).
    ///
    /// # Errors
    /// As [`copy`](Self::copy).
    pub fn zeropage(&self, range: HostRange, wake: Wake) -> Result<Filled, UffdError> {
        let answer = sys::zeropage(self.as_fd(), range, dontwake(wake));
        filled(Operation::ZeroPage, range, answer)
    }

    /// Maps pages that are in the page cache, for a range registered for [`Modes::MINOR`].
    ///
    /// # Errors
    /// As [`copy`](Self::copy); `EFAULT` if the page cache has no such page.
    pub fn continue_pages(&self, range: HostRange, wake: Wake) -> Result<Filled, UffdError> {
        let answer = sys::continue_pages(self.as_fd(), range, dontwake(wake));
        filled(Operation::Continue, range, answer)
    }

    /// The same, under write protection.
    ///
    /// # Errors
    /// As [`continue_pages`](Self::continue_pages).
    pub fn continue_protected(&self, range: HostRange, wake: Wake) -> Result<Filled, UffdError> {
        let answer = sys::continue_pages(self.as_fd(), range, dontwake(wake) | FILL_WP);
        filled(Operation::Continue, range, answer)
    }

    /// Makes missing pages ones whose access raises SIGBUS, or fails with `EFAULT` or `EHWPOISON`
    /// in a call, until they are filled or given up. Needs [`Features::POISON`].
    ///
    /// # Errors
    /// As [`copy`](Self::copy).
    pub fn poison(&self, range: HostRange, wake: Wake) -> Result<Filled, UffdError> {
        let answer = sys::poison(self.as_fd(), range, dontwake(wake));
        filled(Operation::Poison, range, answer)
    }

    /// Fills missing pages of anonymous memory with pages of `from`, without a copy: the pages
    /// there are missing after that, or zero. Those of `from` that are missing count as moved.
    /// Needs [`Features::MOVE`], and both in one process.
    ///
    /// # Errors
    /// [`UffdError::OutsideMapping`]; as [`copy`](Self::copy), and `EBUSY` if a page of `from` is
    /// shared or pinned.
    pub fn move_pages(
        &self,
        dst: HostAddr,
        from: &Mapping,
        offset: ByteLen,
        len: ByteLen,
        wake: Wake,
    ) -> Result<Filled, UffdError> {
        let src = from.part(offset, len)?;
        let range = range_of(Operation::Move, dst, len.get())?;
        let mode = dontwake(wake) | ALLOW_HOLES;
        #[expect(unsafe_code)]
        // SAFETY: no reference points into a `Mapping`; see its module.
        let answer = unsafe { sys::move_pages(self.as_fd(), dst.get(), src, mode) };
        filled(Operation::Move, range, answer)
    }

    /// Puts pages under write protection, or lifts it. With [`Wake::Yes`] lifting wakes the threads
    /// that wait to write.
    ///
    /// # Errors
    /// [`UffdError::Range`]; its [`errno`](UffdError::errno) is `EAGAIN` while an event about
    /// memory waits to be read, and nothing is known of the range then: the call is to be repeated.
    pub fn write_protect(
        &self,
        range: HostRange,
        protection: Protection,
        wake: Wake,
    ) -> Result<(), UffdError> {
        let mode = match (protection, wake) {
            // Nobody is woken by protection.
            (Protection::Protected, _) => PROTECT,
            (Protection::Writable, Wake::Yes) => 0,
            (Protection::Writable, Wake::No) => PROTECT_DONTWAKE,
        };
        let done = sys::write_protect(self.as_fd(), range, mode);
        done.map_err(failed(Operation::WriteProtect, range))
    }

    /// Waits until there is an event, for ever or for so long; false if the time passed. A signal
    /// does not end it.
    ///
    /// # Errors
    /// [`UffdError::Wait`].
    pub fn wait(&self, timeout: Option<Duration>) -> Result<bool, UffdError> {
        let until = timeout.map(|timeout| Instant::now() + timeout);
        loop {
            let rest = until.map(|until| until.saturating_duration_since(Instant::now()));
            // Rounded up: not to turn the last millisecond into a busy loop.
            let rest = rest.map(|rest| rest + Duration::from_micros(999));
            let timeout = rest.map_or(PollTimeout::NONE, |rest| {
                PollTimeout::try_from(rest).unwrap_or(PollTimeout::MAX)
            });
            let mut fds = [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
            let found = match poll(&mut fds, timeout) {
                Ok(found) => found,
                Err(Errno::EINTR) => continue,
                Err(errno) => {
                    return Err(UffdError::Wait {
                        source: errno.into(),
                    });
                }
            };
            let [fd] = fds;
            let is_over = until.is_some_and(|until| Instant::now() >= until);
            match fd.revents() {
                Some(events) if events.contains(PollFlags::POLLIN) => return Ok(true),
                _ if found == 0 && is_over => return Ok(false),
                _ if found == 0 => {}
                _ => {
                    let source = io::Error::from_raw_os_error(libc::EBADF);
                    return Err(UffdError::Wait { source });
                }
            }
        }
    }

    /// Reads the events that are there, as many as `buffer` has room for; none is no error. Nothing
    /// is allocated: a thread that forks may hold the allocator's locks until its event is read.
    ///
    /// # Errors
    /// [`UffdError::Read`].
    pub fn read<'a>(&self, buffer: &'a mut EventBuffer) -> Result<Events<'a>, UffdError> {
        let bytes = match nix::unistd::read(&self.fd, buffer.as_mut_bytes()) {
            Ok(bytes) => bytes,
            Err(Errno::EAGAIN | Errno::EINTR) => 0,
            Err(errno) => {
                return Err(UffdError::Read {
                    source: errno.into(),
                });
            }
        };
        #[expect(unsafe_code)]
        // SAFETY: the read above has written these bytes, and nothing has seen them.
        let events = unsafe { buffer.filled(bytes) };
        Ok(events)
    }

    /// Another descriptor of the same userfaultfd: a registration ends when the last is closed.
    ///
    /// # Errors
    /// [`UffdError::Adopt`].
    pub fn try_clone(&self) -> Result<Self, UffdError> {
        let fd = self.fd.try_clone();
        Ok(Self {
            fd: fd.map_err(|source| UffdError::Adopt { source })?,
            features: self.features,
        })
    }

    /// Its descriptor, to be sent to another process.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }
}

impl AsFd for Uffd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

const fn dontwake(wake: Wake) -> u64 {
    match wake {
        Wake::Yes => 0,
        Wake::No => DONTWAKE,
    }
}

fn range_of(operation: Operation, start: HostAddr, len: u64) -> Result<HostRange, UffdError> {
    HostRange::new(start, ByteLen::new(len)).ok_or(UffdError::BadRange {
        operation,
        start: start.get(),
        len,
    })
}

fn failed(operation: Operation, range: HostRange) -> impl Fn(Errno) -> UffdError {
    move |errno| UffdError::Range {
        operation,
        range,
        source: errno.into(),
    }
}

fn filled(operation: Operation, range: HostRange, answer: Answer) -> Result<Filled, UffdError> {
    Filled::of(answer, range.len().get()).map_err(failed(operation, range))
}

/// By the name that /proc has for the descriptor; without /proc by a call that a userfaultfd
/// refuses in its own way, and that does nothing on anything else.
fn check_kind(fd: &OwnedFd) -> Result<(), UffdError> {
    const NAME: &str = "anon_inode:[userfaultfd]";
    let what = match std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())) {
        Ok(name) if name.as_os_str() == NAME => return Ok(()),
        Ok(name) => name.to_string_lossy().into_owned(),
        // An empty range is invalid.
        Err(_) => match sys::wake(fd.as_fd(), 0, 0) {
            Err(Errno::EINVAL) => return Ok(()),
            Err(errno) => format!("it answers {errno} to UFFDIO_WAKE"),
            Ok(()) => "it takes an empty range".to_owned(),
        },
    };
    Err(UffdError::NotAUserfaultfd { what })
}

#[cfg(test)]
mod tests;
