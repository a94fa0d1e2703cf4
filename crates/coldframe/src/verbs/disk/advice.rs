//! What to do about a log that has what its disk does not have: commands with the names that they
//! were about, to be pasted.

use std::path::Path;

use coldframe_block::{BlockError, LogFound};
use coldframe_chunks::StoreError;

use crate::output::quoted;
use crate::store::fold_log;

/// What a verb may be told to use.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// `--wal` and `--without-log`.
    ReadLog,
    /// `--wal`.
    Log,
    /// Neither.
    Nothing,
}

/// What a verb was called with.
#[derive(Clone, Copy)]
pub struct Advice<'a> {
    pub store: &'a str,
    pub disk: &'a str,
    /// The log that it opened, if it is known.
    pub wal: Option<&'a Path>,
    pub takes: Takes,
}

impl Advice<'_> {
    /// The way out of an error about a log; `None` if there is none to name.
    pub fn way_out(&self, error: &BlockError) -> Option<String> {
        let log = match error {
            BlockError::LogElsewhere { log, .. } => log,
            BlockError::Diverged { .. }
            | BlockError::LogOfAnother { .. }
            | BlockError::LogOfAnotherLife { .. } => return self.wal.map(|wal| self.recover(wal)),
            BlockError::LogOfOtherStore { is_there, log, .. } => {
                return Some(self.of_other_store(log, *is_there));
            }
            BlockError::NotItsLog { .. } => {
                return Some("'coldframe disk ls' names the logs of disks".to_owned());
            }
            BlockError::Store {
                source: StoreError::UnfoldedLog { name, log },
            } => return Some(fold_log(self.store, name, log.path())),
            BlockError::Log { .. }
            | BlockError::LogDamaged { .. }
            | BlockError::LogUnreadable { .. }
            | BlockError::Record { .. } => return self.wal.map(|wal| self.damaged(wal)),
            _ => return None,
        };
        let abandon = self.abandon();
        Some(match log.found {
            LogFound::InUse => self.in_use(),
            LogFound::Changes(_) | LogFound::Clean => {
                format!(
                    "name it with --wal {}, or {}",
                    path(&log.path),
                    self.recover(&log.path)
                )
            }
            LogFound::Unreadable(_) => self.damaged(&log.path),
            LogFound::GivenUp => {
                format!("export the disk that they are in now; '{abandon}' goes on without them")
            }
            _ => format!(
                "name the log where it is now with --wal; if it is gone for good, '{abandon}' goes \
                 on without its changes"
            ),
        })
    }

    fn of_other_store(&self, log: &Path, is_there: bool) -> String {
        if self.takes == Takes::ReadLog {
            return "name the log that was copied with this store by --wal; to read what the store \
                    has, --without-log"
                .to_owned();
        }
        let (abandon, log) = (self.abandon(), path(log));
        match is_there {
            true => format!(
                "--wal {log} --take-log takes its changes from that store; '{abandon}' goes on \
                 without them"
            ),
            false => format!(
                "mount it if it is on another volume; if it was moved here, or is gone for good, \
                 --wal {log} --take-log takes its changes; '{abandon}' goes on without them"
            ),
        }
    }

    fn in_use(&self) -> String {
        let stop = "stop its server first, or make a checkpoint and use that";
        match self.takes {
            Takes::ReadLog => format!(
                "{stop}; to read what the store has, --without-log; to read with a copy of the \
                 log, --wal"
            ),
            Takes::Log | Takes::Nothing => stop.to_owned(),
        }
    }

    fn recover(&self, wal: &Path) -> String {
        let command = self.recover_command(wal);
        format!("'{command}' makes a disk of it under a new name")
    }

    fn damaged(&self, wal: &Path) -> String {
        let (command, abandon) = (self.recover_command(wal), self.abandon());
        format!(
            "'{command} --damaged' makes a disk of its sound records under a new name; \
             '{abandon}' goes on without its changes"
        )
    }

    fn recover_command(&self, wal: &Path) -> String {
        let (wal, store, disk) = (path(wal), quoted(self.store), self.disk);
        format!("coldframe disk recover --wal {wal} --store {store} --name {disk}-rescued")
    }

    fn abandon(&self) -> String {
        let (store, disk) = (quoted(self.store), self.disk);
        format!("coldframe disk resize {disk} --store {store} --size 0 --abandon-log")
    }
}

/// A path as a word of a shell.
fn path(path: &Path) -> String {
    quoted(&path.to_string_lossy()).into_owned()
}
