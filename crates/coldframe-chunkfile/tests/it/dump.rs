//! The annotated text beside a golden: each field of the file with its place, name and value.

use std::fmt::Write;

use coldframe_chunkfile::LAYOUTS;
use coldframe_envelope::{Container, Layout, Limits};

/// The text of a golden.
pub fn dump(name: &str, bytes: &[u8]) -> String {
    let container = Container::peek(bytes, Limits::SMALL_FILE).unwrap();
    let mut text = format!(
        "# {name}: {} bytes\n# offset size field value (integers are little-endian)\n",
        bytes.len()
    );
    let envelope = coldframe_envelope::LAYOUTS;
    let head = layout(envelope, "envelope header");
    rows(&mut text, head, bytes, 0..160);
    for section in container.table().sections() {
        let start = usize::try_from(section.offset).unwrap();
        let body = start..start + usize::try_from(section.len).unwrap();
        write!(text, "\nsection {}, {} bytes\n", section.kind, section.len).unwrap();
        let row = match &section.kind.bytes() {
            b"CHNK" => "chunk row",
            b"ROWS" => "index row",
            b"IMAG" => "image",
            b"PRNT" | b"BASE" => "origin",
            b"PAGE" => "index page row",
            b"PART" => "index part",
            b"TAGR" => "tag",
            b"DISK" => "tag disk",
            b"WLOG" => {
                let end = start + layout(LAYOUTS, "tag writer").size;
                rows(&mut text, layout(LAYOUTS, "tag writer"), bytes, start..end);
                writeln!(text, "{}", bytes[end..body.end].escape_ascii()).unwrap();
                continue;
            }
            b"ROUN" => "ledger round",
            b"WAIT" => "ledger lease",
            b"COND" => "condemned file",
            b"DAMG" => "damaged chunk",
            b"NAME" => "known tag",
            b"FILE" => "known file",
            _ => {
                writeln!(text, "{}", bytes[body].escape_ascii()).unwrap();
                continue;
            }
        };
        rows(&mut text, layout(LAYOUTS, row), bytes, body);
    }
    let table_at = usize::try_from(container.header().table_offset).unwrap();
    let table = layout(envelope, "section row");
    rows(&mut text, table, bytes, table_at..bytes.len());
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
    let texts = ["magic", "format", "codec", "producer", "name"];
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
