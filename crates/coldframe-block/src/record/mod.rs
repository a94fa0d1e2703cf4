//! What the log of a device holds: pure functions on the payload of a record.
//!
//! Invariant: what decodes is encoded to the same bytes again, and nothing is allocated to decode.
//! Spec: `specs/block.md`.

mod layout;

use coldframe_chunkfile::{DiskId, IMAGE_BYTES_MAX, LogId};
use coldframe_envelope::{DecodeError, DecodeErrorKind as Error, Version};
use coldframe_ring::Sequence;
use coldframe_units::{ByteLen, RootHash};
use zerocopy::{FromBytes, IntoBytes};

pub use layout::LAYOUTS;
use layout::{
    BASE, BASE_LEN, BaseBytes, HEAD_LEN, HeadBytes, IDENTITY_LEN, IdentityBytes, RESIZE, VERSION,
    VERSION_IDENTIFIED, WRITE, ZERO,
};

/// Bytes in a page: the unit in which changes are kept.
pub const PAGE_BYTES: u64 = 4096;

/// The most bytes of data in one record (1 MiB).
pub const WRITE_BYTES_MAX: u64 = 1 << 20;

/// The longest name of a head.
const HEAD_BYTES_MAX: usize = 128;

/// Which disk a log is of, and which log it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogIdentity {
    /// The disk: as its tag says.
    pub disk: DiskId,
    /// The log: drawn when it is used for the disk first.
    pub log: LogId,
}

/// A record of a device's log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Record<'a> {
    /// What the log is on top of, from this record's own `through` on.
    Base {
        /// The index that holds all records up to `through`.
        root: RootHash,
        /// The last record that is in it.
        through: Sequence,
        /// The size of the disk there.
        size: ByteLen,
        /// The tag that the device moves.
        head: &'a str,
        /// Which disk and log; `None` in a log of version 1.
        identity: Option<LogIdentity>,
    },
    /// Whole pages, at a multiple of 4,096.
    Write {
        /// Where, in bytes.
        at: u64,
        /// What.
        data: &'a [u8],
    },
    /// Whole pages that are zero from now on.
    Zero {
        /// Where, in bytes.
        at: u64,
        /// How many bytes.
        len: u64,
    },
    /// The disk has this size from now on.
    Resize {
        /// In bytes.
        size: ByteLen,
    },
}

impl<'a> Record<'a> {
    /// Appends the record's payload to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let (kind, at, len) = match self {
            Self::Base { through, size, .. } => (BASE, through.get(), size.get()),
            Self::Write { at, data } => (WRITE, *at, data.len() as u64),
            Self::Zero { at, len } => (ZERO, *at, *len),
            Self::Resize { size } => (RESIZE, 0, size.get()),
        };
        let version = match self {
            Self::Base {
                identity: Some(_), ..
            } => VERSION_IDENTIFIED,
            _ => VERSION,
        };
        out.extend_from_slice(head(kind, version, at, len).as_bytes());
        match self {
            Self::Base {
                root,
                head,
                identity,
                ..
            } => {
                out.extend_from_slice(root.as_bytes());
                if let Some(identity) = identity {
                    out.extend_from_slice(identity.disk.as_bytes());
                    out.extend_from_slice(identity.log.as_bytes());
                }
                out.extend_from_slice(head.as_bytes());
            }
            Self::Write { data, .. } => out.extend_from_slice(data),
            Self::Zero { .. } | Self::Resize { .. } => {}
        }
    }

    /// The record in the payload of a log's record.
    ///
    /// # Errors
    /// [`DecodeError`]: another version is unsupported, all else is corrupt.
    pub fn decode(payload: &'a [u8]) -> Result<Self, DecodeError> {
        let have = payload.len() as u64;
        let need = HEAD_LEN as u64;
        let cut = DecodeError::new(Error::Truncated { need, have }, have);
        let (head, body) = HeadBytes::ref_from_prefix(payload).map_err(|_| cut)?;
        let newest = match head.kind {
            BASE => VERSION_IDENTIFIED,
            _ => VERSION,
        };
        if !(VERSION..=newest).contains(&head.version) {
            let version = |major| Version { major, minor: 0 };
            let (min, max) = (version(VERSION.into()), version(newest.into()));
            let found = version(head.version.into());
            return Err(DecodeError::new(Error::Unsupported { found, min, max }, 1));
        }
        if head.reserved != [0; 6] {
            return Err(DecodeError::new(Error::ReservedNotZero, 2));
        }
        let (at, len) = (head.at.get(), head.len.get());
        match head.kind {
            BASE => decode_base(at, len, body, head.version == VERSION_IDENTIFIED),
            WRITE => decode_write(at, len, body),
            ZERO => {
                check_pages(at, len)?;
                check_end(body)?;
                Ok(Self::Zero { at, len })
            }
            RESIZE => {
                if at != 0 {
                    return Err(DecodeError::new(Error::ReservedNotZero, 8));
                }
                check_end(body)?;
                check_size(len).map(|size| Self::Resize { size })
            }
            _ => Err(invalid("record kind", 0)),
        }
    }
}

/// What a payload has before the data of a write.
pub(crate) fn write_head(at: u64, len: u64) -> [u8; HEAD_LEN] {
    zerocopy::transmute!(head(WRITE, VERSION, at, len))
}

/// Bytes of a payload beside the data of a write.
pub(crate) const OVERHEAD: u64 = HEAD_LEN as u64;

const fn head(kind: u8, version: u8, at: u64, len: u64) -> HeadBytes {
    HeadBytes {
        kind,
        version,
        reserved: [0; 6],
        at: zerocopy::little_endian::U64::new(at),
        len: zerocopy::little_endian::U64::new(len),
    }
}

fn decode_base(
    through: u64,
    size: u64,
    body: &[u8],
    is_identified: bool,
) -> Result<Record<'_>, DecodeError> {
    let size = check_size(size)?;
    let identity_len = if is_identified { IDENTITY_LEN } else { 0 };
    let need = (HEAD_LEN + BASE_LEN + identity_len) as u64;
    let have = (HEAD_LEN + body.len()) as u64;
    let cut = DecodeError::new(Error::Truncated { need, have }, have);
    let (base, rest) = BaseBytes::ref_from_prefix(body).map_err(|_| cut)?;
    let (identity, name) = match is_identified {
        false => (None, rest),
        true => {
            let (row, name) = IdentityBytes::ref_from_prefix(rest).map_err(|_| cut)?;
            let (disk, log) = (DiskId::from_bytes(row.disk), LogId::from_bytes(row.log));
            (Some(LogIdentity { disk, log }), name)
        }
    };
    let is_name = |name: &[u8]| name.iter().all(|byte| (0x21..0x7f).contains(byte));
    let fits = (1..=HEAD_BYTES_MAX).contains(&name.len()) && is_name(name);
    let head = std::str::from_utf8(name).ok().filter(|_| fits);
    Ok(Record::Base {
        root: RootHash::from_bytes(base.root),
        through: Sequence::new(through),
        size,
        head: head.ok_or(invalid("head", need))?,
        identity,
    })
}

fn decode_write(at: u64, len: u64, data: &[u8]) -> Result<Record<'_>, DecodeError> {
    check_pages(at, len)?;
    if len > WRITE_BYTES_MAX {
        let (what, limit, found) = ("bytes of a write", WRITE_BYTES_MAX, len);
        return Err(DecodeError::new(
            Error::LimitExceeded { what, limit, found },
            16,
        ));
    }
    if data.len() as u64 != len {
        return Err(invalid("len", 16));
    }
    Ok(Record::Write { at, data })
}

/// Whole pages, some, inside the largest disk.
fn check_pages(at: u64, len: u64) -> Result<(), DecodeError> {
    if !at.is_multiple_of(PAGE_BYTES) || at > IMAGE_BYTES_MAX {
        return Err(invalid("at", 8));
    }
    if len == 0 || !len.is_multiple_of(PAGE_BYTES) || len > IMAGE_BYTES_MAX - at {
        return Err(invalid("len", 16));
    }
    Ok(())
}

fn check_size(size: u64) -> Result<ByteLen, DecodeError> {
    if size > IMAGE_BYTES_MAX {
        let (what, limit, found) = ("image size in bytes", IMAGE_BYTES_MAX, size);
        return Err(DecodeError::new(
            Error::LimitExceeded { what, limit, found },
            16,
        ));
    }
    Ok(ByteLen::new(size))
}

fn check_end(rest: &[u8]) -> Result<(), DecodeError> {
    let (expected, found) = (HEAD_LEN as u64, (HEAD_LEN + rest.len()) as u64);
    match rest {
        [] => Ok(()),
        _ => Err(DecodeError::new(
            Error::TrailingBytes { expected, found },
            expected,
        )),
    }
}

const fn invalid(field: &'static str, offset: u64) -> DecodeError {
    DecodeError::new(Error::Invalid { field }, offset)
}
