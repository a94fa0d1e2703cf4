//! Full captures: the copy in the pause, the work after it, and the memory they need.

use std::env;
use std::fs;
use std::hint::black_box;
use std::path::Path;

use anyhow::{Context, Result};
use coldframe_mem::capture_full;
use coldframe_storage::FileStorage;

use crate::guest::{GIB, Guest, MIB, PAGE, spec};
use crate::harness::{Row, race, timed};
use crate::peers::{pwrite, squib_full};
use crate::place::Place;
use crate::resident::peak_growth_kib;

const ROUNDS: usize = 9;
const BLOCK: usize = 64 << 10;

/// All rows of the group.
pub fn run(place: &Place) -> Result<Vec<Row>> {
    let guest = Guest::touched(GIB, 1)?;
    let mut rows = Vec::new();
    let touched = own_memory(place, &guest)?;
    let note = "capture_full in the pause, against pwrite of the same bytes in calls of 1 MiB, \
                and against squib-snapshot's write_full at 16 and 4 KiB. Each writes to a new, \
                empty file; making it is not timed, nothing is synced.";
    rows.push(pause(place, "capture: full, 1 GiB touched", note, &guest)?);
    rows.push(finish(place, &guest)?);
    rows.push(touched);
    drop(guest);
    match env::var_os("COLDFRAME_GUEST_CORPUS") {
        Some(corpus) => rows.push(real_guest(place, Path::new(&corpus))?),
        None => eprintln!("bench: no real guest: COLDFRAME_GUEST_CORPUS names no folder"),
    }
    rows.extend(untouched(place)?);
    Ok(rows)
}

fn pause(place: &Place, name: &str, note: &'static str, guest: &Guest) -> Result<Row> {
    let runs = data_runs(guest.bytes());
    let bytes = runs.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    let times = race(
        place,
        ROUNDS,
        &mut [
            Box::new(|| {
                let storage = place.storage(bytes)?;
                timed(|| Ok(capture_full(&guest.ram(), &spec(), &storage)?))
            }),
            Box::new(|| pwrite(place, &runs)),
            Box::new(|| squib_full(place, guest, 16 << 10)),
            Box::new(|| squib_full(place, guest, 4 << 10)),
        ],
    )?;
    let peers = [("squib 16 KiB", 2), ("squib 4 KiB", 3)];
    Ok(Row::race(name, note, &times, Some(1), &peers))
}

/// The runs of pages that are not zero, and where they begin.
fn data_runs(memory: &[u8]) -> Vec<(u64, &[u8])> {
    let pages = memory.chunks_exact(PAGE as usize);
    let is_data: Vec<bool> = pages
        .map(|page| page.iter().any(|byte| *byte != 0))
        .collect();
    let mut start = 0;
    let mut runs = Vec::new();
    for run in is_data.chunk_by(|a, b| a == b) {
        let len = run.len() * PAGE as usize;
        if run[0] {
            runs.push((start as u64, &memory[start..start + len]));
        }
        start += len;
    }
    runs
}

fn finish(place: &Place, guest: &Guest) -> Result<Row> {
    let times = race(
        place,
        ROUNDS,
        &mut [
            Box::new(|| {
                let storage = place.storage(GIB)?;
                let captured = capture_full(&guest.ram(), &spec(), &storage)?;
                timed(|| Ok(captured.finish(&storage)?))
            }),
            Box::new(|| {
                timed(|| {
                    hash_blocks(guest.bytes());
                    Ok(())
                })
            }),
        ],
    )?;
    let note = "Captured::finish, after the pause: reads the file back, hashes, writes the tables; \
                against BLAKE3 of each 64 KiB of the same bytes in memory, by 2 threads.";
    let name = "capture: finish, 1 GiB touched";
    Ok(Row::race(name, note, &times, Some(1), &[]))
}

/// Hashes each block, half of them on another thread.
pub fn hash_blocks(bytes: &[u8]) {
    let hash = |bytes: &[u8]| {
        for block in bytes.chunks(BLOCK) {
            black_box(blake3::hash(block));
        }
    };
    let (first, second) = bytes.split_at(bytes.len() / 2);
    std::thread::scope(|scope| {
        scope.spawn(|| hash(second));
        hash(first);
    });
}

/// Before any other capture of this process, so that nothing is there to be used again.
fn own_memory(place: &Place, guest: &Guest) -> Result<Row> {
    let storage = place.storage(GIB)?;
    let growth = peak_growth_kib(|| {
        capture_full(&guest.ram(), &spec(), &storage)?.finish(&storage)?;
        Ok(())
    })?;
    let note = "Growth of the process's resident memory at its peak, over capture and finish.";
    Ok(Row::bound(
        "capture: own memory, 1 GiB touched",
        note,
        growth,
        "KiB",
        8192.0,
    ))
}

fn real_guest(place: &Place, corpus: &Path) -> Result<Row> {
    let path = corpus.join("busy.mem");
    let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
    let guest = Guest::of(&bytes)?;
    drop(bytes);
    let note = "The same of a real guest's memory, all of it touched: pwrite writes the pages that \
                are not zero, found beforehand; squib-snapshot writes all.";
    pause(place, "capture: full, a real guest", note, &guest)
}

fn untouched(place: &Place) -> Result<[Row; 2]> {
    let guest = Guest::untouched(4 * GIB)?;
    let capture = |storage: &FileStorage| {
        capture_full(&guest.ram(), &spec(), storage)?.finish(storage)?;
        Ok(())
    };
    let storage = place.storage(0)?;
    let growth = peak_growth_kib(|| capture(&storage))?;
    let once = || {
        let storage = place.storage(0)?;
        timed(|| capture(&storage))
    };
    let times = race(place, ROUNDS, &mut [Box::new(once)])?;
    let note = "capture_full and finish of 4 GiB of memory that nobody has touched, and the \
                growth of the process's resident memory at its peak, against stated bounds.";
    let time = Row::race("capture: 4 GiB never touched", note, &times, None, &[]).bounded(50.0);
    let bound = (16 * MIB / 1024) as f64;
    let name = "capture: own memory, 4 GiB never touched";
    Ok([time, Row::bound(name, note, growth, "KiB", bound)])
}
