//! The errors that a reply can carry. Invariant: the protocol's numbers, never the host's.

/// Why a request failed, as its client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Errno {
    /// `NBD_EPERM`: a write to a read-only export.
    #[error("operation not permitted")]
    NotPermitted,
    /// `NBD_EIO`: the device failed.
    #[error("input/output error")]
    Io,
    /// `NBD_ENOMEM`: no memory to serve the request.
    #[error("cannot allocate memory")]
    NoMemory,
    /// `NBD_EINVAL`: the request itself is wrong.
    #[error("invalid argument")]
    Invalid,
    /// `NBD_ENOSPC`: past the end of the export, or nothing left to store in.
    #[error("no space left on device")]
    NoSpace,
    /// `NBD_EOVERFLOW`: the request is too large.
    #[error("value too large")]
    Overflow,
    /// `NBD_ENOTSUP`: zeroing would not be faster than writing.
    #[error("operation not supported")]
    NotSupported,
    /// `NBD_ESHUTDOWN`: the server is stopping.
    #[error("server is shutting down")]
    Shutdown,
}

impl Errno {
    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> u32 {
        match self {
            Self::NotPermitted => 1,
            Self::Io => 5,
            Self::NoMemory => 12,
            Self::Invalid => 22,
            Self::NoSpace => 28,
            Self::Overflow => 75,
            Self::NotSupported => 95,
            Self::Shutdown => 108,
        }
    }
}
