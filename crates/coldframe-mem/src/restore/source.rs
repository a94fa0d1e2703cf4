//! The ways in which a guest is given the memory of a snapshot, each a type: what was asked for is
//! had, or is an error.

use super::{CopyOptions, MapOptions, MappedRam, restore_copy, restore_map};
use crate::{GuestRam, Layers, MemError};

/// A way in which a guest is given the memory of a snapshot.
///
/// It is never replaced by another one: where it cannot be had, [`Source::restore`] is an error.
pub trait Source {
    /// What the guest gets.
    type Memory;
    /// Why it cannot be had.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Restores the memory of `layers`.
    ///
    /// # Errors
    /// Those of the source.
    fn restore(self, layers: &Layers) -> Result<Self::Memory, Self::Error>;
}

/// Maps the files: takes as long for any size, and **checks no hash** (principle: verify the
/// snapshot before). See [`restore_map`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Map(pub MapOptions);

impl Source for Map {
    type Memory = MappedRam;
    type Error = MemError;

    fn restore(self, layers: &Layers) -> Result<MappedRam, MemError> {
        restore_map(layers, self.0)
    }
}

/// Copies into memory that the VMM has; by default into new memory, each block checked. See
/// [`restore_copy`].
#[derive(Debug)]
pub struct CopyInto<'a, R: ?Sized> {
    ram: &'a R,
    options: CopyOptions,
}

impl<'a, R: GuestRam + ?Sized> CopyInto<'a, R> {
    /// Copies into `ram`, which is all zero, and checks each block.
    pub fn new(ram: &'a R) -> Self {
        Self::with_options(ram, CopyOptions::default())
    }

    /// Copies into `ram` as `options` say.
    pub const fn with_options(ram: &'a R, options: CopyOptions) -> Self {
        Self { ram, options }
    }
}

impl<R: GuestRam + ?Sized> Source for CopyInto<'_, R> {
    type Memory = ();
    type Error = MemError;

    fn restore(self, layers: &Layers) -> Result<(), MemError> {
        restore_copy(layers, self.ram, self.options)
    }
}
