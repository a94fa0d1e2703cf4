//! redb: a copy-on-write tree. Syncs and checks.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};

use crate::wal::{Log, Mode, Peer};

pub const PEER: Peer = Peer {
    name: "redb",
    unsynced: true,
    open,
    recover,
};

const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");

struct Redb {
    database: Database,
    next: AtomicU64,
    durability: Durability,
}

fn open(dir: PathBuf, mode: Mode) -> Result<Box<dyn Log>> {
    let log = Redb {
        database: Database::create(dir.join("log.redb"))?,
        next: AtomicU64::new(1),
        durability: match mode {
            Mode::Durable | Mode::Fill => Durability::Immediate,
            Mode::Unsynced => Durability::None,
        },
    };
    log.settle()?;
    Ok(Box::new(log))
}

fn recover(dir: PathBuf) -> Result<usize> {
    let database = Database::open(dir.join("log.redb"))?;
    let table = database.begin_read()?.open_table(TABLE)?;
    let mut count = 0;
    for row in table.iter()? {
        let (_, payload) = row?;
        std::hint::black_box(payload.value());
        count += 1;
    }
    Ok(count)
}

impl Log for Redb {
    fn append(&self, payload: &[u8]) -> Result<()> {
        self.append_all(payload, 1)
    }

    fn append_all(&self, payload: &[u8], count: usize) -> Result<()> {
        let mut write = self.database.begin_write()?;
        write.set_durability(self.durability)?;
        let mut table = write.open_table(TABLE)?;
        // Under the lock of the transaction, so that keys rise.
        let first = self.next.fetch_add(count as u64, Ordering::Relaxed);
        for key in first..first + count as u64 {
            table.insert(key, payload)?;
        }
        drop(table);
        Ok(write.commit()?)
    }

    fn settle(&self) -> Result<()> {
        let write = self.database.begin_write()?;
        write.delete_table(TABLE)?;
        drop(write.open_table(TABLE)?);
        Ok(write.commit()?)
    }
}
