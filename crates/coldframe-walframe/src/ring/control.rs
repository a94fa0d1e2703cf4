//! The control block: where the log begins, and what is known to be on the disk. It stands twice.
//!
//! Update rule: the block of generation `g` is first written to slot `g mod 2` and synced, then to
//! the other slot. So one slot is whole and durable at any moment, and at rest both are equal.

use coldframe_envelope::{DecodeError, DecodeErrorKind as Kind, Version};
use zerocopy::FromBytes;
use zerocopy::IntoBytes;

use crate::ring::layout::{
    ALIGN, CLOSED, CONTROL_LEN, CONTROL_MAGIC, ControlBytes, MAJOR, MINOR, RING_LEN_MIN,
};
use crate::ring::{EncodeError, Geometry, RecordKey, Scan};

const CONTEXT: &str = "coldframe ring wal control v1";

/// The random name of a ring; its records are keyed with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RegionId([u8; 16]);

impl RegionId {
    /// From 16 random bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// A control block that is in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Control {
    /// Counts the updates; the higher one of two is the newer.
    pub generation: u64,
    /// The ring's random name.
    pub region_id: RegionId,
    /// Bytes in the ring.
    pub ring_len: u64,
    /// The logical position of offset 0 of the ring in lap 0.
    pub base: u64,
    /// The logical position behind the last record that was checkpointed.
    pub tail_position: u64,
    /// The sequence of the last record that was checkpointed; 0 if none was.
    pub tail_sequence: u64,
    /// The first sequence of the current epoch: a record from here on that is of an earlier epoch
    /// was dropped once, and stays dropped.
    pub resume_sequence: u64,
    /// A sequence up to which all records were durable when this block was written.
    pub synced_sequence: u64,
    /// How often the log was opened for writing.
    pub epoch: u32,
    /// Whether the log was closed: then `synced_sequence` is its last record.
    pub closed: bool,
}

impl Control {
    /// The block of a new, empty ring.
    ///
    /// # Errors
    /// [`EncodeError::RingLen`].
    pub const fn new(region_id: RegionId, ring_len: u64) -> Result<Self, EncodeError> {
        if !is_ring_len(ring_len) {
            let (len, min) = (ring_len, RING_LEN_MIN);
            return Err(EncodeError::RingLen { len, min });
        }
        Ok(Self {
            generation: 1,
            region_id,
            ring_len,
            base: 0,
            tail_position: 0,
            tail_sequence: 0,
            resume_sequence: 1,
            synced_sequence: 0,
            epoch: 0,
            closed: true,
        })
    }

    /// Makes this the block after it.
    ///
    /// # Errors
    /// [`EncodeError::Exhausted`] after 2^64 - 1 updates.
    pub fn advance(&mut self) -> Result<(), EncodeError> {
        let next = self.generation.checked_add(1);
        let what = "the generation counter";
        self.generation = next.ok_or(EncodeError::Exhausted { what })?;
        Ok(())
    }

    /// Makes this the block of the next epoch, with the log open.
    ///
    /// # Errors
    /// [`EncodeError::Exhausted`] after 2^32 - 1 epochs.
    pub fn open_epoch(&mut self) -> Result<(), EncodeError> {
        self.advance()?;
        let what = "the epoch counter";
        self.epoch = self
            .epoch
            .checked_add(1)
            .ok_or(EncodeError::Exhausted { what })?;
        self.closed = false;
        Ok(())
    }

    /// The slot (0 or 1) that this block is written to first.
    #[must_use]
    pub const fn first_slot(&self) -> u64 {
        self.generation % 2
    }

    /// The shape of the ring.
    #[must_use]
    pub const fn geometry(&self) -> Geometry {
        Geometry::new(self.ring_len, self.base)
    }

    /// What the ring's records are checked with.
    #[must_use]
    pub fn key(&self) -> RecordKey {
        RecordKey::new(self.region_id)
    }

    /// A scan of the records, from the first that was not checkpointed.
    #[must_use]
    pub fn scan(&self) -> Scan {
        Scan::new(self)
    }

    /// The bytes on disk.
    #[must_use]
    pub fn encode(&self) -> [u8; 128] {
        let mut bytes = ControlBytes {
            magic: CONTROL_MAGIC,
            major: MAJOR.into(),
            minor: MINOR.into(),
            flags: if self.closed { CLOSED } else { 0 }.into(),
            generation: self.generation.into(),
            region_id: self.region_id.0,
            ring_len: self.ring_len.into(),
            base: self.base.into(),
            tail_position: self.tail_position.into(),
            tail_sequence: self.tail_sequence.into(),
            resume_sequence: self.resume_sequence.into(),
            synced_sequence: self.synced_sequence.into(),
            epoch: self.epoch.into(),
            reserved: [0; 20],
            digest: [0; 16],
        };
        bytes.digest = digest(&bytes);
        zerocopy::transmute!(bytes)
    }

    /// Reads a block from the beginning of `bytes`; offsets in errors count from there.
    ///
    /// # Errors
    /// `Truncated`, `BadMagic`, `Unsupported`, `HeaderChecksum`, `ReservedNotZero`, `Invalid`.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let Ok((found, _)) = ControlBytes::read_from_prefix(bytes) else {
            let have = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            let need = CONTROL_LEN;
            return Err(DecodeError::new(Kind::Truncated { need, have }, have));
        };
        if found.magic != CONTROL_MAGIC {
            return Err(DecodeError::new(Kind::BadMagic, 0));
        }
        // There is no version 0: a write that ended behind the magic left it.
        let is_torn = found.major.get() == 0;
        if !is_torn && found.major.get() != MAJOR {
            let version = |major, minor| Version { major, minor };
            let (min, max) = (version(MAJOR, 0), version(MAJOR, MINOR));
            let found = version(found.major.get(), found.minor.get());
            return Err(DecodeError::new(Kind::Unsupported { found, min, max }, 8));
        }
        if is_torn || found.digest != digest(&found) {
            return Err(DecodeError::new(Kind::HeaderChecksum, 112));
        }
        if found.reserved != [0; 20] {
            return Err(DecodeError::new(Kind::ReservedNotZero, 92));
        }
        Self::from_fields(&found).map_err(|(field, offset)| {
            let kind = Kind::Invalid { field };
            DecodeError::new(kind, offset)
        })
    }

    fn from_fields(found: &ControlBytes) -> Result<Self, (&'static str, u64)> {
        let control = Self {
            generation: found.generation.get(),
            region_id: RegionId(found.region_id),
            ring_len: found.ring_len.get(),
            base: found.base.get(),
            tail_position: found.tail_position.get(),
            tail_sequence: found.tail_sequence.get(),
            resume_sequence: found.resume_sequence.get(),
            synced_sequence: found.synced_sequence.get(),
            epoch: found.epoch.get(),
            closed: found.flags.get() & CLOSED != 0,
        };
        let aligned = |value: u64| value.is_multiple_of(ALIGN);
        if found.flags.get() & !CLOSED != 0 {
            return Err(("flags", 12));
        }
        if !is_ring_len(control.ring_len) {
            return Err(("ring_len", 40));
        }
        if !aligned(control.base) || control.base > control.tail_position {
            return Err(("base", 48));
        }
        let end = control.tail_position.checked_add(control.ring_len);
        if !aligned(control.tail_position) || end.is_none() {
            return Err(("tail_position", 56));
        }
        if control.resume_sequence == 0 {
            return Err(("resume_sequence", 72));
        }
        Ok(control)
    }
}

const fn is_ring_len(len: u64) -> bool {
    // Half the space of positions: no sum of a position within a ring and its length overflows.
    len >= RING_LEN_MIN && len.is_multiple_of(ALIGN) && len <= u64::MAX / 2
}

fn digest(bytes: &ControlBytes) -> [u8; 16] {
    let mut unsigned = *bytes;
    unsigned.digest = [0; 16];
    let mut digest = [0; 16];
    blake3::Hasher::new_derive_key(CONTEXT)
        .update(unsigned.as_bytes())
        .finalize_xof()
        .fill(&mut digest);
    digest
}

/// The control block that holds, and what is wrong with the other slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chosen {
    /// The block of the highest generation that is in order.
    pub control: Control,
    /// What each slot holds: its generation, or why it cannot be read.
    pub slots: [Result<u64, DecodeError>; 2],
}

impl Chosen {
    /// Whether both slots hold the same block, as they do after every update that was finished.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.slots == [Ok(self.control.generation); 2]
    }
}

/// Picks one of the two slots.
///
/// # Errors
/// Why the slots cannot be read, if neither can: of the two reasons the one that says most.
pub fn choose(slots: [&[u8]; 2]) -> Result<Chosen, DecodeError> {
    let [first, second] = slots.map(Control::decode);
    let generations = [first.map(|c| c.generation), second.map(|c| c.generation)];
    let control = match (first, second) {
        (Ok(first), Ok(second)) if second.generation > first.generation => second,
        (Ok(first), _) => first,
        (Err(_), Ok(second)) => second,
        // Damage or another version says more than the absence of any block.
        (Err(first), Err(second)) if first.is_foreign() => return Err(second),
        (Err(first), Err(_)) => return Err(first),
    };
    Ok(Chosen {
        control,
        slots: generations,
    })
}
