//! Why a request failed: what may be tried again, and what it becomes for callers.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use coldframe_storage::{IoContext, Operation, StorageError};
use coldframe_units::{ByteLen, FileOffset};

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The service, or the way to it.
    #[error(transparent)]
    Service(#[from] object_store::Error),
    /// Nothing came back in time.
    #[error("no answer within {} s", .0.as_secs_f32())]
    TimedOut(Duration),
    /// The answer is not what it says of itself: cut short, or another range.
    #[error("{got} bytes came of {asked} that were asked for")]
    Short {
        /// Bytes asked for.
        asked: u64,
        /// Bytes that came.
        got: u64,
    },
    /// The object ends before the range.
    #[error("the object has {len} bytes")]
    PastEnd {
        /// Its length.
        len: u64,
    },
    /// The object is longer than may be read.
    #[error("the object has {len} bytes, it may have {limit}")]
    TooLong {
        /// Its length.
        len: u64,
        /// The most.
        limit: u64,
    },
    /// Others changed the object again and again.
    #[error("the object was changed by others {0} times in a row")]
    Contended(u32),
}

impl Failure {
    /// The object is not there.
    pub const fn is_missing(&self) -> bool {
        matches!(self, Self::Service(object_store::Error::NotFound { .. }))
    }

    /// The object is not what the request was made for.
    pub const fn is_refused(&self) -> bool {
        use object_store::Error::{AlreadyExists, NotModified, Precondition};
        matches!(
            self,
            Self::Service(AlreadyExists { .. } | NotModified { .. } | Precondition { .. })
        )
    }

    /// Asked again, the service may answer.
    pub const fn is_transient(&self) -> bool {
        use object_store::Error::{Generic, JoinError};
        match self {
            Self::Service(error) => matches!(error, Generic { .. } | JoinError { .. }),
            Self::TimedOut(_) | Self::Short { .. } => true,
            Self::PastEnd { .. } | Self::TooLong { .. } | Self::Contended(_) => false,
        }
    }

    fn io_kind(&self) -> io::ErrorKind {
        use object_store::Error as E;
        match self {
            Self::Service(E::NotFound { .. }) => io::ErrorKind::NotFound,
            Self::Service(E::PermissionDenied { .. } | E::Unauthenticated { .. }) => {
                io::ErrorKind::PermissionDenied
            }
            Self::Service(E::NotImplemented { .. } | E::NotSupported { .. }) => {
                io::ErrorKind::Unsupported
            }
            Self::TimedOut(_) => io::ErrorKind::TimedOut,
            Self::Short { .. } => io::ErrorKind::UnexpectedEof,
            _ => io::ErrorKind::Other,
        }
    }

    /// What callers see.
    pub fn at(self, operation: Operation, object: &str) -> StorageError {
        let path = PathBuf::from(object);
        if let (Operation::Read(offset, need), Self::PastEnd { len }) = (operation, &self) {
            let have = ByteLen::new(len.saturating_sub(offset.get()));
            return StorageError::UnexpectedEnd {
                path,
                offset,
                need,
                have,
            };
        }
        if let Self::TooLong { len, .. } = self {
            return StorageError::OutOfBounds {
                path,
                offset: FileOffset::ZERO,
                len: ByteLen::new(len),
            };
        }
        let error: Result<(), io::Error> = Err(io::Error::new(self.io_kind(), self));
        match error.at(operation, &path) {
            Err(error) => error,
            Ok(()) => StorageError::BadName { path },
        }
    }
}
