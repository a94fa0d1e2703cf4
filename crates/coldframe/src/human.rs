//! Sizes and times as people read and write them.

use std::time::Duration;

use coldframe_units::{ByteLen, GuestAddr, GuestRegion};

/// Reads `4KiB`, `256MiB`, `1GiB`, `2TiB`, or plain bytes.
///
/// # Errors
/// A text that says what is accepted.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim_start() {
        "" | "B" => 0,
        "K" | "k" | "KiB" | "kib" => 10,
        "M" | "MiB" | "mib" => 20,
        "G" | "GiB" | "gib" => 30,
        "T" | "TiB" | "tib" => 40,
        _ => {
            return Err(format!(
                "'{text}' is no size: write 4KiB, 256MiB, 1GiB or plain bytes"
            ));
        }
    };
    let number: u64 = number
        .parse()
        .map_err(|_| format!("'{text}' is no size: write 4KiB, 256MiB, 1GiB or plain bytes"))?;
    number
        .checked_mul(1 << shift)
        .filter(|bytes| *bytes >> shift == number)
        .ok_or_else(|| format!("'{text}' is more than 2^64 bytes"))
}

/// Reads a region of guest memory: `0x80000000+1GiB`, the address in hex or as a size.
///
/// # Errors
/// A text that says what is accepted.
pub fn parse_region(text: &str) -> Result<GuestRegion, String> {
    let odd = || format!("'{text}' is no region: write ADDR+LEN, as 0x100000000+512MiB");
    let (addr, len) = text.split_once('+').ok_or_else(odd)?;
    let addr = match addr.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).map_err(|_| odd())?,
        None => parse_size(addr)?,
    };
    let len = ByteLen::new(parse_size(len)?);
    GuestRegion::new(GuestAddr::new(addr), len).map_err(|error| format!("'{text}': {error}"))
}

/// `1536` as `1.5 KiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut whole = bytes;
    let mut rest = 0;
    while whole >= 1024 && unit + 1 < UNITS.len() {
        rest = whole % 1024;
        whole /= 1024;
        unit += 1;
    }
    let tenths = rest * 10 / 1024;
    match (unit, tenths) {
        (0, _) | (_, 0) => format!("{whole} {}", UNITS[unit]),
        _ => format!("{whole}.{tenths} {}", UNITS[unit]),
    }
}

/// A time in the unit that fits: `870 us`, `12.3 ms`, `1.20 s`.
pub fn time(duration: Duration) -> String {
    let micros = duration.as_micros();
    match micros {
        0..1_000 => format!("{micros} us"),
        1_000..1_000_000 => format!("{}.{} ms", micros / 1_000, micros % 1_000 / 100),
        _ => format!(
            "{}.{:02} s",
            micros / 1_000_000,
            micros % 1_000_000 / 10_000
        ),
    }
}

/// Parts in a row; those that are empty are left out.
pub fn listed<const N: usize>(parts: [&str; N]) -> String {
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join(", ")
}

#[cfg(test)]
mod tests;
