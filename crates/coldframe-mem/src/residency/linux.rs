//! Linux: what is mapped where, and whom to ask about it.

use std::io;
use std::ops::Range;

use super::backing::Backings;
use super::maps::{Mapping, mappings};
use super::pagemap::Pagemap;
use super::push;
use crate::MemError;
use crate::ram::RamMap;
use crate::sys;

/// The mappings of guest memory, and the means to ask about them.
pub(super) struct Host {
    mappings: Vec<Mapping>,
    backings: Backings,
    pagemap: Pagemap,
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
        })
    }

    /// Adds the touched parts of a range of addresses.
    pub fn touched(&self, range: Range<u64>, spans: &mut Vec<Range<u64>>) -> Result<(), MemError> {
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
            self.touched_in(mapping, part, spans)
                .map_err(|source| MemError::Residency { source })?;
        }
        if next < range.end {
            return Err(MemError::NotMapped { addr: next });
        }
        Ok(())
    }

    fn touched_in(
        &self,
        mapping: &Mapping,
        part: Range<u64>,
        spans: &mut Vec<Range<u64>>,
    ) -> io::Result<()> {
        let Some(inode) = &mapping.file else {
            if mapping.shared {
                push(spans, part);
                return Ok(());
            }
            return self.pagemap.push_present(part, spans);
        };
        let Some(file) = self.backings.of(inode) else {
            push(spans, part);
            return Ok(());
        };
        let start = mapping.range.start;
        let in_file = |addr: u64| inode.offset + (addr - start);
        let to_host = |offset: u64| start + (offset - inode.offset);
        let data = in_file(part.start)..in_file(part.end);
        if mapping.shared {
            return sys::data_parts(file, &data, |part| {
                push(spans, to_host(part.start)..to_host(part.end));
            });
        }
        // Each ascends on its own, but not one behind the other.
        let (mut both, mut present) = (Vec::new(), Vec::new());
        sys::data_parts(file, &data, |part| {
            push(&mut both, to_host(part.start)..to_host(part.end));
        })?;
        self.pagemap.push_present(part, &mut present)?;
        both.append(&mut present);
        both.sort_by_key(|span| span.start);
        for span in both {
            push(spans, span);
        }
        Ok(())
    }
}
