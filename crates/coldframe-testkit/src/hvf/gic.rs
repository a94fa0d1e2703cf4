//! The interrupt controller: what is in its blob, and what is not.

use std::collections::BTreeMap;

use super::{Answer, HV_BAD_ARGUMENT};

/// The interrupt of the virtual timer.
pub(super) const TIMER: u32 = 1 << 27;

const MAGIC: &[u8; 8] = b"GICMODEL";

#[derive(Clone, Debug)]
pub(super) struct Gic {
    layout: u64,
    build: String,
    redistributors: BTreeMap<u64, Redistributor>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Redistributor {
    pub(super) enabled: u32,
    pub(super) pending: u32,
}

impl Gic {
    pub(super) const fn new(layout: u64, build: String) -> Self {
        Self {
            layout,
            build,
            redistributors: BTreeMap::new(),
        }
    }

    pub(super) fn redistributor(&mut self, affinity: u64) -> &mut Redistributor {
        self.redistributors.entry(affinity).or_default()
    }

    /// Magic, build in 16 bytes, layout, and a row for each redistributor.
    pub(super) fn state(&self) -> Vec<u8> {
        let mut build = self.build.clone().into_bytes();
        build.resize(16, 0);
        let mut blob = [&MAGIC[..], &build, &self.layout.to_le_bytes()].concat();
        for (affinity, row) in &self.redistributors {
            blob.extend(affinity.to_le_bytes());
            blob.extend(row.enabled.to_le_bytes());
            blob.extend(row.pending.to_le_bytes());
        }
        blob
    }

    pub(super) fn set_state(&mut self, blob: &[u8], affinities: &[u64]) -> Answer<()> {
        let head = Self::new(self.layout, self.build.clone()).state();
        let rows = blob.strip_prefix(head.as_slice()).ok_or(HV_BAD_ARGUMENT)?;
        if !rows.len().is_multiple_of(16) {
            return Err(HV_BAD_ARGUMENT);
        }
        let mut redistributors = BTreeMap::new();
        for row in rows.chunks_exact(16) {
            let word = |at: usize| {
                let bytes = row[at..at + 4].try_into().expect("four bytes of sixteen");
                u32::from_le_bytes(bytes)
            };
            let affinity = u64::from(word(0)) | u64::from(word(4)) << 32;
            if !affinities.contains(&affinity) {
                return Err(HV_BAD_ARGUMENT);
            }
            let (enabled, pending) = (word(8), word(12));
            redistributors.insert(affinity, Redistributor { enabled, pending });
        }
        self.redistributors = redistributors;
        Ok(())
    }
}
