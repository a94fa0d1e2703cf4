//! Files that no builder makes, with hashes that hold: so that it is the rules which refuse them.

use coldframe_envelope::{
    Container, DecodeError, Header, Limits, Section, SectionFlags, SectionKind, encode_table,
};

use crate::reseal::reseal;

/// A file taken apart, to be changed and put together again.
pub struct Forge {
    pub header: Header,
    pub sections: Vec<(Section, Vec<u8>)>,
    /// Bytes in front of the last section.
    pub gap: Vec<u8>,
}

impl Forge {
    pub fn new(file: &[u8]) -> Self {
        let container = Container::peek(file, Limits::MEMORY_FILE).unwrap();
        let bodies = container.bodies();
        let sections = bodies.map(|body| (*body.section(), body.body().to_vec()));
        Self {
            header: *container.header(),
            sections: sections.collect(),
            gap: Vec::new(),
        }
    }

    pub fn find(&mut self, name: &[u8; 4]) -> &mut (Section, Vec<u8>) {
        let kind = SectionKind::new(*name);
        let mut sections = self.sections.iter_mut();
        sections.find(|(section, _)| section.kind == kind).unwrap()
    }

    /// Writes these bytes over a body, from `at` on.
    pub fn put(mut self, name: &[u8; 4], at: usize, bytes: &[u8]) -> Self {
        self.find(name).1[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub fn body(mut self, name: &[u8; 4], body: &[u8]) -> Self {
        self.find(name).1 = body.to_vec();
        self
    }

    pub fn row(mut self, name: &[u8; 4], change: impl FnOnce(&mut Section)) -> Self {
        change(&mut self.find(name).0);
        self
    }

    pub fn without(mut self, name: &[u8; 4]) -> Self {
        let kind = SectionKind::new(*name);
        self.sections.retain(|(section, _)| section.kind != kind);
        self
    }

    pub fn add(mut self, at: usize, name: &[u8; 4], flags: SectionFlags, body: &[u8]) -> Self {
        let mut section = self.sections[0].0;
        section.kind = SectionKind::new(*name);
        section.flags = flags;
        self.sections.insert(at, (section, body.to_vec()));
        self
    }

    /// Lays all out again, hashes made right.
    pub fn seal(mut self) -> Vec<u8> {
        let mut file = vec![0; 160];
        let last = self.sections.len().saturating_sub(1);
        for (index, (section, body)) in self.sections.iter_mut().enumerate() {
            file.resize(file.len().next_multiple_of(8), 0);
            if index == last {
                file.extend_from_slice(&self.gap);
            }
            section.offset = file.len() as u64;
            section.len = body.len() as u64;
            file.extend_from_slice(body);
        }
        file.resize(file.len().next_multiple_of(8), 0);
        let rows: Vec<Section> = self.sections.iter().map(|(row, _)| *row).collect();
        self.header.table_offset = file.len() as u64;
        file.extend_from_slice(&encode_table(&rows));
        self.header.section_count = u32::try_from(rows.len()).unwrap();
        self.header.file_len = file.len() as u64;
        file[..160].copy_from_slice(&self.header.encode());
        reseal(&mut file);
        file
    }
}

/// The name of the field that a file was refused for.
#[track_caller]
pub fn field<T: std::fmt::Debug>(result: Result<T, DecodeError>) -> &'static str {
    match result.unwrap_err().kind {
        coldframe_envelope::DecodeErrorKind::Invalid { field } => field,
        kind => panic!("refused for another reason: {kind}"),
    }
}
