//! Logs and databases of others, each as its own documentation would have it used.
//!
//! They take minutes to build, so a feature brings them in: `cargo xtask bench wal` asks for it.

use crate::wal::Peer;

#[cfg(feature = "wal-peers")]
mod memvid;
#[cfg(feature = "wal-peers")]
mod okay;
#[cfg(feature = "wal-peers")]
mod raft;
#[cfg(feature = "wal-peers")]
mod redb;
#[cfg(feature = "wal-peers")]
mod sqlite;

/// All of them.
#[cfg(feature = "wal-peers")]
pub const PEERS: &[Peer] = &[
    memvid::PEER,
    okay::PEER,
    raft::PEER,
    redb::PEER,
    sqlite::PEER,
];

/// None: the feature is off.
#[cfg(not(feature = "wal-peers"))]
pub const PEERS: &[Peer] = &[];
