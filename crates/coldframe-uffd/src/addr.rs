//! Addresses of the process whose faults are handled, which may be another one: plain numbers, and
//! never a pointer of this process.

use std::fmt;
use std::sync::OnceLock;

use coldframe_units::{ByteLen, PageSize};

use crate::sys;

/// A virtual address of the process whose faults are handled.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostAddr(u64);

impl HostAddr {
    /// From a plain number.
    #[must_use]
    pub const fn new(addr: u64) -> Self {
        Self(addr)
    }

    /// The plain number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// This many bytes further on; `None` past 2^64.
    #[must_use]
    pub const fn checked_add(self, len: ByteLen) -> Option<Self> {
        match self.0.checked_add(len.get()) {
            Some(addr) => Some(Self(addr)),
            None => None,
        }
    }

    /// The first byte of the page that it is in.
    #[must_use]
    pub const fn align_down(self, page: PageSize) -> Self {
        Self(self.0 & !(page.bytes() - 1))
    }
}

impl fmt::Debug for HostAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostAddr({:#x})", self.0)
    }
}

impl fmt::Display for HostAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A range of addresses: never empty, and its end does not pass 2^64.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct HostRange {
    start: HostAddr,
    len: ByteLen,
}

impl HostRange {
    /// `len` bytes from `start` on; `None` if there is no byte, or if it ends past 2^64.
    #[must_use]
    pub const fn new(start: HostAddr, len: ByteLen) -> Option<Self> {
        match start.checked_add(len) {
            Some(_) if len.get() > 0 => Some(Self { start, len }),
            _ => None,
        }
    }

    /// From the first address to the one after the last; `None` if there is no byte in it.
    #[must_use]
    pub const fn between(start: HostAddr, end: HostAddr) -> Option<Self> {
        match end.0.checked_sub(start.0) {
            Some(len) => Self::new(start, ByteLen::new(len)),
            None => None,
        }
    }

    /// Its first address.
    #[must_use]
    pub const fn start(self) -> HostAddr {
        self.start
    }

    /// Its length, at least 1 byte.
    #[must_use]
    pub const fn len(self) -> ByteLen {
        self.len
    }

    /// Always false: a range has at least one byte.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        false
    }

    /// The address after its last.
    #[must_use]
    pub const fn end(self) -> HostAddr {
        HostAddr(self.start.0 + self.len.get())
    }

    /// Whether `addr` is in it.
    #[must_use]
    pub const fn contains(self, addr: HostAddr) -> bool {
        addr.0 >= self.start.0 && addr.0 < self.end().0
    }

    /// What is in both; `None` if nothing is.
    #[must_use]
    pub fn intersection(self, other: Self) -> Option<Self> {
        Self::between(self.start.max(other.start), self.end().min(other.end()))
    }
}

impl fmt::Debug for HostRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostRange({self})")
    }
}

impl fmt::Display for HostRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}..{:#x}", self.start.0, self.end().0)
    }
}

/// The size of this host's pages (`_SC_PAGESIZE`, sysconf(3)): 4 KiB on x86_64; 4, 16 or 64 KiB on
/// aarch64.
#[must_use]
pub fn host_page() -> PageSize {
    static PAGE: OnceLock<PageSize> = OnceLock::new();
    *PAGE.get_or_init(|| {
        let bytes = sys::page_bytes();
        PageSize::new(bytes).expect("the kernel's page size is a power of two from 4 KiB on")
    })
}
