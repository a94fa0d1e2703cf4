//! The limits: plain writes into a file that is written already, and the checksum alone.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use twox_hash::XxHash3_128;

use crate::wal::{Log, Mode};

/// Bytes of file that every log goes round in, where it can be said.
pub const LOG_BYTES: u64 = 64 << 20;

/// Zeros are written in pieces of this size, which is the best for small writes later on: larger
/// ones make large pages in the host's cache.
const FILL_BYTES: usize = 64 << 10;

/// A file that payloads are written to, one behind the other, round and round.
pub struct Plain {
    file: File,
    at: AtomicU64,
    mode: Mode,
}

impl Plain {
    /// Makes the file, and has it on the disk.
    pub fn create(path: &Path, mode: Mode) -> Result<Self> {
        Ok(Self {
            file: filled(path, LOG_BYTES)?,
            at: AtomicU64::new(0),
            mode,
        })
    }

    fn write(&self, payload: &[u8]) -> Result<()> {
        let len = payload.len() as u64;
        let mut at = self.at.load(Ordering::Relaxed);
        if at + len > LOG_BYTES {
            at = 0;
        }
        self.file.write_all_at(payload, at)?;
        self.at.store(at + len, Ordering::Relaxed);
        Ok(())
    }
}

impl Log for Plain {
    fn append(&self, payload: &[u8]) -> Result<()> {
        self.append_all(payload, 1)
    }

    fn append_all(&self, payload: &[u8], count: usize) -> Result<()> {
        for _ in 0..count {
            self.write(payload)?;
        }
        if self.mode == Mode::Durable {
            self.file.sync_data()?;
        }
        Ok(())
    }

    fn settle(&self) -> Result<()> {
        Ok(self.file.sync_data()?)
    }
}

/// A file of zeros that are on the disk.
pub fn filled(path: &Path, len: u64) -> Result<File> {
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)?;
    let zeros = vec![0; FILL_BYTES];
    for at in (0..len).step_by(FILL_BYTES) {
        file.write_all_at(&zeros[..(len - at).min(FILL_BYTES as u64) as usize], at)?;
    }
    file.sync_all()?;
    Ok(file)
}

/// Bytes of the secret that both logs hash with.
const HASH_SECRET_LEN: usize = 192;

/// The checksum of both logs, with a secret of no one.
pub struct Hash([u8; HASH_SECRET_LEN]);

impl Hash {
    /// Any secret will do.
    pub const fn new() -> Self {
        Self([0x5c; HASH_SECRET_LEN])
    }

    /// Of some bytes.
    pub fn of(&self, bytes: &[u8]) -> u128 {
        XxHash3_128::oneshot_with_seed_and_secret(1, &self.0, bytes)
            .expect("192 bytes are more than the shortest secret allowed (136)")
    }
}
