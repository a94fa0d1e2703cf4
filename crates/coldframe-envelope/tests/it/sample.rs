//! Files to test with, and the means to damage one and seal it again.

use coldframe_envelope::{ContainerBuilder, Format, Producer, SectionKind};
use coldframe_units::{Arch, PageSize, RootHash};

pub const FORMAT: Format = Format::new(*b"TEST", 1, 2).with_flags(0b101);
pub const NOTE: SectionKind = SectionKind::new(*b"NOTE");
pub const DATA: SectionKind = SectionKind::new(*b"DATA");

pub fn producer() -> Producer {
    Producer::new("golden", "0.1.0").unwrap()
}

/// A file without sections.
pub fn minimal() -> (Vec<u8>, RootHash) {
    ContainerBuilder::new(FORMAT, producer()).finish().unwrap()
}

/// A file with an empty section, an optional one and padding.
pub fn sections() -> (Vec<u8>, RootHash) {
    let mut builder = ContainerBuilder::new(FORMAT, producer())
        .with_arch(Arch::Aarch64)
        .with_page_size(PageSize::SIZE_16K)
        .with_flags(0b100);
    builder.must_understand(DATA, 0, 1, b"hello".to_vec());
    builder.must_understand(DATA, 1, 3, Vec::new());
    builder.optional(NOTE, 7, 1, b"passed over".to_vec());
    builder.finish().unwrap()
}

/// `file` with these bytes at these places, and all hashes of header and table made right again.
pub fn resealed(file: &[u8], changes: &[(usize, &[u8])]) -> Vec<u8> {
    let mut file = file.to_vec();
    for (at, bytes) in changes {
        file[*at..*at + bytes.len()].copy_from_slice(bytes);
    }
    let table = usize::try_from(u64::from_le_bytes(file[32..40].try_into().unwrap()));
    if let Some(table) = table.ok().and_then(|from| file.get(from..)) {
        let count = u32::from_le_bytes(file[40..44].try_into().unwrap());
        let len = usize::try_from(count).unwrap() * 64;
        if let Some(table) = table.get(..len) {
            let hash = *blake3::hash(table).as_bytes();
            file[64..96].copy_from_slice(&hash);
        }
    }
    let sum = *blake3::hash(&file[..152]).as_bytes();
    file[152..160].copy_from_slice(&sum[..8]);
    file
}

/// Where row `index` of the table begins.
pub fn row(file: &[u8], index: usize) -> usize {
    let table = u64::from_le_bytes(file[32..40].try_into().unwrap());
    usize::try_from(table).unwrap() + index * 64
}
