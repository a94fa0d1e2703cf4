//! The steps of the core as calls of the kernel.

use std::time::Duration;

use coldframe_uffd::{Filled, HostAddr, HostRange, Uffd, UffdError, Wake};
use coldframe_units::{PageIndex, PageRun};

use super::range;
use crate::{Answer, BlockIndex, Geometry, Step};

/// Out of memory is tried again so often, each time after twice as long: a balloon that gives
/// memory back needs its events read meanwhile.
const TRIES: u32 = 6;
const PAUSE: Duration = Duration::from_millis(1);

/// How often a call has found no memory.
#[derive(Debug, Default)]
pub(super) struct Patience(u32);

impl Patience {
    /// How long to wait before the next try, if there is one.
    pub(super) fn next(&mut self) -> Option<Duration> {
        self.0 += 1;
        (self.0 <= TRIES).then(|| PAUSE * (1 << self.0))
    }
}

pub(super) struct Calls<'a> {
    pub(super) uffd: &'a Uffd,
    pub(super) geometry: &'a Geometry,
    /// Whether the kernel can fill with zeros by itself; not in huge pages.
    pub(super) has_zeropage: bool,
}

impl Calls<'_> {
    /// Makes the call of a step about a block whose bytes are `data`. `None` if there was no memory
    /// for it.
    pub(super) fn make(&self, block: BlockIndex, step: Step, data: &mut [u8]) -> Option<Answer> {
        let filled = match step {
            Step::Copy(run) => self.copy(block, run, data),
            Step::Zero(run) if self.has_zeropage => {
                self.in_range(run, |range| self.uffd.zeropage(range, Wake::Yes))
            }
            Step::Zero(run) => {
                let zeros = vec![0; self.len(run)];
                self.in_range(run, |range| {
                    self.uffd.copy(range.start(), &zeros, Wake::Yes)
                })
            }
            Step::Poison(run) => self.in_range(run, |range| self.uffd.poison(range, Wake::Yes)),
            Step::Wake(run) => {
                self.in_range(run, |range| self.uffd.wake(range).map(|()| Filled::All))
            }
            Step::ReadEvents | Step::Done => return Some(Answer::All),
        };
        match filled {
            Ok(filled) => Some(self.answer(filled)),
            Err(Some(error)) if error.is_out_of_memory() => None,
            Err(error) => Some(failed(error.as_ref())),
        }
    }

    fn copy(
        &self,
        block: BlockIndex,
        run: PageRun,
        data: &[u8],
    ) -> Result<Filled, Option<UffdError>> {
        let page = self.geometry.page().bytes();
        let start = block.get() * self.geometry.block().bytes();
        let skip = usize::try_from(run.start().get() * page - start).ok();
        let bytes = skip.and_then(|skip| data.get(skip..)?.get(..self.len(run)));
        let at = self.host(run.start());
        match (at, bytes) {
            (Some(at), Some(bytes)) => Ok(self.uffd.copy(at, bytes, Wake::Yes)?),
            _ => Err(None),
        }
    }

    fn in_range(
        &self,
        run: PageRun,
        call: impl FnOnce(HostRange) -> Result<Filled, UffdError>,
    ) -> Result<Filled, Option<UffdError>> {
        let start = self.host(run.start()).ok_or(None)?;
        let range = range(start.get(), self.len(run) as u64).ok_or(None)?;
        Ok(call(range)?)
    }

    fn host(&self, page: PageIndex) -> Option<HostAddr> {
        self.geometry.host_of(page).map(HostAddr::new)
    }

    /// A run is in one block, at most 1 GiB.
    const fn len(&self, run: PageRun) -> usize {
        (run.count() * self.geometry.page().bytes()) as usize
    }

    fn answer(&self, filled: Filled) -> Answer {
        match filled {
            Filled::All => Answer::All,
            Filled::Part { bytes } => Answer::Part(bytes.get() / self.geometry.page().bytes()),
            Filled::Present => Answer::Present,
            Filled::Changing => Answer::Changing,
        }
    }
}

fn failed(error: Option<&UffdError>) -> Answer {
    match error {
        Some(error) if error.is_process_gone() => Answer::ProcessGone,
        Some(error) => Answer::Failed(error.errno().unwrap_or(libc::EINVAL)),
        None => Answer::Failed(libc::EINVAL),
    }
}
