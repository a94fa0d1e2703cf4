//! memvid-core: the ring WAL that is embedded in its files. Syncs (`sync_all`), hashes payloads,
//! but neither sequences nor lengths. It cannot wrap with records pending, so it is checkpointed
//! where it wraps, as its owner does.

use std::fs::File;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, ensure};
use memvid_core::EmbeddedWal;
use memvid_core::types::Header;

use crate::wal::plain::{LOG_BYTES, filled};
use crate::wal::{Log, Mode, Peer};

pub const PEER: Peer = Peer {
    name: "memvid",
    unsynced: true,
    open,
    recover,
};

/// Room for what is filled: 256 MiB of records.
const FILL_BYTES: u64 = 280 << 20;
const WAL_OFFSET: u64 = 4096;

struct Memvid {
    wal: Mutex<(EmbeddedWal, Header)>,
    mode: Mode,
}

fn open(dir: PathBuf, mode: Mode) -> Result<Box<dyn Log>> {
    let wal_size = if mode == Mode::Fill {
        FILL_BYTES
    } else {
        LOG_BYTES
    };
    let file = filled(&dir.join("file.mv2"), WAL_OFFSET + wal_size)?;
    let header = header(wal_size);
    let mut wal = EmbeddedWal::open(&file, &header)?;
    wal.set_skip_sync(mode != Mode::Durable);
    let wal = Mutex::new((wal, header));
    Ok(Box::new(Memvid { wal, mode }))
}

const fn header(wal_size: u64) -> Header {
    Header {
        magic: *b"MV2\0",
        version: 0x0201,
        footer_offset: WAL_OFFSET + wal_size,
        wal_offset: WAL_OFFSET,
        wal_size,
        wal_checkpoint_pos: 0,
        wal_sequence: 0,
        toc_checksum: [0; 32],
    }
}

fn recover(dir: PathBuf) -> Result<usize> {
    let file = File::options()
        .read(true)
        .write(true)
        .open(dir.join("file.mv2"))?;
    let mut wal = EmbeddedWal::open(&file, &header(FILL_BYTES))?;
    Ok(wal.pending_records()?.len())
}

impl Memvid {
    fn put(&self, wal: &mut EmbeddedWal, header: &mut Header, payload: &[u8]) -> Result<()> {
        if wal.append_entry(payload).is_ok() {
            return Ok(());
        }
        ensure!(self.mode != Mode::Fill, "the region holds what is filled");
        wal.record_checkpoint(header)?;
        wal.append_entry(payload)?;
        Ok(())
    }
}

impl Log for Memvid {
    fn append(&self, payload: &[u8]) -> Result<()> {
        let mut wal = self.wal.lock().unwrap_or_else(PoisonError::into_inner);
        let (wal, header) = &mut *wal;
        self.put(wal, header, payload)
    }

    fn append_all(&self, payload: &[u8], count: usize) -> Result<()> {
        let mut wal = self.wal.lock().unwrap_or_else(PoisonError::into_inner);
        let (wal, header) = &mut *wal;
        wal.set_skip_sync(true);
        for _ in 0..count {
            self.put(wal, header, payload)?;
        }
        if self.mode == Mode::Durable {
            wal.flush()?;
            wal.set_skip_sync(false);
        }
        Ok(())
    }

    fn settle(&self) -> Result<()> {
        let mut wal = self.wal.lock().unwrap_or_else(PoisonError::into_inner);
        let (wal, header) = &mut *wal;
        wal.record_checkpoint(header)?;
        Ok(wal.flush()?)
    }
}
