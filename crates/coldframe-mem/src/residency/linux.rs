//! Linux: what is mapped where, and whom to ask about it.

use std::io;
use std::ops::Range;
use std::sync::OnceLock;

use super::backing::Backings;
use super::maps::{Mapping, mappings, registered};
use super::pagemap::Pagemap;
use super::{Refusal, Touched, push};
use crate::ram::{Fill, RamMap};
use crate::sys;

/// The mappings of guest memory, and the means to ask about them.
pub(super) struct Host {
    mappings: Vec<Mapping>,
    backings: Backings,
    pagemap: Pagemap,
    ranges: Vec<Range<u64>>,
    /// What is registered with a userfaultfd; `None` if the host does not say. It is asked for
    /// only when pages are missing: the kernel walks the page table for the answer.
    registered: OnceLock<Option<Vec<Range<u64>>>>,
}

impl Host {
    pub fn new(map: &RamMap<'_>) -> io::Result<Self> {
        Self::with(map, Pagemap::open()?)
    }

    pub fn with(map: &RamMap<'_>, pagemap: Pagemap) -> io::Result<Self> {
        let windows = map.windows();
        let ranges: Vec<Range<u64>> = windows
            .iter()
            .map(|window| {
                let Range { start, end } = window.range();
                window.host_start()..window.host_start() + (end - start)
            })
            .collect();
        let mappings = mappings(&ranges)?;
        let hints: Vec<_> = windows.iter().filter_map(|window| window.file).collect();
        Ok(Self {
            backings: Backings::open(&mappings, &hints),
            mappings,
            pagemap,
            ranges,
            registered: OnceLock::new(),
        })
    }

    /// Adds the touched parts of a range of addresses.
    pub fn touched(
        &self,
        range: Range<u64>,
        fill: Fill,
        touched: &mut Touched,
    ) -> Result<(), Refusal> {
        let first = self
            .mappings
            .partition_point(|mapping| mapping.range.end <= range.start);
        let mut next = range.start;
        for mapping in &self.mappings[first..] {
            if next >= range.end || mapping.range.start > next {
                break;
            }
            let part = next..range.end.min(mapping.range.end);
            next = part.end;
            let here = self.touched_in(mapping, part, fill)?;
            for span in here.spans {
                push(&mut touched.spans, span);
            }
            for span in here.careful {
                push(&mut touched.careful, span);
            }
        }
        if next < range.end {
            return Err(Refusal::NotMapped(next));
        }
        Ok(())
    }

    /// Whether no mapping has a file or is shared.
    pub fn is_all_anonymous(&self) -> bool {
        let mut mappings = self.mappings.iter();
        mappings.all(|mapping| mapping.file.is_none() && !mapping.shared)
    }

    fn touched_in(
        &self,
        mapping: &Mapping,
        part: Range<u64>,
        fill: Fill,
    ) -> Result<Touched, Refusal> {
        let mut touched = self.data_in(mapping, part.clone())?;
        if !mapping.readable
            && let Some(span) = touched.spans.first()
        {
            return Err(Refusal::Unreadable(span.start));
        }
        if fill == Fill::Unstated {
            let missing = gaps(&part, &touched.spans);
            match missing.first().and_then(|_| self.registered()) {
                Some(registered) => {
                    let overlap = missing.iter().find_map(|gap| overlap(gap, registered));
                    if let Some(addr) = overlap {
                        return Err(Refusal::Unfilled(addr));
                    }
                }
                // Who can tell: then what is missing is fetched, and so is read.
                None if !missing.is_empty() => {
                    touched.spans = vec![part.clone()];
                    touched.careful = vec![part];
                }
                None => {}
            }
        }
        Ok(touched)
    }

    fn registered(&self) -> Option<&[Range<u64>]> {
        let registered = self.registered.get_or_init(|| {
            registered(&self.ranges)
                .inspect_err(|error| {
                    tracing::warn!(%error, "cannot ask for userfaultfds: all memory is read");
                })
                .ok()
        });
        registered.as_deref()
    }

    fn data_in(&self, mapping: &Mapping, part: Range<u64>) -> io::Result<Touched> {
        let mut touched = Touched::default();
        let Some(inode) = &mapping.file else {
            if mapping.shared {
                push(&mut touched.spans, part);
            } else {
                self.pagemap.push_present(part, &mut touched)?;
            }
            return Ok(touched);
        };
        let Some(file) = self.backings.of(inode) else {
            push(&mut touched.spans, part);
            return Ok(touched);
        };
        let start = mapping.range.start;
        let in_file = |addr: u64| inode.offset + (addr - start);
        let to_host = |offset: u64| start + (offset - inode.offset);
        let data = in_file(part.start)..in_file(part.end);
        // Each ascends on its own, but not one behind the other.
        let mut both = Vec::new();
        sys::data_parts(file, &data, |part| {
            push(&mut both, to_host(part.start)..to_host(part.end));
        })?;
        self.pagemap.push_present(part, &mut touched)?;
        if mapping.shared {
            // What the file has is what there is; the page table only says what to read with care.
            touched.spans = both;
            touched.careful = within(&touched.careful, &touched.spans);
            return Ok(touched);
        }
        both.append(&mut touched.spans);
        both.sort_by_key(|span| span.start);
        for span in both {
            push(&mut touched.spans, span);
        }
        Ok(touched)
    }
}

/// What of `range` is in none of `spans`, which ascend.
fn gaps(range: &Range<u64>, spans: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut gaps = Vec::new();
    let mut next = range.start;
    for span in spans {
        if span.start > next {
            gaps.push(next..span.start);
        }
        next = next.max(span.end);
    }
    if next < range.end {
        gaps.push(next..range.end);
    }
    gaps
}

/// The first address that `gap` has in common with one of `ranges`.
fn overlap(gap: &Range<u64>, ranges: &[Range<u64>]) -> Option<u64> {
    let mut ranges = ranges.iter();
    let found = ranges.find(|range| range.start < gap.end && gap.start < range.end);
    found.map(|range| range.start.max(gap.start))
}

/// The parts of `spans` that lie in one of `others`; both ascend.
fn within(spans: &[Range<u64>], others: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut found = Vec::new();
    for span in spans {
        let first = others.partition_point(|other| other.end <= span.start);
        let overlaps = others[first..].iter();
        for other in overlaps.take_while(|other| other.start < span.end) {
            push(
                &mut found,
                span.start.max(other.start)..span.end.min(other.end),
            );
        }
    }
    found
}
