//! The annotated text beside a golden: each field of the file with its place, name and value.

use std::fmt::Write;

use coldframe_envelope::{HEADER_LEN, Header, Layout, Limits, SectionTable};
use coldframe_memfile::{FORMAT, LAYOUTS};

/// The text of a golden, which is a file without its pages.
pub fn dump(name: &str, bytes: &[u8]) -> String {
    let header = Header::decode(bytes, FORMAT).unwrap();
    let tail_at = header.file_len - (bytes.len() as u64 - HEADER_LEN);
    let inside = |offset: u64| usize::try_from(offset - tail_at + HEADER_LEN).unwrap();
    let table_at = inside(header.table_offset);
    let table = SectionTable::decode(&header, &bytes[table_at..], Limits::MEMORY_FILE).unwrap();
    let mut text = format!(
        "# {name}: {} bytes, a file without its pages\n\
         # offset size field value (integers are little-endian)\n\
         # offset {HEADER_LEN:#x} here is {tail_at:#x} of the file, behind the pages\n",
        bytes.len()
    );
    let envelope = coldframe_envelope::LAYOUTS;
    rows(
        &mut text,
        layout(envelope, "envelope header"),
        bytes,
        0..160,
    );
    for section in table.sections() {
        let row = match &section.kind.bytes() {
            b"REGN" => "region row",
            b"PRNT" => "parent",
            b"EXTN" => "extent row",
            b"BLKS" => "block row",
            b"BPAG" => "block page row",
            b"ABSN" => "absent row",
            _ => continue,
        };
        let body = inside(section.offset)..inside(section.end());
        write!(text, "\nsection {}, {} bytes\n", section.kind, section.len).unwrap();
        rows(&mut text, layout(LAYOUTS, row), bytes, body);
    }
    rows(
        &mut text,
        layout(envelope, "section row"),
        bytes,
        table_at..bytes.len(),
    );
    text
}

fn layout(layouts: &'static [Layout], name: &str) -> &'static Layout {
    layouts.iter().find(|layout| layout.name == name).unwrap()
}

fn rows(text: &mut String, layout: &Layout, bytes: &[u8], range: std::ops::Range<usize>) {
    for (index, start) in range.step_by(layout.size).enumerate() {
        write!(text, "\n{} {index}\n", layout.name).unwrap();
        for field in layout.fields {
            let at = start + field.offset;
            let value = value(field.name, &bytes[at..at + field.size]);
            writeln!(text, "{at:03x} {:2} {:12} {value}", field.size, field.name).unwrap();
        }
    }
}

fn value(name: &str, bytes: &[u8]) -> String {
    let texts = ["magic", "format", "codec", "producer"];
    let section_kind = name == "kind" && bytes.len() == 4;
    if name.starts_with("reserved") {
        assert!(bytes.iter().all(|byte| *byte == 0));
        return "zero".to_owned();
    }
    if texts.contains(&name) || section_kind {
        let end = bytes.iter().rposition(|byte| *byte != 0);
        return format!("\"{}\"", bytes[..end.map_or(0, |at| at + 1)].escape_ascii());
    }
    if bytes.len() > 8 || name == "checksum" {
        return bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    }
    let number = bytes
        .iter()
        .rev()
        .fold(0, |sum: u64, byte| sum << 8 | u64::from(*byte));
    if number < 10 {
        return number.to_string();
    }
    format!("{number} ({number:#x})")
}
