//! coldframe-chunks: an image as any program would keep it, through the public interface.

use std::fs::File;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;

use anyhow::{Context, Result};
use coldframe_chunkfile::{Compression, IndexBuilder, IndexOrigin, Tag};
use coldframe_chunks::{ChunkStore, Directory, LocalStore, Located, Options};
use coldframe_envelope::Producer;
use coldframe_units::ByteLen;

use super::contest::Contestant;
use super::image::BLOCK;

/// Blocks at once: 8 MiB.
const BATCH: usize = 128;

pub struct Ours {
    pub name: &'static str,
    pub compression: Compression,
}

impl Contestant for Ours {
    fn name(&self) -> &'static str {
        self.name
    }

    fn prepare(&self, dir: &Path) -> Result<()> {
        LocalStore::create(&dir.join("repo"))?;
        Ok(())
    }

    fn ingest(&self, dir: &Path, image: &Path, name: &str) -> Result<()> {
        let options = Options {
            compression: self.compression,
            ..Options::usual()
        };
        let store = LocalStore::open_at(Directory::new(&dir.join("repo"))?, options)?;
        let push = store.push()?;
        let file = File::open(image)?;
        let len = file.metadata()?.len();
        let producer = Producer::new("bench", "1")?;
        let mut index = IndexBuilder::new(ByteLen::new(len), IndexOrigin::None, producer)?;
        for start in (0..len).step_by(BATCH * BLOCK) {
            let end = len.min(start + (BATCH * BLOCK) as u64);
            let lens = (start..end).step_by(BLOCK);
            let lens: Vec<usize> = lens
                .map(|at| (end - at).min(BLOCK as u64) as usize)
                .collect();
            let read = |number: usize, block: &mut [u8]| {
                let at = start + (number * BLOCK) as u64;
                file.read_exact_at(block, at).map_err(anyhow::Error::from)
            };
            let ids = push.put_read(&lens, read)?;
            for (block, id) in (start / BLOCK as u64..).zip(ids) {
                match id {
                    Some(id) => index.push_chunk(block, id)?,
                    None => index.push_zeros(block, 1)?,
                }
            }
        }
        let root = push.put_root(&[&index.finish()?.into_file()])?;
        let tag = Tag::disk(root, store.new_disk_id()?);
        push.tag(&name.parse()?, None, tag)?;
        push.finish()?;
        Ok(())
    }

    fn restore(&self, dir: &Path, name: &str, out: &Path) -> Result<()> {
        let store = LocalStore::open(&dir.join("repo"))?;
        let tag = store.tag(&name.parse()?)?.context("the tag is there")?;
        let image = store.image(tag.root)?;
        let file = File::create_new(out)?;
        file.set_len(image.index().size().get())?;
        let count = image.index().block_count();
        let mut wanted = Vec::with_capacity(count as usize);
        for block in 0..count {
            if let Located::Chunk(id, _) = image.locate(block)? {
                wanted.push((block, id));
            }
        }
        let ids: Vec<_> = wanted.iter().map(|(_, id)| *id).collect();
        let failed = Mutex::new(None);
        store.visit_many(&ids, &|number, bytes| {
            let at = wanted[number].0 * BLOCK as u64;
            let written = bytes
                .map_err(anyhow::Error::from)
                .and_then(|bytes| Ok(file.write_all_at(bytes, at)?));
            match written {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    *failed.lock().expect("nobody panics") = Some(error);
                    ControlFlow::Break(())
                }
            }
        });
        match failed.into_inner().expect("nobody panics") {
            None => Ok(()),
            Some(error) => Err(error),
        }
    }
}
