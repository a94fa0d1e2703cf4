//! Restore by copying: every page that is not zero is written into the guest's memory.
//!
//! Invariants: bytes are read into private memory, checked there and copied from there; memory
//! that is to be zero is not touched unless something was there before.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use coldframe_units::BLOCK_BYTES;

use crate::chain::reader::{Reader, Tables};
use crate::chain::{Layers, resolve, sweep::Piece};
use crate::ram::RamMap;
use crate::residency::Residency;
use crate::restore::Verify;
use crate::restore::plugged::check_plugged;
use crate::{GuestRam, MemError};

/// Bytes that a thread takes on at a time; whole blocks.
const UNIT_BYTES: u64 = 16 * BLOCK_BYTES;

/// Threads that copy; more would wait for memory.
const THREADS: usize = 2;

/// What is known of the memory to restore into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// It is new, and all zero: what is zero in the snapshot is passed over.
    Zeroed,
    /// It may hold anything: what is zero in the snapshot is overwritten where it was touched.
    Used,
}

/// How memory is copied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CopyOptions {
    /// What is known of the memory.
    pub target: Target,
    /// Whether blocks are checked as they are read.
    pub verify: Verify,
}

impl Default for CopyOptions {
    /// Into new memory, every block checked.
    fn default() -> Self {
        Self {
            target: Target::Zeroed,
            verify: Verify::Yes,
        }
    }
}

/// Copies the memory of `chain` into a guest that does not run.
///
/// # Errors
/// [`MemError::TargetLayout`], [`MemError::NotPlugged`]; [`MemError::Decode`],
/// [`MemError::Damaged`] (the memory then holds a part of it); [`MemError::Residency`] for a
/// used target.
pub fn restore_copy<R: GuestRam + ?Sized>(
    chain: &Layers,
    ram: &R,
    options: CopyOptions,
) -> Result<(), MemError> {
    let started = Instant::now();
    let map = RamMap::new(ram)?;
    map.check_layout(chain.layout())?;
    let ram_bytes = chain.layout().total().get();
    let _span = tracing::info_span!("restore_copy", ram_bytes).entered();
    let pieces = resolve(chain.layers())?;
    check_plugged(chain, &map, &pieces, options.verify)?;
    let units = units(pieces);
    let tables = Tables::of(chain.layers(), options.verify)?;
    let job = Job {
        chain,
        map: &map,
        tables: &tables,
        residency: match options.target {
            Target::Used => Some(Residency::new(&map)?),
            Target::Zeroed => None,
        },
    };
    job.run(&units)?;
    tracing::info!(
        ram_bytes,
        extents = units.len(),
        duration_us = started.elapsed().as_micros() as u64,
        "memory restored by copy"
    );
    Ok(())
}

/// Cuts pieces where blocks end, into units of bounded work. Zero costs nothing: it is not cut.
fn units(pieces: Vec<Piece>) -> Vec<Piece> {
    let mut units = Vec::with_capacity(pieces.len());
    for piece in pieces {
        if piece.file.is_none() {
            units.push(piece);
            continue;
        }
        let mut next = piece.range.start;
        while next < piece.range.end {
            let end = (next / UNIT_BYTES + 1) * UNIT_BYTES;
            let part = piece.part(&(next..end));
            next = part.range.end;
            units.push(part);
        }
    }
    units
}

struct Job<'a> {
    chain: &'a Layers,
    map: &'a RamMap<'a>,
    tables: &'a [Tables<'a>],
    residency: Option<Residency>,
}

impl Job<'_> {
    fn run(&self, units: &[Piece]) -> Result<(), MemError> {
        let next = AtomicUsize::new(0);
        let failed = AtomicBool::new(false);
        let worker = || {
            let mut reader = Reader::new(self.chain.layers(), self.tables);
            // Counters only: what the threads write is handed over by joining them.
            while !failed.load(Ordering::Relaxed) {
                let Some(unit) = units.get(next.fetch_add(1, Ordering::Relaxed)) else {
                    break;
                };
                self.restore(&mut reader, unit)
                    .inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
            }
            Ok(())
        };
        let data = units.iter().filter(|unit| unit.file.is_some()).count();
        if data < 2 * THREADS {
            return worker();
        }
        thread::scope(|scope| {
            let others: Vec<_> = (1..THREADS).map(|_| scope.spawn(worker)).collect();
            let mut result = worker();
            for other in others {
                match other.join() {
                    Ok(other) => result = result.and(other),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            result
        })
    }

    fn restore(&self, reader: &mut Reader<'_>, unit: &Piece) -> Result<(), MemError> {
        let Some(bytes) = reader.read(unit)? else {
            return self.zero(&unit.range);
        };
        for (window, part) in self.map.pieces(unit.range.clone()) {
            for part in window.present(&part) {
                let skip = (part.start - unit.range.start) as usize;
                let len = (part.end - part.start) as usize;
                window.write(part.start, &bytes[skip..skip + len]);
            }
        }
        Ok(())
    }

    fn zero(&self, range: &Range<u64>) -> Result<(), MemError> {
        let Some(residency) = &self.residency else {
            return Ok(());
        };
        for (window, part) in self.map.pieces(range.clone()) {
            for part in window.present(&part) {
                for span in residency.touched(window, &part)?.spans {
                    window.write_zeros(&span);
                }
            }
        }
        Ok(())
    }
}
