//! Behaviour of the bitmap, its tokens, plain page sets and adaptive blocks.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used)]

mod adaptive;
mod bitmap;
mod model;
mod pages;
mod token;
#[cfg(feature = "vm-memory")]
mod vm_memory;

use coldframe_dirty::{DirtyBitmap, DirtyPages};
use coldframe_units::{ByteLen, PageIndex, PageRun, PageSize};

/// A clean bitmap of 4 KiB pages.
fn bitmap(ram: u64) -> DirtyBitmap {
    DirtyBitmap::new(ByteLen::new(ram), PageSize::SIZE_4K).unwrap()
}

fn page(index: u64) -> PageIndex {
    PageIndex::new(index)
}

fn run(start: u64, count: u64) -> PageRun {
    PageRun::new(page(start), count).unwrap()
}

/// Runs as (first page, count).
fn plain(runs: impl Iterator<Item = PageRun>) -> Vec<(u64, u64)> {
    runs.map(|run| (run.start().get(), run.count())).collect()
}

/// A set of pages from its runs.
fn pages(ram: u64, page_size: PageSize, runs: &[PageRun]) -> DirtyPages {
    DirtyPages::from_runs(ByteLen::new(ram), page_size, runs.iter().copied()).unwrap()
}
