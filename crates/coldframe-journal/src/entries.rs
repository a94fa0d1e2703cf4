//! [`entries!`](crate::entries): a set of entries, with where the fields of each lie.
//!
//! Invariant: a struct that was ever written never changes; what must change becomes another
//! struct with another number. Sizes and alignments are checked when it is compiled.

/// Defines a set of entries and its types: structs, numbers, layouts.
///
/// Each entry has a number ([`TypeId::must_understand`](crate::TypeId::must_understand), or
/// `optional`) and the size and the alignment of its archive in bytes, which are asserted: they
/// are on disk. `NAME::LAYOUTS` says where the fields lie, for a page of the format. A second
/// argument of the set, `set NAME(SCHEMA, describe)`, is its
/// [`EntrySet::describe`](crate::EntrySet::describe). rkyv need not be a dependency.
///
/// ```
/// use coldframe_journal::{Entry, EntrySet, Schema};
///
/// coldframe_journal::entries! {
///     /// All that a replay needs.
///     pub set Inputs(Schema::new("my-vmm"));
///
///     /// What the guest read from our entropy device.
///     must_understand(0x1000) Entropy [16, 8] {
///         /// The guest's exits so far.
///         progress: u64,
///         /// What it read.
///         bytes: Vec<u8>,
///     }
///     /// A line for people: a reader that does not know it passes it over.
///     optional(0x1001) Remark [8, 4] {
///         /// The line.
///         text: String,
///     }
/// }
///
/// assert_eq!(Inputs::TYPES, [Entropy::TYPE, Remark::TYPE]);
/// assert_eq!(Inputs::LAYOUTS[0].fields[1].name, "bytes");
/// ```
#[macro_export]
macro_rules! entries {
    (
        $(#[$set_meta:meta])*
        $vis:vis set $set:ident($schema:expr $(, $describe:path)?);
        $(
            $(#[$meta:meta])*
            $must:ident($number:literal) $name:ident [$size:literal, $align:literal] {
                $($(#[$field_meta:meta])* $field:ident: $type:ty,)*
            }
        )*
    ) => {
        $(
            $(#[$meta])*
            #[derive(
                $crate::__private::rkyv::Archive,
                $crate::__private::rkyv::Serialize,
                $crate::__private::rkyv::Deserialize,
                Clone, Debug, PartialEq, Eq,
            )]
            #[rkyv(crate = $crate::__private::rkyv)]
            $vis struct $name {
                $($(#[$field_meta])* pub $field: $type,)*
            }

            impl $crate::Entry for $name {
                const TYPE: $crate::TypeId = $crate::TypeId::$must($number);
            }

            const _: () = {
                type Archived = $crate::__private::rkyv::Archived<$name>;
                assert!(::core::mem::size_of::<Archived>() == $size);
                assert!(::core::mem::align_of::<Archived>() == $align);
            };
        )*

        $(#[$set_meta])*
        #[derive(Clone, Copy, Debug)]
        $vis enum $set {}

        impl $set {
            /// Where the fields of each entry's archive lie; padding is left out.
            pub const LAYOUTS: &'static [$crate::__private::Layout] = &[$(
                $crate::__private::Layout {
                    name: concat!("entry ", stringify!($name)),
                    size: $size,
                    fields: &[$($crate::__private::field(
                        stringify!($field),
                        ::core::mem::offset_of!($crate::__private::rkyv::Archived<$name>, $field),
                        ::core::mem::size_of::<$crate::__private::rkyv::Archived<$type>>(),
                    ),)*],
                },
            )*];
        }

        impl $crate::EntrySet for $set {
            const SCHEMA: $crate::Schema = $schema;
            const TYPES: &'static [$crate::TypeId] = &[$(<$name as $crate::Entry>::TYPE,)*];

            $(fn describe(entry: &$crate::EntryRef<'_>) -> Option<$crate::Description> {
                $describe(entry)
            })?
        }
    };
}
