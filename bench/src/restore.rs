//! Restores: by map to the first byte, and by copy.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use anyhow::Result;
use coldframe_mem::{CopyOptions, Layers, MapOptions, Target, Verify, restore_copy, restore_map};

use crate::capture::hash_blocks;
use crate::guest::{GIB, Guest, MIB, first_byte};
use crate::harness::{Row, Run, race, timed};
use crate::place::{MemoryFile, Place};

/// How much longer the largest guest may take than the smallest.
const FLAT: f64 = 1.5;

/// All rows of the group.
pub fn run(place: &Place) -> Result<Vec<Row>> {
    let mut rows = by_map(place)?;
    rows.extend(by_copy(place)?);
    Ok(rows)
}

fn by_map(place: &Place) -> Result<Vec<Row>> {
    let sizes = [("256 MiB", 256 * MIB), ("1 GiB", GIB), ("4 GiB", 4 * GIB)];
    let files = sizes.map(|(name, len)| {
        // One page in 16: each block has a hash, and an extent of its own.
        let guest = Guest::touched(len, 16)?;
        place.memory_file(name, &guest)
    });
    let files = files.into_iter().collect::<Result<Vec<_>>>()?;
    let mut runs = Vec::new();
    for file in &files {
        runs.push(Box::new(|| thaw(file)) as Run<'_>);
    }
    let times = race(place, 51, &mut runs)?;
    let note = "Opening and mapping the file, Layers::open, restore_map, reading the first byte, \
                against a stated bound. Dropping it is not timed. One page in 16 holds data, so \
                each block has its hash and its extent: the tables are large, and must not matter.";
    let named = sizes.iter().zip(0..);
    let mut rows: Vec<Row> = named
        .map(|((size, _), index)| {
            let name = format!("restore: map to first byte, {size}");
            Row::bound(name, note, times.median_ms(index), "ms", 1.0)
        })
        .collect();
    let growth = times.median_ms(2) / times.median_ms(0);
    let name = "restore: map, 4 GiB by 256 MiB";
    let note = "The time for 16 times the memory, as a multiple: it must not grow with RAM.";
    rows.push(Row::bound(name, note, growth, "x", FLAT));
    Ok(rows)
}

fn thaw(file: &MemoryFile) -> Result<Duration> {
    timed(|| {
        let chain = Layers::open(vec![file.map()?])?;
        let memory = restore_map(&chain, MapOptions::default())?;
        std::hint::black_box(first_byte(&memory));
        Ok((chain, memory))
    })
}

fn by_copy(place: &Place) -> Result<[Row; 2]> {
    let mut guest = Guest::touched(GIB, 1)?;
    let file = place.memory_file("copy", &guest)?;
    let plain = file.open()?;
    let note = "Opening the file, Layers::open, restore_copy (2 threads, faults on the mapped file \
                included) into memory that is touched already, against pread of the same bytes in \
                calls of 1 MiB into the same memory, by one thread; peer: by two.";
    let guest = std::cell::RefCell::new(&mut guest);
    let times = race(
        place,
        7,
        &mut [
            Box::new(|| copy(&file, &mut guest.borrow_mut(), Verify::No)),
            Box::new(|| timed(|| read(&plain, guest.borrow_mut().bytes_mut(), 0))),
            Box::new(|| timed(|| read_by_two(&plain, guest.borrow_mut().bytes_mut()))),
            Box::new(|| copy(&file, &mut guest.borrow_mut(), Verify::Yes)),
            Box::new(|| {
                timed(|| {
                    hash_blocks(guest.borrow().bytes());
                    Ok(())
                })
            }),
        ],
    )?;
    let name = "restore: copy, 1 GiB";
    let copied = Row::race(name, note, &times, Some(1), &[("pread, 2 threads", 2)]);
    let note = "The same with each block checked, against BLAKE3 of each 64 KiB of the same bytes \
                in memory, by 2 threads, and nothing else.";
    let checked = times.leading(3);
    let name = "restore: copy and verify, 1 GiB";
    let checked = Row::race(name, note, &checked, Some(4), &[]);
    Ok([copied, checked])
}

fn copy(file: &MemoryFile, guest: &mut Guest, verify: Verify) -> Result<Duration> {
    let ram = guest.ram_mut();
    let options = CopyOptions {
        target: Target::Zeroed,
        verify,
    };
    timed(|| {
        let chain = Layers::open(vec![file.map()?])?;
        restore_copy(&chain, &ram, options)?;
        Ok(chain)
    })
}

/// Where the data of a Full file with small tables in front begins.
const DATA: u64 = 2 * MIB;

fn read(file: &File, memory: &mut [u8], start: u64) -> Result<()> {
    for (index, part) in (0_u64..).zip(memory.chunks_mut(MIB as usize)) {
        file.read_exact_at(part, DATA + start + index * MIB)?;
    }
    Ok(())
}

fn read_by_two(file: &File, memory: &mut [u8]) -> Result<()> {
    let half = memory.len() / 2;
    let (first, second) = memory.split_at_mut(half);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| read(file, second, half as u64));
        read(file, first, 0)?;
        other.join().expect("reading does not panic")
    })
}
