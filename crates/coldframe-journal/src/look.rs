//! What stands at an offset, and what stands behind damage.
//!
//! Invariant: bytes that fail a check are torn, not corrupt, unless something sound behind them
//! says that they were durable when it was written: a record of the same part, by its distance
//! from the durable point, or the seal of a part whose header is the damage.

use coldframe_envelope::{DecodeError, DecodeErrorKind};
use coldframe_storage::StorageError;
use coldframe_walframe::journal::{
    ALIGN, PART_HEADER_LEN, PART_MAGIC, PartHeader, PartKey, RECORD_HEADER_LEN, RecordHeader,
    turned_over,
};

use super::window::Window;

/// How much is scanned at once, in bytes; a multiple of 16.
const SCAN: u64 = 1 << 18;

/// A part that is being read.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub header: PartHeader,
    pub key: PartKey,
    pub start: u64,
}

impl Part {
    fn new(header: PartHeader, start: u64) -> Self {
        Self {
            header,
            key: PartKey::new(header.id),
            start,
        }
    }
}

/// What stands at an offset.
pub(crate) enum Look {
    /// Nothing: the file ends here.
    Eof,
    Part(Box<Part>),
    Record(RecordHeader),
    /// A header of zeros.
    Zeros,
    Bad(DecodeError),
}

/// Looks at what stands at `at`, in `part`; a record comes back checked whole.
pub(crate) fn look(
    window: &mut Window,
    part: Option<&Part>,
    at: u64,
) -> Result<Look, StorageError> {
    let bytes = window.get(at, PART_HEADER_LEN)?;
    if bytes.is_empty() {
        return Ok(Look::Eof);
    }
    if PartHeader::is_announced(bytes) {
        return Ok(match PartHeader::decode(bytes) {
            Ok(header) => Look::Part(Box::new(Part::new(header, at))),
            Err(error) => Look::Bad(error),
        });
    }
    if bytes
        .iter()
        .take(RECORD_HEADER_LEN as usize)
        .all(|byte| *byte == 0)
    {
        return Ok(Look::Zeros);
    }
    let Some(part) = part else {
        return Ok(Look::Bad(DecodeError::new(DecodeErrorKind::BadMagic, 0)));
    };
    match RecordHeader::decode(bytes, &part.key, at - part.start) {
        Ok(header) => check_body(window, part, at, header),
        Err(error) => Ok(Look::Bad(error)),
    }
}

fn check_body(
    window: &mut Window,
    part: &Part,
    at: u64,
    header: RecordHeader,
) -> Result<Look, StorageError> {
    let (need, have) = (header.record_len(), window.len() - at);
    if need > have {
        let kind = DecodeErrorKind::Truncated { need, have };
        return Ok(Look::Bad(DecodeError::new(kind, have)));
    }
    let record = window.get(at, need)?;
    Ok(
        match header.check(&part.key, &record[RECORD_HEADER_LEN as usize..]) {
            Ok(_) => Look::Record(header),
            Err(error) => Look::Bad(error),
        },
    )
}

/// What a scan behind damage looks for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sought {
    /// A record that proves the damage was durable, or a joined part.
    Witness,
    /// The next sound record or part.
    Sound,
    /// The next part.
    Part,
}

/// What a scan found.
pub(crate) enum Hit {
    /// A part, joined by `cat`.
    Part(Box<Part>),
    /// A record of the part that was read.
    Record(u64),
}

/// Scans from `bad` on, which may itself have a sound header and a damaged payload.
///
/// Behind the header of a record that stands where it was written, no other record is looked for
/// up to its end, so that every byte is hashed at most once; but a part may have been joined there
/// if the payload is not whole.
pub(crate) fn scan(
    window: &mut Window,
    part: Option<&Part>,
    bad: u64,
    sought: Sought,
) -> Result<Option<Hit>, StorageError> {
    let (mut at, mut records_from) = (bad, bad);
    while let Some(candidate) = next_candidate(window, part, at, records_from)? {
        match (candidate, part) {
            (Candidate::Part(part), _) => return Ok(Some(Hit::Part(part))),
            (Candidate::Record(place, header), Some(part)) => {
                let durable = place.saturating_sub(header.unsynced);
                if sought == Sought::Witness && durable > bad && place > bad {
                    return Ok(Some(Hit::Record(place)));
                }
                records_from = place + header.record_len();
                let whole = matches!(check_body(window, part, place, header)?, Look::Record(_));
                if whole && sought == Sought::Sound {
                    return Ok(Some(Hit::Record(place)));
                }
                at = if whole { records_from } else { place + 1 };
            }
            (Candidate::Record(..), None) => break,
        }
    }
    Ok(None)
}

/// The part that began at `start`, by its seal, if its header is damaged.
pub(crate) fn unseal(window: &mut Window, start: u64) -> Result<Option<Part>, StorageError> {
    let turned = PART_MAGIC.map(|byte| !byte);
    let mut base = start;
    while base < window.len() {
        let stretch = window.get(base, SCAN + PART_HEADER_LEN + RECORD_HEADER_LEN)?;
        for index in 0..stretch.len().min(SCAN as usize) {
            let (at, rest) = (base + index as u64, &stretch[index..]);
            let Some((seal, copy)) = rest.split_at_checked(RECORD_HEADER_LEN as usize) else {
                break;
            };
            let Some(copy) = copy.first_chunk().filter(|copy| copy.starts_with(&turned)) else {
                continue;
            };
            let Ok(header) = PartHeader::decode(&turned_over(*copy)) else {
                continue;
            };
            let part = Part::new(header, start);
            if RecordHeader::decode(seal, &part.key, at - start).is_ok() {
                return Ok(Some(part));
            }
        }
        base += SCAN;
    }
    Ok(None)
}

enum Candidate {
    Part(Box<Part>),
    Record(u64, RecordHeader),
}

/// The next sound header at `from` or behind it: of a part, or of a record from `records_from` on.
fn next_candidate(
    window: &mut Window,
    part: Option<&Part>,
    from: u64,
    records_from: u64,
) -> Result<Option<Candidate>, StorageError> {
    let mut base = from;
    while base < window.len() {
        let left = window.len() - base;
        let stretch = window.get(base, SCAN + PART_HEADER_LEN)?;
        for (index, byte) in stretch.iter().take(SCAN as usize).enumerate() {
            let (at, rest) = (base + index as u64, &stretch[index..]);
            if *byte == PART_MAGIC[0]
                && let Ok(header) = PartHeader::decode(rest)
            {
                return Ok(Some(Candidate::Part(Box::new(Part::new(header, at)))));
            }
            let Some(part) = part else { continue };
            if at >= records_from
                && (at - part.start).is_multiple_of(ALIGN)
                && let Ok(header) = RecordHeader::decode(rest, &part.key, at - part.start)
                && header.record_len() <= left - index as u64
                && header.unsynced.checked_sub(at).is_none_or(|more| more == 0)
            {
                return Ok(Some(Candidate::Record(at, header)));
            }
        }
        base += SCAN;
    }
    Ok(None)
}

/// Whether there are only zeros from `from` to the end.
pub(crate) fn only_zeros(window: &mut Window, from: u64) -> Result<bool, StorageError> {
    let mut at = from;
    while at < window.len() {
        if window.get(at, SCAN)?.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        at += SCAN;
    }
    Ok(true)
}
