//! One record of each kind, and as text.

use coldframe_block::{LogIdentity, Record};
use coldframe_chunkfile::{DiskId, LogId};
use coldframe_ring::Sequence;
use coldframe_units::{ByteLen, RootHash};

pub const DATA: [u8; 8192] = {
    let mut data = [0; 8192];
    data[0] = 1;
    data[8191] = 2;
    data
};

/// Name and value of each golden.
pub fn all() -> [(&'static str, Record<'static>); 5] {
    [
        (
            "base",
            Record::Base {
                root: RootHash::from_bytes([0x5a; 32]),
                through: Sequence::new(7),
                size: ByteLen::new(1 << 40),
                head: "disk@monday",
                identity: None,
            },
        ),
        (
            "write",
            Record::Write {
                at: 0x1_2345_6000,
                data: DATA.split_at(4096).0,
            },
        ),
        (
            "zero",
            Record::Zero {
                at: 4096,
                len: 1 << 40,
            },
        ),
        (
            "resize",
            Record::Resize {
                size: ByteLen::new(123_456_789),
            },
        ),
        (
            "base_identified",
            Record::Base {
                root: RootHash::from_bytes([0x5b; 32]),
                through: Sequence::new(8),
                size: ByteLen::new(1 << 40),
                head: "disk",
                identity: Some(LogIdentity {
                    disk: DiskId::from_bytes([0xd1; 16]),
                    log: LogId::from_bytes([0x70; 16]),
                }),
            },
        ),
    ]
}

pub fn encode(record: &Record<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    bytes
}

/// The head, and how much follows it.
pub fn dump(name: &str, bytes: &[u8]) -> String {
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let rest = &bytes[24..];
    let shown: Vec<String> = rest
        .iter()
        .take(48)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!(
        "{name}: {} bytes\n0 kind {}\n1 version {}\n2 reserved {:?}\n8 at {:#x}\n16 len {:#x}\n\
         24 {} bytes: {}\n",
        bytes.len(),
        bytes[0],
        bytes[1],
        &bytes[2..8],
        number(8),
        number(16),
        rest.len(),
        shown.join(" ")
    )
}
