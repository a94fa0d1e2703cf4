//! coldframe-chunks: an image as any program would keep it, through the public interface.

use std::fs::File;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use anyhow::{Context, Result};
use coldframe_chunkfile::{Compression, IndexBuilder, IndexOrigin, Tag, TagKind};
use coldframe_chunks::{Block, ChunkStore, Directory, LocalStore, Located, Options};
use coldframe_envelope::Producer;
use coldframe_units::ByteLen;

use super::contest::Contestant;
use super::image::BLOCK;

/// Blocks at once: 4 MiB.
const BATCH: usize = 64;

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
        let (filled, pieces) = sync_channel::<Result<Vec<u8>>>(1);
        let (emptied, spare) = sync_channel::<Vec<u8>>(3);
        let mut block = 0;
        std::thread::scope(|scope| {
            scope.spawn(move || read_ahead(&file, len, &filled, &spare));
            for piece in pieces {
                let piece = piece?;
                let blocks = piece.chunks(BLOCK).map(|bytes| Block {
                    bytes,
                    expected: None,
                });
                let is_zero = |block: &Block<'_>| is_zero(block.bytes);
                let (zero, data): (Vec<_>, Vec<_>) =
                    blocks.enumerate().partition(|(_, block)| is_zero(block));
                let blocks: Vec<_> = data.iter().map(|(_, block)| *block).collect();
                let mut ids = push.put_blocks(&blocks)?.into_iter();
                let mut zero = zero.into_iter().map(|(at, _)| at).peekable();
                for at in 0..piece.len().div_ceil(BLOCK) {
                    if zero.next_if_eq(&at).is_some() {
                        index.push_zeros(block, 1)?;
                    } else {
                        index.push_chunk(block, ids.next().context("an id for each")?)?;
                    }
                    block += 1;
                }
                // Once all is read, nobody wants it.
                let _ = emptied.try_send(piece);
            }
            anyhow::Ok(())
        })?;
        let root = push.put_root(&[&index.finish()?.into_file()])?;
        let tag = Tag {
            kind: TagKind::Index,
            root,
        };
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

/// Reads the next piece while one is being stored, into what an earlier one was in.
fn read_ahead(
    file: &File,
    len: u64,
    filled: &SyncSender<Result<Vec<u8>>>,
    spare: &Receiver<Vec<u8>>,
) {
    let piece = (BATCH * BLOCK) as u64;
    for start in (0..len).step_by(piece as usize) {
        let mut bytes = spare.try_recv().unwrap_or_default();
        bytes.resize(piece.min(len - start) as usize, 0);
        let read = file.read_exact_at(&mut bytes, start);
        let is_read = read.is_ok();
        let piece = read.map(|()| bytes).map_err(Into::into);
        if filled.send(piece).is_err() || !is_read {
            return;
        }
    }
}

/// Whether all bytes are zero.
pub fn is_zero(bytes: &[u8]) -> bool {
    bytes
        .chunks(128)
        .all(|part| part.iter().fold(0, |all, byte| all | byte) == 0)
}
