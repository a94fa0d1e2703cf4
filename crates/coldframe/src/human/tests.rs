//! Sizes and times, there and back.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use super::{parse_size, size, time};

#[test]
fn sizes_are_read_in_all_units_and_as_plain_bytes() {
    for (text, bytes) in [
        ("4096", 4096),
        ("4KiB", 4096),
        ("256MiB", 256 << 20),
        ("1GiB", 1 << 30),
        ("0", 0),
    ] {
        assert_eq!(parse_size(text), Ok(bytes), "{text}");
    }
}

#[test]
fn what_is_no_size_is_refused_with_an_example() {
    for text in [
        "",
        "KiB",
        "12XB",
        "1.5GiB",
        "-1",
        "18446744073709551616",
        "99999999999TiB",
    ] {
        assert!(parse_size(text).is_err(), "{text}");
    }
}

#[test]
fn sizes_and_times_carry_sensible_units() {
    assert_eq!(size(1536), "1.5 KiB");
    assert_eq!(size(256 << 20), "256 MiB");
    assert_eq!(size(17), "17 B");
    assert_eq!(time(Duration::from_micros(870)), "870 us");
    assert_eq!(time(Duration::from_micros(12_345)), "12.3 ms");
    assert_eq!(time(Duration::from_millis(1_203)), "1.20 s");
}
