//! A small log with every classic mistake to choose from: the simulator finds each one, and none
//! in the log without.
//!
//! Records lie in slots that straddle sectors in different ways, and the oldest is overwritten. A
//! record is its number, its length, a checksum over both and the payload, and the payload.

use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;

use coldframe_storage::{MemStorage, Storage};
use coldframe_testkit::crash::{CrashStorage, Cuts, Timeline, World, explore, planted};
use coldframe_testkit::rng::Rng;
use coldframe_units::FileOffset;

const SLOTS: u64 = 3;
// In slot 1 a sector ends behind the number, in slot 2 behind the length.
const SLOT: u64 = 3 * 512 - 8;
const PAYLOAD_MAX: u64 = SLOT - HEADER as u64;
// Number, length, checksum.
const HEADER: usize = 24;
/// Where the number of the last whole record is, for the flawed logs that keep one.
const SENTINEL: u64 = SLOTS * SLOT;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    /// A record says that it is one, and is believed.
    NoChecksum,
    ChecksumWithoutSequence,
    ChecksumOfTheStartOnly,
    ChecksumOfTheHeaderOnly,
    /// "Record n is whole" is written, and made durable, before record n.
    SentinelBeforeData,
    /// Both before one sync, in the right order.
    SentinelBesideData,
    AcknowledgedBeforeSync,
    /// Space is saved: a record takes the place of the one before.
    RewriteInPlace,
}

struct Log(Flaw);

#[derive(Clone, Default)]
struct Known {
    payloads: Vec<Vec<u8>>,
    durable: u64,
}

fn field(bytes: &[u8], at: usize) -> u64 {
    let mut field = [0; 8];
    field.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(field)
}

impl Log {
    fn checksum(&self, number: u64, payload: &[u8]) -> u64 {
        let mut hasher = DefaultHasher::new();
        if self.0 != Flaw::ChecksumWithoutSequence {
            hasher.write_u64(number);
        }
        hasher.write_usize(payload.len());
        match self.0 {
            Flaw::ChecksumOfTheHeaderOnly => {}
            Flaw::ChecksumOfTheStartOnly => hasher.write(&payload[..payload.len().min(8)]),
            _ => hasher.write(payload),
        }
        hasher.finish()
    }

    fn append(&self, storage: &CrashStorage, sequence: u64, payload: &[u8]) {
        let header = [
            sequence,
            payload.len() as u64,
            self.checksum(sequence, payload),
        ];
        let mut record: Vec<u8> = header
            .iter()
            .flat_map(|field| field.to_le_bytes())
            .collect();
        record.extend_from_slice(payload);
        let write = |at: u64, bytes: &[u8]| storage.write_at(FileOffset::new(at), bytes).unwrap();
        let sync = || storage.sync_data().unwrap();
        let at = sequence % SLOTS * SLOT;
        match self.0 {
            Flaw::SentinelBeforeData => {
                write(SENTINEL, &sequence.to_le_bytes());
                sync();
                write(at, &record);
            }
            Flaw::SentinelBesideData => {
                write(at, &record);
                write(SENTINEL, &sequence.to_le_bytes());
            }
            Flaw::RewriteInPlace => write(0, &record),
            _ => write(at, &record),
        }
        if self.0 != Flaw::AcknowledgedBeforeSync {
            sync();
        }
    }

    fn trusts_the_sentinel(&self) -> bool {
        matches!(self.0, Flaw::SentinelBeforeData | Flaw::SentinelBesideData)
    }

    fn record(&self, image: &[u8], slot: u64, last: u64) -> Option<(u64, Vec<u8>)> {
        let bytes = &image[(slot * SLOT) as usize..][..SLOT as usize];
        let (number, len, checksum) = (field(bytes, 0), field(bytes, 8), field(bytes, 16));
        let payload = bytes.get(HEADER..HEADER.checked_add(usize::try_from(len).ok()?)?)?;
        let is_whole = match self.0 {
            Flaw::NoChecksum => number > 0,
            _ if self.trusts_the_sentinel() => number > 0 && number <= last,
            _ => number > 0 && checksum == self.checksum(number, payload),
        };
        is_whole.then(|| (number, payload.to_vec()))
    }

    /// The records that there are, oldest first.
    fn recover(&self, image: &[u8]) -> Vec<(u64, Vec<u8>)> {
        let last = field(image, SENTINEL as usize);
        let slots = (0..SLOTS).filter_map(|slot| self.record(image, slot, last));
        let mut found: Vec<_> = slots.collect();
        found.sort();
        found
    }
}

impl World for Log {
    /// How long the payload of a record is.
    type Step = u64;

    fn draw(&self, rng: &mut Rng) -> Vec<u64> {
        let count = 1 + rng.below(6);
        (0..count).map(|_| 8 + rng.below(PAYLOAD_MAX - 8)).collect()
    }

    fn run(&self, steps: &[u64], cuts: &mut Cuts) {
        let empty = vec![0; SENTINEL as usize + 512];
        let storage = Arc::new(CrashStorage::new(empty));
        let mut known = Timeline::new(Known::default());
        for (len, sequence) in steps.iter().zip(1..) {
            let mut now = known.last();
            now.payloads.push(Rng::new(sequence).bytes(*len as usize));
            known.note(storage.operations(), now.clone());
            self.append(&storage, sequence, &now.payloads[sequence as usize - 1]);
            now.durable = sequence;
            known.note(storage.operations(), now);
        }
        for moment in 0..=storage.operations() {
            let (promised, begun) = (known.promised(moment), known.begun(moment));
            cuts.file(&storage, moment, &mut |image| {
                let mut whole = image;
                whole.resize(SENTINEL as usize + 512, 0);
                self.check(&whole, promised.durable, &begun.payloads);
            });
        }
    }
}

impl Log {
    fn check(&self, image: &[u8], durable: u64, payloads: &[Vec<u8>]) {
        let storage = MemStorage::from_vec(image.to_vec());
        let found = self.recover(&storage.to_vec());
        // The one that is being written takes the place of the oldest.
        let oldest = (durable + 2).saturating_sub(SLOTS).max(1);
        for sequence in oldest..=durable {
            let is_there = found.iter().any(|(number, _)| *number == sequence);
            assert!(is_there, "record {sequence} is gone");
        }
        for (number, payload) in &found {
            let written = payloads.get(*number as usize - 1);
            assert!(written == Some(payload), "record {number} was made up");
        }
    }
}

#[test]
fn a_log_without_a_flaw_survives_any_cut() {
    explore("log of the simulator's own", 2000, &Log(Flaw::None));
}

#[test]
fn every_planted_flaw_of_a_log_is_found() {
    let flaws = [
        ("log: no checksum", Flaw::NoChecksum),
        (
            "log: checksum without sequence",
            Flaw::ChecksumWithoutSequence,
        ),
        (
            "log: checksum of the start only",
            Flaw::ChecksumOfTheStartOnly,
        ),
        (
            "log: checksum of the header only",
            Flaw::ChecksumOfTheHeaderOnly,
        ),
        ("log: sentinel before data", Flaw::SentinelBeforeData),
        (
            "log: sentinel and data in one sync",
            Flaw::SentinelBesideData,
        ),
        (
            "log: acknowledged before the sync",
            Flaw::AcknowledgedBeforeSync,
        ),
        ("log: overwritten in place", Flaw::RewriteInPlace),
    ];
    for (name, flaw) in flaws {
        let violation = planted(name, 20_000, &Log(flaw));
        assert!(
            violation.cut.is_some(),
            "{name}: not by a power cut: {violation}"
        );
    }
}
