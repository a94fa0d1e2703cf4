//! Where RAM lies in the guest: an ordered list of regions that do not overlap.
//!
//! Invariant: regions are in rising guest address, none is empty, none overlaps its neighbour, and
//! their total length fits in a `u64`.

use alloc::vec::Vec;

use crate::{ByteLen, GuestAddr, PageSize, RamOffset};

/// One region of guest RAM: never empty, and its end does not pass 2^64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestRegion {
    addr: GuestAddr,
    len: ByteLen,
}

impl GuestRegion {
    /// A region of `len` bytes at `addr`.
    ///
    /// # Errors
    /// [`RamLayoutError::EmptyRegion`], [`RamLayoutError::AddressOverflow`].
    pub const fn new(addr: GuestAddr, len: ByteLen) -> Result<Self, RamLayoutError> {
        if len.get() == 0 {
            return Err(RamLayoutError::EmptyRegion { addr });
        }
        if addr.checked_add(len).is_none() {
            return Err(RamLayoutError::AddressOverflow { addr, len });
        }
        Ok(Self { addr, len })
    }

    /// Its first address.
    #[must_use]
    pub const fn addr(self) -> GuestAddr {
        self.addr
    }

    /// Its length, at least 1 byte.
    #[must_use]
    pub const fn len(self) -> ByteLen {
        self.len
    }

    /// Always false: a region has at least one byte.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        false
    }

    /// The address after its last.
    #[must_use]
    pub const fn end(self) -> GuestAddr {
        GuestAddr::new(self.addr.get() + self.len.get())
    }
}

/// A list of regions that is no RAM layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RamLayoutError {
    /// There is no region.
    #[error("a RAM layout needs at least one region")]
    NoRegions,
    /// A region has no bytes.
    #[error("the RAM region at {addr} is empty")]
    EmptyRegion {
        /// Where it would begin.
        addr: GuestAddr,
    },
    /// A region ends past 2^64.
    #[error("the RAM region at {addr} of {len} bytes ends past the address space")]
    AddressOverflow {
        /// Where it begins.
        addr: GuestAddr,
        /// How long it would be.
        len: ByteLen,
    },
    /// Two regions overlap, or stand in falling order.
    #[error("the RAM region at {next} begins before the one at {previous} ends")]
    Overlap {
        /// Where the earlier of the two begins.
        previous: GuestAddr,
        /// Where the later of the two begins.
        next: GuestAddr,
    },
    /// The regions together hold more than 2^64 bytes.
    #[error("the RAM regions together hold more than 2^64 bytes")]
    TotalOverflow,
    /// A region does not begin or end on a page boundary.
    #[error("the RAM region at {addr} of {len} bytes is not made of whole pages of {page_size}")]
    NotPageAligned {
        /// Where it begins.
        addr: GuestAddr,
        /// How long it is.
        len: ByteLen,
        /// The page size it was held against.
        page_size: PageSize,
    },
}

/// Guest RAM as an ordered list of regions.
///
/// Laid end to end they are the RAM offset space, in which all of coldframe's tables speak.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RamLayout {
    regions: Vec<GuestRegion>,
    total: ByteLen,
}

impl RamLayout {
    /// From regions in rising guest address.
    ///
    /// # Errors
    /// [`RamLayoutError`] if there is none, two overlap, or the sum overflows.
    pub fn new(regions: Vec<GuestRegion>) -> Result<Self, RamLayoutError> {
        let first = regions.first().ok_or(RamLayoutError::NoRegions)?;
        let mut total = first.len();
        for (previous, next) in regions.iter().zip(regions.iter().skip(1)) {
            if next.addr() < previous.end() {
                return Err(RamLayoutError::Overlap {
                    previous: previous.addr(),
                    next: next.addr(),
                });
            }
            total = total
                .checked_add(next.len())
                .ok_or(RamLayoutError::TotalOverflow)?;
        }
        Ok(Self { regions, total })
    }

    /// One region of `len` bytes at guest address 0.
    ///
    /// # Errors
    /// [`RamLayoutError::EmptyRegion`] if `len` is 0.
    pub fn contiguous(len: ByteLen) -> Result<Self, RamLayoutError> {
        Self::new(alloc::vec![GuestRegion::new(GuestAddr::ZERO, len)?])
    }

    /// The regions, in rising guest address; at least one.
    #[must_use]
    pub fn regions(&self) -> &[GuestRegion] {
        &self.regions
    }

    /// Each region with the RAM offset of its first byte.
    pub fn with_offsets(&self) -> impl Iterator<Item = (RamOffset, GuestRegion)> + '_ {
        self.regions.iter().scan(RamOffset::ZERO, |next, region| {
            let offset = *next;
            // The sum of all lengths was checked in `new`.
            *next = RamOffset::new(offset.get() + region.len().get());
            Some((offset, *region))
        })
    }

    /// All RAM together.
    #[must_use]
    pub const fn total(&self) -> ByteLen {
        self.total
    }

    /// The RAM offset of a guest address; `None` if no region holds it.
    #[must_use]
    pub fn ram_offset(&self, addr: GuestAddr) -> Option<RamOffset> {
        self.with_offsets()
            .find(|(_, region)| region.addr() <= addr && addr < region.end())
            .map(|(offset, region)| {
                RamOffset::new(offset.get() + (addr.get() - region.addr().get()))
            })
    }

    /// The guest address of a RAM offset; `None` past the end.
    #[must_use]
    pub fn guest_addr(&self, offset: RamOffset) -> Option<GuestAddr> {
        self.with_offsets()
            .filter(|(start, _)| *start <= offset)
            .last()
            .and_then(|(start, region)| {
                let inside = offset.get() - start.get();
                (inside < region.len().get()).then(|| GuestAddr::new(region.addr().get() + inside))
            })
    }

    /// Checks that every region begins and ends on a page boundary.
    ///
    /// # Errors
    /// [`RamLayoutError::NotPageAligned`] naming the first that does not.
    pub fn check_pages(&self, page_size: PageSize) -> Result<(), RamLayoutError> {
        let odd = self.regions.iter().find(|region| {
            !page_size.divides(region.addr().get()) || !page_size.divides(region.len().get())
        });
        match odd {
            Some(region) => Err(RamLayoutError::NotPageAligned {
                addr: region.addr(),
                len: region.len(),
                page_size,
            }),
            None => Ok(()),
        }
    }
}
