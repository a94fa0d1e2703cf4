//! Files that no builder makes, with hashes that hold: so that it is the rules which refuse them.

use coldframe_envelope::{
    DecodeError, Header, Limits, Section, SectionFlags, SectionKind, SectionTable, encode_table,
};
use coldframe_memfile::{Encoded, FORMAT, MemFile, ROWS_PER_HASH};
use coldframe_units::FileOffset;

/// A file taken apart, to be changed and put together again; the data section comes first.
pub struct Forge {
    pub header: Header,
    pub sections: Vec<(Section, Vec<u8>)>,
    /// Bytes between the data and the first table.
    pub gap: Vec<u8>,
    /// Bytes between the last table and the section table.
    pub padding: Vec<u8>,
    /// Bytes behind the section table.
    pub trailer: Vec<u8>,
}

impl Forge {
    pub fn new(file: &Encoded) -> Self {
        let header = Header::decode(&file.header, FORMAT).unwrap();
        let tail_at = file.tail_offset.get();
        let inside = |offset: u64| usize::try_from(offset - tail_at).unwrap();
        let table = &file.tail[inside(header.table_offset)..];
        let table = SectionTable::decode(&header, table, Limits::MEMORY_FILE).unwrap();
        let sections = table.sections().iter().map(|section| {
            if section.flags.is_hashed_by_format() {
                return (*section, Vec::new());
            }
            let body = &file.tail[inside(section.offset)..inside(section.end())];
            (*section, body.to_vec())
        });
        Self {
            header,
            sections: sections.collect(),
            gap: Vec::new(),
            padding: Vec::new(),
            trailer: Vec::new(),
        }
    }

    pub fn find(&mut self, name: &[u8; 4]) -> &mut (Section, Vec<u8>) {
        let kind = SectionKind::new(*name);
        let mut sections = self.sections.iter_mut();
        sections.find(|(section, _)| section.kind == kind).unwrap()
    }

    pub fn body(&mut self, name: &[u8; 4]) -> &mut Vec<u8> {
        &mut self.find(name).1
    }

    /// Writes these bytes over a body, from `at` on.
    pub fn put(&mut self, name: &[u8; 4], at: usize, bytes: &[u8]) {
        self.body(name)[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub fn remove(&mut self, name: &[u8; 4]) {
        let kind = SectionKind::new(*name);
        self.sections.retain(|(section, _)| section.kind != kind);
    }

    pub fn add(&mut self, at: usize, name: &[u8; 4], flags: SectionFlags, body: &[u8]) {
        let (mut section, _) = self.find(b"REGN").clone();
        section.kind = SectionKind::new(*name);
        section.flags = flags;
        self.sections.insert(at, (section, body.to_vec()));
    }

    /// Makes the page hashes right again.
    pub fn rehash_blocks(&mut self) {
        let pages: Vec<u8> = self
            .body(b"BLKS")
            .chunks(48 * ROWS_PER_HASH)
            .flat_map(|page| *blake3::hash(page).as_bytes())
            .collect();
        *self.body(b"BPAG") = pages;
    }

    /// Lays all out again and opens it; `check` says what more is asked of it.
    pub fn open<T>(
        mut self,
        check: impl FnOnce(&MemFile<'_>) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        let (header, tail, at) = self.seal();
        let view = MemFile::from_parts(&header, &tail, at, Limits::MEMORY_FILE)?;
        check(&view)
    }

    /// Lays all out again and checks all tables.
    pub fn verify(self) -> Result<(), DecodeError> {
        self.open(|view| view.verify_tables())
    }

    pub fn seal(&mut self) -> ([u8; 160], Vec<u8>, FileOffset) {
        let mut sections = self.sections.iter_mut();
        let (data, _) = sections.next().unwrap();
        let tail_at = data.end();
        let mut tail = self.gap.clone();
        for (section, body) in sections {
            tail.resize(tail.len().next_multiple_of(8), 0);
            section.offset = tail_at + tail.len() as u64;
            section.len = body.len() as u64;
            if !section.flags.is_hashed_by_format() {
                section.hash = *blake3::hash(body).as_bytes();
            }
            tail.extend_from_slice(body);
        }
        tail.extend_from_slice(&self.padding);
        tail.resize(tail.len().next_multiple_of(8), 0);
        let rows: Vec<Section> = self.sections.iter().map(|(row, _)| *row).collect();
        let table = encode_table(&rows);
        self.header.table_offset = tail_at + tail.len() as u64;
        tail.extend_from_slice(&table);
        tail.extend_from_slice(&self.trailer);
        self.header.table_hash = *blake3::hash(&table).as_bytes();
        self.header.section_count = u32::try_from(rows.len()).unwrap();
        self.header.file_len = tail_at + tail.len() as u64;
        (self.header.encode(), tail, FileOffset::new(tail_at))
    }
}
