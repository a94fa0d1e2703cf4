//! Sets of bits that the kernel knows: features of a userfaultfd, modes of a registration, and the
//! calls that a registered range takes.

use std::fmt;
use std::ops::BitOr;

use linux_raw_sys::general as raw;

macro_rules! bits {
    ($(#[$doc:meta])* $name:ident {
        $($(#[$bit_doc:meta])* $bit:ident = $value:expr, $text:literal;)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
        pub struct $name(u64);

        impl $name {
            /// No bit.
            pub const NONE: Self = Self(0);
            $($(#[$bit_doc])* pub const $bit: Self = Self($value as u64);)*

            const NAMES: &[(Self, &str)] = &[$((Self::$bit, $text)),*];

            /// From the kernel's bits; those without a name here are kept.
            #[must_use]
            pub const fn from_bits(bits: u64) -> Self {
                Self(bits)
            }

            /// The kernel's bits.
            #[must_use]
            pub const fn bits(self) -> u64 {
                self.0
            }

            /// Whether all bits of `other` are set.
            #[must_use]
            pub const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// What is in this set and not in `other`.
            #[must_use]
            pub const fn without(self, other: Self) -> Self {
                Self(self.0 & !other.0)
            }

            /// Both together; `|` for constants.
            #[must_use]
            pub const fn and(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// Whether no bit is set.
            #[must_use]
            pub const fn is_empty(self) -> bool {
                self.0 == 0
            }
        }

        impl BitOr for $name {
            type Output = Self;

            fn bitor(self, other: Self) -> Self {
                self.and(other)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_names(f, self.0, Self::NAMES.iter().map(|(bit, text)| (bit.0, *text)))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

/// Names with commas; bits without one as a number.
fn write_names(
    f: &mut fmt::Formatter<'_>,
    bits: u64,
    names: impl Iterator<Item = (u64, &'static str)>,
) -> fmt::Result {
    let mut rest = bits;
    let mut separator = "";
    for (bit, text) in names {
        if bits & bit != 0 {
            write!(f, "{separator}{text}")?;
            separator = ", ";
            rest &= !bit;
        }
    }
    match (rest, bits) {
        (_, 0) => f.write_str("none"),
        (0, _) => Ok(()),
        (rest, _) => write!(f, "{separator}{rest:#x}"),
    }
}

bits! {
    /// Features of a userfaultfd (`UFFD_FEATURE_*`, ioctl_userfaultfd(2)), asked for when it is
    /// opened.
    Features {
        /// Write protection of anonymous memory; Linux 5.7.
        PAGEFAULT_FLAG_WP = raw::UFFD_FEATURE_PAGEFAULT_FLAG_WP, "PAGEFAULT_FLAG_WP";
        /// An event, and a userfaultfd, for each fork(2).
        EVENT_FORK = raw::UFFD_FEATURE_EVENT_FORK, "EVENT_FORK";
        /// An event for each mremap(2).
        EVENT_REMAP = raw::UFFD_FEATURE_EVENT_REMAP, "EVENT_REMAP";
        /// An event for memory that is given up: `MADV_DONTNEED`, `MADV_FREE`, `MADV_REMOVE`.
        EVENT_REMOVE = raw::UFFD_FEATURE_EVENT_REMOVE, "EVENT_REMOVE";
        /// Missing pages of hugetlbfs.
        MISSING_HUGETLBFS = raw::UFFD_FEATURE_MISSING_HUGETLBFS, "MISSING_HUGETLBFS";
        /// Missing pages of shared memory.
        MISSING_SHMEM = raw::UFFD_FEATURE_MISSING_SHMEM, "MISSING_SHMEM";
        /// An event for each munmap(2).
        EVENT_UNMAP = raw::UFFD_FEATURE_EVENT_UNMAP, "EVENT_UNMAP";
        /// A fault raises SIGBUS and no event.
        SIGBUS = raw::UFFD_FEATURE_SIGBUS, "SIGBUS";
        /// Faults name the thread.
        THREAD_ID = raw::UFFD_FEATURE_THREAD_ID, "THREAD_ID";
        /// Pages of hugetlbfs that are in the page cache and not mapped; Linux 5.13.
        MINOR_HUGETLBFS = raw::UFFD_FEATURE_MINOR_HUGETLBFS, "MINOR_HUGETLBFS";
        /// Pages of shared memory that are in the page cache and not mapped; Linux 5.14.
        MINOR_SHMEM = raw::UFFD_FEATURE_MINOR_SHMEM, "MINOR_SHMEM";
        /// Faults have the address of the access, and not that of its page; Linux 5.18.
        EXACT_ADDRESS = raw::UFFD_FEATURE_EXACT_ADDRESS, "EXACT_ADDRESS";
        /// Write protection of hugetlbfs and shared memory; Linux 5.19.
        WP_HUGETLBFS_SHMEM = raw::UFFD_FEATURE_WP_HUGETLBFS_SHMEM, "WP_HUGETLBFS_SHMEM";
        /// Write protection of pages that are not there yet; Linux 6.4.
        WP_UNPOPULATED = raw::UFFD_FEATURE_WP_UNPOPULATED, "WP_UNPOPULATED";
        /// `Uffd::poison`; Linux 6.6.
        POISON = raw::UFFD_FEATURE_POISON, "POISON";
        /// The kernel lifts write protection by itself, so that `PAGEMAP_SCAN` finds what was
        /// written; Linux 6.7.
        WP_ASYNC = raw::UFFD_FEATURE_WP_ASYNC, "WP_ASYNC";
        /// `Uffd::move_pages`; Linux 6.8.
        MOVE = raw::UFFD_FEATURE_MOVE, "MOVE";
    }
}

bits! {
    /// What a registered range raises faults for (`UFFDIO_REGISTER_MODE_*`).
    Modes {
        /// Pages that are not there.
        MISSING = raw::UFFDIO_REGISTER_MODE_MISSING, "MISSING";
        /// Writes to pages under write protection.
        WP = raw::UFFDIO_REGISTER_MODE_WP, "WP";
        /// Pages that are in the page cache and not mapped.
        MINOR = raw::UFFDIO_REGISTER_MODE_MINOR, "MINOR";
    }
}

const fn ioctl(number: u32) -> u64 {
    1 << number
}

bits! {
    /// The calls that a registered range takes.
    Ioctls {
        /// `Uffd::wake`.
        WAKE = ioctl(raw::_UFFDIO_WAKE), "WAKE";
        /// `Uffd::copy`.
        COPY = ioctl(raw::_UFFDIO_COPY), "COPY";
        /// `Uffd::zeropage`.
        ZEROPAGE = ioctl(raw::_UFFDIO_ZEROPAGE), "ZEROPAGE";
        /// `Uffd::move_pages`.
        MOVE = ioctl(raw::_UFFDIO_MOVE), "MOVE";
        /// `Uffd::write_protect`.
        WRITEPROTECT = ioctl(raw::_UFFDIO_WRITEPROTECT), "WRITEPROTECT";
        /// `Uffd::continue_pages`.
        CONTINUE = ioctl(raw::_UFFDIO_CONTINUE), "CONTINUE";
        /// `Uffd::poison`.
        POISON = ioctl(raw::_UFFDIO_POISON), "POISON";
    }
}
