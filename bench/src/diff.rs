//! Diff captures: the dirty pages of 1 GiB, packed.

use anyhow::Result;
use coldframe_dirty::DirtyPages;
use coldframe_mem::{CaptureSpec, MergeBudget, capture_diff};
use coldframe_units::{ByteLen, PageIndex, PageRun, PageSize, RootHash};
use squib_snapshot::DirtyBitmap;

use crate::guest::{GIB, Guest, PAGE, Random, spec};
use crate::harness::{Row, Times, race, timed};
use crate::peers::{pwritev_packed, squib_diff};
use crate::place::Place;

const PAGES: u64 = GIB / PAGE;

/// Pages in a row where they are clustered.
const CLUSTER: u64 = 64;

/// Dirty pages in 1000, and in how many rounds they are captured.
const SHARES: [(u64, &str, usize); 4] = [
    (1, "0.1 %", 31),
    (10, "1 %", 31),
    (100, "10 %", 11),
    (500, "50 %", 7),
];

const NOTE: &str = "capture_diff in the pause, no clean page taken along, against pwritev of the \
                    same pages packed, 1024 to a call (the vectors are built in the timed part), \
                    and against squib-snapshot's write_diff of the same pages at 4 KiB. Which \
                    pages are dirty is known before; making the file is not timed.";

/// All rows of the group.
pub fn run(place: &Place) -> Result<Vec<Row>> {
    let guest = Guest::touched(GIB, 1)?;
    let (mut rows, mut growth) = (Vec::new(), Vec::new());
    for (pattern, run_len) in [("scattered", 1), ("clustered", CLUSTER)] {
        let mut fewer: Option<(&str, f64)> = None;
        for (per_mille, share, rounds) in SHARES {
            let pages = dirty_pages(PAGES * per_mille / 1000, run_len);
            let times = contest(place, &guest, &pages, MergeBudget::NONE, rounds)?;
            let name = format!("diff: {share} dirty, {pattern}");
            rows.push(Row::race(
                name,
                NOTE,
                &times,
                Some(1),
                &[("squib 4 KiB", 2)],
            ));
            let now = times.median_ms(0);
            if let Some((less, before)) = fewer.replace((share, now))
                && per_mille <= 100
            {
                growth.push(proportion(
                    format!("diff: {less} by {share}, {pattern}"),
                    before / now,
                ));
            }
        }
    }
    rows.extend(growth);
    rows.push(merged(place, &guest)?);
    Ok(rows)
}

fn proportion(name: String, share: f64) -> Row {
    let note = "The time for a tenth of the dirty pages, as a share of the time for all.";
    Row::bound(name, note, share, "x", 0.2)
}

fn merged(place: &Place, guest: &Guest) -> Result<Row> {
    let pages = dirty_pages(PAGES / 10, 1);
    let times = contest(place, guest, &pages, MergeBudget::MODEST, 11)?;
    let note = "The same with the modest merge budget, which takes clean pages along so that \
                there are fewer extents to map later; the others write dirty pages only.";
    let name = "diff: 10 % dirty, scattered, merged";
    Ok(Row::race(
        name,
        note,
        &times,
        Some(1),
        &[("squib 4 KiB", 2)],
    ))
}

fn contest(
    place: &Place,
    guest: &Guest,
    pages: &[u64],
    merge: MergeBudget,
    rounds: usize,
) -> Result<Times> {
    let runs = pages
        .iter()
        .map(|page| PageRun::new(PageIndex::new(*page), 1));
    let runs = runs.map(|run| run.expect("a page of the guest"));
    let dirty = DirtyPages::from_runs(ByteLen::new(GIB), PageSize::SIZE_4K, runs)?;
    let theirs = DirtyBitmap::new(0, GIB, PAGE)?;
    for page in pages {
        theirs.set_dirty_by_index(*page);
    }
    let bytes = pages.len() as u64 * PAGE;
    let parent = RootHash::from_bytes([1; 32]);
    let spec = CaptureSpec { merge, ..spec() };
    race(
        place,
        rounds,
        &mut [
            Box::new(|| {
                let (ram, storage) = (guest.ram(), place.storage(bytes)?);
                timed(|| Ok(capture_diff(&ram, &dirty, parent, &spec, &storage)?))
            }),
            Box::new(|| pwritev_packed(place, guest, pages)),
            Box::new(|| squib_diff(place, guest, &theirs, bytes)),
        ],
    )
}

/// So many pages, in rows of `run_len`, each row somewhere in its own part of memory.
fn dirty_pages(count: u64, run_len: u64) -> Vec<u64> {
    let runs = count.div_ceil(run_len);
    let part = PAGES / runs;
    let mut random = Random(7);
    let starts = (0..runs).map(|run| run * part + random.next() % (part - run_len + 1));
    let pages = starts.flat_map(|start| start..start + run_len);
    pages.take(count as usize).collect()
}
