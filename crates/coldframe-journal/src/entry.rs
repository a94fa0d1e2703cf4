//! What a program puts into a journal: types of its own, and what comes out.
//!
//! Invariant: nobody sees an archived value whose bytes were not validated (checked access).

use std::marker::PhantomData;

use coldframe_units::FileOffset;
use coldframe_walframe::journal::{ALIGN, Schema, TypeId};
use rkyv::api::high::{HighDeserializer, HighSerializer, HighValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::Failure;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};

use super::print::describe_core;
use super::{Description, EntryError};

/// The buffer that entries are serialized into.
pub(crate) type Buffer = AlignedVec<16>;

/// A type of entry: a struct that derives rkyv's three traits, and a number.
///
/// A struct that was ever written keeps its fields; a changed one gets another number. Of what
/// rkyv can archive, use integers of fixed width, `bool`, `String`, `Vec`, `Option`, and enums and
/// structs of these: no `usize`, no maps, no `Rc`.
pub trait Entry:
    Archive<Archived: for<'a> CheckBytes<HighValidator<'a, Failure>>>
    + for<'a, 'b> Serialize<HighSerializer<&'b mut AlignedVec<16>, ArenaHandle<'a>, Failure>>
{
    /// Its number, and whether readers that do not know it must stop.
    const TYPE: TypeId;
}

/// The types of entry that a program reads and writes.
pub trait EntrySet {
    /// Whose types these are; a journal of another schema is unsupported.
    const SCHEMA: Schema;

    /// All of them, each once.
    const TYPES: &'static [TypeId];

    /// Whether an entry of this type is one of them; others are passed over, or stop the reader.
    #[must_use]
    fn knows(type_id: TypeId) -> bool {
        Self::TYPES.contains(&type_id)
    }

    /// What an entry says, for people and for JSON; coldframe's own are known already.
    #[must_use]
    fn describe(entry: &EntryRef<'_>) -> Option<Description> {
        describe_core(entry)
    }

    /// Whether a part of this schema is read: the set's own, and coldframe's.
    #[must_use]
    fn reads(schema: Schema) -> bool {
        schema == Self::SCHEMA || schema == Schema::COLDFRAME
    }
}

/// Facts about a set that the compiler checks.
pub(crate) struct SetOf<E>(PhantomData<E>);

impl<E: EntrySet> SetOf<E> {
    /// Every type is one that entries may have, and no number stands twice.
    pub(crate) const SOUND: () = {
        let types = E::TYPES;
        let mut index = 0;
        while index < types.len() {
            assert!(types[index].is_entry(), "a type that no entry may have");
            let mut other = 0;
            while other < index {
                assert!(
                    types[other].number() != types[index].number(),
                    "a number of the set stands twice"
                );
                other += 1;
            }
            index += 1;
        }
    };

    pub(crate) const fn has(type_id: TypeId) -> bool {
        let mut index = 0;
        while index < E::TYPES.len() {
            if E::TYPES[index].raw() == type_id.raw() {
                return true;
            }
            index += 1;
        }
        false
    }
}

/// Facts about a pair of set and entry that the compiler checks.
pub(crate) struct Member<E, T>(PhantomData<(E, T)>);

impl<E: EntrySet, T: Entry> Member<E, T> {
    pub(crate) const SOUND: () = {
        let () = SetOf::<E>::SOUND;
        assert!(
            SetOf::<E>::has(T::TYPE),
            "the entry's type is not in the journal's set"
        );
        assert!(
            align_of::<T::Archived>() as u64 <= ALIGN,
            "an archived entry has an alignment of at most 16 bytes"
        );
    };
}

/// Serializes `entry` to the end of `buffer`; `false` if it cannot be, with junk at the end.
pub(crate) fn serialize<T: Entry>(entry: &T, buffer: &mut Buffer) -> bool {
    rkyv::api::high::to_bytes_in::<_, Failure>(entry, buffer).is_ok()
}

/// Where something stands in a journal: from `start` up to `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its first byte.
    pub start: FileOffset,
    /// The byte behind it, padding included.
    pub end: FileOffset,
}

impl Span {
    pub(crate) const fn new(start: u64, end: u64) -> Self {
        Self {
            start: FileOffset::new(start),
            end: FileOffset::new(end),
        }
    }
}

/// An entry as it stands in the journal: checked against its digest, not yet interpreted.
#[derive(Clone, Copy, Debug)]
pub struct EntryRef<'a> {
    pub(crate) type_id: TypeId,
    pub(crate) payload: &'a [u8],
    pub(crate) span: Span,
    pub(crate) record: Span,
}

impl<'a> EntryRef<'a> {
    /// Its type.
    #[must_use]
    pub const fn type_id(&self) -> TypeId {
        self.type_id
    }

    /// Its bytes, aligned to 16.
    #[must_use]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Where it stands.
    #[must_use]
    pub const fn span(&self) -> Span {
        self.span
    }

    /// Where the record stands that holds it: larger than its own span if it is part of a batch.
    #[must_use]
    pub const fn record(&self) -> Span {
        self.record
    }

    /// Whether it is of type `T`.
    #[must_use]
    pub fn is<T: Entry>(&self) -> bool {
        self.type_id == T::TYPE
    }

    /// Its value, validated, without a copy.
    ///
    /// # Errors
    /// [`EntryError`] if it is of another type, or no sound value.
    pub fn archived<T: Entry>(&self) -> Result<&'a T::Archived, EntryError> {
        if !self.is::<T>() {
            return Err(EntryError::OtherType {
                offset: self.span.start,
                found: self.type_id,
                expected: T::TYPE,
            });
        }
        rkyv::access::<T::Archived, Failure>(self.payload).map_err(|Failure| self.malformed::<T>())
    }

    /// Its value, as a copy of one's own.
    ///
    /// # Errors
    /// As [`EntryRef::archived`].
    pub fn decode<T>(&self) -> Result<T, EntryError>
    where
        T: Entry<Archived: Deserialize<T, HighDeserializer<Failure>>>,
    {
        rkyv::deserialize::<T, Failure>(self.archived::<T>()?)
            .map_err(|Failure| self.malformed::<T>())
    }

    const fn malformed<T: Entry>(&self) -> EntryError {
        EntryError::Malformed {
            offset: self.span.start,
            type_id: T::TYPE,
        }
    }
}

/// Every entry there is, of any program: for tools.
#[derive(Clone, Copy, Debug)]
pub enum AnyEntries {}

impl EntrySet for AnyEntries {
    const SCHEMA: Schema = Schema::COLDFRAME;
    const TYPES: &'static [TypeId] = &[];

    fn knows(_: TypeId) -> bool {
        true
    }

    fn reads(_: Schema) -> bool {
        true
    }
}
