//! A raw dump as a memory file.

use std::ops::Range;
use std::time::Instant;

use coldframe_memfile::{Kind, MemFileBuilder};
use coldframe_storage::Storage;
use coldframe_units::{ByteLen, FileOffset, PageIndex, PageRun, PageSize, RamLayout, RootHash};

use super::dump::{DiffHoles, Dump, HoleDoubt};
use super::{STEP_BYTES, write_pages};
use crate::MemError;
use crate::capture::{CaptureSpec, CaptureStats, Captured};

/// What a dump of what changed was made against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DumpParent {
    /// The root of the parent's memory file.
    pub root: RootHash,
    /// How far the holes of the dump are trusted.
    pub holes: DiffHoles,
}

/// Copies a raw dump into a memory file, which must be empty.
///
/// Without a parent it becomes a Full file, and a hole of the dump is zero. With one it becomes a
/// Diff, and a hole is clean; a page that is allocated in the dump and zero is an explicit zero,
/// if its holes can be trusted to say so. `progress` is told of bytes of RAM that are done.
///
/// # Errors
/// [`MemError::DumpLength`], [`MemError::HoleInPage`], [`MemError::UntrustedHoles`],
/// [`MemError::ReadDump`], [`MemError::Build`], [`MemError::NotEmpty`], [`MemError::WritePages`].
pub fn import_raw(
    dump: &Dump,
    layout: &RamLayout,
    parent: Option<DumpParent>,
    spec: &CaptureSpec,
    storage: &dyn Storage,
    progress: &mut dyn FnMut(u64),
) -> Result<Captured, MemError> {
    let started = Instant::now();
    let (ram, found) = (layout.total(), dump.len());
    if found != ram {
        let path = dump.path().to_path_buf();
        return Err(MemError::DumpLength {
            path,
            expected: ram,
            found,
        });
    }
    let CaptureSpec {
        arch,
        page_size,
        producer,
        ..
    } = *spec;
    let builder = match parent {
        None => MemFileBuilder::full(arch, page_size, layout, producer)?,
        Some(parent) => MemFileBuilder::diff(arch, page_size, layout, producer, parent.root)?,
    };
    crate::output::check_empty(storage)?;
    let mut importer = Importer {
        dump,
        storage,
        page_size,
        page: page_size.bytes(),
        ram: ram.get(),
        holes: parent.map(|parent| parent.holes),
        doubt: None,
        judged_in: 0,
        stats: CaptureStats::default(),
        next: 0,
        progress,
        builder,
    };
    let spans = importer.spans()?;
    if importer.builder.kind() == Kind::Full {
        let len = ByteLen::new(importer.builder.data_offset().get() + ram.get());
        storage.set_len(len).map_err(write_pages)?;
    }
    for span in spans {
        importer.take(span)?;
    }
    importer.skip(ram.get())?;
    let Importer {
        builder, mut stats, ..
    } = importer;
    stats.extents = builder.extents().len() as u64;
    tracing::info!(
        ram_bytes = ram.get(),
        pages = stats.data_pages,
        extents = stats.extents,
        duration_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
        "dump imported"
    );
    Ok(Captured {
        builder,
        stats,
        known: Vec::new(),
    })
}

struct Importer<'a> {
    dump: &'a Dump,
    storage: &'a dyn Storage,
    builder: MemFileBuilder,
    page_size: PageSize,
    page: u64,
    ram: u64,
    /// How far the holes of a diff are trusted; `None` for a Full file.
    holes: Option<DiffHoles>,
    /// Why no zero page of a diff is believed.
    doubt: Option<HoleDoubt>,
    /// No zero page in so many aligned bytes without a hole is believed.
    judged_in: u64,
    stats: CaptureStats,
    /// All RAM before this is in the builder.
    next: u64,
    progress: &'a mut dyn FnMut(u64),
}

impl Importer<'_> {
    /// The allocated parts of the dump in whole pages.
    fn spans(&mut self) -> Result<Vec<Range<u64>>, MemError> {
        let parts = self.dump.parts(self.page_size)?;
        let ram = self.ram;
        if self.holes == Some(DiffHoles::Proven) {
            self.doubt = parts.doubt;
            self.judged_in = parts.judged_in;
        }
        if let Some(doubt) = self.doubt.filter(|doubt| doubt.is_of_all()) {
            return Err(self.untrusted(doubt, 0));
        }
        let parts = parts.parts;
        let mut spans: Vec<Range<u64>> = Vec::new();
        for part in parts {
            let whole =
                part.start / self.page * self.page..part.end.next_multiple_of(self.page).min(ram);
            if self.builder.kind() == Kind::Diff && whole != part {
                let path = self.dump.path().to_path_buf();
                let odd = if whole.start == part.start {
                    part.end
                } else {
                    part.start
                };
                let offset = FileOffset::new(odd);
                return Err(MemError::HoleInPage { path, offset });
            }
            match spans.last_mut() {
                Some(last) if last.end >= whole.start => last.end = whole.end,
                _ => spans.push(whole),
            }
        }
        Ok(spans)
    }

    /// Passes over a hole up to `end`.
    fn skip(&mut self, end: u64) -> Result<(), MemError> {
        if end > self.next {
            if self.builder.kind() == Kind::Full {
                self.zero(self.next..end)?;
            }
            (self.progress)(end - self.next);
            self.next = end;
        }
        Ok(())
    }

    /// Reads an allocated part, in whole pages.
    fn take(&mut self, span: Range<u64>) -> Result<(), MemError> {
        self.skip(span.start)?;
        let step = STEP_BYTES.max(self.page);
        let mut buffer = vec![0; step.min(span.end - span.start) as usize];
        let mut start = span.start;
        while start < span.end {
            let len = step.min(span.end - start);
            let bytes = &mut buffer[..len as usize];
            self.dump.read_at(FileOffset::new(start), bytes)?;
            for run in runs(bytes, self.page as usize) {
                let range = start + run.bytes.start as u64..start + run.bytes.end as u64;
                if run.is_zero {
                    self.take_zero(range, &span)?;
                } else {
                    self.data(range, &bytes[run.bytes])?;
                }
            }
            start += len;
            self.next = start;
            (self.progress)(len);
        }
        Ok(())
    }

    /// Takes zero pages of an allocated part as zero, leaves them to the parent, or refuses them.
    fn take_zero(&mut self, range: Range<u64>, span: &Range<u64>) -> Result<(), MemError> {
        match self.holes {
            None | Some(DiffHoles::Assumed) => self.zero(range),
            Some(DiffHoles::ZerosClean) => Ok(()),
            Some(DiffHoles::Proven) => {
                if let Some(doubt) = self.doubt {
                    return Err(self.untrusted(doubt, range.start));
                }
                if range.start == 0 {
                    return Err(self.untrusted(HoleDoubt::FirstPage, 0));
                }
                let unit = self.judged_in;
                if let Some(offset) = whole_around(&range, span, unit, self.ram) {
                    return Err(self.untrusted(HoleDoubt::Stretch { unit }, offset));
                }
                self.zero(range)
            }
        }
    }

    fn untrusted(&self, doubt: HoleDoubt, offset: u64) -> MemError {
        MemError::UntrustedHoles {
            path: self.dump.path().to_path_buf(),
            doubt,
            page_size: self.page_size,
            offset: FileOffset::new(offset),
        }
    }

    fn zero(&mut self, range: Range<u64>) -> Result<(), MemError> {
        let run = self.run(&range);
        self.builder.push_zero(run)?;
        self.stats.zero_pages += run.count();
        Ok(())
    }

    fn data(&mut self, range: Range<u64>, bytes: &[u8]) -> Result<(), MemError> {
        let run = self.run(&range);
        let place = self.builder.push_data(run)?;
        self.storage.write_at(place, bytes).map_err(write_pages)?;
        self.stats.data_pages += run.count();
        self.stats.bytes_written += bytes.len() as u64;
        Ok(())
    }

    fn run(&self, range: &Range<u64>) -> PageRun {
        let (start, count) = (
            range.start / self.page,
            (range.end - range.start) / self.page,
        );
        PageRun::new(PageIndex::new(start), count).expect("a range of whole pages, not empty")
    }
}

/// The first byte of `range` that is in an aligned unit which is allocated as a whole; `span` is
/// the allocated part around it. The last unit of a dump may be a short one.
fn whole_around(range: &Range<u64>, span: &Range<u64>, unit: u64, ram: u64) -> Option<u64> {
    let units = range.start / unit..range.end.div_ceil(unit);
    let mut starts = units.map(|index| index * unit);
    let is_whole = |start: &u64| *start >= span.start && (start + unit).min(ram) <= span.end;
    let start = starts.find(is_whole)?;
    Some(start.max(range.start))
}

/// Pages that are alike.
struct Run {
    bytes: Range<usize>,
    is_zero: bool,
}

/// The runs of zero pages and of others in whole pages of bytes.
fn runs(bytes: &[u8], page: usize) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (index, page_bytes) in bytes.chunks(page).enumerate() {
        let start = index * page;
        let end = start + page_bytes.len();
        let is_zero = page_bytes.iter().all(|byte| *byte == 0);
        match runs.last_mut() {
            Some(last) if last.is_zero == is_zero => last.bytes.end = end,
            _ => runs.push(Run {
                bytes: start..end,
                is_zero,
            }),
        }
    }
    runs
}
