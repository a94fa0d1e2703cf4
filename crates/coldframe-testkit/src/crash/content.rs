//! What a file holds, cheap to copy: blocks that are shared until one of them is written to.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

const BLOCK: u64 = 4096;

/// Bytes with a length; a block of zeros takes no room.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Content {
    len: u64,
    blocks: BTreeMap<u64, Arc<Vec<u8>>>,
}

impl Content {
    /// What is in a file.
    pub fn read(file: &File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        let mut content = Self::default();
        let mut bytes = vec![0; BLOCK as usize];
        for block in 0..len.div_ceil(BLOCK) {
            let count = (len - block * BLOCK).min(BLOCK) as usize;
            file.read_exact_at(&mut bytes[..count], block * BLOCK)?;
            content.write(block * BLOCK, &bytes[..count]);
        }
        content.len = len;
        Ok(content)
    }

    /// Puts it into an empty file.
    pub fn fill(&self, file: &File) -> io::Result<()> {
        for (block, bytes) in &self.blocks {
            let at = block * BLOCK;
            let count = (self.len - at).min(BLOCK) as usize;
            file.write_all_at(&bytes[..count], at)?;
        }
        file.set_len(self.len)
    }

    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Up to `count` bytes from `offset` on: as many as there are.
    pub fn at(&self, offset: u64, count: usize) -> Vec<u8> {
        let room = self.len.saturating_sub(offset);
        let end = offset + room.min(count as u64);
        let byte = |at: u64| {
            let block = self.blocks.get(&(at / BLOCK));
            block.map_or(0, |block| block[(at % BLOCK) as usize])
        };
        (offset..end).map(byte).collect()
    }

    /// Nothing written behind the end leaves the end where it is.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let (mut at, mut rest) = (offset, bytes);
        while !rest.is_empty() {
            let start = (at % BLOCK) as usize;
            let (piece, behind) = rest.split_at(rest.len().min(BLOCK as usize - start));
            let block = self.blocks.entry(at / BLOCK).or_insert_with(zeros);
            Arc::make_mut(block)[start..start + piece.len()].copy_from_slice(piece);
            if block.iter().all(|byte| *byte == 0) {
                self.blocks.remove(&(at / BLOCK));
            }
            at += piece.len() as u64;
            rest = behind;
        }
        self.len = self.len.max(at);
    }

    pub fn set_len(&mut self, len: u64) {
        self.blocks.retain(|block, _| block * BLOCK < len);
        let kept = (len % BLOCK) as usize;
        if kept > 0
            && let Some(block) = self.blocks.get_mut(&(len / BLOCK))
        {
            Arc::make_mut(block)[kept..].fill(0);
            if block.iter().all(|byte| *byte == 0) {
                self.blocks.remove(&(len / BLOCK));
            }
        }
        self.len = len;
    }
}

fn zeros() -> Arc<Vec<u8>> {
    Arc::new(vec![0; BLOCK as usize])
}
