//! Who has a log open: a note beside the first control block, for people to read.
//!
//! The note decides nothing. The lock does, and the host takes it back from a process that died.

use std::fmt;
use std::mem::{offset_of, size_of};

use coldframe_envelope::{Layout, field};
use coldframe_units::FileOffset;
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{Region, note};

const MAGIC: [u8; 8] = *b"CFWOWNER";
const NOTE_START: u64 = 512;
const PROGRAM_LEN: usize = 44;

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct NoteBytes {
    magic: [u8; 8],
    pid: U32,
    program: [u8; PROGRAM_LEN],
    checksum: [u8; 8],
}

/// The structures of this crate.
pub const LAYOUTS: &[Layout] = &[OWNER, note::LAYOUT];

const OWNER: Layout = Layout {
    name: "ring owner note",
    size: size_of::<NoteBytes>(),
    fields: &[
        field("magic", offset_of!(NoteBytes, magic), 8),
        field("pid", offset_of!(NoteBytes, pid), 4),
        field("program", offset_of!(NoteBytes, program), PROGRAM_LEN),
        field("checksum", offset_of!(NoteBytes, checksum), 8),
    ],
};

const _: () = assert!(size_of::<NoteBytes>() == 64);

/// A process that has, or had, a log open for writing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Owner {
    /// Its process id, on the host where it ran.
    pub pid: u32,
    /// Its program's name, printable ASCII.
    pub program: String,
}

impl Owner {
    /// Bytes of the note.
    pub(crate) const LEN: usize = size_of::<NoteBytes>();

    /// This process.
    pub(crate) fn this() -> Self {
        let program = std::env::current_exe().ok();
        let name = program.as_deref().and_then(|path| path.file_name());
        Self {
            pid: std::process::id(),
            program: name.unwrap_or_default().to_string_lossy().into_owned(),
        }
    }

    /// Where the note lies.
    pub(crate) const fn place(region: Region) -> FileOffset {
        region.file_offset(NOTE_START)
    }

    pub(crate) fn encode(&self) -> [u8; Self::LEN] {
        let mut program = [0; PROGRAM_LEN];
        let name = self
            .program
            .bytes()
            .filter(|byte| (b' '..=b'~').contains(byte));
        for (to, from) in program.iter_mut().zip(name) {
            *to = from;
        }
        let mut note = NoteBytes {
            magic: MAGIC,
            pid: self.pid.into(),
            program,
            checksum: [0; 8],
        };
        note.checksum = checksum(&note);
        zerocopy::transmute!(note)
    }

    pub(crate) fn decode(bytes: &[u8; Self::LEN]) -> Option<Self> {
        let note = NoteBytes::read_from_bytes(bytes).ok()?;
        let sound = note.magic == MAGIC && note.checksum == checksum(&note);
        let program = note.program.split(|byte| *byte == 0).next()?;
        sound.then(|| Self {
            pid: note.pid.get(),
            program: String::from_utf8_lossy(program).into_owned(),
        })
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} ({})", self.pid, self.program)
    }
}

fn checksum(note: &NoteBytes) -> [u8; 8] {
    let mut unsigned = *note;
    unsigned.checksum = [0; 8];
    let hash = blake3::hash(unsigned.as_bytes());
    let mut checksum = [0; 8];
    checksum.copy_from_slice(&hash.as_bytes()[..8]);
    checksum
}

#[cfg(test)]
mod tests {
    use coldframe_testkit::golden::{assert_golden, golden};

    use super::*;

    const GOLDEN: &str = "tests/golden/v1/owner_note.bin";

    // Spec: CONV-4
    #[test]
    fn the_golden_is_written_and_read() {
        let owner = Owner {
            pid: 4321,
            program: "my-vmm".to_owned(),
        };
        assert_golden(GOLDEN, &owner.encode());
        let bytes = golden(GOLDEN).try_into().expect("64 bytes");
        assert_eq!(Owner::decode(&bytes), Some(owner));
    }
}
