//! A tag: the root that a name points to; of a disk also which disk it is, and which write-ahead
//! log may hold changes that are not in the index yet.
//!
//! The name is that of the file or object that holds the tag, and not in it.

use alloc::vec::Vec;
use core::fmt;

use coldframe_envelope::{
    Body, Container, ContainerBuilder, DecodeError, DecodeErrorKind as Error, EncodeError, Format,
    Limits, Producer,
};
use coldframe_units::RootHash;
use zerocopy::{FromBytes, IntoBytes};

use crate::layout::{DISK, DiskBytes, SECTION_VERSION, TAGR, TagBytes, WLOG, WriterBytes};
use crate::parts::check_plain;

/// The format as it is written: version 1.1 with a disk's identity, 1.0 without, plain bodies.
pub const TAG_FORMAT: Format = Format::new(*b"CTAG", 1, 1);

/// What a tag without the sections of 1.1 is written as: readers of 1.0 know it byte for byte.
const TAG_FORMAT_PLAIN: Format = Format::new(*b"CTAG", 1, 0);

/// The longest host name, in bytes (gethostname(2): `HOST_NAME_MAX` is 64 on Linux, 255 in POSIX).
const HOST_BYTES_MAX: usize = 255;

/// The longest path of a log, in bytes (`PATH_MAX`).
const PATH_BYTES_MAX: usize = 4096;

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// From its bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// Its bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }
    };
}

random_id! {
    /// Which disk a tag points to: a random number, drawn when the tag is created. It stays as the
    /// disk is written to; a disk that is made anew under an old name has another.
    DiskId
}

random_id! {
    /// Which write-ahead log: a random number in the log itself.
    LogId
}

/// What kind of file a tag's root is the root of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TagKind {
    /// A chunk index: a disk.
    Index,
    /// A snapshot's manifest.
    Snapshot,
}

impl TagKind {
    const fn code(self) -> u8 {
        match self {
            Self::Index => 0,
            Self::Snapshot => 1,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Index),
            1 => Some(Self::Snapshot),
            _ => None,
        }
    }
}

/// What a name points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tag {
    /// What kind of file it is the root of.
    pub kind: TagKind,
    /// The root.
    pub root: RootHash,
    /// Which disk; `None` for a snapshot, and for a disk of version 1.0.
    pub disk: Option<DiskId>,
    /// The log that may hold changes on top of the root. While it is here, the root alone is not
    /// the disk.
    pub log: Option<LogId>,
}

impl Tag {
    /// A tag of a snapshot's manifest.
    #[must_use]
    pub const fn snapshot(root: RootHash) -> Self {
        Self {
            kind: TagKind::Snapshot,
            root,
            disk: None,
            log: None,
        }
    }

    /// A tag of a disk's index; no log has changes of it.
    #[must_use]
    pub const fn disk(root: RootHash, id: DiskId) -> Self {
        Self {
            kind: TagKind::Index,
            root,
            disk: Some(id),
            log: None,
        }
    }

    /// The tag in these bytes of a file; see [`TagFile::decode`].
    ///
    /// # Errors
    /// As [`TagFile::decode`].
    pub fn decode(file: &[u8]) -> Result<Self, DecodeError> {
        TagFile::decode(file).map(|file| file.tag)
    }
}

/// Where a log was when it was opened last: for people, and for looking there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LogPlace {
    host: Vec<u8>,
    path: Vec<u8>,
}

impl LogPlace {
    /// The host's name and the absolute path on it, as bytes: neither need be UTF-8. What is over
    /// the limit (255 and 4,096 bytes) is cut off.
    #[must_use]
    pub fn new(host: &[u8], path: &[u8]) -> Self {
        let cut = |bytes: &[u8], max: usize| bytes.iter().copied().take(max).collect();
        Self {
            host: cut(host, HOST_BYTES_MAX),
            path: cut(path, PATH_BYTES_MAX),
        }
    }

    /// The host's name.
    #[must_use]
    pub fn host(&self) -> &[u8] {
        &self.host
    }

    /// The path.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        &self.path
    }
}

/// All that the file of a tag holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagFile {
    /// The tag.
    pub tag: Tag,
    /// Where its log is; there if the tag names a log.
    pub place: Option<LogPlace>,
}

impl TagFile {
    /// The bytes of the file. A tag that names a log is written with an empty place if it has none.
    ///
    /// # Errors
    /// [`EncodeError`] never occurs for a producer that exists.
    pub fn encode(&self, producer: Producer) -> Result<Vec<u8>, EncodeError> {
        let tag = &self.tag;
        let row = TagBytes {
            root: *tag.root.as_bytes(),
            kind: tag.kind.code(),
            reserved: [0; 7],
        };
        let format = match (tag.disk, tag.log) {
            (None, None) => TAG_FORMAT_PLAIN,
            _ => TAG_FORMAT,
        };
        let mut builder = ContainerBuilder::new(format, producer);
        builder.must_understand(TAGR, 0, SECTION_VERSION, row.as_bytes().to_vec());
        if let Some(disk) = tag.disk {
            let row = DiskBytes { id: disk.0 };
            builder.optional(DISK, 0, SECTION_VERSION, row.as_bytes().to_vec());
        }
        if let Some(log) = tag.log {
            let body = encode_writer(log, self.place.as_ref());
            builder.must_understand(WLOG, 0, SECTION_VERSION, body);
        }
        builder.finish().map(|(file, _)| file)
    }

    /// What these bytes of a file hold.
    ///
    /// # Errors
    /// [`DecodeError`] naming the first thing that does not hold.
    pub fn decode(file: &[u8]) -> Result<Self, DecodeError> {
        let container = Container::decode(file, TAG_FORMAT, Limits::SMALL_FILE)?;
        check_plain(container.header())?;
        container.refuse_unknown(&[TAGR, DISK, WLOG])?;
        let body = container.require(TAGR, 0)?;
        check_section(&body, true)?;
        let row: TagBytes = read_row(&body)?;
        if row.reserved != [0; 7] {
            return Err(body.error(Error::ReservedNotZero, 33));
        }
        let field = "tag kind";
        let kind = TagKind::from_code(row.kind).ok_or(body.error(Error::Invalid { field }, 32))?;
        let disk = container.find(DISK, 0).map(|body| {
            check_section(&body, false)?;
            let row: DiskBytes = read_row(&body)?;
            Ok(DiskId(row.id))
        });
        let writer = container.find(WLOG, 0).map(|body| {
            check_section(&body, true)?;
            if kind != TagKind::Index {
                let field = "writer of a snapshot";
                return Err(body.error(Error::Invalid { field }, 0));
            }
            decode_writer(&body)
        });
        let (log, place) = writer.transpose()?.unzip();
        let tag = Tag {
            kind,
            root: RootHash::from_bytes(row.root),
            disk: disk.transpose()?,
            log,
        };
        Ok(Self { tag, place })
    }
}

fn check_section(body: &Body<'_>, must_understand: bool) -> Result<(), DecodeError> {
    let section = body.section();
    if section.version != SECTION_VERSION {
        let (kind, instance, found) = (section.kind, section.instance, section.version);
        let max = SECTION_VERSION;
        let error = Error::UnsupportedSection {
            kind,
            instance,
            found,
            max,
        };
        return Err(body.error(error, 0));
    }
    if section.flags.is_must_understand() != must_understand {
        let field = "section flags";
        return Err(body.error(Error::Invalid { field }, 0));
    }
    Ok(())
}

fn read_row<T: FromBytes>(body: &Body<'_>) -> Result<T, DecodeError> {
    let field = "section length";
    T::read_from_bytes(body.body()).map_err(|_| body.error(Error::Invalid { field }, 0))
}

fn encode_writer(log: LogId, place: Option<&LogPlace>) -> Vec<u8> {
    let (host, path) = place.map_or((&[][..], &[][..]), |place| (place.host(), place.path()));
    // Both are within their limits: a place is made by nothing but `new` and the decoder.
    let len = |bytes: &[u8]| u16::try_from(bytes.len()).unwrap_or(0).into();
    let row = WriterBytes {
        log: log.0,
        host_len: len(host),
        path_len: len(path),
        reserved: [0; 4],
    };
    let mut body = row.as_bytes().to_vec();
    body.extend_from_slice(host);
    body.extend_from_slice(path);
    body
}

fn decode_writer(body: &Body<'_>) -> Result<(LogId, LogPlace), DecodeError> {
    let invalid = |field, at| body.error(Error::Invalid { field }, at);
    let (row, rest) =
        WriterBytes::read_from_prefix(body.body()).map_err(|_| invalid("section length", 0))?;
    if row.reserved != [0; 4] {
        return Err(body.error(Error::ReservedNotZero, 20));
    }
    let (host_len, path_len) = (
        usize::from(row.host_len.get()),
        usize::from(row.path_len.get()),
    );
    if host_len > HOST_BYTES_MAX {
        return Err(invalid("host_len", 16));
    }
    if path_len > PATH_BYTES_MAX {
        return Err(invalid("path_len", 18));
    }
    let split = rest.split_at_checked(host_len);
    let (host, path) = split.ok_or(invalid("host_len", 16))?;
    if path.len() != path_len {
        return Err(invalid("path_len", 18));
    }
    Ok((LogId(row.log), LogPlace::new(host, path)))
}
