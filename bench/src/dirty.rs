//! Marking and harvesting dirty pages, against the `AtomicBitmap` of vm-memory.

use std::hint::black_box;
use std::num::NonZeroUsize;

use anyhow::Result;
use coldframe_dirty::{DirtyBitmap, RegionDirty};
use coldframe_units::{ByteLen, PageSize, RamOffset};
use vm_memory::bitmap::{AtomicBitmap, Bitmap};

use crate::guest::{GIB, PAGE, Random};
use crate::harness::{Row, race, timed};
use crate::place::Place;

const MARKS: usize = 2_000_000;
const ROUNDS: usize = 9;

/// All rows of the group.
pub fn run(place: &Place) -> Result<Vec<Row>> {
    let mut rows = vec![
        mark(place, "8 bytes", 8)?,
        mark(place, "1500 bytes", 1500)?,
        mark(place, "64 KiB", 64 << 10)?,
    ];
    rows.push(harvest(place, "clean", 0)?.bounded(1.0));
    for (share, per_mille) in [("0.1 % dirty", 1), ("1 % dirty", 10)] {
        rows.push(harvest(place, share, per_mille)?);
    }
    Ok(rows)
}

/// The same places in memory for both, made before.
fn places(count: usize, ram: u64) -> Vec<usize> {
    let mut random = Random(3);
    (0..count).map(|_| (random.next() % ram) as usize).collect()
}

fn bitmaps(ram: u64) -> Result<(DirtyBitmap, AtomicBitmap)> {
    let page = NonZeroUsize::new(PAGE as usize).expect("a page is not empty");
    let ours = DirtyBitmap::new(ByteLen::new(ram), PageSize::SIZE_4K)?;
    Ok((ours, AtomicBitmap::new(ram as usize, page)))
}

/// Both through the trait of vm-memory.
fn mark_all(bitmap: &impl Bitmap, places: &[usize], len: usize) {
    for place in places {
        bitmap.mark_dirty(*place, len);
    }
}

fn mark(place: &Place, what: &str, len: usize) -> Result<Row> {
    let ram = 4 * GIB;
    let (bitmap, theirs) = bitmaps(ram)?;
    let ours = RegionDirty::new(bitmap.clone(), RamOffset::ZERO, ByteLen::new(ram))?;
    let places = places(MARKS, ram - len as u64);
    let times = race(
        place,
        ROUNDS,
        &mut [
            Box::new(|| {
                bitmap.take().commit();
                timed(|| {
                    mark_all(&ours, &places, len);
                    Ok(())
                })
            }),
            Box::new(|| {
                theirs.reset();
                timed(|| {
                    mark_all(&theirs, &places, len);
                    Ok(())
                })
            }),
        ],
    )?;
    let note = "2 million writes, scattered over a clean bitmap of 4 GiB at 4 KiB, marked through \
                vm-memory's trait Bitmap.";
    let name = format!("dirty: mark {what}, 2M times");
    Ok(Row::race(name, note, &times, None, &[("vm-memory", 1)]))
}

fn harvest(place: &Place, what: &str, per_mille: u64) -> Result<Row> {
    let ram = 64 * GIB;
    let (ours, theirs) = bitmaps(ram)?;
    // Every part of it has been used once: the worst case for a bitmap that is clean now.
    ours.mark(RamOffset::ZERO, ByteLen::new(ram))?;
    ours.take().commit();
    theirs.mark_dirty(0, ram as usize);
    theirs.reset();
    let places = places((ram / PAGE * per_mille / 1000) as usize, ram);
    let times = race(
        place,
        ROUNDS,
        &mut [
            Box::new(|| {
                for place in &places {
                    ours.mark(RamOffset::new(*place as u64), ByteLen::new(1))?;
                }
                timed(|| {
                    let token = ours.take();
                    black_box(token.pages().count());
                    token.commit();
                    Ok(())
                })
            }),
            Box::new(|| {
                mark_all(&theirs, &places, 1);
                timed(|| {
                    let words = theirs.get_and_reset();
                    Ok(black_box(
                        words.iter().map(|word| word.count_ones()).sum::<u32>(),
                    ))
                })
            }),
        ],
    )?;
    let note = "Taking what is dirty out of a bitmap of 64 GiB at 4 KiB, all of which was in use \
                before: take, count, commit; against get_and_reset and counting its bits.";
    let name = format!("dirty: harvest 64 GiB, {what}");
    Ok(Row::race(name, note, &times, None, &[("vm-memory", 1)]))
}
