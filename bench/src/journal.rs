//! The typed journal, against plain writes, the checksum alone, and wasmer-journal.
//!
//! Invariants: all append the same bytes as one entry each; a contestant that does not sync by
//! itself is synced by us, and a row that is about memory touches no disk.

use std::cell::RefCell;
use std::fs::{self, File, Permissions};
use std::hint::black_box;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

use anyhow::{Result, ensure};
use bytes::Bytes;
use coldframe_journal::kinds::{ConsoleInput, CoreEntries};
use coldframe_journal::{Durability, JournalOptions, JournalReader, JournalWriter, Next};
use coldframe_storage::{ByteSource, MappedFile};
use coldframe_units::{ByteLen, FileOffset};

use crate::harness::{Row, Run, race, timed};
use crate::place::Place;
use crate::wal::{Hash, Log as _, Mode, Plain, SIZES, payload, size_name};

mod wasmer;

/// Zeros that are written ahead, where any are.
const AHEAD: u64 = 16 << 20;
/// Of a journal that is recovered.
const BYTES: usize = 256 << 20;
/// Read at once by the limit.
const PIECE: usize = 256 << 10;

const AHEAD_NOTE: &str = "One entry appended, durable when it returns, into zeros that the journal \
    wrote ahead; the limit is pwrite of the payload into a written file and fdatasync.";
const GROWING_NOTE: &str = "The same at the end of a growing file; the limit is pwrite at the end \
    of one and fdatasync. wasmer-journal never syncs and has no checksum: its file was synced \
    for it.";
const BUFFERED_NOTE: &str = "One entry appended and not flushed, to a new file; the limit is \
    pwrite at the end of one. wasmer-journal has no checksum.";
const READ_NOTE: &str = "What reading one entry costs beyond the two checksums of its record: \
    from a mapping, validated, no copy. The limit is a stated bound.";
const RECOVER_NOTE: &str = "Opening a journal of 256 MiB to continue it, every record checked; the \
    limit is reading the file by plain means and XXH3-128 of every payload. wasmer-journal reads \
    all entries, and checks none.";

/// All rows.
pub fn run(place: &Place) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for size in SIZES {
        rows.push(ahead(place, size)?);
    }
    for size in SIZES {
        rows.push(growing(place, size, Durability::Each)?);
    }
    for size in SIZES {
        rows.push(growing(place, size, Durability::OnFlush)?);
    }
    for size in SIZES {
        rows.push(read(place, size)?);
    }
    for size in [1024, 65_536] {
        rows.push(recover(place, size)?);
    }
    Ok(rows)
}

fn entry(size: usize) -> ConsoleInput {
    ConsoleInput {
        progress: 1,
        console: 0,
        bytes: payload(size),
    }
}

fn options(durability: Durability, ahead: u64) -> Result<JournalOptions> {
    Ok(JournalOptions {
        durability,
        preallocate: ByteLen::new(ahead),
        ..JournalOptions::new()?
    })
}

type Writer = JournalWriter<CoreEntries>;

fn ahead(place: &Place, size: usize) -> Result<Row> {
    const COUNT: usize = 16;
    let dir = tempfile::tempdir_in(place.dir())?;
    let plain = Plain::create(&dir.path().join("plain"), Mode::Durable)?;
    let mut journal = Writer::create(
        &dir.path().join("journal"),
        options(Durability::Each, AHEAD)?,
    )?;
    let (entry, payload) = (entry(size), payload(size));
    let times = race(
        place,
        81,
        &mut [
            Box::new(|| {
                timed(|| {
                    for _ in 0..COUNT {
                        journal.append(&entry)?;
                    }
                    Ok(())
                })
            }),
            Box::new(|| timed(|| (0..COUNT).try_for_each(|_| plain.append(&payload)))),
        ],
    )?;
    let name = format!("journal: append {}, flush each", size_name(size));
    Ok(Row::race(name, AHEAD_NOTE, &times, Some(1), &[]).each(COUNT))
}

/// Each turn has a new file; making it, and its end, is not timed.
fn growing(place: &Place, size: usize, durability: Durability) -> Result<Row> {
    let each = durability == Durability::Each;
    let (count, rounds) = if each { (16, 61) } else { (128, 31) };
    let dir = tempfile::tempdir_in(place.dir())?;
    let path = &dir.path().join("log");
    let (entry, payload) = (&entry(size), &payload(size));
    let mut runs: Vec<Run<'_>> = vec![
        Box::new(move || {
            let mut journal = Writer::create(path, options(durability, 0)?)?;
            let time = timed(|| {
                for _ in 0..count {
                    journal.append(entry)?;
                }
                Ok(())
            });
            drop(journal);
            fs::remove_file(path)?;
            time
        }),
        Box::new(move || {
            let file = File::create_new(path)?;
            let time = timed(|| {
                for at in (0..count as u64).map(|index| index * size as u64) {
                    file.write_all_at(payload, at)?;
                    if each {
                        file.sync_data()?;
                    }
                }
                Ok(())
            });
            drop(file);
            fs::remove_file(path)?;
            time
        }),
    ];
    let peers = wasmer::append(path, payload, each, count);
    let names: &[_] = if peers.is_some() {
        &[("wasmer-journal", 2)]
    } else {
        &[]
    };
    runs.extend(peers);
    let times = race(place, rounds, &mut runs)?;
    let (what, note) = if each {
        ("growing, flush each", GROWING_NOTE)
    } else {
        ("growing, no flush", BUFFERED_NOTE)
    };
    let name = format!("journal: append {}, {what}", size_name(size));
    Ok(Row::race(name, note, &times, Some(1), names).each(count))
}

/// A journal of so many entries, closed.
fn filled(path: &Path, size: usize, count: usize) -> Result<()> {
    let mut journal = Writer::create(path, options(Durability::OnFlush, 0)?)?;
    let entry = entry(size);
    for _ in 0..count {
        journal.append(&entry)?;
    }
    journal.close()?;
    Ok(())
}

/// Few enough entries for the processor's cache, many times over.
fn read(place: &Place, size: usize) -> Result<Row> {
    const PASSES: usize = 16;
    let count = ((512 << 10) / size).min(1024);
    let dir = tempfile::tempdir_in(place.dir())?;
    let path = dir.path().join("journal");
    filled(&path, size, count)?;
    fs::set_permissions(&path, Permissions::from_mode(0o400))?;
    let mapped = std::sync::Arc::new(MappedFile::open_published(&path)?);
    let len = ByteLen::new(fs::metadata(&path)?.len());
    let bytes: Bytes = mapped.bytes(FileOffset::ZERO, len)?;
    let mut reader = JournalReader::<CoreEntries>::from_bytes(bytes.clone());
    let hash = Hash::new();
    let archive = size + size_of::<rkyv::Archived<ConsoleInput>>();
    let record = 32 + archive.next_multiple_of(16);
    let times = race(
        place,
        61,
        &mut [
            Box::new(|| {
                timed(|| {
                    for _ in 0..PASSES {
                        reader.restart()?;
                        ensure!(read_all(&mut reader)? == count, "an entry is missing");
                    }
                    Ok(())
                })
            }),
            Box::new(|| {
                timed(|| {
                    for _ in 0..PASSES {
                        for record in bytes[112..].chunks_exact(record).take(count) {
                            black_box(hash.of(&record[32..32 + archive]));
                            black_box(hash.of(&record[..36]));
                        }
                    }
                    Ok(())
                })
            }),
        ],
    )?;
    let excess = times.excess(1) * 1e9 / (PASSES * count) as f64;
    let name = format!("journal: read {}, beyond checksums", size_name(size));
    Ok(Row::bound(name, READ_NOTE, excess, "ns", 100.0))
}

fn read_all(reader: &mut JournalReader<CoreEntries>) -> Result<usize> {
    let mut count = 0;
    loop {
        match reader.read()? {
            Next::Entry(entry) => {
                black_box(entry.archived::<ConsoleInput>()?);
                count += 1;
            }
            Next::End(end) => {
                ensure!(end.is_clean(), "the journal ends with {end:?}");
                return Ok(count);
            }
        }
    }
}

fn recover(place: &Place, size: usize) -> Result<Row> {
    let count = BYTES / size;
    let dir = tempfile::tempdir_in(place.dir())?;
    let path = &dir.path().join("journal");
    let other = dir.path().join("wasmer");
    filled(path, size, count)?;
    let hash = Hash::new();
    let piece = RefCell::new(vec![0; PIECE]);
    let mut runs: Vec<Run<'_>> = vec![
        Box::new(|| {
            timed(|| {
                let (journal, found) = Writer::open(path, options(Durability::Each, 0)?)?;
                ensure!(found.entries == count as u64, "an entry is missing");
                Ok(journal)
            })
        }),
        Box::new(|| timed(|| read_and_hash(path, &hash, &mut piece.borrow_mut(), size))),
    ];
    let peer = wasmer::recover(&other, &payload(size), count)?;
    let names: &[_] = if peer.is_some() {
        &[("wasmer-journal", 2)]
    } else {
        &[]
    };
    runs.extend(peer);
    let times = race(place, 7, &mut runs)?;
    let name = format!("journal: recover 256 MiB of {}", size_name(size));
    Ok(Row::race(name, RECOVER_NOTE, &times, Some(1), names))
}

/// Payloads are hashed as they lie in pieces of the file, without regard to headers.
fn read_and_hash(path: &Path, hash: &Hash, piece: &mut [u8], size: usize) -> Result<()> {
    let file = File::open(path)?;
    let len = file.metadata()?.len();
    for at in (0..len).step_by(piece.len()) {
        let count = (len - at).min(piece.len() as u64) as usize;
        file.read_exact_at(&mut piece[..count], at)?;
        for payload in piece[..count].chunks(size) {
            black_box(hash.of(payload));
        }
    }
    Ok(())
}
