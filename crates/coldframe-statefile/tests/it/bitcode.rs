//! The codec against `specs/bitcode.md`: the page's own vectors, written and read by the library
//! that is linked. A release of it that writes other bytes fails here.

use core::fmt::Display;
use core::str::FromStr;

use bitcode::{DecodeOwned, Encode};
use coldframe_statefile::schema::v1::VcpuV1;

const PAGE: &str = include_str!("../../../../specs/bitcode.md");

/// The rows of the table under a heading, without the columns' names.
fn rows(heading: &str) -> impl Iterator<Item = Vec<&'static str>> {
    let section = PAGE.split_once(&format!("\n## {heading}\n")).unwrap().1;
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with('|'));
    rows.skip(2)
        .map(|row| row.trim_matches('|').split('|').map(str::trim).collect())
}

fn hex(bytes: &[u8]) -> String {
    let bytes: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(" ")
}

fn check<T: Encode + DecodeOwned + PartialEq + std::fmt::Debug>(value: &T, expected: &str) {
    let bytes = bitcode::encode(value);
    assert_eq!(hex(&bytes), expected, "{value:?}");
    assert_eq!(&bitcode::decode::<T>(&bytes).unwrap(), value);
}

fn numbers<T: FromStr<Err: Display>>(words: &str) -> Vec<T> {
    let parsed = words.split_whitespace().map(str::parse::<T>);
    parsed
        .map(|number| number.unwrap_or_else(|error| panic!("{words}: {error}")))
        .collect()
}

// Spec: BITC-1, BITC-2, BITC-3, BITC-4, BITC-5, BITC-6
#[test]
fn the_library_writes_and_reads_the_vectors_of_the_page() {
    let mut count = 0;
    for row in rows("Vectors") {
        let [kind, value, bytes] = row[..] else {
            panic!("a row of another length: {row:?}");
        };
        let bytes = bytes.trim_matches('`');
        match kind {
            "list of u8" => check(&numbers::<u8>(value), bytes),
            "list of u16" => check(&numbers::<u16>(value), bytes),
            "list of u32" => check(&numbers::<u32>(value), bytes),
            "list of u64" => check(&numbers::<u64>(value), bytes),
            "list of i64" => check(&numbers::<i64>(value), bytes),
            "list of text" => check(&numbers::<String>(value), bytes),
            "list of optional u32" => {
                let words = value.split_whitespace();
                let values: Vec<Option<u32>> = words.map(|word| word.parse().ok()).collect();
                check(&values, bytes);
            }
            other => panic!("no type {other}"),
        }
        count += 1;
    }
    assert!(count > 20, "{count} vectors");
}

// Spec: BITC-1, BITC-2
#[test]
fn the_example_of_the_page_is_what_the_library_writes() {
    let vcpu = VcpuV1 {
        index: 4,
        items: vec![(0x101, vec![0, 0]), (0x102, Vec::new())],
        msrs: vec![(0x10, 1)],
        regs: Vec::new(),
    };
    let columns: Vec<_> = rows("Example")
        .map(|row| row[0].trim_matches('`'))
        .collect();
    check(&vcpu, &columns.join(" "));
}

// Spec: BITC-2
#[test]
fn a_length_of_255_or_more_is_in_a_column_behind() {
    for (len, expected) in [(254, "fe"), (255, "ff 06 ff"), (300, "ff 04 2c 01")] {
        let bytes = bitcode::encode(&"x".repeat(len));
        let head = bytes.len() - len;
        assert_eq!(hex(&bytes[..head]), expected);
    }
}
