//! A note that a child of a snapshot was made in another directory: where to look before the
//! parent is deleted.

use alloc::vec::Vec;

use coldframe_envelope::{
    Body, Container, ContainerBuilder, DecodeError, DecodeErrorKind as Kind, EncodeError, Format,
    Limits, Producer, SectionKind,
};
use coldframe_units::{RootHash, SnapshotId};

use crate::encode::BODY_VERSION;

/// The format and its version; bodies are plain.
pub const CHILD_FORMAT: Format = Format::new(*b"CHLD", 1, 0);

/// The parent's id, 16 bytes; instance 0.
pub const PRNT: SectionKind = SectionKind::new(*b"PRNT");

/// The absolute path of the child's directory, as bytes; instance 0.
pub const PATH: SectionKind = SectionKind::new(*b"PATH");

/// The longest path, in bytes (`PATH_MAX`).
pub const CHILD_PATH_BYTES_MAX: usize = 4096;

/// A note that a directory has, or had, a child of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildNote {
    /// Who wrote the note.
    pub producer: Producer,
    /// The parent's id.
    pub parent: SnapshotId,
    /// The absolute path of the child's directory, as bytes: it need not be UTF-8.
    pub dir: Vec<u8>,
}

impl ChildNote {
    /// The file's bytes and its root; equal notes give equal bytes.
    ///
    /// # Errors
    /// [`EncodeError`] for a path that is empty, too long, or has a byte 0.
    pub fn encode(&self) -> Result<(Vec<u8>, RootHash), EncodeError> {
        if self.dir.len() > CHILD_PATH_BYTES_MAX {
            return Err(EncodeError::LimitExceeded {
                what: "child path bytes",
                limit: wide(CHILD_PATH_BYTES_MAX),
                found: wide(self.dir.len()),
            });
        }
        if !is_path(&self.dir) {
            return Err(EncodeError::Invalid { field: "path" });
        }
        let mut file = ContainerBuilder::new(CHILD_FORMAT, self.producer);
        let parent = self.parent.as_bytes().to_vec();
        file.must_understand(PRNT, 0, BODY_VERSION, parent);
        file.must_understand(PATH, 0, BODY_VERSION, self.dir.clone());
        file.finish()
    }

    /// Reads a note and the root of its file.
    ///
    /// # Errors
    /// [`DecodeError`]: of the envelope, an unknown section that must be understood, or a section
    /// that breaks a rule.
    pub fn decode(file: &[u8]) -> Result<(Self, RootHash), DecodeError> {
        let container = Container::decode(file, CHILD_FORMAT, Limits::SMALL_FILE)?;
        container.refuse_unknown(&[PRNT, PATH])?;
        let header = container.header();
        if header.arch.is_some() || header.page_size.is_some() {
            let field = "architecture or page size";
            return Err(DecodeError::new(Kind::Invalid { field }, 16));
        }
        let parent = section(&container, PRNT)?;
        let invalid = |body: &Body<'_>, field| body.error(Kind::Invalid { field }, 0);
        let id = <[u8; 16]>::try_from(parent.body());
        let id = id.map_err(|_| invalid(&parent, "section length"))?;
        let path = section(&container, PATH)?;
        let dir = path.body();
        if dir.len() > CHILD_PATH_BYTES_MAX {
            let kind = Kind::LimitExceeded {
                what: "child path bytes",
                limit: wide(CHILD_PATH_BYTES_MAX),
                found: wide(dir.len()),
            };
            return Err(path.error(kind, 0));
        }
        if !is_path(dir) {
            return Err(invalid(&path, "path"));
        }
        let note = Self {
            producer: header.producer,
            parent: SnapshotId::from_bytes(id),
            dir: dir.to_vec(),
        };
        Ok((note, container.root()))
    }
}

/// Whether bytes may be an absolute path.
fn is_path(bytes: &[u8]) -> bool {
    bytes.first() == Some(&b'/') && !bytes.contains(&0)
}

fn wide(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

fn section<'a>(container: &Container<'a>, kind: SectionKind) -> Result<Body<'a>, DecodeError> {
    let body = container.require(kind, 0)?;
    let row = body.section();
    if row.version > BODY_VERSION {
        let error = Kind::UnsupportedSection {
            kind,
            instance: 0,
            found: row.version,
            max: BODY_VERSION,
        };
        return Err(body.error(error, 0));
    }
    let field = "section version or flags";
    if row.version == 0 || !row.flags.is_must_understand() {
        return Err(body.error(Kind::Invalid { field }, 0));
    }
    Ok(body)
}
