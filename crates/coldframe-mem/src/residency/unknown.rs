//! Hosts that are not asked: all memory counts as touched.

use std::io;
use std::ops::Range;

use crate::MemError;
use crate::ram::RamMap;

pub(super) struct Host;

impl Host {
    pub fn new(_: &RamMap<'_>) -> io::Result<Self> {
        Ok(Self)
    }

    pub fn touched(&self, range: Range<u64>, spans: &mut Vec<Range<u64>>) -> Result<(), MemError> {
        super::push(spans, range);
        Ok(())
    }
}
