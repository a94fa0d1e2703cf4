//! What no store can be quicker than: hashing, compressing and writing the same bytes, by the
//! plainest means, on all processors.

use std::fs::{self, File};
use std::hint::black_box;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::Result;

use super::contest::Contestant;
use super::image::BLOCK;
use coldframe_chunks::is_zero;

/// What is done with each block that is not zero.
#[derive(Clone, Copy, PartialEq)]
pub enum Work {
    /// Its BLAKE3 hash.
    Hash,
    /// Zstandard at level 1.
    Zstd,
    /// It is written to a file, which is synced.
    Copy,
}

pub struct Limit(pub Work);

impl Contestant for Limit {
    fn name(&self) -> &'static str {
        match self.0 {
            Work::Hash => "BLAKE3",
            Work::Zstd => "zstd -1",
            Work::Copy => "copy",
        }
    }

    fn prepare(&self, dir: &Path) -> Result<()> {
        Ok(fs::create_dir(dir.join("repo"))?)
    }

    fn ingest(&self, dir: &Path, image: &Path, name: &str) -> Result<()> {
        let source = File::open(image)?;
        let len = source.metadata()?.len();
        let path = dir.join("repo").join(name);
        if self.0 == Work::Copy {
            let mut target = File::create_new(&path)?;
            let mut buffer = vec![0; 1 << 20];
            for start in (0..len).step_by(buffer.len()) {
                source.read_exact_at(&mut buffer, start)?;
                for block in buffer.chunks(BLOCK).filter(|block| !is_zero(block)) {
                    target.write_all(block)?;
                }
            }
            return Ok(target.sync_all()?);
        }
        each_half(len, |start, end| self.compute(&source, start, end))
    }

    /// The image itself, written as a sparse file.
    fn restore(&self, dir: &Path, name: &str, out: &Path) -> Result<()> {
        let image = dir.with_file_name(format!("{name}.img"));
        let (source, target) = (File::open(image)?, File::create_new(out)?);
        let len = source.metadata()?.len();
        target.set_len(len)?;
        each_half(len, |start, end| {
            each_block(&source, start, end, |at, block| {
                Ok(target.write_all_at(block, at)?)
            })
        })
    }
}

impl Limit {
    fn compute(&self, source: &File, start: u64, end: u64) -> Result<()> {
        let mut room = Vec::with_capacity(2 * BLOCK);
        let mut compressor = zstd::bulk::Compressor::new(1)?;
        each_block(source, start, end, |_, block| {
            match self.0 {
                Work::Hash => {
                    black_box(blake3::hash(block));
                }
                _ => {
                    room.clear();
                    compressor.compress_to_buffer(block, &mut room)?;
                }
            }
            Ok(())
        })
    }
}

/// The two halves of the image at once: this machine's processors.
fn each_half(len: u64, work: impl Fn(u64, u64) -> Result<()> + Sync) -> Result<()> {
    let threads = std::thread::available_parallelism()?.get() as u64;
    let part = (len / threads).next_multiple_of(1 << 20);
    std::thread::scope(|scope| {
        let parts = (0..threads).map(|thread| {
            let (start, end) = (thread * part, len.min((thread + 1) * part));
            let work = &work;
            scope.spawn(move || work(start, end))
        });
        let parts: Vec<_> = parts.collect();
        parts
            .into_iter()
            .try_for_each(|part| part.join().expect("it does not panic"))
    })
}

/// Every block that is not zero.
fn each_block(
    source: &File,
    start: u64,
    end: u64,
    mut each: impl FnMut(u64, &[u8]) -> Result<()>,
) -> Result<()> {
    let mut buffer = vec![0; 1 << 20];
    for start in (start..end).step_by(buffer.len()) {
        source.read_exact_at(&mut buffer, start)?;
        for (number, block) in buffer.chunks(BLOCK).enumerate() {
            if !is_zero(block) {
                each(start + (number * BLOCK) as u64, block)?;
            }
        }
    }
    Ok(())
}
