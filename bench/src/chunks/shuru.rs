//! shuru-store 0.2.0: the flat image is what its own server would ingest lazily, and saving the
//! index takes all of it in.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use shuru_store::{CasBackend, ChunkIndex, ChunkStore, FlatFileBackend, LocalChunkStore};

use super::contest::Contestant;

pub struct Shuru;

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("the path is no text")
}

fn chunks(dir: &Path) -> Result<Box<dyn ChunkStore>> {
    let store = LocalChunkStore::open(text(&dir.join("repo"))?)?;
    Ok(Box::new(store))
}

fn index(dir: &Path, name: &str) -> PathBuf {
    dir.join("repo").join(format!("{name}.idx"))
}

impl Contestant for Shuru {
    fn name(&self) -> &'static str {
        "shuru-store"
    }

    /// It syncs twice for each chunk, which takes minutes.
    fn rounds(&self) -> usize {
        1
    }

    fn prepare(&self, dir: &Path) -> Result<()> {
        chunks(dir).map(drop)
    }

    fn ingest(&self, dir: &Path, image: &Path, name: &str) -> Result<()> {
        let flat = FlatFileBackend::open(text(image)?)?;
        let empty = ChunkIndex::new(flat.size());
        let backend = CasBackend::with_fallback(chunks(dir)?, empty, flat);
        backend.save_index(text(&index(dir, name))?)
    }

    fn restore(&self, dir: &Path, name: &str, out: &Path) -> Result<()> {
        let index = ChunkIndex::load(text(&index(dir, name))?)?;
        let backend = CasBackend::new(chunks(dir)?, index);
        let file = File::create_new(out)?;
        let mut buffer = vec![0; 1 << 20];
        for start in (0..backend.size()).step_by(buffer.len()) {
            backend.read(start, &mut buffer)?;
            file.write_all_at(&buffer, start)?;
        }
        Ok(())
    }
}
