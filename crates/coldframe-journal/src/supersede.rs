//! Which entries still matter: the rule of compaction.
//!
//! Invariants: replaying what is kept ends in the same state as replaying all; and so does
//! replaying up to the last mark, for nothing behind that mark supersedes anything before it.

use std::collections::{BTreeMap, HashSet};

use super::kinds::{MemoryRegion, MemoryZero, Pinned, Renamed, SnapshotMark};
use super::{Entry, EntryRef};

/// What an entry does to those before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Nothing, and nothing does anything to it.
    Keep,
    /// It does not matter any more, whatever follows.
    Drop,
    /// It supersedes the one before it of the same class and key.
    Latest {
        /// Keeps keys of different kinds apart.
        class: u32,
        /// The key.
        key: Vec<u8>,
    },
    /// It overwrites a range: ranges before it that are covered whole, by it and others, are
    /// superseded; those that are covered in part stay, and are overwritten in order.
    Range {
        /// Keeps ranges of different things apart.
        space: u32,
        /// First.
        start: u64,
        /// Last plus one.
        end: u64,
    },
    /// A point to which the journal can be replayed: the state at the last one is kept as well.
    Mark,
}

/// The rule for coldframe's own entries: memory by range, names and pins by snapshot, inputs kept.
#[must_use]
pub fn core_scope(entry: &EntryRef<'_>) -> Scope {
    let range = |start: u64, len: u64| match start.checked_add(len) {
        Some(end) => Scope::Range {
            space: 0,
            start,
            end,
        },
        None => Scope::Keep,
    };
    let latest = |key: &[u8; 16]| Scope::Latest {
        class: u32::from(entry.type_id().raw()),
        key: key.to_vec(),
    };
    match entry.type_id() {
        MemoryRegion::TYPE => match entry.archived::<MemoryRegion>() {
            Ok(region) => range(region.ram_offset.into(), region.bytes.len() as u64),
            Err(_) => Scope::Keep,
        },
        MemoryZero::TYPE => match entry.archived::<MemoryZero>() {
            Ok(zero) => range(zero.ram_offset.into(), zero.len.into()),
            Err(_) => Scope::Keep,
        },
        SnapshotMark::TYPE => Scope::Mark,
        Renamed::TYPE => match entry.archived::<Renamed>() {
            Ok(renamed) => latest(&renamed.snapshot),
            Err(_) => Scope::Keep,
        },
        Pinned::TYPE => match entry.archived::<Pinned>() {
            Ok(pinned) => latest(&pinned.snapshot),
            Err(_) => Scope::Keep,
        },
        _ => Scope::Keep,
    }
}

/// For each entry, whether it is kept.
pub(crate) fn survivors(scopes: &[Scope]) -> Vec<bool> {
    let mut keep = vec![false; scopes.len()];
    let last_mark = scopes.iter().rposition(|scope| *scope == Scope::Mark);
    let behind = last_mark.map_or(0, |mark| mark + 1);
    sweep(&scopes[behind..], &mut keep[behind..]);
    if let Some(mark) = last_mark {
        sweep(&scopes[..mark], &mut keep[..mark]);
        keep[mark] = true;
    }
    keep
}

/// Backwards, so that what is seen first is what was written last.
fn sweep(scopes: &[Scope], keep: &mut [bool]) {
    let mut keys = HashSet::new();
    let mut covered: BTreeMap<u32, Covered> = BTreeMap::new();
    for (scope, keep) in scopes.iter().zip(keep).rev() {
        *keep = match scope {
            Scope::Keep => true,
            // Marks before the last one.
            Scope::Drop | Scope::Mark => false,
            Scope::Latest { class, key } => keys.insert((*class, key)),
            Scope::Range { space, start, end } => {
                covered.entry(*space).or_default().cover(*start, *end)
            }
        };
    }
}

/// Disjoint ranges that do not touch, start to end.
#[derive(Default)]
struct Covered(BTreeMap<u64, u64>);

impl Covered {
    /// Adds a range; says whether any of it was not covered yet.
    fn cover(&mut self, mut start: u64, mut end: u64) -> bool {
        if start >= end {
            return false;
        }
        let before = self.0.range(..=start).next_back();
        if before.is_some_and(|(_, until)| *until >= end) {
            return false;
        }
        // All that overlap or touch it become one with it.
        while let Some((&from, &until)) = self.0.range(..=end).next_back() {
            if until < start {
                break;
            }
            self.0.remove(&from);
            (start, end) = (start.min(from), end.max(until));
        }
        self.0.insert(start, end);
        true
    }
}
