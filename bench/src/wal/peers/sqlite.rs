//! SQLite in WAL mode: syncs with synchronous=FULL, and sums up every frame.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::Result;
use rusqlite::Connection;
use rusqlite::config::DbConfig;

use crate::wal::{Log, Mode, Peer};

pub const PEER: Peer = Peer {
    name: "sqlite",
    unsynced: true,
    open,
    recover,
};

const INSERT: &str = "INSERT INTO log (payload) VALUES (?1)";

struct Sqlite {
    connection: Mutex<Connection>,
}

fn connect(dir: &Path) -> Result<Connection> {
    let connection = Connection::open(dir.join("log.sqlite"))?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    // Checkpoints are made between turns.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(connection)
}

fn open(dir: PathBuf, mode: Mode) -> Result<Box<dyn Log>> {
    let connection = connect(&dir)?;
    let synchronous = match mode {
        Mode::Durable => "full",
        Mode::Unsynced | Mode::Fill => "normal",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.execute_batch("CREATE TABLE log (seq INTEGER PRIMARY KEY, payload BLOB)")?;
    Ok(Box::new(Sqlite {
        connection: Mutex::new(connection),
    }))
}

fn recover(dir: PathBuf) -> Result<usize> {
    let connection = connect(&dir)?;
    let mut statement = connection.prepare("SELECT payload FROM log ORDER BY seq")?;
    let mut rows = statement.query([])?;
    let mut count = 0;
    while let Some(row) = rows.next()? {
        std::hint::black_box(row.get_ref(0)?.as_blob()?);
        count += 1;
    }
    Ok(count)
}

impl Log for Sqlite {
    fn append(&self, payload: &[u8]) -> Result<()> {
        let connection = self.connection.lock();
        let connection = connection.unwrap_or_else(PoisonError::into_inner);
        connection.prepare_cached(INSERT)?.execute([payload])?;
        Ok(())
    }

    fn append_all(&self, payload: &[u8], count: usize) -> Result<()> {
        let connection = self.connection.lock();
        let mut connection = connection.unwrap_or_else(PoisonError::into_inner);
        let transaction = connection.transaction()?;
        for _ in 0..count {
            transaction.prepare_cached(INSERT)?.execute([payload])?;
        }
        Ok(transaction.commit()?)
    }

    fn settle(&self) -> Result<()> {
        let connection = self.connection.lock();
        let connection = connection.unwrap_or_else(PoisonError::into_inner);
        // The next turn writes over the file of the WAL, which keeps its length.
        connection.execute_batch("DELETE FROM log; PRAGMA wal_checkpoint(RESTART)")?;
        Ok(())
    }
}
