//! The other contestants: the plainest means, and squib-snapshot.

use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::uio::pwritev;
use squib_snapshot::{DirtyBitmap, MemoryWriter, PageReader};

use crate::guest::{Guest, MIB, PAGE};
use crate::harness::timed;
use crate::place::Place;

/// Parts in one pwritev(2): `IOV_MAX`.
const PARTS: usize = 1024;

/// Writes runs of bytes, each where it lies in memory, in calls of at most 1 MiB.
pub fn pwrite(place: &Place, runs: &[(u64, &[u8])]) -> Result<Duration> {
    let file = place.file(runs.iter().map(|(_, bytes)| bytes.len() as u64).sum())?;
    timed(|| {
        for (start, bytes) in runs {
            for (index, part) in (0_u64..).zip(bytes.chunks(MIB as usize)) {
                file.write_all_at(part, start + index * MIB)?;
            }
        }
        Ok(())
    })
}

/// Writes pages one behind the other, 1024 to a call.
pub fn pwritev_packed(place: &Place, guest: &Guest, pages: &[u64]) -> Result<Duration> {
    let file = place.file(pages.len() as u64 * PAGE)?;
    timed(|| {
        let mut parts = Vec::with_capacity(PARTS);
        let mut at = 0;
        for batch in pages.chunks(PARTS) {
            parts.clear();
            parts.extend(batch.iter().map(|page| IoSlice::new(page_of(guest, *page))));
            let written = pwritev(file.as_fd(), &parts, at)?;
            ensure!(written == batch.len() * PAGE as usize, "a short write");
            at += written as i64;
        }
        Ok(())
    })
}

fn page_of(guest: &Guest, page: u64) -> &[u8] {
    &guest.bytes()[(page * PAGE) as usize..][..PAGE as usize]
}

struct Reader<'a>(&'a [u8]);

impl PageReader for Reader<'_> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        buf.copy_from_slice(&self.0[offset as usize..][..buf.len()]);
        Ok(())
    }
}

/// squib-snapshot's full memory file; opening and dropping it are not timed, and nothing is synced.
pub fn squib_full(place: &Place, guest: &Guest, page_size: u64) -> Result<Duration> {
    let len = guest.bytes().len() as u64;
    place.warm(len)?;
    let mut writer = MemoryWriter::open(&place.squib_path(), len, page_size)?;
    timed(|| Ok(writer.write_full(&Reader(guest.bytes()))?))
}

/// squib-snapshot's sparse file of dirty pages, as above.
pub fn squib_diff(
    place: &Place,
    guest: &Guest,
    dirty: &DirtyBitmap,
    bytes: u64,
) -> Result<Duration> {
    let len = guest.bytes().len() as u64;
    place.warm(bytes)?;
    let mut writer = MemoryWriter::open(&place.squib_path(), len, PAGE)?;
    timed(|| Ok(writer.write_diff(&Reader(guest.bytes()), dirty)?))
}
