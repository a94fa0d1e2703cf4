//! One memory that many clones of a guest map: filled lazily and once, and never changed.
//!
//! The template is a memfd of RAM's size. Its owner alone has it mapped writable (the mirror), and
//! fills it through a userfaultfd on that mapping, with verified blocks; then it is sealed against
//! any other write and any change of its size (`F_SEAL_FUTURE_WRITE`, fcntl(2)). Clones map it
//! privately, from a descriptor that is open for reading, and are served as any lazy memory: a
//! fault in a block that nobody has touched yet fills the template, and wakes the clone. What the
//! template has, a clone finds without an event; what a clone writes is its own.
//!
//! # Invariants
//! - A byte of the template is written once, from the buffer in which it was checked, a page at a
//!   time: nobody can see half a page, and nobody can change one, the owner included.
//! - Blocks of zeros never fill it.
//! - Each block is fetched and checked once for all clones, unless the source fails.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use coldframe_uffd::{
    Features, Filled, HostAddr, Mapping, Modes, Origin, Sharing, Uffd, UffdError, Wake,
};
use coldframe_units::{BLOCK_BYTES, ByteLen};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::{BlockReader, BlockSource, Content, FaultError, Lazy, LazyEvent, LazyOptions};

/// Why a block of a template cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError<E: std::error::Error + 'static> {
    /// The source failed.
    #[error("the source failed")]
    Source(#[source] E),
    /// The kernel did not take the block.
    #[error("the template cannot be filled")]
    Fill(#[source] UffdError),
    /// The template had a page that nobody has filled.
    #[error("block {block} of the template was there before it was filled")]
    Foreign {
        /// Which.
        block: u64,
    },
}

/// What is known of a block that is not absent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Somebody fetches it.
    Fetching,
    /// The template has it.
    Filled,
    /// It is zero, and the template has nothing.
    Zero,
}

/// A template, and the source that it is filled from.
pub struct Template<S: BlockSource> {
    source: S,
    /// Lengths of the regions of RAM, in order.
    regions: Vec<ByteLen>,
    mirror: Mapping,
    uffd: Uffd,
    /// Open for reading: all that a clone may have.
    reading: File,
    states: Mutex<HashMap<u64, State>>,
    settled: Condvar,
}

impl<S: BlockSource> Template<S> {
    /// An empty template of RAM of these regions, in pages of the host's size.
    ///
    /// # Errors
    /// [`FaultError::Uffd`], [`FaultError::Template`]; [`FaultError::NoRegions`].
    pub fn new(regions: Vec<ByteLen>, source: S) -> Result<Arc<Self>, FaultError> {
        let total = regions
            .iter()
            .try_fold(0_u64, |sum, len| sum.checked_add(len.get()));
        let total = total
            .filter(|total| *total > 0)
            .ok_or(FaultError::NoRegions)?;
        let template = |source: std::io::Error| FaultError::Template { source };
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let memfd = memfd_create(c"coldframe-template", flags);
        let memfd = File::from(memfd.map_err(|errno| template(errno.into()))?);
        memfd.set_len(total).map_err(template)?;
        let mirror = Mapping::file(&memfd, 0, ByteLen::new(total), Sharing::Shared);
        let mirror = mirror.map_err(uffd_error)?;
        // Nobody faults in the mirror: it needs no privilege.
        let uffd = Uffd::open(Features::MISSING_SHMEM, Origin::UserModeOnly);
        let uffd = uffd.map_err(uffd_error)?;
        uffd.register(&mirror, Modes::MISSING).map_err(uffd_error)?;
        let seals = SealFlag::F_SEAL_FUTURE_WRITE
            | SealFlag::F_SEAL_GROW
            | SealFlag::F_SEAL_SHRINK
            | SealFlag::F_SEAL_SEAL;
        fcntl(memfd.as_fd(), FcntlArg::F_ADD_SEALS(seals))
            .map_err(|errno| template(errno.into()))?;
        let reading = reopened(&memfd).map_err(template)?;
        Ok(Arc::new(Self {
            source,
            regions,
            mirror,
            uffd,
            reading,
            states: Mutex::new(HashMap::new()),
            settled: Condvar::new(),
        }))
    }

    /// A descriptor of the template that is open for reading.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn descriptor(&self) -> std::io::Result<File> {
        self.reading.try_clone()
    }

    /// How many blocks it has.
    #[must_use]
    pub fn filled(&self) -> u64 {
        let states = self.lock();
        states
            .values()
            .filter(|state| **state == State::Filled)
            .count() as u64
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, State>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a block is, once nobody fetches it; `None` if that is the caller's to do now.
    fn settled(&self, block: u64) -> Option<State> {
        let mut states = self.lock();
        loop {
            match states.get(&block) {
                Some(State::Fetching) => {
                    let waited = self.settled.wait(states);
                    states = waited.unwrap_or_else(PoisonError::into_inner);
                }
                Some(state) => return Some(*state),
                None => {
                    states.insert(block, State::Fetching);
                    return None;
                }
            }
        }
    }

    /// Puts bytes that were checked into the template.
    fn fill(&self, block: u64, bytes: &[u8]) -> Result<(), TemplateError<S::Error>> {
        let mut done = 0;
        while done < bytes.len() {
            let offset = block * BLOCK_BYTES + done as u64;
            let at = HostAddr::new(self.mirror.addr().get() + offset);
            let rest = bytes.get(done..).unwrap_or_default();
            match self
                .uffd
                .copy(at, rest, Wake::Yes)
                .map_err(TemplateError::Fill)?
            {
                Filled::All => return Ok(()),
                Filled::Part { bytes } => done += bytes.get() as usize,
                // Nothing is given up that is sealed, and nobody else can fill it.
                Filled::Present | Filled::Changing => return Err(TemplateError::Foreign { block }),
            }
        }
        Ok(())
    }
}

impl<S: BlockSource + 'static> Template<S> {
    /// Memory for one more clone, in regions as the template's, and its service. What the clone
    /// writes is its own; what it has not written costs it nothing but page tables.
    ///
    /// Pages that it gives up are to be given up by [`TemplateClone::discard`]: after madvise(2)
    /// alone the template's bytes are seen again.
    ///
    /// # Errors
    /// As [`Lazy::new`].
    pub fn clone_memory(
        self: &Arc<Self>,
        options: LazyOptions,
        on_event: impl Fn(LazyEvent<TemplateError<S::Error>>) + Send + Sync + 'static,
    ) -> Result<TemplateClone<S>, FaultError> {
        let mut offset = 0;
        let mut memory = Vec::new();
        for len in &self.regions {
            let mapping = Mapping::file(&self.reading, offset, *len, Sharing::Private);
            memory.push(Arc::new(mapping.map_err(uffd_error)?));
            offset += len.get();
        }
        let source = TemplateSource(Arc::clone(self));
        let lazy = Lazy::new(memory.clone(), source, options, on_event)?;
        Ok(TemplateClone { memory, lazy })
    }
}

impl<S: BlockSource> std::fmt::Debug for Template<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Template")
            .field("mirror", &self.mirror)
            .field("filled", &self.filled())
            .finish_non_exhaustive()
    }
}

/// The memory of one clone.
#[derive(Debug)]
pub struct TemplateClone<S: BlockSource + 'static> {
    memory: Vec<Arc<Mapping>>,
    lazy: Lazy<TemplateSource<S>>,
}

impl<S: BlockSource + 'static> TemplateClone<S> {
    /// Its regions, in the order of RAM.
    #[must_use]
    pub fn memory(&self) -> &[Arc<Mapping>] {
        &self.memory
    }

    /// Its service.
    #[must_use]
    pub const fn lazy(&self) -> &Lazy<TemplateSource<S>> {
        &self.lazy
    }

    /// Gives up whole pages of a region: they read as zeros when this returns.
    ///
    /// # Errors
    /// [`FaultError::Uffd`].
    pub fn discard(&self, region: usize, offset: ByteLen, len: ByteLen) -> Result<(), FaultError> {
        let memory = self.memory.get(region).ok_or(FaultError::NoRegions)?;
        memory
            .discard(offset, len, Sharing::Private)
            .map_err(uffd_error)?;
        let page = memory.page().bytes();
        for at in (offset.get()..offset.get() + len.get()).step_by(page as usize) {
            let part = memory.part(ByteLen::new(at), ByteLen::new(page));
            if !self.lazy.zero_page(part.map_err(uffd_error)?)? {
                // A neighbour's fault has mapped the template's page meanwhile.
                memory.write_at(at as usize, &vec![0; page as usize]);
            }
        }
        Ok(())
    }
}

/// A template as the source of its clones' memory.
#[derive(Debug)]
pub struct TemplateSource<S: BlockSource>(Arc<Template<S>>);

impl<S: BlockSource + 'static> BlockSource for TemplateSource<S> {
    type Error = TemplateError<S::Error>;
    type Reader<'a> = TemplateReader<'a, S>;

    fn reader(&self) -> Result<TemplateReader<'_, S>, Self::Error> {
        Ok(TemplateReader {
            template: &self.0,
            reader: None,
        })
    }

    fn is_mapped(&self, block: u64) -> bool {
        self.0.lock().get(&block) == Some(&State::Filled)
    }
}

/// Has blocks of a template filled.
pub struct TemplateReader<'a, S: BlockSource + 'a> {
    template: &'a Template<S>,
    reader: Option<S::Reader<'a>>,
}

/// Gives a block up that its thread has not filled, however it came to that: the next one tries.
struct Fetching<'a, S: BlockSource> {
    template: &'a Template<S>,
    block: u64,
    becomes: Option<State>,
}

impl<S: BlockSource> Drop for Fetching<'_, S> {
    fn drop(&mut self) {
        let mut states = self.template.lock();
        match self.becomes {
            Some(state) => states.insert(self.block, state),
            None => states.remove(&self.block),
        };
        drop(states);
        self.template.settled.notify_all();
    }
}

impl<S: BlockSource + 'static> BlockReader for TemplateReader<'_, S> {
    type Error = TemplateError<S::Error>;

    fn read(&mut self, block: u64, buf: &mut [u8]) -> Result<Content, Self::Error> {
        let state = self.template.settled(block);
        let state = match state {
            Some(state) => state,
            None => self.fetch(block, buf)?,
        };
        Ok(match state {
            State::Zero => Content::Zero,
            State::Filled | State::Fetching => Content::Mapped,
        })
    }
}

impl<'a, S: BlockSource + 'static> TemplateReader<'a, S> {
    fn fetch(&mut self, block: u64, buf: &mut [u8]) -> Result<State, TemplateError<S::Error>> {
        let mut fetching = Fetching {
            template: self.template,
            block,
            becomes: None,
        };
        let template: &'a Template<S> = self.template;
        let reader = match &mut self.reader {
            Some(reader) => reader,
            empty => empty.insert(template.source.reader().map_err(TemplateError::Source)?),
        };
        let content = reader.read(block, buf).map_err(TemplateError::Source)?;
        let state = match content {
            Content::Data => {
                template.fill(block, buf)?;
                State::Filled
            }
            Content::Zero => State::Zero,
            Content::Mapped => return Err(TemplateError::Foreign { block }),
        };
        fetching.becomes = Some(state);
        Ok(state)
    }
}

/// The same file by a descriptor of its own that is open for reading (proc_pid_fd(5)).
fn reopened(memfd: &File) -> std::io::Result<File> {
    use std::os::fd::AsRawFd as _;

    File::open(format!("/proc/self/fd/{}", memfd.as_raw_fd()))
}

fn uffd_error(source: UffdError) -> FaultError {
    FaultError::Uffd { source }
}
