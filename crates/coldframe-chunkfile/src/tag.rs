//! A tag: the root that a name stands for.
//!
//! The name is that of the file or object that holds the tag, and not in it.

use alloc::vec::Vec;

use coldframe_envelope::{
    Container, ContainerBuilder, DecodeError, DecodeErrorKind as Error, EncodeError, Format,
    Limits, Producer,
};
use coldframe_units::RootHash;
use zerocopy::{FromBytes, IntoBytes};

use crate::layout::{SECTION_VERSION, TAGR, TagBytes};
use crate::parts::check_plain;

/// The format as it is written: version 1.0, plain bodies.
pub const TAG_FORMAT: Format = Format::new(*b"CTAG", 1, 0);

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

/// The root that a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tag {
    /// What kind of file it is the root of.
    pub kind: TagKind,
    /// The root.
    pub root: RootHash,
}

impl Tag {
    /// The bytes of its file.
    ///
    /// # Errors
    /// [`EncodeError`] never occurs for a producer that exists.
    pub fn encode(&self, producer: Producer) -> Result<Vec<u8>, EncodeError> {
        let row = TagBytes {
            root: *self.root.as_bytes(),
            kind: self.kind.code(),
            reserved: [0; 7],
        };
        let mut builder = ContainerBuilder::new(TAG_FORMAT, producer);
        builder.must_understand(TAGR, 0, SECTION_VERSION, row.as_bytes().to_vec());
        builder.finish().map(|(file, _)| file)
    }

    /// The tag in these bytes of a file.
    ///
    /// # Errors
    /// [`DecodeError`] naming the first thing that does not hold.
    pub fn decode(file: &[u8]) -> Result<Self, DecodeError> {
        let container = Container::decode(file, TAG_FORMAT, Limits::SMALL_FILE)?;
        check_plain(container.header())?;
        container.refuse_unknown(&[TAGR])?;
        let body = container.require(TAGR, 0)?;
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
        if !section.flags.is_must_understand() {
            let field = "section flags";
            return Err(body.error(Error::Invalid { field }, 0));
        }
        let field = "section length";
        let row = TagBytes::read_from_bytes(body.body())
            .map_err(|_| body.error(Error::Invalid { field }, 0))?;
        if row.reserved != [0; 7] {
            return Err(body.error(Error::ReservedNotZero, 33));
        }
        let field = "tag kind";
        let kind = TagKind::from_code(row.kind).ok_or(body.error(Error::Invalid { field }, 32))?;
        let root = RootHash::from_bytes(row.root);
        Ok(Self { kind, root })
    }
}
