//! The places of the entries' fields against `specs/minivmm.md`.

use std::mem::offset_of;

use super::*;

const PAGE: &str = include_str!("../../../../../specs/minivmm.md");

/// The fields of the table under a heading: offset, size, name; padding is left out.
fn fields(entry: &str) -> Vec<(usize, usize, &'static str)> {
    let heading = format!("\n### Entry layout: {entry}\n");
    let table = PAGE.split_once(&heading).expect("a table").1;
    let rows = table
        .lines()
        .skip(3)
        .take_while(|line| line.starts_with('|'));
    let cells = rows.map(|row| row.trim_matches('|').split('|').map(str::trim));
    let fields = cells.map(|mut cells| {
        let mut number = || cells.next()?.parse::<usize>().ok();
        let (offset, size) = (number()?, number()?);
        Some((offset, size, cells.next()?))
    });
    let fields = fields.map(|field| field.expect("offset, size, field"));
    fields.filter(|field| field.2 != "padding").collect()
}

// Spec: MINI-10
#[test]
fn the_page_has_the_places_of_all_fields() {
    macro_rules! check {
        ($entry:literal, $archived:ident { $($field:ident),* }) => {
            let places = [$((offset_of!($archived, $field), stringify!($field))),*];
            let page = fields($entry);
            let named: Vec<_> = page.iter().map(|(at, _, name)| (*at, *name)).collect();
            assert_eq!(named, places, $entry);
            let ends = page.iter().map(|(at, size, _)| at + size);
            assert!(ends.max().is_some_and(|end| end <= size_of::<$archived>()));
        };
    }
    check!("Begin", ArchivedBegin { recording });
    check!(
        "GuestMark",
        ArchivedGuestMark {
            progress,
            console_bytes,
            mark
        }
    );
    check!(
        "GuestEnd",
        ArchivedGuestEnd {
            progress,
            ram_blake3,
            regs_blake3,
            console_blake3
        }
    );
}
